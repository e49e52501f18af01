"""What pages say without a script: read with an HTML parser, as a browser without JavaScript would."""

from __future__ import annotations

import html.parser
import re
import time
from pathlib import Path
from typing import Any

import pytest

from harness.history import History
from harness.report import Entry, Page, write_index, write_page
from harness.report.columns import arrange, pack
from harness.report.redact import redacted, redactor
from harness.report.text import operation_text, value_text, visible
from harness.verdict import Verdict, Witness
from tests.integration.report import synthetic


class Outline(html.parser.HTMLParser):
    """Visible text by the id of the section it is in; scripts and styles apart."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.text: dict[str, str] = {}
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._ids: list[str] = [""]
        self._raw = ""
        self.feed(source.replace("<wbr>", ""))  # where a line may break is no text

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("section", "header", "nav", "main"):
            self._ids.append(dict(attrs).get("id") or tag)
        self._raw = tag if tag in ("script", "style") else ""

    def handle_endtag(self, tag: str) -> None:
        self._raw = ""
        if tag in ("section", "header", "nav", "main"):
            self._ids.pop()

    def handle_data(self, data: str) -> None:
        if not self._raw:
            self.text[self._ids[-1]] = self.text.get(self._ids[-1], "") + data + " "

    @property
    def everything(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.text.values()))


def outline(tmp_path: Path, page: Page) -> Outline:
    return Outline(write_page(tmp_path / "index.html", page).read_text("utf-8"))


def page_of(history: History, *verdicts: Verdict, **more: Any) -> Page:
    return Page(history, verdicts, str(history.header.get("test", "test_x")), **more)


def test_an_invalid_run_reads_without_script(tmp_path: Path) -> None:
    history = synthetic.history(1000, bend=True)
    verdict = synthetic.stale(history)
    assert verdict.witness is not None
    seen = outline(
        tmp_path, page_of(history, verdict, replay="pytest x --nemesis-replay=h", history_link="h.jsonl.gz")
    )
    assert "Invalid" in seen.text["header"] and f"{verdict.key}: not linearizable" in seen.text["header"]
    assert "tests/chaos/test_register.py::test_linearizable[isolated_leader]" in seen.text["header"]
    assert verdict.witness.sentence in seen.text["witness"]
    by_index = {op.index: op for op in history.operations}
    for index in verdict.witness.operations:
        assert f"#{index}" in seen.text["witness"] and operation_text(by_index[index]) in seen.text["witness"]
    for text in (
        "n2 cut from n1, n3, n4, n5",
        "+10 ms, +20 ms",
        "stall",
        "8 of 8 probes got no byte",
        "never observed",
        "n5 still answered",
    ):
        assert text in seen.text["faults"]
    assert 'at(2.0, partition(isolate("leader")), lasts=4.0),\n' in seen.text["plan"]
    assert "4,711" in seen.text["verdicts"]
    assert "pytest x --nemesis-replay=h" in seen.everything
    assert ("a", {"href": "./h.jsonl.gz"}) in seen.tags


@pytest.mark.parametrize(
    ("verdicts", "more", "word", "says"),
    [
        ((synthetic.VALID,), {}, "valid", "Linearizable, under 3 faults"),
        ((synthetic.UNKNOWN, synthetic.VALID), {}, "unknown", "unknown, cause: time"),
        ((synthetic.VACUOUS,), {}, "unknown", "unknown, cause: vacuous"),
        ((), {}, "unknown", "Nothing was judged"),
        ((synthetic.VALID,), {"findings": ("n3 exited with code 1",)}, "error", "n3 exited with code 1"),
        (
            (),
            {"error": "Traceback ...\nClusterError: port 4000 is taken"},
            "error",
            "ClusterError: port 4000 is taken",
        ),
        (
            (synthetic.VALID, Verdict("sets", "invalid", "write lost", witness=Witness("5 is missing"))),
            {"error": "x"},
            "invalid",
            "5 is missing",
        ),
    ],
)
def test_every_way_a_run_can_end(
    tmp_path: Path, verdicts: tuple[Verdict, ...], more: dict[str, Any], word: str, says: str
) -> None:
    page = page_of(synthetic.history(200), *verdicts, **more)
    seen = outline(tmp_path, page)
    assert page.word == word
    assert says in seen.everything
    body = next(attributes for tag, attributes in seen.tags if tag == "body")
    assert body["data-word"] == word


def test_an_empty_history_and_an_empty_header(tmp_path: Path) -> None:
    seen = outline(tmp_path, page_of(History.from_events([])))
    assert "0 operations" in re.sub(r"\s+", " ", seen.text["header"])
    assert "No node logs" in seen.text["logs"] and "names no plan" in seen.text["plan"]


def test_a_history_without_times_is_drawn_by_its_order(tmp_path: Path) -> None:
    events = [
        {"index": 0, "type": "invoke", "process": 0, "f": "write", "value": 1},
        {"index": 1, "type": "invoke", "process": 1, "f": "read", "value": None},
        {"index": 2, "type": "ok", "process": 0, "f": "write", "value": 1},
        {"index": 3, "type": "ok", "process": 1, "f": "read", "value": 1},
    ]
    history = History.from_events(events)
    rows = arrange(history)
    assert (rows.start, rows.end) == ([0, 1000], [2000, 3000])
    assert "no times" in outline(tmp_path, page_of(history)).text["timeline"]


@pytest.mark.parametrize(("operations", "limit"), [(0, 110), (10, 110), (10_000, 230), (100_000, 1024)])
def test_size(tmp_path: Path, operations: int, limit: int) -> None:
    path = write_page(tmp_path / "index.html", page_of(synthetic.history(operations), synthetic.VALID))
    assert path.stat().st_size < limit * 1024
    assert [p.name for p in tmp_path.iterdir()] == ["index.html"]


def test_large_values_are_cut_and_say_so(tmp_path: Path) -> None:
    def events() -> list[dict[str, Any]]:
        found = []
        for k in range(100):
            value = [f"{k}" + "x" * 50_000, list(range(5_000))]
            found.append(
                {"index": 2 * k, "time": 2 * k, "type": "invoke", "process": 0, "f": "add", "value": value}
            )
            found.append(
                {
                    "index": 2 * k + 1,
                    "time": 2 * k + 1,
                    "type": "ok",
                    "process": 0,
                    "f": "add",
                    "value": value,
                }
            )
        return found

    path = write_page(tmp_path / "index.html", page_of(History.from_events(events())))
    assert path.stat().st_size < 400 * 1024
    assert value_text("y" * 50_000).startswith('"yyy') and "49,880 more" in value_text("y" * 50_000)
    assert value_text(list(range(20_000))).endswith("20,000 items]")


def test_processes_that_replace_crashed_ones_share_their_lane() -> None:
    history = synthetic.history(3000)
    rows = arrange(history)
    c = history.columns
    assert max(c.process) > synthetic.CLIENTS and rows.lanes == synthetic.CLIENTS
    assert all(
        c.process[r] % synthetic.CLIENTS == lane for r, lane in zip(rows.order, rows.lane, strict=True)
    )


def test_overlapping_processes_never_share_a_lane() -> None:
    events = []
    for k, process in enumerate((900, 7, 12_345)):  # no arithmetic explains these numbers
        events.append(
            {
                "index": k,
                "time": k * 5_000_000,
                "type": "invoke",
                "process": process,
                "f": "read",
                "value": None,
            }
        )
    for k, process in enumerate((900, 7, 12_345)):
        events.append(
            {
                "index": 3 + k,
                "time": (4 + k) * 5_000_000,
                "type": "ok",
                "process": process,
                "f": "read",
                "value": 1,
            }
        )
    rows = arrange(History.from_events(events))
    assert len(set(rows.lane)) == 3


def test_bytes_per_operation() -> None:
    history = synthetic.history(20_000)
    _, block = pack(history, arrange(history))
    assert len(block) / len(history) < 9.5


def test_log_tails_say_what_is_cut(tmp_path: Path) -> None:
    logs = {}
    for node, text in (
        ("n1", "only line\n"),
        ("n2", "".join(f"line {k}\n" for k in range(5000))),
        ("n3", "z" * 5_000_000),
        ("n4", ""),
    ):
        logs[node] = tmp_path / f"{node}.log"
        logs[node].write_text(text)
    logs["n5"] = tmp_path / "never.log"
    logs["n6"] = tmp_path
    seen = outline(tmp_path, page_of(synthetic.history(10), logs=logs))
    text = seen.text["logs"]
    assert "only line" in text and "line 4999" in text and "line 3999\n" not in text
    assert "the last 1,000 lines of 5,000 lines" in text
    assert text.count("no log was written") == 2
    assert ("a", {"href": "./n2.log"}) in seen.tags


def test_secrets_are_blanked() -> None:
    environment = {
        "API_TOKEN": "tok-123456789",
        "DB_PASSWORD": "pw",
        "GITHUB_SECRET": "s" * 9,
        "AWS_ACCESS_KEY_ID": "AKIA0000",
        "HTTP_AUTH": "me:pw",
        "DATABASE": "postgres://me:p/w@rd@db.internal:5432/x",
        "INDEX": "https://ghp_abcdefgh@pypi.example/simple",
        "OPTS": "--password=hunter2 --token 'abc def' --level=3",
        "HEADER": "Authorization: Bearer abcdefghijkl",
        "LANG": "C.UTF-8",
    }
    shown = redacted(environment)
    everything = " ".join(shown.values())
    for secret in ("tok-1", "pw", "sss", "AKIA", "p/w", "rd@", "ghp_", "hunter2", "abc", "me:"):
        assert secret not in everything, shown
    assert (
        shown["LANG"] == "C.UTF-8"
        and "--level=3" in shown["OPTS"]
        and "db.internal:5432/x" in shown["DATABASE"]
    )


def test_a_secret_is_blanked_wherever_it_turns_up(tmp_path: Path) -> None:
    secret = "correct-horse-battery"
    (tmp_path / "n1.log").write_text(f"connecting with {secret}\nread key=k1 value=3\n")
    events = [
        {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "read", "value": None},
        {"index": 1, "time": 1, "type": "fail", "process": 0, "f": "read", "value": None, "error": secret},
    ]
    header = {
        "target": f"Store({secret!r})",
        "plan": {"repr": f"Plan(at(1, kill({secret!r})))"},
        "versions": {"x": secret},
    }
    page = page_of(
        History.from_events(events, header),
        Verdict("x", "unknown", secret, cause="time"),
        replay=f"pytest --x={secret}",
        logs={"n1": tmp_path / "n1.log"},
        environment={"STORE_TOKEN": secret, "OTHER": f"a {secret}"},
        findings=(secret,),
        error=secret,
    )
    source = write_page(tmp_path / "index.html", page).read_text("utf-8")
    assert secret not in source and "read key=k1 value=3" in source
    assert secret not in Entry.of(page, "x").summary


def test_redaction_takes_no_time_on_long_lines() -> None:
    redact = redactor({"A_TOKEN": "abcdefgh"})
    began = time.process_time()
    for line in ("a" * 20_000, "token" * 4_000, "a-" * 1500 + "://", "://" + "a:" * 1500):
        redact(line)
    assert time.process_time() - began < 5  # a name matched from each of its characters took minutes


def test_invisible_characters_are_spelt_out() -> None:
    assert visible("a\x00\x1b[2K\u202eb\ud800\x7f") == "a␀␛[2K\\u202eb\\ud800\\u007f"
    assert visible("tab\tand\nline, ünïcode ✓") == "tab\tand\nline, ünïcode ✓"


def test_the_index_shows_first_what_needs_a_look(tmp_path: Path) -> None:
    entries = [
        Entry("test_ok", "valid", "linearizable", "a/index.html", 2000, 9.5, 7),
        Entry("test_vague", "unknown", "undecided", "b/index.html", 10, 1.0, 7),
        Entry("test_bad[x-y]", "invalid", "not linearizable", "c [1]/index.html", 2391, 9.5, 7),
        Entry("test_crash", "error", "port taken", "", 0, 0.1, 7),
    ]
    seen = Outline(write_index(tmp_path / "index.html", entries, title="Session", seed=7).read_text("utf-8"))
    places = [
        seen.everything.index(name) for name in ("test_bad[x-y]", "test_crash", "test_vague", "test_ok")
    ]
    assert places == sorted(places)
    assert "3 of 4 runs need a look" in seen.text["header"] and "Invalid" in seen.text["header"]
    assert [a["href"] for tag, a in seen.tags if tag == "a"] == [
        "./c%20%5B1%5D/index.html",
        "./b/index.html",
        "./a/index.html",
    ]
    assert not any(tag == "script" for tag, _ in seen.tags)


def test_an_entry_agrees_with_its_page() -> None:
    page = page_of(synthetic.history(50), synthetic.UNKNOWN)
    entry = Entry.of(page, "x/index.html")
    assert (entry.verdict, entry.summary, entry.operations, entry.seed) == (
        page.word,
        page.summary,
        50,
        "20261",
    )
    with pytest.raises(ValueError, match="none of invalid, error, unknown, valid"):
        Entry("t", "green", "", "", 0, 0.0)  # type: ignore[arg-type]


def test_writing_replaces_a_page_at_once_or_not_at_all(tmp_path: Path) -> None:
    target = tmp_path / "folder" / "index.html"
    write_page(target, page_of(synthetic.history(10)))
    before = target.read_bytes()
    target.parent.chmod(0o500)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OSError):
        write_page(blocked / "index.html", page_of(synthetic.history(10)))
    target.parent.chmod(0o700)
    assert target.read_bytes() == before


def test_notes_of_the_set_up_are_on_the_page_without_secrets(tmp_path: Path) -> None:
    events = [
        {"index": n, "time": n, "type": "info", "process": "run", "f": f, "value": value}
        for n, (f, value) in enumerate(
            [("phase", "set-up"), ("note", "links are carried by hunter2hunter2"), ("note", "30 pairs seen")]
        )
    ]
    history = History.from_events(events, {"test": "test_x"})
    assert history.notes == ("links are carried by hunter2hunter2", "30 pairs seen")
    page = page_of(history, environment={"API_TOKEN": "hunter2hunter2"})
    text = outline(tmp_path, page).text["environment"]
    assert "30 pairs seen" in text and "links are carried by" in text and "hunter2" not in text
