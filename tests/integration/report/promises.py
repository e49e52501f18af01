"""What the help of the timeline promises, and whether a page keeps it; how a reader works a page."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from harness.report.witness import last_word
from tests.integration.report.chromium import await_
from tests.integration.report.variants import Made

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

FRAME = "new Promise(requestAnimationFrame)"
# As the page was when it was opened: whole run, nothing pinned, all keys, no focus.
REST = """() => {
    document.activeElement.blur();
    for (const key of ['f', 'Escape', 'Escape'])
        document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
    return new Promise(requestAnimationFrame); }"""
# A click where the element is, if nothing lies over it; of a group in a picture, on its mark.
CLICK = """node => {
    node.closest('a, button, summary, input, [tabindex]')?.focus({ preventScroll: true });
    const mark = node.querySelector(':scope rect, :scope path') ?? node;
    mark.scrollIntoView({ block: 'center' });
    const { x, y, width, height } = mark.getBoundingClientRect();
    const top = document.elementFromPoint(x + width / 2, y + height / 2);
    if (!node.contains(top)) throw new Error(`${node.outerHTML} is under ${top?.outerHTML}`);
    top.dispatchEvent(new MouseEvent('click', { bubbles: true, cancelable: true, view: window }));
}"""
# The part in view, as shares of the whole run, by the mark in the map.
STRETCH = """(() => {
    const brush = document.getElementById('brush'), wide = document.getElementById('lanes').clientWidth;
    const left = new DOMMatrix(getComputedStyle(brush).transform).m41;
    return [left / wide, (left + parseFloat(brush.style.width)) / wide]; })()"""
# All that a view is: in words, and what the charts show, the mean of each 16 x 16 pixels of each.
SHOWN = """(() => {
    const say = id => document.getElementById(id).textContent, key = document.getElementById('b-key');
    const picture = ['lanes', 'latency', 'rate'].map(id => {
        const c = document.querySelector(`#${id} canvas`), wide = Math.ceil(c.width / 16);
        const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
        const sums = new Float64Array(wide * Math.ceil(c.height / 16) * 4);
        for (let k = 0; k < data.length; k++) {
            const x = (k >> 2) % c.width, y = (k >> 2) / c.width | 0;
            sums[((y >> 4) * wide + (x >> 4)) * 4 + k % 4] += data[k] / 256;
        }
        return [...sums].map(Math.round);
    });
    const said = ['range', 'pinned', 'now', 'rate-says', 'table-says'].map(say);
    return [said, key.hidden ? '' : key.textContent, picture]; })()"""
PINNED = "document.querySelector('#pinned h3')?.textContent ?? ''"
SAYS, RATE = (f"document.getElementById('{name}').textContent" for name in ("table-says", "rate-says"))


def settle(page: Page) -> None:
    """Wait until what was asked for is drawn: the page draws in the next frame."""
    page.evaluate(FRAME)


def stretch(page: Page) -> tuple[float, float]:
    """The part in view."""
    left, right = page.evaluate(STRETCH)
    return left, right


def about(shares: Any) -> Any:
    """Shares of the run, give or take four pixels: the mark in the map is never narrower than that."""
    return pytest.approx(shares, abs=0.004)


def click(what: Locator) -> None:
    """A click on what is visible and not covered."""
    what.evaluate(CLICK)
    what.page.evaluate(FRAME)


def press(page: Page, what: str) -> None:
    """A key by the name that the help has for it, or a button by its ``#id``."""
    if len(what) > 1 and what.startswith("#"):
        return click(page.locator(what))
    page.keyboard.press({"Esc": "Escape"}.get(what, what if len(what) > 1 else what.lower()))
    return settle(page)


def rest(page: Page) -> None:
    """As the page was when it was opened, wherever it is scrolled to."""
    page.evaluate(REST)


def trouble(made: Made) -> list[int]:
    """The operations that are not ok, or that a story ends with, in order of time."""
    ends = {last_word(v.witness) for v in made.verdicts if v.witness}
    its = (op for op in made.history.operations if op.type != "ok" or op.index in ends)
    return [op.index for op in sorted(its, key=lambda op: (round(op.start / 1000), op.index))]


# ------------------------------------------------------------------------------------ what the help promises


def zooms(page: Page, made: Made, closer: str, wider: str) -> None:
    """Key or button."""
    press(page, closer)
    press(page, closer)
    left, right = stretch(page)
    assert 0.1 < left < right < 0.9
    press(page, wider)
    further = stretch(page)
    assert further[0] < left and right < further[1]


def moves(page: Page, made: Made, left: str, right: str) -> None:
    press(page, "w")
    first = stretch(page)
    press(page, right)
    second = stretch(page)
    assert second[0] > first[0] + 0.02 and second[1] - second[0] == about(first[1] - first[0])
    press(page, left)
    assert stretch(page) == about(first)


def steps(page: Page, made: Made, before: str, after: str) -> None:
    """Key or button: what is not ok, one after the other."""
    wanted = [f"Operation #{index}" for index in trouble(made)]
    for index in wanted[:2]:
        press(page, after)
        assert page.evaluate(PINNED) == index
    if len(wanted) > 1:
        press(page, before)
        assert page.evaluate(PINNED) == wanted[0]
    if not wanted:
        press(page, after)
        assert page.evaluate(PINNED) == ""


def fits(page: Page, made: Made, key: str) -> None:
    press(page, "w")
    assert stretch(page) != about((0, 1))
    press(page, key)
    assert stretch(page) == about((0, 1))


def unpins(page: Page, made: Made, key: str) -> None:
    pin_first(page)
    before = stretch(page)
    press(page, key)
    assert page.evaluate(PINNED) == "" and stretch(page) == before


def pin_first(page: Page) -> None:
    """Pin the first operation of the table."""
    click(page.locator("#table-space [role=row]:not([hidden])").first)
    assert page.evaluate(PINNED)


def shows_all_keys(page: Page, made: Made, key: str) -> None:
    if not page.locator("#keys [data-key]").count():
        return
    everything = page.evaluate(RATE)
    click(page.locator("#keys [data-key]").first)
    pin_first(page)
    press(page, key)  # unpins first ...
    assert page.evaluate(PINNED) == "" and page.locator("#b-key").is_visible()
    press(page, key)
    assert not page.locator("#b-key").is_visible()
    press(page, "f")
    assert page.evaluate(RATE) == everything


def drag_zooms(page: Page, made: Made) -> None:
    drag(page, 0.25, 0.75)
    assert stretch(page) == about((0.25, 0.75))


def drag(page: Page, begin: float, end: float) -> None:
    """Along the time axis, from one share of its width to another."""
    x, y, wide = axis(page)
    page.mouse.move(x + begin * wide, y)
    page.mouse.down()
    page.mouse.move(x + end * wide, y, steps=2)
    page.mouse.up()
    page.mouse.move(2, 2)
    settle(page)


def axis(page: Page) -> tuple[float, float, float]:
    """Left, middle and width of the time axis on the screen."""
    page.evaluate("document.getElementById('stack').scrollIntoView()")
    box = page.locator("#axis").bounding_box()
    assert box is not None
    return box["x"], box["y"] + box["height"] / 2, box["width"]


def shift_drag_moves(page: Page, made: Made) -> None:
    drag(page, 0.25, 0.75)
    page.keyboard.down("Shift")
    drag(page, 0.75, 0.5)
    page.keyboard.up("Shift")
    assert stretch(page) == about((0.375, 0.875))


def wheel_zooms(page: Page, made: Made) -> None:
    x, y, wide = axis(page)
    page.mouse.move(x + wide / 2, y)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    await_(page, f"{STRETCH}[0] > 0.05 && {STRETCH}[1] < 0.95")
    first, scrolled = stretch(page), page.evaluate("scrollY")
    page.mouse.wheel(0, -60)  # alone, it scrolls
    await_(page, f"scrollY < {scrolled}")
    assert stretch(page) == first
    page.evaluate("document.getElementById('stack').focus()")
    x, y, wide = axis(page)
    page.mouse.move(x + wide / 2, y)
    page.mouse.wheel(0, 200)
    await_(page, f"{STRETCH}[1] - {STRETCH}[0] > {first[1] - first[0] + 0.01}")


def arrows_do_the_same(page: Page, made: Made) -> None:
    press(page, "w")
    first = stretch(page)
    for keys in (("ArrowUp", "ArrowRight"), ("ArrowDown", "ArrowLeft")):
        for key in keys:
            page.keyboard.press(key)
        settle(page)
        assert stretch(page) == first  # they scroll
    press(page, "f")
    page.focus("#stack")
    zooms(page, made, "ArrowUp", "ArrowDown")
    moves(page, made, "ArrowLeft", "ArrowRight")


Promise = Callable[..., None]
PROMISES: dict[str, Promise] = {
    "Drag to zoom in": drag_zooms,
    "Ctrl + wheel to zoom (the wheel alone once the timeline has focus)": wheel_zooms,
    "Shift + drag to move": shift_drag_moves,
    "<> <> zoom": zooms,
    "<> <> move": moves,
    "<> <> previous and next event": steps,
    "<> fit": fits,
    "<> unpin": unpins,
    "then show all keys": shows_all_keys,
    "The arrow keys do the same where the timeline has focus": arrows_do_the_same,
}
"""What holds for each clause of the help, its keys as ``<>``."""


def promised(page: Page) -> list[tuple[str, list[str]]]:
    """The clauses of the help, each with its keys; one without keys speaks of those of the clause before."""
    told = page.evaluate("""() => [...document.getElementById('stack-help').childNodes]
        .map(node => node.nodeName === 'KBD' ? `<${node.textContent}>` : node.textContent).join('')""")
    told = re.sub(r"\s+", " ", told).strip()
    keys: list[str] = []
    found = []
    for clause in re.split(r"[,;.] ?(?![^<]*>)", told.removesuffix(".")):
        keys = re.findall(r"<([^>]+)>", clause) or ([] if clause[0].isupper() else keys)
        found.append((re.sub(r"<[^>]+>", "<>", clause), keys))
    return found
