"""The session's index and the comparison of two runs: pages without a script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cli import main
from harness.history import History
from harness.report import Entry, Page, write_comparison, write_index
from harness.report.recovery import recoveries
from harness.report.spark import spark
from tests.integration.report import synthetic
from tests.integration.report.chromium import OPEN


def runs() -> tuple[Page, Page]:
    bad, good = synthetic.history(1000, bend=True), synthetic.history(1000, seed=2)
    return Page(bad, (synthetic.stale(bad),), "test_x"), Page(good, (synthetic.VALID,), "test_x")


def test_a_thumbnail_counts_every_operation_and_survives_the_file() -> None:
    page = runs()[0]
    seen = spark(page.history, page.verdicts)
    assert seen is not None and page.verdicts[0].witness is not None
    assert sum(seen.rate) == 1000
    assert sum(seen.bad) == page.history.counts["fail"] + page.history.counts["info"]
    assert [kind for kind, _, _ in seen.faults] == ["partition", "latency", "kill"]
    its = page.verdicts[0].witness.culprit
    culprit = next(op for op in page.history.operations if op.index == its)
    assert seen.at == pytest.approx(culprit.seconds / page.history.duration, abs=1e-3)
    entry = Entry.of(page, "a/index.html")
    assert entry.spark == seen and entry.recovery
    assert msgspec.convert(msgspec.json.decode(msgspec.json.encode(entry)), Entry) == entry
    assert spark(History.from_events([]), ()) is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_the_index_shows_rate_faults_and_recovery(
    tmp_path: Path, open_page: OPEN, width: int, scheme: str
) -> None:
    entries = [Entry.of(page, f"{k}/index.html") for k, page in enumerate(reversed(runs()))]
    page = open_page(
        write_index(tmp_path / "index.html", entries),
        painted=False, viewport={"width": width, "height": 900}, color_scheme=scheme,
    )  # fmt: skip
    assert page.locator("tbody tr").first.inner_text().strip().startswith("Invalid")
    assert page.locator(".spark").count() == 2
    assert "3 faults: partition, latency, kill" in str(page.locator(".spark title").first.text_content())
    assert entries[1].recovery in page.locator("tbody tr").first.inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280, 1920])
def test_two_runs_share_an_axis(tmp_path: Path, open_page: OPEN, width: int, scheme: str) -> None:
    page = open_page(
        write_comparison(tmp_path / "both.html", *runs()),
        painted=False, viewport={"width": width, "height": 900}, color_scheme=scheme,
    )  # fmt: skip
    assert page.locator("h1").inner_text() == "Invalid beside valid"
    shown = page.locator(".compared svg:visible")
    assert shown.count() == 2
    ticks = [shown.nth(k).locator("text.note").all_text_contents() for k in range(2)]
    assert ticks[0] == ticks[1] and "10 s" in ticks[0]
    assert shown.first.locator(".at").count() == 1 and shown.last.locator(".at").count() == 0
    table = page.locator("[aria-label='Side by side']").inner_text()
    assert "Invalid: " in table and "Valid: " in table and "n2 cut from n1, n3, n4, n5" in table
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_unlike_runs_are_compared_too(tmp_path: Path, open_page: OPEN) -> None:
    empty = Page(History.from_events([]), (), "test_y", error="boom")
    page = open_page(write_comparison(tmp_path / "both.html", runs()[0], empty), painted=False)
    assert page.locator(".compared svg:visible").count() == 2
    assert "test_x / test_y" in page.locator(".test").inner_text()


def test_compare_takes_two_histories(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--compare", str(tmp_path / "a")]) == 254
    assert "takes two histories, not 1" in capsys.readouterr().err


def test_recovery_is_from_the_heal_to_the_last_first_success() -> None:
    ms = 1_000_000

    told = {"fault": 1, "kind": "partition", "what": "x", "asked": [0.1, 0.2], "done": True}

    def fault(time: int, f: str) -> dict[str, Any]:
        return {"time": time * ms, "type": "info", "process": "nemesis", "f": f, "value": told}

    def op(process: int, f: str, node: str, start: int, end: int, kind: str = "ok") -> list[dict[str, Any]]:
        its = {"process": process, "f": f, "value": 1}
        return [
            {"time": start * ms, "type": "invoke", "node": node, **its},
            {"time": end * ms, "type": kind, **its},
        ]

    events = [
        fault(100, "start-partition"),
        fault(200, "stop-partition"),
        *op(0, "write", "n1", 10, 20),
        *op(1, "read", "n2", 10, 20),
        *op(0, "write", "n1", 150, 230),
        *op(1, "read", "n2", 210, 250, "fail"),
        *op(2, "read", "n1", 205, 215),
        *op(1, "read", "n2", 260, 290),
    ]
    events.sort(key=lambda event: int(event["time"]))
    history = History.from_events([{"index": k, **event} for k, event in enumerate(events)])
    (seen,) = recoveries(history)
    assert seen.lasted == 90 * ms and seen.others == 0
    assert seen.after == {
        ("kind", "write"): 30 * ms, ("kind", "read"): 15 * ms, ("node", "n1"): 15 * ms,
        ("node", "n2"): 90 * ms,
    }  # fmt: skip
