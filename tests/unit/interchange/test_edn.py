"""EDN: what Clojure prints is read as it was meant, what is doubtful is refused where it stands."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from harness.history import frozen
from harness.interchange.broken import Broken
from harness.interchange.edn import forms, keyword, written

STEADY = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)


def values(text: str, unwrap: bool = False) -> list[Any]:
    return [value for _, value in forms(text, unwrap=unwrap)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("nil", None),
        ("true", True),
        ("false", False),
        (":read", "read"),
        (":jepsen/op?", "jepsen/op?"),
        ("symbol", "symbol"),
        ('"a\\tb\\u00e9\\"\nc"', 'a\tbé"\nc'),
        ("\\newline", "\n"),
        ("\\a", "a"),
        ("\\u0041", "A"),
        ("-17", -17),
        ("+5", 5),
        ("170141183460469231731687303715884105728N", 1 << 127),
        ("1.5e3", 1500.0),
        ("1.50M", Decimal("1.50")),
        ("2/4", Fraction(1, 2)),
        ("4/2", 2),
        ("##Inf", inf),
        ("##-Inf", -inf),
        ("[1 [2] (3)]", [1, [2], [3]]),
        ("#{2 1}", (1, 2)),
        ("{:a 1, :b nil}", {"a": 1, "b": None}),
        ("{:a 1 :b [2 3]}", {"a": 1, "b": [2, 3]}),
        ("{[1 2] 3}", {(1, 2): 3}),
        ('#inst "2026-01-01T00:00:00Z"', "2026-01-01T00:00:00Z"),
        ("#jepsen.history.Op{:index 0, :f :read}", {"index": 0, "f": "read"}),
        ("#a #b [1]", [1]),
        ("#object[java.lang.Object 0x1f :x]", ["java.lang.Object", 31, "x"]),
        ("[1 #_ 2 #_#_ 3 4 5]", [1, 5]),
        ("{#_ :a 1, 2}", {1: 2}),
        ("; first\n[1 ; one\n 2]; last", [1, 2]),
        (",,[1,,2],", [1, 2]),
    ],
)
def test_a_form_is_read(text: str, value: Any) -> None:
    assert values(text) == [value]
    assert type(values(text)[0]) is type(value)


@pytest.mark.parametrize(
    ("text", "offset", "complaint"),
    [
        ("[1 [2", 3, "ends inside the vector that begins here"),
        ("{:a 1", 0, "ends inside the map"),
        ('[1 "abc', 3, "a string that never ends"),
        ("[1}", 2, "'}' closes nothing that is open"),
        ("1 ]", 2, "closes nothing"),
        ("{:a 1 :a 2}", 0, "has a key twice"),
        ("{:a}", 0, "a key that has no value"),
        ("[:a ::b]", 4, "'::b' is no EDN"),
        ("'a", 0, "is no EDN"),
        ("#'user/x 1", 0, "is no EDN"),
        ("^{:a 1} [2]", 0, "is no EDN"),
        ("[1 #tag]", 7, "is followed by nothing"),
        ("[1 #_]", 5, "is followed by nothing"),
        ("1 #tag", 2, "followed by nothing"),
        ("007", 0, "is no number"),
        ("1x", 0, "is no number"),
        ("1e999", 0, "larger than a float"),
        ("9" * 5000, 0, "a number of 5,000 digits"),
        ("##NaN", 0, "equals nothing"),
        ("\\nosuch", 0, "is no character"),
        ('"\\q"', 0, "the escape"),
        ("\0", 0, "is no EDN"),
        ("1\0", 0, "is no number"),
        ("[" * 10_000, 100, "nested deeper than 100 levels"),
        ("\\", 0, "is no EDN"),
    ],
)
def test_what_is_no_edn_is_refused_where_it_stands(text: str, offset: int, complaint: str) -> None:
    with pytest.raises(Broken, match=complaint) as caught:
        values(text)
    assert caught.value.offset == offset


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("{:a 1}\n{:b 2}", [{"a": 1}, {"b": 2}]),
        ("[{:a 1} {:b 2}]", [{"a": 1}, {"b": 2}]),
        ("({:a 1})", [{"a": 1}]),
        ("; c\n#history [#op{:a 1}]", [{"a": 1}]),
        ("#_ [{:a [1]}] [{:b 1}]", [{"b": 1}]),
        ("[]", []),
        ("{:a 1} [1]", [{"a": 1}, [1]]),
    ],
)
def test_one_list_around_all_is_taken_away(text: str, found: list[Any]) -> None:
    assert values(text, unwrap=True) == found
    with pytest.raises(Broken, match=r"follows the list|no EDN|closes nothing"):
        values("[1] " + text, unwrap=True)
        values(text + " }")


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.fractions()
    | st.text(st.characters(exclude_categories=[])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


def whole_fractions(value: Any) -> Any:
    """1/1 is the integer 1 in EDN."""
    if isinstance(value, Fraction):
        return int(value) if value.denominator == 1 else value
    if isinstance(value, list):
        return list(map(whole_fractions, value))
    if isinstance(value, dict):
        return {key: whole_fractions(item) for key, item in value.items()}
    return value


@STEADY
@given(plain)
def test_what_was_written_is_read_again(value: Any) -> None:
    value = whole_fractions(value)
    assert repr(values(written(value))) == repr([value])
    assert "\n" not in written(value)
    assert frozen(values(written(frozen(value)))[0]) == frozen(value)


@STEADY
@given(st.text())
def test_a_keyword_is_read_as_its_name(name: str) -> None:
    assert values(keyword(name)) == [name]


@STEADY
@given(st.text(st.sampled_from("[]{}()#_\"\\:;,^' \n\0aé0/.-+NM"), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    for unwrap in (False, True):
        try:
            values(text, unwrap)
        except Broken as error:
            assert 0 <= error.offset <= len(text)
