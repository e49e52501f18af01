"""YAML as Compose reads it, with lines, and nothing said twice."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.compose import Compose, ComposeError, read
from harness.compose.document import MOST

Reader = Callable[..., Compose]
Refusal = Callable[..., str]


def values(compose: Reader, *scalars: str) -> list[str | None]:
    lines = "\n".join(f"      V{index}: {scalar}" for index, scalar in enumerate(scalars))
    made = compose(f"services:\n  a:\n    image: i\n    environment:\n{lines}\n")["a"].environment
    return [made.get(f"V{index}") for index in range(len(scalars))]


def test_scalars_are_those_of_compose_and_not_of_yaml_1_1(compose: Reader) -> None:
    # as compose-go gives them to a container
    given = [
        "yes",
        "on",
        "TRUE",
        "22:22",
        "1.50",
        "0755",
        "0x10",
        "0o17",
        "1_000",
        "1e3",
        "1000000.0",
        "089",
        "-5",
    ]
    expected = ["yes", "on", "true", "22:22", "1.5", "493", "16", "15", "1000", "1000", "1e+06", "89", "-5"]
    assert values(compose, *given) == expected


def test_quoted_scalars_are_texts(compose: Reader) -> None:
    assert values(compose, '"0755"', "'true'", '"~"', "|-\n        two\n        lines") == [
        "0755",
        "true",
        "~",
        "two\nlines",
    ]


def test_anchors_and_merge_keys(compose: Reader) -> None:
    made = compose("""
        x-one: &one {A: one, B: one}
        x-two: &two {B: two, C: two}
        services:
          a:
            image: i
            environment:
              <<: [*one, *two]
              C: own
    """)
    assert made["a"].environment == {"A": "one", "B": "one", "C": "own"}


def test_a_key_twice(refusal: Refusal) -> None:
    text = refusal("services:\n  a:\n    image: i\n    image: j\n")
    assert text == "compose.yml, line 2: service a: has 'image' twice, in lines 3 and 4"


def test_a_service_twice(refusal: Refusal) -> None:
    assert "services: has 'a' twice, in lines 2 and 3" in refusal(
        "services:\n  a: {image: i}\n  a: {image: j}\n"
    )


def test_no_yaml(refusal: Refusal) -> None:
    assert refusal("services:\n  a: [1\n  b: 2\n").startswith("compose.yml, line 3: is not YAML: ")


@pytest.mark.parametrize(
    ("text", "expected"), [("", "is empty"), ("- a\n", "must be a mapping with services")]
)
def test_no_document(refusal: Refusal, text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_tags_are_refused(refusal: Refusal) -> None:
    assert "the tag !reset is not honoured" in refusal(
        "services:\n  a:\n    image: i\n    ports: !reset []\n"
    )
    assert "python/object" in refusal("services:\n  a: !!python/object/apply:os.system ['true']\n")


def test_an_alias_to_what_it_is_in(refusal: Refusal) -> None:
    assert "an alias refers to what it is in" in refusal("services: &s\n  a: *s\n")


def test_a_bomb_of_aliases_is_refused(refusal: Refusal) -> None:
    lines = ["x-0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"x-{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    assert f"its aliases make more than {MOST} values" in refusal(
        "\n".join(lines) + "\nservices: {a: {image: i}}\n"
    )


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ComposeError, match=r"missing\.yml: cannot be read: No such file"):
        read(tmp_path / "missing.yml", environment={})
    with pytest.raises(ComposeError, match="is a directory without a Compose file; it has one of"):
        read(tmp_path, environment={})


def test_a_directory_with_one(tmp_path: Path) -> None:
    (tmp_path / "docker-compose.yml").write_text("services: {a: {image: i}}")
    assert read(tmp_path, environment={}).file == tmp_path / "docker-compose.yml"
