"""The page in headless Chromium: it draws, answers input, and runs nothing that a history brings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.history import History, NodeEvent
from harness.report import Entry, Page, aggregate, write_index, write_page
from harness.report.text import operation_text
from harness.verdict import Edge, Verdict, Witness
from tests.integration.report import synthetic
from tests.integration.report.chromium import OPEN, await_

# Any pixel that is not transparent, in the canvas of a plot.
INK = """id => {
    const c = document.querySelector('#' + id + ' canvas');
    const { data } = c.getContext('2d').getImageData(0, 0, c.width, c.height);
    return data.some((v, k) => k % 4 === 3 && v > 0);
}"""
RANGE = "document.getElementById('range').textContent"
ROWS = """[...document.querySelectorAll('#table-space [role=row]:not([hidden])')]
    .map(row => [...row.children].map(cell => cell.textContent))"""


def bent(operations: int = 1000, **more: Any) -> Page:
    history = synthetic.history(operations, bend=True)
    return Page(history, (synthetic.stale(history),), "test_x", replay="pytest test_x", **more)


@pytest.mark.parametrize("operations", [10, 10_000, 100_000])
def test_draws(tmp_path: Path, open_page: OPEN, operations: int) -> None:
    history = synthetic.history(operations)
    page = open_page(write_page(tmp_path / "index.html", Page(history, (synthetic.VALID,), "test_x")))
    for plot in ("map", "axis", "lanes", "latency", "rate"):
        assert page.evaluate(INK, plot), plot
    assert page.evaluate("document.getElementById('table-says').textContent") == f"{operations:,}"
    assert page.locator("#lanes-names .name").count() >= 10


@pytest.mark.parametrize(
    "variant", ["empty", "crashed", "faults only", "unknown", "timeless", "many processes"]
)
def test_draws_whatever_there_is(tmp_path: Path, open_page: OPEN, variant: str) -> None:
    history = synthetic.history(200)
    page = {
        "empty": Page(History.from_events([]), (), "test_x"),
        "crashed": Page(History.from_events([], synthetic.header()), (), "test_x", error="boom"),
        "faults only": Page(
            History(history.header, History.from_events([]).columns, history.faults, history.events),
            (),
            "test_x",
        ),
        "unknown": Page(history, (synthetic.UNKNOWN, synthetic.VACUOUS), "test_x"),
        "timeless": Page(_plain([(0, "write", 1), (1, "read", 1)], times=False), (), "test_x"),
        "many processes": Page(_plain([(k * 1000, "write", k) for k in range(400)]), (), "test_x"),
    }[variant]
    opened = open_page(write_page(tmp_path / "index.html", page))
    drawn = variant not in ("empty", "crashed")
    assert opened.locator("#charts").is_visible() == drawn
    assert opened.locator(".nothing").is_visible() != drawn


def _plain(made: list[tuple[int, str, Any]], times: bool = True) -> History:
    events: list[dict[str, Any]] = []
    for process, f, value in made:
        for kind, asked in (("invoke", None if f == "read" else value), ("ok", value)):
            time = {"time": len(events) * 1_000_000} if times else {}
            events.append(
                {"index": len(events), **time, "type": kind, "process": process, "f": f, "value": asked}
            )
    return History.from_events(events)


def test_the_script_reads_every_operation_as_python_does(tmp_path: Path, open_page: OPEN) -> None:
    values: list[Any] = [
        1,
        True,
        1.5,
        "1",
        "",
        None,
        [1, 2],
        [None, "x"],
        {"a": [1]},
        -(2**60),
        10**400,
        "é✓\u202e",
        [[1, 2], 3],
    ]
    made = [
        (k % 3, f, value)
        for k, (f, value) in enumerate((f, v) for v in values for f in ("write", "read", "cas", "enqueue"))
    ]
    history = _plain(made)
    page = open_page(
        write_page(tmp_path / "index.html", Page(history, (), "test_x")),
        viewport={"width": 1400, "height": 3000},
    )
    seen: dict[str, list[str]] = {}
    for top in range(0, len(made) * 24, 240):
        page.evaluate(f"document.getElementById('table-body').scrollTop = {top}")
        page.wait_for_timeout(30)
        seen |= {row[0]: row for row in page.evaluate(ROWS)}
    assert len(seen) == len(made)
    for op in history.operations:
        row = seen[f"#{op.index}"]
        assert (row[5], row[2], row[6]) == (operation_text(op), str(op.process), op.type)


def test_outcomes_processes_and_nodes_survive_the_packing(tmp_path: Path, open_page: OPEN) -> None:
    page_ = bent(3000)
    page = open_page(write_page(tmp_path / "index.html", page_))
    page.fill("#find", "info")
    await_(page, "document.getElementById('table-says').textContent.includes('match')")
    unknown = [op for op in page_.history.operations if op.type == "info"]
    assert (
        page.evaluate("document.getElementById('table-says').textContent")
        == f"{len(unknown):,} that match, of 3,000"
    )
    for row, op in zip(page.evaluate(ROWS), unknown, strict=False):
        assert row[0] == f"#{op.index}" and row[1] == f"{op.seconds:.6f} s" and row[5] == operation_text(op)
        assert row[2:5] == [str(op.process), op.node, op.key] and row[6:] == ["info", "unknown", op.error]


def test_keys_wheel_and_drag_move_one_view(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()))
    assert page.evaluate(RANGE).startswith("whole run")
    page.keyboard.press("w")
    await_(page, RANGE + ".includes('in view')")
    first = page.evaluate(RANGE)
    page.keyboard.press("d")
    await_(page, f"{RANGE} !== {first!r}")
    page.keyboard.press("f")
    await_(page, RANGE + ".startsWith('whole run')")

    box = page.locator("#lanes").bounding_box()
    assert box is not None
    page.locator("#timeline").scroll_into_view_if_needed()
    box = page.locator("#lanes").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 100
    page.mouse.move(x, y)
    assert page.locator("#cursor").is_visible()
    assert page.evaluate("document.querySelector('#cursor span').textContent").endswith(" s")
    assert page.evaluate("document.getElementById('now').textContent") != ""
    scrolled = page.evaluate("scrollY")
    page.mouse.wheel(0, -200)  # a page that scrolls goes on scrolling ...
    await_(page, f"scrollY !== {scrolled}")
    assert page.evaluate(RANGE).startswith("whole run")
    page.evaluate("document.getElementById('timeline').scrollIntoView()")
    page.focus("#stack")  # ... until the timeline has focus
    box = page.locator("#lanes").bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + 100
    page.mouse.move(x, y)
    page.mouse.wheel(0, -200)
    await_(page, RANGE + ".includes('in view')")
    page.keyboard.press("f")
    await_(page, RANGE + ".startsWith('whole run')")
    page.mouse.move(x - 100, y)
    page.mouse.down()
    page.mouse.move(x + 100, y, steps=5)
    page.mouse.up()
    await_(page, RANGE + ".includes('in view')")
    page.dblclick("#lanes canvas", position={"x": 30, "y": 5})
    await_(page, RANGE + ".startsWith('whole run')")


def test_a_link_in_the_witness_opens_the_timeline_there(tmp_path: Path, open_page: OPEN) -> None:
    model = bent()
    witness = model.verdicts[0].witness
    assert witness is not None and witness.culprit is not None
    page = open_page(write_page(tmp_path / "index.html", model))
    page.locator(f"#witness td a:text-is('#{witness.culprit}')").click()
    await_(page, "document.getElementById('pinned').textContent.includes('Operation #')")
    assert f"Operation #{witness.culprit}" in page.inner_text("#pinned") and "anomaly" in page.inner_text(
        "#pinned"
    )
    assert "in view" in page.evaluate(RANGE)
    shown = await_(page, "location.hash.includes('t=') && location.hash")
    again = open_page(tmp_path / "index.html", fragment=shown)
    assert f"Operation #{witness.culprit}" in again.inner_text("#pinned")
    assert again.evaluate(RANGE) == page.evaluate(RANGE)
    page.keyboard.press("Escape")
    await_(page, "document.getElementById('pinned').textContent === ''")


def test_stepping_visits_what_is_not_ok(tmp_path: Path, open_page: OPEN) -> None:
    model = bent()
    verdict = model.verdicts[0]
    assert verdict.witness is not None
    page = open_page(write_page(tmp_path / "index.html", model))
    bad = [
        op.index for op in model.history.operations if op.type != "ok" or op.index == verdict.witness.culprit
    ]
    for index in bad[:4]:
        page.keyboard.press("]")
        await_(page, f"document.getElementById('pinned').textContent.includes('Operation #{index}') ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_fits_the_screen(tmp_path: Path, open_page: OPEN, width: int, scheme: str) -> None:
    path = write_page(tmp_path / "index.html", bent())
    page = open_page(path, viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shown = page.evaluate(
        "[...document.querySelectorAll('.picture svg')].filter(s => s.getClientRects().length).length"
    )
    assert shown == 1
    light = page.evaluate(
        "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)[0] > 128"
    )
    assert light == (scheme == "light")


def test_without_javascript(tmp_path: Path, open_page: OPEN) -> None:
    model = bent()
    page = open_page(write_page(tmp_path / "index.html", model), painted=False, java_script_enabled=False)
    witness = model.verdicts[0].witness
    assert witness is not None
    assert page.get_by_text(witness.sentence).first.is_visible()
    assert page.locator(".picture svg").nth(2).is_visible() and page.locator("#witness table").is_visible()
    assert not page.locator("#charts").is_visible() and not page.locator("#operations").is_visible()


def test_printing_is_light_and_comes_back(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()), color_scheme="dark")
    assert len(page.pdf()) > 20_000
    await_(page, "!document.documentElement.classList.contains('paper')")
    assert page.evaluate(INK, "lanes")


HOSTILE = (
    "</script></style></title><img src=x onerror=alert(1)><svg onload=alert(2)>"
    "\"'><b onmouseover=alert(3)>{{7*7}}${alert(4)}"
)


def hostile_page(folder: Path) -> Page:
    """A page with hostile text in every place where a history or a user can put one."""
    h = HOSTILE
    events: list[dict[str, Any]] = []

    def add(**event: Any) -> int:
        events.append({"index": len(events), "time": len(events) * 1_000_000, **event})
        return len(events) - 1

    add(type="invoke", process=0, f=h, value=[h, h], node=h)
    add(type="ok", process=0, f=h, value=[h, [h, {h: h}]])
    add(type="invoke", process=0, f="cas", value=["__proto__", [h, h]], node="__proto__")
    add(type="fail", process=0, f="cas", value=["__proto__", [h, h]], error=h)
    add(type="invoke", process=0, f="constructor", value=[{h: h}, None], node=h)
    add(type="info", process=0, f="constructor", value=[{h: h}, None], error=h)
    fault = {
        "fault": 8,  # numbers must be numbers: a history with others is refused when it is read
        "kind": h,
        "what": h,
        "asked": [0.001, 0.002],
        "nodes": [h],
        "links": [[h, h]],
        "grudge": {h: [h]},
        "mechanism": h,
        "spec": h,
    }
    add(type="info", process="nemesis", f=f"start-{h}", value={**fault, "done": True, "proof": h})
    add(type="info", process="nemesis", f=f"stop-{h}", value={**fault, "done": True, "proof": h, "error": h})
    add(
        type="info",
        process="nemesis",
        f="start-x",
        value={"fault": 9, "kind": "__proto__", "what": h, "asked": [0, None]},
    )
    add(type="info", process="cluster", f="role", value={"node": h, "role": "leader", "term": h})
    add(type="info", process="cluster", f="__proto__", value={"node": h, h: h})
    add(type="info", process="cluster", f=h, value={"node": "toString", "line": h})
    look = {"offset": 1, "error": 2, "how": "asked", "pid": h}
    add(type="info", process="cluster", f="clock", value={"node": h, **look})
    add(type="info", process="cluster", f="clock", value={"node": "__proto__", **look, "how": "called"})
    add(
        type="info",
        process="cluster",
        f="clock-gap",
        value={"node": h, "gap": h, "what": h, "exe": h, "pid": h},
    )
    add(type="info", process="run", f=h, value=h)
    header = {
        "keyed": True,
        "concurrency": h,
        "seed": h,
        "test": h,
        "plan": {"repr": f"Plan({h!r})", "name": h, "entries": []},
        "target": h,
        "versions": {h: h},
        "nodes": [h, 3],
        "runtime": h,
        "why": h,
        "model": h,
        "checks": [h],
        "began": h,
    }
    log = folder / "n.log"
    log.write_text(f"{h}\n\x1b[31m{h}\n")
    history = History.from_events(events, header)
    witness = Witness(h, (0, 2, 4, 999), 2, (Edge(0, 2, h), Edge(2, 4, h)), (0, 1, 2, 77))
    verdicts = (
        Verdict(h, "invalid", h, witness=witness, evidence={h: h}, key=h),
        Verdict(h, "unknown", h, cause=h),
    )
    return Page(
        history,
        verdicts,
        h,
        h,
        {h: log, "x": folder / h.replace("/", "")},
        {h: h, "X": h},
        (h,),
        h,
        f"javascript:{h}",
    )


@pytest.mark.parametrize("scripts", [True, False])
def test_nothing_in_a_history_runs(tmp_path: Path, open_page: OPEN, scripts: bool) -> None:
    path = write_page(tmp_path / "index.html", hostile_page(tmp_path))
    page = open_page(path, painted=scripts, java_script_enabled=scripts)
    assert page.locator("img, [onerror], [onload], [onmouseover], b b").count() == 0
    assert page.locator("script").count() == 4 and page.locator("style").count() == 1
    assert all(
        href.startswith(("#", "./"))
        for href in page.locator("a").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    )
    assert page.locator("h1").inner_text().startswith(HOSTILE[:30])
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    if not scripts:
        return
    assert page.evaluate(
        "({}).polluted === undefined && Object.prototype.toString.call({}) === '[object Object]'"
    )
    assert page.locator("#table-space").inner_text().count("<img src=x onerror=alert(1)>") >= 3
    for key in ("]", "]", "["):
        page.keyboard.press(key)
    assert "onerror" in page.inner_text("#pinned")
    page.evaluate("document.getElementById('stack').scrollIntoView()")
    box = page.locator("#lanes").bounding_box()
    assert box is not None
    for k in range(12):  # hover cards of every lane
        page.mouse.move(
            box["x"] + box["width"] * (k % 4 + 0.5) / 4, box["y"] + min(box["height"], 800) * (k + 0.5) / 12
        )
    assert page.locator("img, [onerror]").count() == 0


def test_the_policy_refuses_what_we_did_not_write(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()), watched=False)
    refused = page.evaluate("""async () => {
        const refused = [], events = new Set();
        const attempt = (name, action) => { try { action(); } catch { refused.push(name); } };
        document.addEventListener('securitypolicyviolation', (event) => events.add(event.effectiveDirective));
        attempt('innerHTML', () => { document.body.innerHTML = '<p>x</p>'; });
        attempt('script text', () => { document.createElement('script').textContent = 'window.ran = 1'; });
        attempt('script source', () => { document.createElement('script').src = 'x.js'; });
        attempt('handler', () => { document.body.setAttribute('onclick', 'window.ran = 1'); });
        document.body.append(Object.assign(document.createElement('img'), { src: 'x.png' }));
        const style = document.createElement('style');
        style.append('body { display: none }');
        document.head.append(style);
        await fetch('x.json').catch(() => refused.push('fetch'));
        for (let k = 0; k < 500 && events.size < 4; k++) await new Promise((done) => setTimeout(done, 10));
        return [refused, [...events], typeof window.ran, getComputedStyle(document.body).display]; }""")
    assert refused[0] == ["innerHTML", "script text", "script source", "handler", "fetch"]
    assert {"connect-src", "img-src", "require-trusted-types-for", "style-src-elem"} <= set(refused[1])
    assert refused[2:] == ["undefined", "block"]


def test_the_index_is_inert(tmp_path: Path, open_page: OPEN) -> None:
    entries = [
        Entry(HOSTILE, "error", HOSTILE, f"javascript:{HOSTILE}", 1, 1.0, HOSTILE),
        Entry("t", "valid", "ok", "//elsewhere/x", 1, 1.0),
    ]
    page = open_page(
        write_index(tmp_path / "index.html", entries, title=HOSTILE, seed=HOSTILE), painted=False
    )
    assert page.locator("img, script, [onerror]").count() == 0
    hrefs = page.locator("a").evaluate_all("all => all.map(a => a.href)")
    assert len(hrefs) == 2 and all(href.startswith("file:///") for href in hrefs)
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


ON_SCREEN = """id => { const box = document.getElementById(id).getBoundingClientRect();
    return box.top >= 0 && box.bottom <= innerHeight && box.left >= 0 && box.right <= innerWidth; }"""


def test_the_first_screen_answers_the_five_questions(tmp_path: Path, open_page: OPEN) -> None:
    model = bent()
    witness = model.verdicts[0].witness
    assert witness is not None and witness.culprit is not None
    page = open_page(write_page(tmp_path / "index.html", model))
    culprit = next(op for op in model.history.operations if op.index == witness.culprit)
    assert page.evaluate("scrollY") == 0
    assert page.locator("h1").inner_text() == f"{model.verdicts[0].key}: not linearizable"
    answers = {
        "proof": (f"#{culprit.index}", operation_text(culprit), f"process {culprit.process}", culprit.node),
        "force": ("partition", "n2 cut from n1, n3, n4, n5", "2.010 s to 6.020 s", "stall"),
        "recovery": ("after the heal at 6.020 s",),
        "again": ("pytest test_x",),
    }
    for name, words in answers.items():
        text = page.locator(f"#answer-{name}").inner_text()
        assert all(word in text for word in words if word), text
        assert page.evaluate(ON_SCREEN, f"answer-{name}"), name
    # the picture of the witness begins on the first screen, too
    assert page.evaluate("document.querySelector('.picture').getBoundingClientRect().top < innerHeight - 200")


@pytest.mark.parametrize(
    ("verdicts", "error", "proof", "force", "recovery"),
    [
        ((synthetic.VALID,), "", "no violation among 300 operations", "3 of 4 took effect", "after the heal"),
        ((synthetic.UNKNOWN,), "", "nothing is proven, cause time", "took effect", "after the heal"),
        ((), "boom", "the run itself failed", "took effect", "after the heal"),
        (None, "", "nothing was judged", "none was started", "nothing to recover from"),
    ],
    ids=["valid", "unknown", "crashed", "empty"],
)
def test_every_ending_answers_or_says_why_not(
    tmp_path: Path, open_page: OPEN, verdicts: Any, error: str, proof: str, force: str, recovery: str
) -> None:
    history = History.from_events([]) if verdicts is None else synthetic.history(300)
    page = Page(history, verdicts or (), "test_x", error=error)
    opened = open_page(write_page(tmp_path / "index.html", page))
    for name, text in (("proof", proof), ("force", force), ("recovery", recovery)):
        assert text in opened.locator(f"#answer-{name}").inner_text()


def test_a_long_history_is_counted_and_says_so(
    tmp_path: Path, open_page: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "WHOLE", 5000)
    monkeypatch.setattr(aggregate, "AROUND", 200)
    model = bent(20_000)
    page = open_page(write_page(tmp_path / "index.html", model))
    for plot in ("map", "lanes", "latency", "rate"):
        assert page.evaluate(INK, plot), plot
    said = page.locator("#timeline .notes").inner_text()
    assert "Of 20,000 operations" in said and "around the witness" in said and "raw history" in said
    rate = "document.getElementById('rate-says').textContent"
    assert page.evaluate(rate).endswith("20,000 of 20,000 operations in view")
    page.locator("#b-witness").click()  # there every operation is, and as it was
    await_(page, f"!{rate}.includes('20,000 of')")
    from_, to = await_(
        page, "location.hash.includes('t=') && location.hash.match(/t=([^&]*)/)[1].split('..').map(Number)"
    )
    there = sum(from_ <= round(op.start / 1e3) / 1e6 < to for op in model.history.operations)
    assert page.evaluate(rate).endswith(f"{there:,} of 20,000 operations in view")
    await_(page, f"document.getElementById('table-says').textContent.startsWith('{there:,} in view')")
    assert "the others are only counted" in page.inner_text("#table-says")


def test_what_a_key_alone_leaves_out_is_said(
    tmp_path: Path, open_page: OPEN, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "WHOLE", 500)
    monkeypatch.setattr(aggregate, "AROUND", 50)
    model = bent(2000)
    page = open_page(write_page(tmp_path / "index.html", model))
    assert page.locator("#counted").text_content() == ""
    button = page.locator("#keys button[data-key]").first
    its = sum(op.key == button.text_content() for op in model.history.operations)
    button.click()
    here = page.locator("#table-says").inner_text().split()[0]
    said = page.locator("#counted").inner_text()
    assert said.startswith(
        f"Of the {its:,} operations of key {button.text_content()} this page has {here} one by one"
    )
    whole = page.locator(".notes").inner_text().split("every one from ")[1].split(", around")[0]
    assert said.endswith(f"None is missing from {whole}.")
    page.locator("#b-key").click()
    assert page.locator("#counted").text_content() == ""


def test_nothing_moves_after_painted(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()))
    first = page.screenshot()
    page.wait_for_timeout(1000)
    assert page.screenshot() == first


def test_what_nodes_did_for_an_operation_is_shown_with_it(tmp_path: Path, open_page: OPEN) -> None:
    history = synthetic.history(300)
    op = history.operations[100]
    steps = [
        NodeEvent(op.start + 200_000, "n1", "apply", {"ops": [op.index, 10**9], "took": 0.0001}),
        NodeEvent(op.start + 400_000, "n3", "apply", {"op": op.index}),
        NodeEvent(op.start + 400_000, "n3", "apply", {"ops": "hostile", "took": "x"}),
    ]
    traced = History(history.header, history.columns, history.faults, (*history.events, *steps))
    page = open_page(write_page(tmp_path / "index.html", Page(traced, (), "test_x")), fragment="#op=100")
    assert page.locator(".trace li").all_inner_texts() == ["n1 apply +100 µs, for 100 µs", "n3 apply +400 µs"]
    page.keyboard.press("Escape")
    await_(page, "document.querySelector('.trace') === null")


def test_the_keys_do_what_the_help_says(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()))
    told = set(page.locator("#stack-help kbd").all_inner_texts())
    assert told == {"W", "S", "A", "D", "[", "]", "F", "Esc"}
    span = "document.getElementById('range').textContent"

    def press(key: str) -> None:
        before = page.evaluate(span)
        page.keyboard.press(key)
        await_(page, f"{span} !== {before!r}")

    for key in ("w", "w", "d", "a", "s", "f"):
        press(key)
    assert page.evaluate(span).startswith("whole run")
    page.focus("#stack")
    for key in ("ArrowUp", "ArrowUp", "ArrowRight", "ArrowLeft", "ArrowDown"):
        press(key)
    page.locator("#b-fit").click()
    await_(page, f"{span}.startsWith('whole run')")
    for name in ("in", "out", "in"):
        before = page.evaluate(span)
        page.locator(f"#b-{name}").click()
        await_(page, f"{span} !== {before!r}")


def test_the_page_is_read_without_a_picture(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(write_page(tmp_path / "index.html", bent()), reduced_motion="reduce")
    bare = page.evaluate("""() => [...document.querySelectorAll('canvas, svg[role=img]')].filter(picture =>
        picture.getAttribute('aria-hidden') !== 'true' && !picture.getAttribute('aria-label')
        && !picture.querySelector(':scope > title')).length""")
    assert bare == 0
    for table in ("Witness", "The charts as a table", "Keys", "Recovery after each heal", "Faults"):
        assert page.locator(f"[aria-label='{table}'] th").count() > 1, table
    assert page.locator(".heard ul li").count() == 5
    seen = set[str]()  # everything that does something is reached by Tab alone
    for _ in range(200):
        page.keyboard.press("Tab")
        where = page.evaluate("document.activeElement.id")
        seen.add(where)
        if where == "table-body":
            break
    assert {
        "replay",
        "b-copy",
        "b-witness",
        "b-next",
        "b-fit",
        "stack",
        "in-view",
        "find",
        "table-body",
    } <= seen


def test_one_key_alone(tmp_path: Path, open_page: OPEN) -> None:
    made = bent()
    path = write_page(tmp_path / "index.html", made)
    page = open_page(path)
    says, rate = (f"document.getElementById('{name}').textContent" for name in ("table-says", "rate-says"))
    everything = page.evaluate(rate)
    name = page.locator("#keys button[data-key]").first.text_content()
    its = [op for op in made.history.operations if op.key == name]
    assert 0 < len(its) < len(made.history.operations)

    page.locator("#keys button[data-key]").first.click()
    await_(page, f"{rate} !== {everything!r}")
    assert f"those of key {name}" in page.evaluate(rate) and f"{len(its):,} of " in page.evaluate(rate)
    assert page.evaluate(says).startswith(f"{len(its):,} that match")
    assert page.locator("#keys button[data-key]").first.get_attribute("aria-pressed") == "true"
    assert {row[4] for row in page.evaluate(ROWS)} == {name}
    page.fill("#find", "write")
    writes = sum(op.f == "write" for op in its)
    await_(page, f"{says}.startsWith('{writes:,} that match')")
    page.fill("#find", "")
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("]")  # the next event is one of this key
    await_(page, "document.getElementById('pinned').children.length > 0")
    assert page.locator("#pinned dd").nth(1).text_content() == name
    await_(page, "location.hash.includes('key=')")

    again = open_page(path, fragment=page.evaluate("location.hash"))  # the link opens the same picture
    await_(again, f"{rate}.includes('those of key')")
    again.evaluate("document.activeElement.blur()")
    again.keyboard.press("Escape")
    again.keyboard.press("Escape")
    await_(again, f"!{rate}.includes('those of key')")
    assert again.locator("#b-key").is_hidden()
    await_(again, "!location.hash.includes('key=')")

    page.evaluate("""() => new Promise(then => {  // a link into the page chooses nothing
        addEventListener('hashchange', () => setTimeout(then), {once: true});
        document.querySelector('nav a[href="#operations"]').click();
    })""")
    assert f"those of key {name}" in page.evaluate(rate)
    page.get_by_role("button", name="All keys", exact=True).click()
    await_(page, f"!{rate}.includes('those of key')")
    page.get_by_role("button", name=f"Only key {name}", exact=True).click()
    page.locator("#b-key").click()
    await_(page, f"!{rate}.includes('those of key')")
    other = page.locator("#keys button[data-key]").nth(1)
    other.click()  # what is pinned is of the first key, as the witness is
    await_(page, f"{rate}.includes('those of key {other.text_content()}')")
    assert page.locator("#pinned").text_content() == ""
    page.locator("#b-witness").click()
    await_(page, f"!{rate}.includes('those of key')")
