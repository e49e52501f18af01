"""The quick reader of Porcupine's key-value logs and the general one are of one mind."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from harness.history import History, HistoryError
from harness.interchange import events, jepsen, porcupine, read

PATH = Path("kv.txt")
LINE = '{{:process {}, :type :{}, :f :{}, :key "{}", :value {}}}\n'
TEXTS = [
    "",
    "x 1 0 y",
    "ü",
    "a, :value nil}",
    "}\n{:process 1, :type :ok, :f :get, :key ",
    "a\nb",
    "nil",
    "}",
]


def log(rnd: random.Random, lines: int) -> str:
    """A log that breaks no rule, in which some operations never return."""
    told: list[str] = []
    waiting: dict[int, tuple[str, str, str]] = {}
    for _ in range(lines):
        process = rnd.randrange(4)
        if process in waiting:
            f, key, value = waiting.pop(process)
            seen = f'"{rnd.choice(TEXTS)}"' if f == "get" else value
            told.append(LINE.format(process, "ok", f, key, rnd.choice((seen, "nil"))))
        else:
            f, key = rnd.choice(("get", "put", "append")), rnd.choice(TEXTS[:3])
            value = "nil" if f == "get" else f'"{rnd.choice(TEXTS)}"'
            waiting[process] = f, key, value
            told.append(LINE.format(process, "invoke", f, key, value))
    return "".join(told)


def slowly(text: str) -> History | None:
    try:
        return events.history(jepsen.operations(text), "porcupine", False, PATH)
    except HistoryError:
        return None


def same(one: History, other: History) -> bool:
    return (
        list(one.operations) == list(other.operations)
        and one.header == other.header
        and (one.columns.call, one.columns.ret) == (other.columns.call, other.columns.ret)
        and one.columns.completion == other.columns.completion
    )


@pytest.mark.parametrize("seed", range(30))
def test_they_read_the_same(seed: int) -> None:
    rnd = random.Random(seed)
    text = log(rnd, rnd.randrange(1, 60))
    quick, slow = porcupine.history(text, "porcupine", PATH), slowly(text)
    assert slow is not None
    # a text that looks like the end of a line is left to the general reader
    assert quick is None if ':value nil}"' in text else quick is not None and same(quick, slow)
    for cut in range(0, len(text), 41):  # whatever is read of a part is what the general reader makes of it
        quick, slow = porcupine.history(text[:cut], "porcupine", PATH), slowly(text[:cut])
        assert quick is None or (slow is not None and same(quick, slow))


NASTY = st.sampled_from(["", '"', "\\", "\0", "nil", "\n", "1", "{", "}", ";", "ok", "get"]) | st.text(
    max_size=3
)


@settings(max_examples=200, deadline=None, derandomize=True, database=None)
@given(
    st.integers(0, 9),
    st.lists(st.tuples(st.integers(0, 4000), st.integers(0, 9), NASTY), min_size=1, max_size=3),
)
def test_whatever_is_done_to_a_log_they_read_the_same(seed: int, made: list[tuple[int, int, str]]) -> None:
    text = log(random.Random(seed), 20)
    for at, length, new in made:
        at %= len(text) + 1
        text = text[:at] + new + text[at + length :]
    quick = porcupine.history(text, "porcupine", PATH)
    slow = slowly(text)
    assert quick is None or (slow is not None and same(quick, slow))


@pytest.mark.parametrize(
    ("good", "bad"),
    [
        ('1"}\n{:process 0, :type :invoke', '1"{:process 0, :type :invoke'),
        (":process 0, :type :ok", ":process 00, :type :ok"),
        (":process 0, :type :ok", ":process \N{ARABIC-INDIC DIGIT ZERO}, :type :ok"),
        ('1"}\n', '1"} {}\n'),
    ],
)
def test_what_is_no_edn_is_not_taken_for_it(good: str, bad: str) -> None:
    write = [LINE.format(0, kind, "put", "k", '"1"') for kind in ("invoke", "ok")]
    text = "".join(write * 2)
    assert porcupine.history(text, "porcupine", PATH) is not None
    assert good in text and porcupine.history(text.replace(good, bad), "porcupine", PATH) is None


def test_what_breaks_a_rule_is_told_by_the_general_reader(tmp_path: Path) -> None:
    path = tmp_path / "kv.txt"
    good = log(random.Random(1), 20)
    left_open = LINE.format(9, "invoke", "get", "0", "nil")
    for bad, complaint in (
        (LINE.format(9, "ok", "get", "0", '"1"'), "line 21: .* never invoked"),
        (left_open * 2, "line 22: .* invokes again"),
        ("{:process 9, :type", "line 21: the text ends inside"),
        (left_open + LINE.format(9, "ok", "get", "1", '""'), "line 22: .* on key"),
    ):  # fmt: skip
        path.write_text(
            good.replace("a\nb", "ab").replace("}\n{:process 1, :type :ok, :f :get, :key ", "") + bad
        )
        assert porcupine.history(path.read_text(), "porcupine", path) is None
        with pytest.raises(HistoryError, match=complaint):
            read(path)
