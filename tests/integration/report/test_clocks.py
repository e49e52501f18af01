"""The nodes' clocks on the page: where each reading is drawn, what it says, and the same as a table."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from harness.history import History
from harness.journal import Journal, load
from harness.report import Page, write_page
from harness.report.clocks import DRAWN, observed
from harness.report.redact import redactor
from harness.report.text import offset_text
from tests.integration.report.chromium import OPEN, await_
from tests.integration.report.test_text import Outline

END = 10.0  # s that the runs here last
SHARE = 0.01  # of the run that the timeline shows before it and after it
HEADER = {"keyed": False, "nodes": ["n1", "n2", "n3"], "seed": 1}
Look = tuple[str, float, float, float, str, int | None]
"""A reading: node, time, offset, error (seconds), how, process id."""

JUMP = {
    "fault": 1, "kind": "clock_jump", "what": "n1 2 s behind", "asked": [2.0, 6.0], "nodes": ["n1"],
    "mechanism": "vdso", "spec": {"kind": "clock_jump"},
}  # fmt: skip
JUMPED: tuple[Look, ...] = (
    ("n1", 1.9, 0.0, 0.0002, "asked", None),
    ("n1", 2.01, -2.0, 12e-6, "called", 71),
    ("n1", 2.01, -2.0, 0.0, "read back", 71),
    ("n1", 4.0, -2.0, 0.0, "read back", 71),
    ("n1", 4.0, -1.9998, 0.25, "asked", None),
    ("n1", 6.005, -2.0, 12e-6, "called", 71),
    ("n1", 6.01, 0.0, 12e-6, "called", 71),
    ("n2", 4.0, 0.00003, 15e-6, "called", 72),
)
GAP = {"node": "n1", "pid": 93, "time": 5.0, "gap": 0.0204, "what": "exec", "exe": "/bin/date"}


def tell(journal: Journal, kind: str, time: float, value: dict[str, Any]) -> None:
    """What a cluster told at `time` s."""
    journal._write({"type": "info", "process": "cluster", "f": kind, "value": value}, round(time * 1e9))


def run_of(
    folder: Path, looks: Sequence[Look], *faults: dict[str, Any], gaps: Sequence[dict[str, Any]] = ()
) -> History:  # fmt: skip
    """A stored run of `END` seconds: some operations, `looks` at clocks, clock faults from 2 s to 6 s."""
    journal = Journal(folder / "history.jsonl", HEADER)
    journal.start()
    for number in range(3):
        journal.invoke(number, "write", number, "n1")
        journal.complete(number, "ok", "write", number, None, int((1 + number) * 1e9))
    journal.invoke(9, "read", None, "n2")
    journal.complete(9, "ok", "read", 2, None, int(END * 1e9))
    for fault in faults:
        journal.note("nemesis", f"start-{fault['kind']}", fault)
        journal.note("nemesis", f"start-{fault['kind']}", {**fault, "done": True, "start": 2_020_000_000})
        journal.note("nemesis", f"stop-{fault['kind']}", {**fault, "done": True, "end": 6_020_000_000})
    for node, time, offset, error, how, pid in looks:
        tell(journal, "clock", time, {"node": node, "offset": offset, "error": error, "how": how, "pid": pid})
    for gap in gaps:
        tell(journal, "clock-gap", gap["time"], gap)
    return load(journal.finish())


def page_of(folder: Path, history: History) -> Path:
    return write_page(folder / "index.html", Page(history, (), "test_x"))


# Every mark of the plot: what it is (class), and its place in the plot in pixels.
MARKS = """[...document.querySelectorAll('#clocks svg .look')].map(mark => {
    const [x, y] = mark.getAttribute('transform').match(/[-\\d.]+/g).map(Number);
    return [mark.getAttribute('class'), x, y];
})"""
WIDTH = "document.getElementById('clocks').clientWidth"
SCALE = "[...document.querySelectorAll('#clocks-names .name')].map(name => name.textContent)"


def x_of(time: float, width: float) -> float:
    """Where the timeline has `time` while the whole run is in view."""
    return (time / END + SHARE) / (1 + 2 * SHARE) * width


def test_a_reading_is_drawn_where_the_timeline_has_its_time(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(page_of(tmp_path, run_of(tmp_path, JUMPED, JUMP)))
    marks, width = page.evaluate(MARKS), page.evaluate(WIDTH)
    assert len(marks) == len(JUMPED)
    in_order = sorted(JUMPED, key=lambda look: look[1])
    for (class_, x, _), (node, time, _, _, how, _) in zip(marks, in_order, strict=True):
        assert x == pytest.approx(x_of(time, width), abs=0.2)
        assert class_ == f"look {how.replace(' ', '-')} k{int(node[1]) - 1}"
    level = {round(look[2], 2): y for (_, _, y), look in zip(marks, in_order, strict=True)}
    zero = page.evaluate("Number(document.querySelector('#clocks .zero').getAttribute('y1'))")
    assert level[0.0] == pytest.approx(zero, abs=0.2) and level[-2.0] > zero + 30  # behind is below
    assert page.evaluate(SCALE) == ["-2 s", "-1 s", "0 s"]
    lanes = page.locator("#lanes").bounding_box()
    clocks = page.locator("#clocks").bounding_box()
    assert lanes is not None and clocks is not None
    assert (lanes["x"], lanes["width"]) == (clocks["x"], clocks["width"])


def test_the_band_is_where_the_fault_was_in_force(tmp_path: Path, open_page: OPEN) -> None:
    slow = {**JUMP, "fault": 2, "kind": "latency", "what": "n2 slowed"}
    page = open_page(page_of(tmp_path, run_of(tmp_path, JUMPED, JUMP, slow)))
    width = page.evaluate(WIDTH)
    band = page.locator("#clocks .band.clock")
    assert page.locator("#clocks .band").count() == band.count() == 1
    assert page.locator("#clocks .tint.link").count() == 1  # another fault, too, but it is no clock's
    left, wide = (float(band.get_attribute(name) or "nan") for name in ("x", "width"))
    assert left == pytest.approx(x_of(2.02, width), abs=0.2)
    assert left + wide == pytest.approx(x_of(6.02, width), abs=0.2)


def test_the_plot_moves_with_the_timeline(tmp_path: Path, open_page: OPEN) -> None:
    path = page_of(tmp_path, run_of(tmp_path, JUMPED, JUMP))
    page = open_page(path, fragment="#t=3.5..4.5")
    await_(page, "document.getElementById('range').textContent.includes('in view')")
    marks, width = page.evaluate(MARKS), page.evaluate(WIDTH)
    assert len(marks) == 3 and all(x == pytest.approx(width / 2, abs=0.2) for _, x, _ in marks)
    # the line comes in from what is out of view
    assert re.match(r"M-\d+", page.locator("#clocks .clockline.k0").first.get_attribute("d") or "")
    page.keyboard.press("f")
    await_(page, f"{MARKS}.length === {len(JUMPED)}")


def hover(page: Any, x: float, y: float) -> str:
    page.locator("#clocks").scroll_into_view_if_needed()
    box = page.locator("#clocks").bounding_box()
    page.mouse.move(box["x"] + x, box["y"] + y)
    await_(page, "!document.getElementById('card').hidden")
    return str(page.evaluate("document.getElementById('card').innerText"))


@pytest.mark.parametrize(
    "offset, error",
    [(-2.0, 12e-6), (0.0345, 0.0), (3600.0, 1.0), (-0.000412, 8e-6), (0.0, 2e-5), (0.99951, 0.0012)],
)
def test_a_reading_says_what_it_is(tmp_path: Path, open_page: OPEN, offset: float, error: float) -> None:
    page = open_page(page_of(tmp_path, run_of(tmp_path, [("n2", 4.0, offset, error, "called", 72)])))
    _, x, y = page.evaluate(MARKS)[0]
    card = hover(page, x + 2, y - 2)
    assert re.sub(r"\s+", " ", card) == (
        f"clock of n2 at 4.000000 s offset {offset_text(offset, error)} "
        "called the process itself was made to read it process id 72"
    )
    page.mouse.move(2, 2)
    await_(page, "document.getElementById('card').hidden")


@pytest.mark.parametrize(
    "largest, unit", [(0.0000004, "µs"), (0.00042, "µs"), (-0.25, "ms"), (-86400.0, "s")]
)
def test_the_unit_is_that_of_the_range(tmp_path: Path, open_page: OPEN, largest: float, unit: str) -> None:
    looks = [("n1", 1.0, 0.0, 0.0, "called", 7), ("n1", 2.0, largest, 0.0, "called", 7)]
    page = open_page(page_of(tmp_path, run_of(tmp_path, looks)))
    names = page.evaluate(SCALE)
    assert 2 <= len(names) <= 8 and all(name.endswith(f" {unit}") for name in names), names
    assert len(set(names)) == len(names)


def test_errors_have_bars_where_they_can_be_seen(tmp_path: Path, open_page: OPEN) -> None:
    looks = [("n1", 1.0, -1.0, 0.5, "asked", None), ("n2", 2.0, -1.0, 0.001, "asked", None)]
    page = open_page(page_of(tmp_path, run_of(tmp_path, looks)))
    bars = page.locator("#clocks .give")
    assert bars.count() == 1 and "k0" in (bars.get_attribute("class") or "")
    height = page.evaluate("document.querySelector('#clocks .give').getBBox().height")
    per_second = page.evaluate(f"""{MARKS}[0][2]
        - Number(document.querySelector('#clocks .zero').getAttribute('y1'))""")
    assert height == pytest.approx(per_second, abs=0.5)  # from -1.5 s to -0.5 s


def test_a_process_has_a_line_of_its_own_in_its_nodes_look(tmp_path: Path, open_page: OPEN) -> None:
    looks = [
        *(("n1", t, -1.0, 0.0, "read back", 71) for t in (1.0, 2.0)),
        *(("n1", t, 0.0, 0.0, "read back", 99) for t in (3.0, 4.0)),  # the node was started again
        *(("n2", t, 0.5, 0.0, "read back", 72) for t in (1.0, 4.0)),
        *(("n2", t, 0.9, 0.5, "asked", None) for t in (1.5, 2.5)),  # coarser: marks, but no line
        *(("n3", t, 0.2, 0.1, "asked", None) for t in (1.0, 4.0)),  # all that there is of it
    ]
    page = open_page(page_of(tmp_path, run_of(tmp_path, looks)))
    lines = page.locator("#clocks .clockline").evaluate_all(
        "all => all.map(a => [a.getAttribute('class'), a.getAttribute('d').match(/[ML]/g).length])"
    )
    assert sorted(lines) == sorted([["clockline k0", 2]] * 2 + [["clockline k1", 2], ["clockline k2", 2]])
    stroke = "all => all.map(a => getComputedStyle(a).stroke + getComputedStyle(a).strokeDasharray)"
    assert len(set(page.locator("#clocks .clockline").evaluate_all(stroke))) == 3
    keys = page.locator("#clocks-head .key").all_inner_texts()
    assert [key.strip() for key in keys] == ["n1", "n2", "n3", "asked", "read back"]


def test_a_gap_is_marked_and_says_what_it_was(tmp_path: Path, open_page: OPEN) -> None:
    ended = {**GAP, "what": "gone", "gap": 0.0}
    page = open_page(page_of(tmp_path, run_of(tmp_path, JUMPED, JUMP, gaps=[GAP, ended])))
    assert page.locator("#clocks .gap.k0").count() == 1
    box = page.locator("#clocks").bounding_box()
    assert box is not None
    card = hover(page, x_of(5.0, page.evaluate(WIDTH)), box["height"] - 3)
    assert "for 20.4 ms, ran another program, /bin/date, pid 93" in card
    assert "the true time was read" in page.locator("#clocks-head").inner_text()
    page.locator("#clocks-table summary").click()
    assert "5.000 s n1 for 20.4 ms, ran another program, /bin/date, pid 93" in re.sub(
        r"\s+", " ", page.locator("#clocks-table").inner_text()
    )


# Of each line against the plot, as WCAG has it.
CONTRAST = """() => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const light = css => {
        const [r, g, b] = css.match(/[\\d.]+/g).map(v => linear(Number(v) / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = light(getComputedStyle(document.getElementById('stack')).backgroundColor);
    return [...document.querySelectorAll('#clocks .clockline')].map(line => {
        const own = light(getComputedStyle(line).stroke);
        return (Math.max(own, behind) + 0.05) / (Math.min(own, behind) + 0.05);
    });
}"""


@pytest.mark.parametrize("width", [390, 1280])
def test_it_can_be_read_in_the_dark_too(tmp_path: Path, open_page: OPEN, width: int) -> None:
    path = page_of(tmp_path, run_of(tmp_path, JUMPED, JUMP, gaps=[GAP]))
    seen = []
    for scheme in ("light", "dark"):
        page = open_page(path, color_scheme=scheme, viewport={"width": width, "height": 900})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        contrast = page.evaluate(CONTRAST)
        assert contrast and min(contrast) > 4.5
        seen.append(page.evaluate("getComputedStyle(document.querySelector('#clocks .clockline')).stroke"))
    assert seen[0] != seen[1]


def test_a_run_that_looked_at_no_clock_has_no_plot(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(page_of(tmp_path, run_of(tmp_path, [], JUMP)))
    assert page.locator("#clocks, #clocks-head, #clocks-table").count() == 0


# ------------------------------------------------------------------------------------------- without a script


def table_of(folder: Path, history: History) -> str:
    source = page_of(folder, history).read_text("utf-8")
    found = re.search(r'<details id="clocks-table">.*?</details>', source, re.DOTALL)
    assert found is not None
    return Outline(found[0]).everything


def test_the_table_says_what_was_asked_and_what_was_seen(tmp_path: Path) -> None:
    text = table_of(tmp_path, run_of(tmp_path, JUMPED, JUMP))
    assert "n1 no clock fault 1.900 s 1.900 s 0 µs ± 200 µs" in text
    assert "n1 clock_jump n1 2 s behind 2.010 s 6.010 s -2.000 s ± 12 µs, then 0 µs ± 12 µs (3 looks)" in text
    assert "-2.000 s ± 250 ms" in text and "-2.000 s (2 looks)" in text
    assert "n2 no clock fault 4.000 s 4.000 s +30 µs ± 15 µs" in text


def test_a_drift_is_told_by_its_ends(tmp_path: Path) -> None:
    drift = {**JUMP, "kind": "clock_drift", "what": "n1 with clocks that go 2 % too fast"}
    looks = [("n1", 2.0 + k / 10, 0.002 * k, 0.0, "read back", 71) for k in range(41)]
    text = table_of(tmp_path, run_of(tmp_path, looks, drift))
    assert "0 µs, then +2.000 ms, then 37 more, then +78.000 ms, then +80.000 ms (41 looks)" in text


def test_readings_are_node_events(tmp_path: Path) -> None:
    history = run_of(tmp_path, JUMPED)
    assert {event.kind for event in history.events} == {"clock"}
    seen = observed(history, redactor({}))
    assert seen.nodes == ("n1", "n2") and len(seen.readings) == len(JUMPED)
    assert [r.time for r in seen.readings][:2] == [1_900_000_000, 2_010_000_000]


def test_what_is_no_reading_is_left_out(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "history.jsonl", HEADER)
    good = {"node": "n1", "offset": 1, "error": 0, "how": "called", "pid": True}
    for wrong in (
        {"how": ["called"]},
        {"how": "guessed"},
        {"offset": None},
        {"error": "much"},
        {"offset": 1e300},
    ):
        journal.note("cluster", "clock", {**good, **wrong})
    journal.note("cluster", "clock", good)
    journal.note("nemesis", "clock", "another tool's")
    seen = observed(load(journal.finish()), redactor({}))
    assert [(r.offset, r.pid) for r in seen.readings] == [(1.0, None)]


def test_of_too_many_readings_some_are_drawn_and_the_page_says_so(tmp_path: Path) -> None:
    events = [
        {"index": k, "time": k * 10**6, "type": "info", "process": "cluster", "f": "clock",
         "value": {"node": "n1", "offset": 0.0, "error": 0.0, "how": "called", "pid": 7}}
        for k in range(DRAWN + 1)
    ]  # fmt: skip
    history = History.from_events(events, HEADER)
    text = page_of(tmp_path, history).read_text("utf-8")
    assert "Of the nodes&#x27; clocks one reading in 2 is drawn." in text
    assert f"({DRAWN + 1:,} looks)" in text and len(text) < 500_000
