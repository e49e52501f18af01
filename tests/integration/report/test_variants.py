"""Every kind of run in a browser: quiet, still, within the screen, worked by hand, linked to, inert."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.report.chromium import OPEN, await_, watch
from tests.integration.report.controls import CONTROLS, shows, strangers, to_files
from tests.integration.report.promises import (
    FRAME,
    PINNED,
    PROMISES,
    SHOWN,
    click,
    pin_first,
    press,
    promised,
    rest,
    settle,
    stretch,
)  # fmt: skip
from tests.integration.report.variants import SCRIPTED, SHOT, VARIANTS, Made, Words, hostile, make, plain

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, ViewportSize

# The table follows 60 ms after the last picture: a timer that is set later and for longer ends after it.
TABLED = "new Promise(done => requestAnimationFrame(() => setTimeout(done, 61)))"
PAINTED = "performance.getEntriesByName('painted').length"

MAKE = Callable[..., Made]
PLAIN = ("empty", "index", "comparison")
"""Pages that draw no chart."""
DRAWN = tuple(name for name in VARIANTS if name not in PLAIN)
ALL = (*DRAWN, *PLAIN)
SIZE: ViewportSize = {"width": 1280, "height": 900}


@dataclass(frozen=True)
class Shown:
    """A page in the browser, and what it shows."""

    page: Page
    made: Made
    troubles: list[str]


@pytest.fixture(scope="session")
def variant(tmp_path_factory: pytest.TempPathFactory) -> MAKE:
    """The page of a variant by its name, made once."""
    folder = tmp_path_factory.mktemp("variants")

    @cache
    def made(name: str, words: Words = plain) -> Made:
        return make(name, folder / f"{name} {words.__name__}", words)

    return made


@pytest.fixture(scope="module")
def opened(request: pytest.FixtureRequest, browser: Browser, variant: MAKE) -> Iterator[Shown]:
    """A variant, opened once for all its tests."""
    made = variant(request.param)
    page, troubles = browser.new_page(viewport=SIZE), list[str]()
    watch(page, made.path, troubles)
    page.goto(made.path.as_uri())
    if request.param in SCRIPTED:
        await_(page, PAINTED)
    yield Shown(page, made, troubles)
    page.close()


@pytest.fixture
def shown(opened: Shown) -> Iterator[Shown]:
    """The same as it was when it was opened; nothing went wrong in it."""
    opened.page.evaluate("scrollTo(0, 0)")
    if opened.page.locator("body.drawn:not(.empty)").count():
        rest(opened.page)
    yield opened
    opened.page.evaluate("document.adoptedStyleSheets = []")
    opened.page.emulate_media(forced_colors="none", color_scheme="light", reduced_motion="no-preference")
    opened.page.set_viewport_size(SIZE)
    assert opened.troubles == []


def each(names: Sequence[str]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("opened", names, indirect=True)


@pytest.mark.parametrize("first", range(0, len(ALL), 6))
def test_nothing_moves_once_it_is_painted(first: int, variant: MAKE, open_page: OPEN) -> None:
    its, most = {}, {"width": 1280, "height": 2000}
    for name in ALL[first : first + 6]:
        page = open_page(variant(name).path, painted=name in SCRIPTED, viewport=most)
        its[name] = (page, page.screenshot())
    page.wait_for_timeout(1000)  # that none differs then is what is to be shown
    assert [name for name, (page, before) in its.items() if page.screenshot() != before] == []


# ----------------------------------------------------------------------------------------- worked by a reader


@each(DRAWN)
def test_every_promise_of_the_help_is_kept(shown: Shown) -> None:
    found = promised(shown.page)
    assert [clause for clause, _ in found] == list(PROMISES)
    assert shown.page.locator("kbd").count() == sum(clause.count("<>") for clause, _ in found)
    for clause, keys in found:
        rest(shown.page)
        PROMISES[clause](shown.page, shown.made, *keys)


@each(DRAWN)
def test_every_control_does_what_it_says(shown: Shown) -> None:
    assert strangers(shown.page, ", ".join(CONTROLS)) == []
    for control in CONTROLS.values():
        rest(shown.page)
        control(shown.page, shown.made)


@each(PLAIN)
def test_what_draws_nothing_has_links_alone(shown: Shown) -> None:
    known = "a[href^='#'], a:not([href^='#']), .scroll, details summary, #timeline *, #operations *"
    assert strangers(shown.page, known) == []
    to_files(shown.page, shown.made)
    assert shown.page.locator("#timeline button:visible, #operations input:visible").count() == 0


def test_no_key_does_what_the_help_does_not_say(variant: MAKE, open_page: OPEN) -> None:
    page = open_page(variant("stale read").path)
    named = {key.lower() for _, keys in promised(page) for key in keys}
    press(page, "w")
    before = (stretch(page), page.evaluate(PINNED))
    for key in map(chr, range(33, 127)):
        if key.lower() not in named:
            press(page, key)
            assert (stretch(page), page.evaluate(PINNED)) == before, key


def at_rest(page: Page) -> Any:
    """What is shown, once its words stay."""
    before, words = None, page.inner_text("body")
    while words != before:
        page.evaluate(TABLED)
        before, words = words, page.inner_text("body")
    return page.evaluate(SHOWN)


@each(DRAWN)
def test_a_link_opens_the_same_view(shown: Shown) -> None:
    page = shown.page
    keys = page.locator("#keys [data-key]")
    if keys.count():
        click(keys.first)
    press(page, "w")
    pin_first(page)
    page.mouse.move(2, 2)
    fragment = await_(page, "/t=.*op=/.test(location.hash) && location.hash")
    assert ("key=" in fragment) == (keys.count() > 0)
    before = stretch(page), at_rest(page)
    page.reload()
    await_(page, PAINTED)
    assert (stretch(page), at_rest(page)) == before
    for number, fault in enumerate(shown.made.history.faults):
        page.evaluate(f"location.hash = 'fault={number}'")
        shows(page, shown.made, fault)


LINKS = (
    "#t=1..NaN", "#t=9..1&op=1e99", "#op=__proto__&key=__proto__", "#fault=toString", "#key=-7", "#fault=99",
    "#op=-1&t=-1e300..1e300", "#t=-Infinity..Infinity", "#op=",
    "#key=<img src=x onerror=alert(3)>", "#t=0..1e-9", "#op=1.5", "#%",
)  # fmt: skip


@pytest.mark.parametrize("name", ALL)
def test_hostile_words_stay_words(name: str, variant: MAKE, open_page: OPEN) -> None:
    page = open_page(variant(name, hostile).path, painted=name in SCRIPTED)
    scripts = page.locator("script").count()
    page.evaluate("document.querySelectorAll('details').forEach(node => { node.open = true; })")
    if name in DRAWN:
        tour(page)
    said = page.evaluate("document.body.textContent")
    assert said.count(SHOT) >= (1 if name == "empty" else 4)
    assert page.locator("img, b[onclick], [onerror]").count() == 0
    assert page.locator("script").count() == scripts == (4 if name in SCRIPTED else 0)
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZE["width"]


def tour(page: Page) -> None:
    """Have the script write all that it can write: links, pinned operations, cards of every lane."""
    for fragment in LINKS:
        page.evaluate(f"location.hash = {json.dumps(fragment)}")
        page.evaluate(FRAME)
    rest(page)
    for key in ("]", "]", "["):
        press(page, key)
    rest(page)
    for button in page.locator("#keys [data-key]").all()[:1]:
        click(button)
    pin_first(page)
    page.evaluate("document.getElementById('stack').scrollIntoView()")
    box = page.locator("#stack").bounding_box()
    assert box is not None
    for k in range(16):
        x, y = box["width"] * (0.15 + 0.8 * (k % 5) / 5), min(box["height"], 800) * (k + 0.5) / 16
        page.mouse.move(box["x"] + x, box["y"] + y)


# ------------------------------------------------------------------------------------ as a reader has it set

RESTLESS = """() => { // rules that somebody may add one day
    const sheet = new CSSStyleSheet();
    sheet.insertRule('@keyframes turn { to { rotate: 1turn; } }');
    sheet.insertRule('*, ::before, ::after { transition: all 3s; animation: turn 3s infinite; }');
    sheet.insertRule('html, div { scroll-behavior: smooth; }');
    document.adoptedStyleSheets = [sheet];
}"""
MOVING = """() => {
    const animated = document.getAnimations().map(({ effect }) => `${effect.target.nodeName}${effect.pseudoElement ?? ''}`);
    const smooth = [...document.querySelectorAll('*')].filter(node => getComputedStyle(node).scrollBehavior !== 'auto');
    return [...animated, ...smooth.map(node => node.nodeName)]; }"""  # noqa: E501


@each(ALL)
def test_nothing_moves_for_who_asked_for_rest(shown: Shown) -> None:
    page = shown.page
    page.emulate_media(reduced_motion="reduce")
    page.evaluate(RESTLESS)
    assert page.evaluate(MOVING) == []
    for link in page.locator("nav a[href^='#']").all():
        click(link)
        assert page.evaluate(MOVING) == []
    if page.locator("#charts:visible").count():
        for key in ("w", "d", "]", "f", "Escape"):
            page.keyboard.press(key)
            assert page.evaluate(MOVING) == [], key
        pin_first(page)
        page.hover("#stack")
        assert page.evaluate(MOVING) == []


# Visible texts and how they stand out from what is behind them, as WCAG has it, where that is below 4.5.
FAINT = """() => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const parts = css => css.match(/[\\d.]+/g).map(Number), opaque = css => (parts(css)[3] ?? 1) > 0.99;
    const light = css => {
        const [r, g, b] = parts(css).map(v => linear(v / 255));
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = node => {
        const own = getComputedStyle(node).backgroundColor;
        return opaque(own) || !node.parentElement ? own : behind(node.parentElement);
    };
    const beneath = text => { // in a picture: the last filled shape before it that holds its middle
        const at = text.getBoundingClientRect(), x = at.x + at.width / 2, y = at.y + at.height / 2;
        const shapes = [...text.closest('svg').querySelectorAll('rect, circle, path')].filter(shape => {
            const box = shape.getBoundingClientRect(), { fill } = getComputedStyle(shape);
            return shape.compareDocumentPosition(text) & 4 && fill !== 'none' && opaque(fill)
                && box.left <= x && x <= box.right && box.top <= y && y <= box.bottom;
        });
        return shapes.length ? getComputedStyle(shapes.at(-1)).fill : behind(text);
    };
    const faint = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const node = walk.currentNode.parentElement, drawn = node.closest('svg');
        if (!walk.currentNode.textContent.trim() || node.closest('title')) continue;
        if (!node.checkVisibility()) continue;
        const { fill, color } = getComputedStyle(node), own = light(drawn ? fill : color);
        const back = light(drawn ? beneath(node) : behind(node));
        const ratio = (Math.max(own, back) + 0.05) / (Math.min(own, back) + 0.05);
        if (ratio < 4.5) faint.push([node.outerHTML.slice(0, 90), ratio]);
    }
    return faint; }"""


@each(ALL)
def test_text_is_read_in_the_readers_own_colours(shown: Shown) -> None:
    for scheme in ("light", "dark"):
        shown.page.emulate_media(forced_colors="active", color_scheme=scheme)
        assert shown.page.evaluate("matchMedia('(forced-colors: active)').matches")
        assert shown.page.evaluate(FAINT) == [], scheme


# Where something is wider than its place and cannot be scrolled there.
OUTSIDE = """() => [...document.querySelectorAll('body *')].filter(node => {
    const box = node.getBoundingClientRect();
    return box.width && box.right > innerWidth + 0.5
        && !node.parentNode.closest('.scroll, nav, .table, #cursor, svg') && !node.matches('.skip, #cursor');
}).map(node => node.outerHTML.slice(0, 80))"""


FITTED = """[...document.querySelectorAll('.plot canvas')]
    .every(canvas => !canvas.clientWidth || Math.abs(canvas.width - canvas.clientWidth) <= 1)"""


@each(ALL)
def test_it_fits_the_screen(shown: Shown) -> None:
    for width in (390, 1280, 2200):
        shown.page.set_viewport_size({"width": width, "height": 900})
        settle(shown.page)
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.page.evaluate(OUTSIDE) == []
        await_(shown.page, FITTED)  # the charts are drawn anew
