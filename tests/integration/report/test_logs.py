"""The nodes' log lines on the time axis: where each stands, what is said of it, the ways to it and back."""

from __future__ import annotations

import base64
import json
import math
import re
import zlib
from datetime import UTC, datetime, timedelta, timezone
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st

from harness import Plan, at, clock, kill, register_workload
from harness.history import NANOSECONDS, History, Wall
from harness.report import Page, write_page
from harness.report.clocks import Clocks, Reading
from harness.report.extract import history_of
from harness.report.log_times import log_times, put_right, put_right_from_the_end, steps_of
from harness.run import Run, Settings
from targets.raft_kv import RaftKV
from tests.integration.report.chromium import OPEN, await_
from tests.integration.report.test_text import Outline

BEGAN = datetime(2026, 11, 28, 7, 0, 0, 250_000, tzinfo=UTC)
WALL = Wall(int(BEGAN.timestamp() * 4) * NANOSECONDS // 4, 3600)
END, MARGIN = 10.0, 0.01  # s that the runs here last, and the share of it that is shown before and after
STEPS = [(-math.inf, 0)]
MS = 1_000_000


def at_(seconds: float, form: str = "%Y-%m-%dT%H:%M:%S.%fZ", zone: float = 0) -> str:
    """The wall clock's time so many seconds after the beginning, as a zone so many hours east writes it."""
    return (BEGAN + timedelta(seconds=seconds, hours=zone)).strftime(form)


def run_of(*more: dict[str, Any], wall: Wall | None = WALL) -> History:
    """A run of `END` seconds on n1 and n2, without a fault that tints the picture."""
    told: list[dict[str, Any]] = [
        {"time": 0, "type": "invoke", "process": 0, "f": "write", "value": 1, "node": "n1"},
        *more,
        {"time": int(END * NANOSECONDS), "type": "ok", "process": 0, "f": "write", "value": 1},
    ]
    history = History.from_events(
        [{"index": index, **event} for index, event in enumerate(told)], {"nodes": ["n1", "n2"]}
    )
    history.wall = wall
    return history


def page_of(folder: Path, history: History, **logs: list[str]) -> Path:
    for node, lines in logs.items():
        (folder / f"{node}.log").write_text("".join(f"{line}\n" for line in lines), errors="surrogateescape")
    paths = {node: folder / f"{node}.log" for node in logs}
    return write_page(folder / "index.html", Page(history, (), "test_x", logs=paths))


def drawn(path: Path) -> dict[str, Any]:
    """What the page's script draws from."""
    found = re.search(r'id="drawing">([^<]*)<', path.read_text())
    assert found
    told: dict[str, Any] = json.loads(zlib.decompress(base64.b64decode(found[1])))
    return told


# ------------------------------------------------------------------------------------------------ when


@pytest.mark.parametrize(("written", "read"), [(1, 3600), (0, 0), (5, 3600)])
def test_a_zone_that_is_not_named_is_that_of_the_run_or_utc(written: int, read: int) -> None:
    lines = [f"{at_(second, '%Y-%m-%d %H:%M:%S,%f', zone=written)} INFO x" for second in (1, 2.5)]
    times, zone = log_times(lines, WALL, int(END * NANOSECONDS), STEPS)
    off = written * 3600 - read
    assert zone == read and times == [(1 + off) * NANOSECONDS, int((2.5 + off) * NANOSECONDS)]


def test_a_named_zone_needs_no_guess() -> None:
    moment = (BEGAN + timedelta(seconds=3)).astimezone(timezone(timedelta(hours=-7)))
    assert log_times([moment.isoformat(), "and on"], WALL, 10**10, STEPS) == ([3 * NANOSECONDS, None], None)


def looks(*seen: tuple[float, float], how: str = "called", error: float = 1e-5) -> list[Reading]:
    return [Reading(round(t * NANOSECONDS), "n1", offset, error, how, 7) for t, offset in seen]


def test_what_was_seen_of_a_clock_makes_steps() -> None:
    readings = (
        *looks((1, 0), (4, -2), (5, -2.00001), (6, 0)),
        *looks((5, 3), how="asked", error=0.1),
        Reading(5 * NANOSECONDS, "n2", 9, 0, "called", 8),
    )
    in_order = tuple(sorted(readings, key=lambda reading: reading.time))
    steps = steps_of(Clocks(("n1", "n2"), in_order, ()), "n1")
    assert steps == [(-math.inf, 0), (4 * NANOSECONDS, -2 * NANOSECONDS), (6 * NANOSECONDS, 0)]
    asked = Clocks(("n1",), tuple(looks((4, 3), (5, 3.1), how="asked", error=0.1)), ())
    assert steps_of(asked, "n1") == [(-math.inf, 0), (4 * NANOSECONDS, 3 * NANOSECONDS)]


@given(
    st.lists(st.integers(1, 100), min_size=80, max_size=120),
    st.integers(200, 500_000) | st.integers(-500_000, -200),
    st.integers(500, 2000),
    st.integers(500, 2000),
)
def test_lines_of_a_clock_that_jumped_are_put_right(
    gaps: list[int], offset: int, begin: int, lasted: int
) -> None:
    true, time = list[int](), 0
    for gap in gaps:
        time += gap
        true.append(time * MS)
    steps = [(-math.inf, 0), (begin * MS, offset * MS), ((begin + lasted) * MS, 0)]

    def ahead(moment: int) -> int:
        return next(by for since, by in reversed(steps) if moment >= since)

    shown = [moment + ahead(moment) for moment in true]
    assert put_right(shown, steps) == true
    if true[-1] > steps[2][0]:  # else nobody knows how much of the end is missing
        assert put_right_from_the_end(shown, steps) == true


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize(
    ("foreign", "says"), [("2036-01-01T00:00:00Z token expires", 2036), ("1234567890 B", 2009)]
)
def test_a_date_of_something_else_moves_no_other_line(foreign: str, says: int, whole: bool) -> None:
    """Of a clock that was two seconds behind for a while."""
    steps = [(-math.inf, 0), (4 * NANOSECONDS, -2 * NANOSECONDS), (7 * NANOSECONDS, 0)]
    true = [k / 2 for k in range(1, 19)]
    lines = [f"{at_(t - 2 if 4 <= t < 7 else t)} x" for t in true]
    end = 10 * NANOSECONDS
    assert log_times(lines, WALL, end, steps, whole)[0] == [round(t * NANOSECONDS) for t in true]
    for place in range(len(lines) + 1):
        times, _ = log_times([*lines[:place], foreign, *lines[place:]], WALL, end, steps, whole)
        stands = times.pop(place)
        assert times == [round(t * NANOSECONDS) for t in true]
        assert stands is not None
        assert datetime.fromtimestamp((stands + WALL.unix) / NANOSECONDS, UTC).year == says


def test_a_line_without_a_time_has_none_to_put_right() -> None:
    steps = [(-math.inf, 0), (4.0, -2)]
    assert put_right([None, 3, None], steps) == [None, 3, None]
    assert put_right_from_the_end([None, 3, None], steps) == [None, 5, None]


def test_a_history_says_when_it_began() -> None:
    told = {"type": "info", "process": "run", "f": "wall"}
    event = {"time": 500, **told, "value": {"unix": WALL.unix + 500, "zone": 3600}}
    assert History.from_events([{"index": 0, **event}]).wall == WALL
    odd = [None, 7, {}, {"unix": "x", "zone": 0}, {"unix": 1 << 70, "zone": 0}, {"unix": 1, "zone": 86_400}]
    for value in odd:
        assert History.from_events([{"index": 0, "time": 0, **told, "value": value}]).wall is None
    late = {"index": 0, **told, "time": 10**20, "value": {"unix": 1, "zone": 0}}
    assert History.from_events([late]).wall is None


def test_a_page_gives_it_back(tmp_path: Path) -> None:
    header, events = history_of(page_of(tmp_path, run_of()))
    assert History.from_events(events, header).wall == WALL


# ------------------------------------------------------------------------------------------ what is said


def test_the_section_says_where_lines_stand(tmp_path: Path) -> None:
    skewed = {
        "fault": 1, "kind": "clock_jump", "what": "n2 ahead", "asked": [2, 6], "nodes": ["n2"], "done": True,
    }  # fmt: skip
    fault = {"time": 10**9, "type": "info", "process": "nemesis", "f": "start-clock_jump", "value": skewed}
    lines = [
        "of the line before, which is not here",
        f"{at_(-0.5)} set up",
        f"{at_(1.25)} up",
        "  at x.java",
        f"{at_(12)} over",
    ]
    local = [f"{at_(3, '%Y-%m-%d %H:%M:%S,%f', zone=1)} INFO x"]
    path = page_of(tmp_path, run_of(fault), n1=lines, n2=local, n3=["no time"])
    seen = Outline(path.read_text()).text["logs"]
    assert "it began at 2026-11-28 07:00:00.250+00:00" in seen
    assert "n1  5 lines; 1 without a time, at that of the line before; 1 without a time; 2 before" in seen
    assert "-0.500 s  2026-11-28T06:59:59.750000Z set up\n 1.250 s  2026" in seen
    assert f"\n{' ' * 10}  at x.java\n12.000 s  2026" in seen
    assert "Of n2, times that name no zone are read as UTC+01:00" in seen and "3.000 s  2026" in seen
    assert "n3  1 line; none has a time" in seen
    assert "The clock of n2 was skewed, and lines stand where it says" in seen and "put right" not in seen


def test_without_an_anchor_nothing_is_guessed(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(page_of(tmp_path, run_of(wall=None), n1=[f"{at_(1)} up"]))
    assert "does not say what the wall clock showed" in page.inner_text("#logs")
    page.locator("#log-0 summary").click()
    assert page.locator("#log-0 pre").inner_text() == f"{at_(1)} up"
    assert page.locator("#logs pre a").count() == 0 and page.locator(".legend .logged").count() == 0


# ----------------------------------------------------------------------------------- in the lanes, and back

# Of each node's lane its top, and the stretches of dark pixels in its first row: where one begins, how wide.
MARKS = """nodes => {
    const canvas = document.querySelector('#lanes canvas'), { width, height } = canvas;
    const { data } = canvas.getContext('2d').getImageData(0, 0, width, height);
    const titles = [...document.querySelectorAll('#lanes-names .name')];
    return [width, ...nodes.map(node => {
        const y = parseFloat(titles.find(title => title.textContent === node).style.top), found = [];
        for (let x = 0, last = -9; x < width; x++) {
            if (data[4 * (y * width + x) + 3] < 120) continue;
            if (x === last + 1) found.at(-1)[1]++; else found.push([x, 1]);
            last = x;
        }
        return [y, found];
    })];
}"""
RANGE = "document.getElementById('range').textContent"


def x_of(time: float, width: float) -> float:
    return (time / END + MARGIN) / (1 + 2 * MARGIN) * width


def test_a_mark_is_where_the_line_says(tmp_path: Path, open_page: OPEN) -> None:
    lines = [f"{at_(-1)} set up", f"{at_(1)} up", f"{at_(2)} ERROR what", f"{at_(4)} a", f"{at_(4)} b"]
    path = page_of(tmp_path, run_of(), n1=lines, n2=[f"I1128 {at_(7, '%H:%M:%S.%f')} 1 x.go:1] y"])
    page = open_page(path)
    width, (_, marks), (_, other) = page.evaluate(MARKS, ["n1", "n2"])
    assert [x + wide // 2 for x, wide in marks] == pytest.approx([x_of(t, width) for t in (1, 2, 4)], abs=1)
    assert [wide for _, wide in marks][::2] == [1, 1] and marks[1][1] >= 6  # trouble has a shape of its own
    assert other == [[pytest.approx(x_of(7, width), abs=1), 1]]
    assert page.locator(".legend .logged, .legend .loud").count() == 2


def test_a_mark_tells_its_lines_and_leads_to_them(tmp_path: Path, open_page: OPEN) -> None:
    hostile = "</pre></script><img src=x onload=alert(1)>\x00\x1b[31m"
    lines = [f"{at_(k / 100)} line {k}" for k in range(300)]
    lines += [f"{at_(5)} first {hostile}", "\tof it", f"{at_(5.001)} warning: {'z' * 500}", *["more"] * 40]
    page = open_page(page_of(tmp_path, run_of(), n2=[f"{at_(1)} x"], n1=lines))
    page.locator("#timeline").scroll_into_view_if_needed()
    width, (y, _) = page.evaluate(MARKS, ["n1"])
    spot: Any = {"x": x_of(5, width), "y": y + 2}
    page.hover("#lanes canvas", position=spot)
    card = page.locator("#card")
    assert card.is_visible() and page.locator("img").count() == 0
    assert card.locator("dt").all_inner_texts() == ["log of", "5.000 s", "", "5.001 s", "", ""]
    told = card.locator("dd").all_text_contents()
    assert told[0] == "n1" and told[1] == f"{lines[300]}".replace("\x00", "␀").replace("\x1b", "␛")
    assert told[2] == lines[301] and told[3].startswith(lines[302][:200]) and told[3].endswith("…")
    assert told[4:] == ["more", "and 39 more"]

    page.click("#lanes canvas", position=spot)  # to the first that tells of trouble
    assert page.evaluate("document.activeElement.id") == "log-1-302"
    line = page.locator("#log-1-302")
    assert line.evaluate("""line => {
        const box = line.getBoundingClientRect(), log = line.closest('pre').getBoundingClientRect();
        return line.classList.contains('found') && box.top >= Math.max(log.top, 0)
            && box.bottom <= Math.min(log.bottom, innerHeight); }""")
    assert page.locator("#log-1 .found").count() == 1
    assert page.locator("#log-1 pre").text_content().splitlines()[302].startswith("5.001 s  2026")  # type: ignore[union-attr]
    assert page.evaluate(RANGE).startswith("whole run")

    page.locator("#log-1-250 a").focus()
    page.keyboard.press("Enter")
    await_(page, f"/^1.50 . 3.50 s, 2.00 s in view$/.test({RANGE})")
    assert page.evaluate("document.querySelector('#cursor span').textContent") == "2.50 s"
    assert page.evaluate("document.activeElement.id") == "stack"
    assert page.evaluate("document.getElementById('timeline').getBoundingClientRect().top") >= 0
    assert page.locator("#log-1-301 a").count() == 0 and page.locator("#log-0 a[href^='#t=']").count() == 0
    page.locator("#log-0 summary").click()
    page.locator("#log-0-0 a").click()
    await_(page, f"{RANGE}.startsWith('0.00')")


def test_without_script_the_section_stays(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(
        page_of(tmp_path, run_of(), n1=[f"{at_(1.5)} <b>up</b>"]), painted=False, java_script_enabled=False
    )
    page.locator("#log-0 summary").click()
    assert page.locator("#log-0 pre").inner_text() == f"1.500 s  {at_(1.5)} <b>up</b>"


def test_one_stop_of_the_tab_key_leads_into_a_log(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(page_of(tmp_path, run_of(), n1=[f"{at_(k)} up" for k in (1, 2, 3)]))
    page.locator("#log-0 summary").click()
    page.locator("#log-0-0 a").wait_for()
    focused = "document.activeElement.parentNode.id"
    stops = "[...document.querySelectorAll('#log-0 pre a')].map((a) => a.tabIndex)"
    assert page.evaluate(stops) == [0, -1, -1]
    page.locator("#log-0 pre a").first.focus()
    for key, line in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowDown", 2), ("ArrowUp", 1)):
        page.keyboard.press(key)
        assert page.evaluate(focused) == f"log-0-{line}"
    assert page.evaluate(stops) == [-1, 0, -1]


def test_a_log_of_one_endless_line_shows_its_end(tmp_path: Path, open_page: OPEN) -> None:
    page = open_page(page_of(tmp_path, run_of(), n1=["x" * 600_000]))
    page.locator("#log-0 summary").click()
    assert page.locator("#log-0 pre").inner_text().startswith("xxx")


def test_many_lines_stay_within_their_bounds(tmp_path: Path, open_page: OPEN) -> None:
    lines = [f"{at_(k / 5000)} {'<&>' * 40} {k}" for k in range(50_000)]
    path = page_of(tmp_path, run_of(), n1=lines, n2=lines)
    page = open_page(path)
    assert path.stat().st_size < 800_000  # with <, > and & at their longest
    width, (_, marks) = page.evaluate(MARKS, ["n1"])
    assert marks and all(x >= x_of(9, width) for x, _ in marks)
    assert "the ends alone are drawn" in page.locator("#timeline .hint").last.inner_text()


# ------------------------------------------------------------------------------------------- a real run


def test_a_real_run(tmp_path: Path) -> None:
    target = RaftKV(nodes=3, audit=True)
    plan = Plan(at(0.5, kill("n2"), lasts=0.8), at(2, clock.jump("n1", -2.0), lasts=1), end=4)
    settings = Settings(1, "t", tmp_path, "local")
    with Run(target, register_workload(total_rate=30, readers=False), plan, settings) as run:
        run.to_end()
    history, page = run.history, Page(run.history, (), "t", logs=run.cluster.logs)
    path = write_page(tmp_path / "index.html", page)
    logs = {log["node"]: [1000 * t for t in accumulate(log["at"])] for log in drawn(path)["logs"]}
    assert set(logs) == {"n1", "n2", "n3"}
    for node, times in logs.items():  # what a node applied is an event, told once the line had come
        lines = (tmp_path / f"{node}.log").read_text().splitlines()
        said = [time for time, line in zip(times, lines, strict=True) if '"apply"' in line]
        told = [e.time for e in history.events if e.node == node and e.kind == "apply"]
        assert told and all(time <= seen + MS for time, seen in zip(said, told, strict=True))

    first = {e.kind: e.time for e in reversed(history.events) if e.node == "n2"}
    down, up = first["exit"], first["restart"]
    assert any(0 < time < down for time in logs["n2"]) and any(time > up for time in logs["n2"])
    assert not any(down < time < up for time in logs["n2"])
    _, jumped = history.faults  # n1 was 2 s behind, and what it said meanwhile is put right
    assert jumped.start is not None and jumped.end is not None
    assert any(jumped.start < time < jumped.end for time in logs["n1"])
    assert "The clock of n1 was off" in Outline(path.read_text()).text["logs"]
