"""A YAML file as items with lines: safe, as Compose reads it, nothing said twice."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import yaml

from harness.compose.item import ComposeError, Item, Step

# aliases make a small file large; no file that somebody wrote comes near
MOST = 100_000

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_FLAGS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
# those that plain text is given by the parser
_TAGS = frozenset({"null", "bool", "int", "float", "timestamp", "str", "merge", "value"})
_BASES = {"0x": 16, "0o": 8, "0b": 2}


def load(file: Path) -> Item:
    """The document in `file`. Raises ComposeError, with the line, where it is no single YAML mapping."""
    try:
        text = file.read_text(encoding="utf-8")
    except OSError as error:
        raise ComposeError(f"{file}: cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ComposeError(f"{file}: is not UTF-8 text") from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ComposeError(f"{file.name}{line}: is not YAML: {what}") from None
    if root is None:
        raise ComposeError(f"{file.name}: is empty; it must have services")
    document = _Reader(file).item(root, ())
    if not isinstance(document.value, dict):
        raise document.expected("a mapping with services")
    return document


class _Reader:
    """Turns the nodes of one file into items; counts them, and knows which are being read."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.read = 0
        self.within: set[int] = set()

    def item(self, node: yaml.Node, path: tuple[Step, ...], line: int = 0) -> Item:
        """The item of `node`. `line` is that of its key: the value of a mapping begins in the next one."""
        made = Item(None, self.file, line or node.start_mark.line + 1, path)
        self.read += 1
        if self.read > MOST:
            raise made.error(f"its aliases make more than {MOST} values of it")
        if id(node) in self.within:
            raise made.error("an alias refers to what it is in")
        self.within.add(id(node))
        try:
            return made.make(self._value(node, made))
        finally:
            self.within.discard(id(node))

    def _value(self, node: yaml.Node, made: Item) -> Any:
        if isinstance(node, yaml.MappingNode):
            _untagged(node, "map", made)
            return self._mapping(node, made)
        if isinstance(node, yaml.SequenceNode):
            _untagged(node, "seq", made)
            return [self.item(part, (*made.path, index)) for index, part in enumerate(node.value)]
        assert isinstance(node, yaml.ScalarNode)
        return _scalar(node, made)

    def _mapping(self, node: yaml.MappingNode, made: Item) -> dict[str, Item]:
        own: dict[str, Item] = {}
        merged: dict[str, Item] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise made.error(f"has a key that is no text in line {line}")
            key = key_node.value
            if key == "<<" and key_node.style is None:
                for name, item in self._merged(value_node, made).items():
                    merged.setdefault(name, item)
                continue
            if key in own:
                raise made.error(f"has {key!r} twice, in lines {own[key].line} and {line}")
            own[key] = self.item(value_node, (*made.path, key), line)
        return {**merged, **own}

    def _merged(self, node: yaml.Node, made: Item) -> dict[str, Item]:
        """What ``<<`` brings: a mapping, or a list of them of which the first wins."""
        nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
        found: dict[str, Item] = {}
        for part in nodes:
            if not isinstance(part, yaml.MappingNode):
                raise made.error("<< must be a mapping or a list of mappings: <<: *name")
            for key, item in self.item(part, made.path).value.items():
                found.setdefault(key, item)
        return found


def _untagged(node: yaml.Node, kind: str, made: Item) -> None:
    if node.tag != f"tag:yaml.org,2002:{kind}":
        raise made.error(f"the tag {node.tag} is not honoured; write the value that is meant")


def _scalar(node: yaml.ScalarNode, made: Item) -> Any:
    """A scalar by YAML 1.2, as Compose does: ``22:22`` and ``yes`` are texts."""
    text, tag = str(node.value), node.tag.removeprefix("tag:yaml.org,2002:")
    if tag not in _TAGS:
        raise made.error(f"the tag {node.tag} is not honoured; write the value that is meant")
    if node.style is not None:
        return text
    if text in _NULL:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if _DECIMAL.fullmatch(text):
        return int(text.replace("_", ""))
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text.removeprefix("+"))
    if (base := _BASES.get(digits[:2].lower())) or re.fullmatch("0[0-7]+", digits):
        try:
            return sign * int(digits.replace("_", ""), base or 8)
        except ValueError:
            return text
    return float(text) if _FLOAT.fullmatch(text) and math.isfinite(float(text)) else text


__all__ = ["MOST", "load"]
