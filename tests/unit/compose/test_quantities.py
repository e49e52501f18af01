"""Durations, sizes and variables: what is written is what is read."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from harness.compose.quantity import seconds, size
from harness.compose.variables import is_secret, substitute

UNITS = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6}
POWERS = {"": 0, "b": 0, "k": 1, "kb": 1, "KiB": 1, "m": 2, "MB": 2, "g": 3, "GiB": 3, "t": 4}
NAMES = st.from_regex(r"[A-Z_][A-Z0-9_]{0,8}", fullmatch=True)
# what a word of a variable may hold as it is; braces would have to be balanced
PLAIN = st.text(st.characters(codec="utf-8", exclude_characters="${}"), max_size=20)


@given(st.dictionaries(st.sampled_from(list(UNITS)), st.integers(0, 10**6), min_size=1))
def test_a_duration_is_the_sum_of_its_parts(parts: dict[str, int]) -> None:
    text = "".join(f"{number}{unit}" for unit, number in parts.items())
    assert seconds(text) == pytest.approx(sum(number * UNITS[unit] for unit, number in parts.items()))


@given(st.integers(0, 10**12), st.sampled_from(list(POWERS)))
def test_a_size_is_bytes_by_powers_of_1024(number: int, unit: str) -> None:
    assert size(f"{number}{unit}") == number * 1024 ** POWERS[unit]


@pytest.mark.parametrize("text", ["", "10", "-1s", "1", "1d", "s", "1s ", "1.s.s", "1 s", "1m30"])
def test_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration such as 1m30s"):
        seconds(text)


@pytest.mark.parametrize("text", ["", "m", "-1", "1e3", "1x", "64mm", "1kbb"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="is no size such as 64m"):
        size(text)


@given(st.text(st.characters(codec="utf-8")))
def test_a_text_with_its_dollars_doubled_stays_as_it_was(text: str) -> None:
    assert substitute(text.replace("$", "$$"), lambda name: None) == text


@given(st.dictionaries(NAMES, PLAIN, min_size=1), PLAIN, st.data())
def test_variables_stand_where_they_are_named(
    values: dict[str, str], between: str, data: st.DataObject
) -> None:
    names = data.draw(st.lists(st.sampled_from(sorted(values)), min_size=1, max_size=4))
    text = between.join(f"${{{name}}}" for name in names)
    assert substitute(text, values.get) == between.join(values[name] for name in names)


@given(NAMES, st.none() | PLAIN, PLAIN)
def test_each_form_decides_by_whether_the_variable_is_set_or_empty(
    name: str, value: str | None, word: str
) -> None:
    get = {} if value is None else {name: value}
    is_set, filled = value is not None, bool(value)
    assert substitute(f"${{{name}-{word}}}", get.get) == (value if is_set else word)
    assert substitute(f"${{{name}:-{word}}}", get.get) == (value if filled else word)
    assert substitute(f"${{{name}+{word}}}", get.get) == (word if is_set else "")
    assert substitute(f"${{{name}:+{word}}}", get.get) == (word if filled else "")
    for form, good in (("?", is_set), (":?", filled)):
        text = f"${{{name}{form}{word}}}"
        if good:
            assert substitute(text, get.get) == value
        else:
            with pytest.raises(ValueError, match=f"the variable {name} must be set"):
                substitute(text, get.get)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$SET-x", "value-x"),
        ("${UNSET:-${SET}}", "value"),
        ("${UNSET:-${OTHER:-x}}", "x"),
        ("${UNSET:-a$$b}", "a$b"),
        ("${UNSET:-http://h:80/}", "http://h:80/"),
        ("${UNSET-a:-b}", "a:-b"),
        ("${SET:-${UNSET:?never asked}}", "value"),
        ("a $ b $1 $", "a $ b $1 $"),
        ("$$SET $$$SET", "$SET $value"),
        ("[$UNSET]", "[]"),
    ],
)
def test_forms_within_forms(text: str, expected: str) -> None:
    assert substitute(text, {"SET": "value"}.get) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${SET", "has a ${ without its }"),
        ("${UNSET:-x", "has a ${ without its }"),
        ("${SET/a/b}", "has an unknown form of ${SET}"),
        ("${1}", "has a ${ that begins no variable"),
        ("${}", "has a ${ that begins no variable"),
    ],
)
def test_what_is_no_variable_lists_what_is(text: str, expected: str) -> None:
    with pytest.raises(ValueError) as caught:
        substitute(text, {"SET": "value"}.get)
    assert expected in str(caught.value) and "${NAME:?message}" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["POSTGRES_PASSWORD", "PGPASS", "api_token", "CLIENT_SECRET", "AWS_ACCESS_KEY_ID"]
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name) and not is_secret("POSTGRES_USER")
