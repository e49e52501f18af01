"""A page gives its history back, exact to the microsecond, or refuses and says why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.check_command import Request
from harness.cli import main
from harness.history import History, Operation
from harness.report import Page, aggregate, write_page
from harness.verdict import Verdict
from tests.integration.report import synthetic

TIMELESS = {"index": 0, "type": "invoke", "process": 0, "f": "read", "value": None}


def extracted(folder: Path, page: Page, capsys: pytest.CaptureFixture[str]) -> History:
    path = write_page(folder / "page.html", page)
    assert main(["report", "--extract", str(path), "--output", str(folder / "h.jsonl.gz")]) == 0
    assert capsys.readouterr().out.strip() == str(folder / "h.jsonl.gz")
    return Request().read(folder / "h.jsonl.gz")


def told(op: Operation) -> tuple[Any, ...]:
    return (op.index, op.process, op.f, op.key, op.value, op.result, op.type, op.error, op.node, op.final)


def test_operations_faults_and_events_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = synthetic.history(3000, bend=True)
    verdict = synthetic.stale(history)
    back = extracted(tmp_path, Page(history, (verdict,), "test_x"), capsys)
    assert [told(op) for op in back.operations] == [told(op) for op in history.operations]
    assert verdict.witness is not None
    for op, was in zip(back.operations, history.operations, strict=True):
        if op.index in verdict.witness.operations:
            assert (op.start, op.end) == (was.start, was.end)
        assert abs(op.start - was.start) <= 1000 and (op.end is None) == (was.end is None)
        assert op.end is None or was.end is None or abs(op.end - was.end) <= 1000
    assert back.faults == history.faults and back.phases == history.phases
    assert sorted(map(repr, back.events)) == sorted(map(repr, history.events))
    assert dict(back.header).items() >= dict(history.header).items()


def plain(*values: Any) -> History:
    events: list[dict[str, Any]] = []
    for k, value in enumerate(values):
        for kind in ("invoke", "ok"):
            time = len(events) * 1234
            events.append(
                {
                    "index": len(events),
                    "time": time,
                    "type": kind,
                    "process": k % 3,
                    "f": "write",
                    "value": value,
                }
            )
    return History.from_events(events)


def test_values_of_every_kind_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values = [
        0, -1, 2**52, -(2**70), 10**300, True, False, 1.5, 1e-9, "", "1", "nil", "true", 'a"b', "\\",
        "\u202eé✓", "\x1b[31m", "x" * 5000, [1, 2], [None, "x"], ["1", 1], [[1, 2], 3], [], {},
        {"a": [1, {"b": None}]}, [["append", "x", 1], ["r", "y", None]], "␛", "…",
    ]  # fmt: skip
    history = plain(*values)
    back = extracted(tmp_path, Page(history, (), "test_x"), capsys)
    assert [told(op) for op in back.operations] == [told(op) for op in history.operations]
    assert list(map(repr, back.columns.values.values)) == list(map(repr, history.columns.values.values))


def test_an_extracted_history_is_judged_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = synthetic.history(600, bend=True)
    extracted(tmp_path, Page(history, (synthetic.stale(history),), "test_x"), capsys)
    assert main(["check", str(tmp_path / "h.jsonl.gz")]) == 1


def test_secrets_stay_blanked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    history = plain("password=hunter2hunter2", 3)
    back = extracted(
        tmp_path, Page(history, (), "test_x", environment={"API_TOKEN": "hunter2hunter2"}), capsys
    )
    assert [op.value for op in back.operations] == ["password=[redacted]", 3]


@pytest.mark.parametrize(
    ("page", "why"),
    [
        (Page(plain(*(f"{k}" * 200 for k in range(2000))), (), "t"), "its values are longer"),
        (Page(History.from_events([TIMELESS]), (), "t"), "no times"),
        (Page(plain({1: 2}), (), "t"), "no JSON"),
    ],
    ids=["long values", "no times", "no JSON"],
)  # fmt: skip
def test_what_is_not_all_there_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], page: Page, why: str
) -> None:
    path = write_page(tmp_path / "page.html", page)
    assert main(["report", "--extract", str(path)]) == 254
    assert why in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_a_page_that_aggregates_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aggregate, "WHOLE", 500)
    path = write_page(tmp_path / "page.html", Page(synthetic.history(600), (synthetic.VALID,), "test_x"))
    assert main(["report", "--extract", str(path)]) == 254
    assert "counts operations together" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["", "<p>no page</p>", '<script type="text/plain" id="drawing">AAAA</script>']
)
def test_what_is_no_page_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str) -> None:
    path = tmp_path / "page.html"
    path.write_text(text)
    assert main(["report", "--extract", str(path)]) == 254
    assert "no page of a run" in capsys.readouterr().err


def test_nothing_is_written_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_page(tmp_path / "page.html", Page(plain(1), (Verdict("x", "valid", "x"),), "test_x"))
    assert main(["report", "--extract", str(path)]) == 0
    assert main(["report", "--extract", str(path)]) == 254
    assert "is there already" in capsys.readouterr().err
