"""What each control of a page does: buttons, links, summaries, fields, the map."""

from __future__ import annotations

import json
import re
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import unquote

from harness.history import NANOSECONDS, Fault
from harness.report.witness import last_word
from tests.integration.report.chromium import await_
from tests.integration.report.promises import (
    CLICK,
    PINNED,
    SAYS,
    STRETCH,
    Promise,
    about,
    axis,
    click,
    drag,
    fits,
    pin_first,
    press,
    settle,
    steps,
    stretch,
    zooms,
)  # fmt: skip
from tests.integration.report.variants import Made

if TYPE_CHECKING:
    from playwright.sync_api import Page


def witness(page: Page, made: Made) -> None:
    """The button of the story: it pins what the story ends with, and shows all of it."""
    told = next((v.witness for v in made.verdicts if v.witness and last_word(v.witness) is not None), None)
    assert page.locator("#b-witness").is_visible() == (told is not None)
    if told is None:
        return
    press(page, "#b-witness")
    assert page.evaluate(PINNED) == f"Operation #{last_word(told)}"
    left, right = stretch(page)
    times = [op.seconds for op in made.history.operations if op.index in told.operations]
    assert left - 0.004 <= made.share(min(times)) and made.share(max(times)) <= right + 0.004


def one_key(page: Page, made: Made) -> None:
    """A key's button: the charts and the table have its operations alone, until it is pressed again."""
    buttons = page.locator("#keys [data-key]")
    everything = page.evaluate(SAYS)
    for k in range(min(buttons.count(), 2)):
        button = buttons.nth(k)
        count = int((button.locator("xpath=ancestor::tr/td[3]").text_content() or "").replace(",", ""))
        click(button)
        shown = int(await_(page, f"{SAYS}.match(/^[0-9,]+(?= that match, of )/)")[0].replace(",", ""))
        assert 0 < shown < count if "only counted" in everything else shown == count
        assert button.get_attribute("aria-pressed") == "true"
        assert page.locator("#keys [aria-pressed=true]").count() == 1
        names = page.locator("#table-space [role=row]:not([hidden]) :nth-child(5)").all_inner_texts()
        assert len(set(names)) == 1
        click(button if k % 2 else page.locator("#b-key"))
        await_(page, f"{SAYS} === {json.dumps(everything)}")
        assert page.locator("#b-key").is_hidden() and page.locator("#keys [aria-pressed=true]").count() == 0


def pinned(page: Page, made: Made) -> None:
    """The buttons beside a pinned operation: its process's next and last one, its key alone, unpin."""
    pin_first(page)
    first = page.evaluate(PINNED)
    before, after = page.locator("#pinned button").all()[:2]
    if after.is_enabled():
        click(after)
        assert page.evaluate(PINNED) != first
        click(before)
    assert page.evaluate(PINNED) == first
    only = page.get_by_role("button", name=re.compile("^Only key "))
    if only.count():
        click(only)
        assert page.locator("#b-key").is_visible() and page.evaluate(PINNED) == first
        click(page.get_by_role("button", name="All keys", exact=True))
        assert page.locator("#b-key").is_hidden()
    click(page.get_by_role("button", name="Unpin"))
    assert page.evaluate(PINNED) == ""


def folds(page: Page, made: Made) -> None:
    """Each summary opens and closes what it stands on."""
    stuck = page.evaluate(f"""() => [...document.querySelectorAll('summary')].filter(summary => {{
        const fold = summary.parentNode, before = fold.open, click = {CLICK};
        if (!summary.checkVisibility()) return false;
        click(summary);
        const between = fold.open;
        click(summary);
        return between === before || fold.open !== before; }}).map(summary => summary.textContent)""")
    assert stuck == []


def copies(page: Page, made: Made) -> None:
    """The command to run it again is in the clipboard, or at least selected."""
    if not page.locator("#b-copy").count():
        return
    click(page.locator("#b-copy"))
    await_(page, "document.getElementById('b-copy').textContent !== 'Copy'")
    if page.locator("#b-copy").text_content() == "Selected":
        assert page.evaluate("String(getSelection())") == page.locator("#replay").text_content()


def limits(page: Page, made: Made) -> None:
    """Only the time in view, or all of it."""
    everything = page.evaluate(SAYS)
    drag(page, 0.25, 0.5)
    await_(page, f"{SAYS}.includes('in view of ')")
    click(page.locator("#in-view"))
    assert page.evaluate(SAYS) == everything
    click(page.locator("#in-view"))
    assert "in view of " in page.evaluate(SAYS)


def finds(page: Page, made: Made) -> None:
    """The words of the search: those operations, counted."""
    for kind in ("info", "fail"):
        ends = {last_word(v.witness) for v in made.verdicts if v.witness}
        count = sum(op.type == kind and op.index not in ends for op in made.history.operations)
        page.fill("#find", kind)
        await_(page, f"{SAYS}.startsWith('{count:,} that match, of ')")
    page.fill("#find", "")
    await_(page, f"!{SAYS}.includes('match')")


def scrolls(page: Page, made: Made) -> None:
    """The table, by the keyboard alone, to its last operation."""
    page.focus("#table-body")
    page.keyboard.press("End")
    rows = page.locator("#table-space [role=row]:not([hidden])")
    count = page.evaluate("document.querySelector('.table').getAttribute('aria-rowcount')")
    await_(page, f"[...document.querySelectorAll('#table-space [aria-rowindex=\"{count}\"]')].length")
    assert rows.count() < 60  # only those on the screen exist


def to_operations(page: Page, made: Made) -> None:
    """A link to an operation pins it."""
    links = page.locator("a[href^='#op=']:visible")
    found = links.evaluate_all("all => all.map(a => [a.getAttribute('href'), a.textContent])")
    named = {href: text for href, text in found if re.fullmatch(r"#\d+", text)}
    for k in range(0, len(found), max(len(found) // 4, 1)):  # of the answer, the picture, the table
        click(links.nth(k))
        await_(page, f"{PINNED} === 'Operation {named[found[k][0]]}'")


def to_faults(page: Page, made: Made) -> None:
    """A link to a fault shows all of it."""
    links = page.locator("a[href^='#fault=']:visible")
    hrefs = links.evaluate_all("all => all.map(a => a.getAttribute('href'))")
    for k in {href: k for k, href in enumerate(hrefs)}.values():
        click(links.nth(k))
        shows(page, made, made.history.faults[int(hrefs[k].removeprefix("#fault="))])


def shows(page: Page, made: Made, fault: Fault) -> None:
    """The fault is in view, and not much beside it."""
    begin = fault.asked[0] if fault.start is None else fault.start / NANOSECONDS
    end = fault.asked[1] if fault.start is None else None if fault.end is None else fault.end / NANOSECONDS
    a, b = made.share(begin), 1.0 if end is None else made.share(end)
    pad = max(0.15 * (b - a), made.share(0.05) - made.share(0))
    span = min(b - a + 2 * pad, 1)
    left = min(max(a - pad, 0), 1 - span)
    right = left + span
    await_(page, f"Math.abs({STRETCH}[0] - {left}) < 0.004 && Math.abs({STRETCH}[1] - {right}) < 0.004")


def to_sections(page: Page, made: Made) -> None:
    """A link into the page brings its section to the screen."""
    links = """document.querySelectorAll('a[href^="#"]:not([href*="="])')"""
    lost = page.evaluate(f"""() => [...{links}].filter(link => {{
        const click = {CLICK};
        click(link);
        const box = document.querySelector(link.hash).getBoundingClientRect();
        return !box.height || box.top < -1 || box.top > innerHeight - 40; }}).map(link => link.hash)""")
    assert lost == []


def to_files(page: Page, made: Made) -> None:
    """A link out of the page leads to a file that is there."""
    links = page.locator("a:not([href^='#'])")
    for href in links.evaluate_all("all => all.map(a => a.getAttribute('href'))"):
        assert (made.path.parent / unquote(href)).is_file(), href


def takes_focus(page: Page, made: Made) -> None:
    """What scrolls, or may be copied, can be reached by the keyboard."""
    lost = page.evaluate("""() => [...document.querySelectorAll('.scroll, #replay')].filter(node => {
        if (!node.checkVisibility()) return false;
        node.focus();
        return node !== document.activeElement || node.tabIndex !== 0; }).map(node => node.outerHTML)""")
    assert lost == []


def chooses_a_part(page: Page, made: Made) -> None:
    """Drag in the map: what is drawn over comes into view; drag the mark: it goes with the pointer."""
    page.locator("#map").scroll_into_view_if_needed()
    box = page.locator("#map").bounding_box()
    assert box is not None
    for begin, end, wanted in ((0.2, 0.6, (0.2, 0.6)), (0.4, 0.5, (0.3, 0.7))):
        page.mouse.move(box["x"] + begin * box["width"], box["y"] + 20)
        page.mouse.down()
        page.mouse.move(box["x"] + end * box["width"], box["y"] + 20, steps=2)
        page.mouse.up()
        settle(page)
        assert stretch(page) == about(wanted)


def points(page: Page, made: Made) -> None:
    """The cursor is where the pointer is, in every chart, and says the time; it goes with the pointer."""
    x, y, wide = axis(page)
    page.mouse.move(x + 0.3 * wide, y)
    at = page.evaluate("parseFloat(document.querySelector('#cursor span').textContent)")
    assert made.share(at) == about(0.3) or made.share(0.01) > 0.01  # told to 10 ms
    stack, line = (page.locator(name).bounding_box() for name in ("#stack", "#cursor"))
    assert stack is not None and line is not None and line["height"] > stack["height"] - 4
    assert page.evaluate("document.getElementById('now').textContent") != ""
    page.mouse.dblclick(x + 0.3 * wide, y)
    page.mouse.move(2, 2)
    settle(page)
    assert page.locator("#cursor").is_hidden() and stretch(page) == about((0, 1))


CONTROLS: dict[str, Promise] = {
    "#b-in, #b-out": partial(zooms, closer="#b-in", wider="#b-out"),
    "#b-fit": partial(fits, key="#b-fit"),
    "#b-prev, #b-next": partial(steps, before="#b-prev", after="#b-next"),
    "#b-witness": witness,
    "#b-copy": copies,
    "#b-key, [data-key]": one_key,
    "#pinned button, #table-space [role=row]": pinned,
    "summary": folds,
    "#in-view": limits,
    "#find": finds,
    "#table-body": scrolls,
    "a[href^='#op=']": to_operations,
    "a[href^='#fault=']": to_faults,
    "a[href^='#']:not([href*='='])": to_sections,
    "a:not([href^='#'])": to_files,
    ".scroll, #replay": takes_focus,
    "#map": chooses_a_part,
    "#stack": points,
}
"""What holds for each control of a page with a script."""


def strangers(page: Page, known: str) -> list[str]:
    """Whatever can be operated and is none of the `known` (a selector)."""
    found: list[str] = page.locator("a[href], button, input, select, summary, [tabindex]").evaluate_all(
        f"all => all.filter(node => !node.matches({json.dumps(known)})).map(node => node.outerHTML)"
    )
    return found
