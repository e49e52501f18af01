"""A stored history of any format, told apart by what the file begins with."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from harness.history import OUTCOMES, History, HistoryError
from harness.interchange import elle, jepsen, porcupine
from harness.interchange.broken import Broken
from harness.interchange.events import history
from harness.journal import load, opened

FORMATS = ("auto", "jsonl", "edn", "json", "porcupine")
LARGEST = 1 << 29  # bytes, unzipped: read at once, unlike our own format
_HEAD = 1 << 16
_BLOCK = 1 << 20
_OURS = re.compile(rb'\s*\{\s*"nemesis"\s*:')
_JSON = re.compile(rb'\s*(?:\[\s*(?:\{\s*["}]|\]|\Z)|\{\s*["}])')
_EDN = re.compile(rb"[\s,]*+(?:;[^\n]*+\n[\s,]*+)*+(?:[({#]|\[[\s,]*[\[{(#;])")
_SUFFIXES = {".jsonl": "jsonl", ".json": "json", ".edn": "edn"}


def read(path: str | Path, format: str = "auto", *, keyed: bool = False, nil_read: str = "value") -> History:
    """Read a history that we or another tool stored, gzipped or not.

    `format` is one of FORMATS: ``jsonl`` is our own, ``edn`` all that Jepsen writes (maps, history.txt, its
    log), ``json`` elle-cli's, ``porcupine`` the two kinds of Porcupine's test data. `keyed` says that values
    are [key, value], which no other format says itself. `nil_read`: whether an acknowledged read of nil saw
    nothing there (``value``) or is not known (``unknown``, as Knossos has it). In the others' formats the
    order of the operations counts, times are only shown; where some have none, the n-th event is shown at n
    seconds. Raises HistoryError, with the line, where the file breaks a rule, ValueError for unknown options.
    """
    path = Path(path)
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; there are: {', '.join(FORMATS)}")
    if nil_read not in ("value", "unknown"):
        raise ValueError(f"nil_read={nil_read!r} must be value or unknown")
    if format == "auto":
        format = _format(path)
    found = load(path, keyed=keyed) if format == "jsonl" else _foreign(path, format, keyed)
    if nil_read == "unknown":
        _forget_nil_reads(found)
    return found


def _format(path: Path) -> str:
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise HistoryError(
            f"{path}: what comes through a pipe can be read only once: say its format by --format"
        )
    with opened(path) as file:
        head = file.read(_HEAD)
    head = head.removeprefix(b"\xef\xbb\xbf")
    if _JSON.match(head):
        return "jsonl" if _headed(head) else "json"
    if _EDN.match(head):
        return "edn"
    name = path.name.removesuffix(".gz")
    known = _SUFFIXES.get(name[name.rfind(".") :])
    if known is None and jepsen.is_log(head.decode("utf-8", "replace")):
        return "edn"
    if known is None:
        what = f"begins with {head[:40].decode('utf-8', 'replace')!r}" if head else "is empty"
        raise HistoryError(
            f"{path}: line 1: the file {what}; expected operations as "
            f"{', '.join(FORMATS[1:])} has them, told apart by their first characters: say which by --format"
        )
    return known


def _headed(head: bytes) -> bool:
    """Whether the first line is a header of ours, or at least no operation."""
    if _OURS.match(head):
        return True
    try:
        first = msgspec.json.decode(head.lstrip().split(b"\n", 1)[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(first, dict) and ("nemesis" in first or not first.keys() & {"type", "process", "f"})


def _foreign(path: Path, format: str, keyed: bool) -> History:
    content = bytearray()
    with opened(path) as file:
        while block := file.read(_BLOCK):  # not all at once: so much would be allocated first
            content += block
            if len(content) > LARGEST:
                raise HistoryError(f"{path}: more than {LARGEST:,} bytes, unzipped: split it, by key perhaps")
    return _parsed(path, bytes(content).removeprefix(b"\xef\xbb\xbf"), format, keyed)


def _parsed(path: Path, content: bytes, format: str, keyed: bool) -> History:
    text: str | bytes = content
    try:
        if not content.strip():
            raise Broken("the file is empty: there is no operation in it", 0)
        if format == "json":
            return history(elle.operations(content), format, keyed, path)
        text = content.decode()
        if not keyed and (found := porcupine.history(text, format, path)) is not None:
            return found
        return history(jepsen.operations(text), format, keyed, path)
    except UnicodeDecodeError as error:
        line, what = content.count(b"\n", 0, error.start) + 1, f"this is no UTF-8 ({error.reason})"
    except Broken as error:
        before, what = text[: error.offset], str(error)
        line = (before.count("\n") if isinstance(before, str) else before.count(b"\n")) + 1
    raise HistoryError(f"{path}: line {line}: {what}")


def _forget_nil_reads(history: History) -> None:
    """An acknowledged read of nil tells nothing: as if it had not happened."""
    columns = history.columns
    read = columns.fs.code("read")
    ok, fail = OUTCOMES.index("ok"), OUTCOMES.index("fail")
    error = columns.errors.code("nil read: value not known")
    for row, outcome in enumerate(columns.type):
        if outcome == ok and columns.f[row] == read and columns.result[row] == 0:  # 0 is nil, always
            columns.type[row], columns.error[row] = fail, error
