"""How it looks, as far as it can be measured: contrast, what fits a phone and a sheet of paper."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.history import History
from harness.report import Entry, Page, write_comparison, write_index, write_page
from harness.verdict import Verdict
from tests.integration.report import synthetic
from tests.integration.report.chromium import OPEN

PHONE = {"width": 390, "height": 844}
PAPER = {"width": 718, "height": 1047}  # A4 within the margins that browsers leave
EVIDENCE = {"operations": 14_200, "longest time without an acknowledged write (s)": 1.31, "configurations": 3}

# Texts whose contrast against what is painted behind them is below 4.5, or 3 where they are large.
PALE = """() => {
    const pen = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d', {willReadFrequently: true});
    const rgba = css => {
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = css;
        pen.fillRect(0, 0, 1, 1);
        return [...pen.getImageData(0, 0, 1, 1).data];
    };
    const over = (top, under) => [0, 1, 2].map(i => (top[i] * top[3] + under[i] * (255 - top[3])) / 255);
    const light = rgb => rgb.map(v => v / 255).map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
        .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
    const found = [], walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    let seen = 0;
    while (walker.nextNode()) {
        const text = walker.currentNode.textContent.trim(), holder = walker.currentNode.parentElement;
        if (!text || holder.closest('script, svg, :disabled') || !holder.checkVisibility()) continue;
        const behind = [], style = getComputedStyle(holder), size = parseFloat(style.fontSize);
        for (let node = holder; node; node = node.parentElement) behind.unshift(rgba(getComputedStyle(node).backgroundColor));
        const paper = behind.reduce((under, top) => over(top, under), [255, 255, 255]), ink = over(rgba(style.color), paper);
        const [a, b] = [light(ink), light(paper)].sort((p, q) => q - p), ratio = (a + 0.05) / (b + 0.05);
        seen++;
        if (ratio < (size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5)) found.push(`${text.slice(0, 40)}: ${ratio.toFixed(2)}`);
    }
    return [seen, found];
}"""  # noqa: E501
WIDER = """() => [...document.querySelectorAll('div.scroll')].filter(box => box.checkVisibility()
    && box.scrollWidth > box.clientWidth + 1).map(box => `${box.getAttribute('aria-label')}: ${box.scrollWidth} > ${box.clientWidth}`)"""  # noqa: E501
OPEN_ALL = "document.querySelectorAll('details').forEach(part => { part.open = true; })"


def everything() -> Page:
    """A page with every kind of verdict, of many faults, and with words of many widths."""
    history = synthetic.history(400, bend=True)
    verdicts = (
        synthetic.stale(history),
        synthetic.UNKNOWN,
        synthetic.VACUOUS,
        Verdict("available", "valid", "available", evidence=EVIDENCE),
    )
    return Page(history, verdicts, "tests/chaos/test_register.py::test_x[a-b]", "pytest x", error="boom")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(tmp_path: Path, open_page: OPEN, scheme: str) -> None:
    page = open_page(write_page(tmp_path / "index.html", everything()), color_scheme=scheme)
    page.evaluate(OPEN_ALL)
    page.fill("#find", "info")
    seen, pale = page.evaluate(PALE)
    assert seen > 300 and pale == []


def test_on_a_phone_no_table_but_that_of_the_charts_scrolls(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", everything()), viewport=PHONE)
    assert page.evaluate(WIDER) == []
    for name in page.locator("#verdicts dt").all():  # "configuratio ns"
        assert name.evaluate("e => e.scrollWidth <= e.clientWidth")
    lines = page.locator("#verdicts dt", has_text="configurations").evaluate_all(
        "its => its.map(e => e.getClientRects()[0].height / parseFloat(getComputedStyle(e).lineHeight))"
    )
    assert lines and all(number < 1.5 for number in lines)


def test_on_paper_nothing_is_cut(tmp_path: Path, open_page: OPEN) -> None:
    model = everything()
    other = Page(synthetic.history(300, seed=2), (synthetic.VALID,), model.test)
    pages = (
        write_page(tmp_path / "page.html", model),
        write_index(tmp_path / "index.html", [Entry.of(model, "a.html"), Entry.of(other, "b.html")]),
        write_comparison(tmp_path / "both.html", model, other),
    )
    for number, path in enumerate(pages):
        page = open_page(path, painted=not number, viewport=PAPER)
        page.emulate_media(media="print")
        page.evaluate(OPEN_ALL)
        assert page.evaluate(WIDER) == [], path.name
        assert page.evaluate("document.documentElement.scrollWidth") <= PAPER["width"], path.name
    assert open_page(pages[0], painted=True).locator(".printed").is_hidden()


def test_on_paper_the_charts_fit_a_page(tmp_path: Path, open_page: OPEN) -> None:
    made = synthetic.history(200, head={**synthetic.header(), "nodes": [f"n{k}" for k in range(40)]})
    page = open_page(write_page(tmp_path / "index.html", Page(made, (), "test_x")))
    size = "(({width, height}) => [width, height])(document.getElementById('charts').getBoundingClientRect())"
    before = page.evaluate(size)
    assert before[1] > PAPER["height"]
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    width, height = page.evaluate(size)
    assert width < PAPER["width"] and height < PAPER["height"]
    drawn, shown = page.evaluate(
        "(c => [c.width / c.height, c.clientWidth / c.clientHeight])(document.querySelector('#lanes canvas'))"
    )
    assert drawn == pytest.approx(shown, rel=0.01)  # the letters are not squeezed
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(size) == before


def test_the_legend_names_what_is_drawn(tmp_path: Path, open_page: OPEN) -> None:
    def legend(history: History) -> str:
        path = write_page(tmp_path / f"{len(history)}.html", Page(history, (), "test_x"))
        return open_page(path).locator(".legend").inner_text()

    full = synthetic.history(1000)
    assert full.counts["fail"] and full.counts["info"]
    for word in ("ok: happened", "fail: did not happen", "info: unknown", "partition", "kill"):
        assert word in legend(full)
    events = [
        {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "write", "value": 1},
        {"index": 1, "time": 9, "type": "ok", "process": 0, "f": "write", "value": 1},
    ]
    assert legend(History.from_events(events)) == "ok: happened"
