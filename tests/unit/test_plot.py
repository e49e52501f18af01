"""The plots of docs/performance.md: well-formed, every line named, no name upon another."""

from __future__ import annotations

import xml.etree.ElementTree as xml

from benchmarks.plot import LEAST_GAP, Line, plot


def test_lines_are_drawn_and_named_apart() -> None:
    lines = [
        Line("a < b", ((1.0, 0.001), (10.0, 0.01), (100.0, 0.1))),
        Line("beside it", ((1.0, 0.001), (10.0, 0.011), (100.0, 0.1001))),
        Line("never", ((1.0, 0.1), (10.0, 15.0)), unanswered=True),
    ]
    root = xml.fromstring(plot("A title", "operations", lines))
    texts = {text.text: float(text.attrib["y"]) for text in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"A title", "operations", "a < b", "beside it", "never: gave up", "1 ms", "100 s"} <= texts.keys()
    assert abs(texts["a < b"] - texts["beside it"]) >= LEAST_GAP - 0.2
    circles = [circle.attrib["fill"] for circle in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(circles) == 8 and circles.count("#ffffff") == 1
