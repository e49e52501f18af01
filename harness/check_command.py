"""``nemesis check``: judge stored histories, of ours or of another tool, without a cluster.

Each file is judged on its own: one that is broken, too large or too slow to decide costs no other.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from harness.checkers import (
    MODELS,
    Budget,
    CheckError,
    check,
    checkers,
    choices,
    headline,
    linearizable,
    model,
    no_such_check,
    text,
)
from harness.exit_code import BAD, CRASH, INVALID, UNKNOWN, VALID, worst
from harness.history import NANOSECONDS, History, HistoryError, frozen
from harness.interchange import read
from harness.interchange.export import plain
from harness.journal import told
from harness.verdict import Verdict, worst as deciding

_LINEARIZABLE = "linearizable"
_CODES = {"valid": VALID, "invalid": INVALID, "unknown": UNKNOWN}
_CONFIGURATION = 400  # bytes: what the search keeps of one, and as much for everything else


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of each history; `init` (a 1-tuple, or empty) replaces the model's initial state.

    `seconds` and `megabytes` bound a check; used up, its verdict is unknown, cause ``time`` or ``memory``.
    """

    checks: tuple[str, ...] = ()
    model: str = ""
    init: tuple[Any, ...] = ()
    format: str = "auto"
    keyed: bool = False
    nil_read: str = "value"
    seconds: float | None = None
    megabytes: int | None = None

    def read(self, path: Path) -> History:
        """The stored history, of whatever format. Raises HistoryError."""
        return read(path, self.format, keyed=self.keyed, nil_read=self.nil_read)

    def names(self) -> tuple[str, ...]:
        """The checks by their full names. Raises CheckError, listing the valid ones."""
        known = checkers()
        if self.model and not any(f"{name}:{self.model}" in known for name in self.checks):
            model(self.model)
        found = []
        for name in self.checks or ((_LINEARIZABLE,) if self.model else ()):
            of_model = f"{name}:{self.model}"
            if of_model not in known and name not in known:
                raise no_such_check(name)
            found.append(of_model if of_model in known else name)
        return tuple(found)


@dataclass(frozen=True, slots=True)
class _Judged:
    """What came of one file: verdicts and findings, or why there are none (`cause`, `error`)."""

    path: Path
    verdicts: tuple[Verdict, ...] = ()
    history: History | None = None
    code: int = VALID
    cause: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Said:
    """What is printed of a file, and its exit code."""

    code: int
    out: str = ""
    error: str = ""


def check_all(paths: Sequence[Path], request: Request, *, as_json: bool = False) -> int:
    """Judge each file and print what came of it, in order; the worst exit code.

    Raises CheckError for an unknown model or check, before any file is read.
    """
    request.names()
    codes = []
    for path in paths:
        said = (_apart if request.megabytes else _said)(path, request, as_json)
        codes.append(said.code)
        if said.error:
            print(f"nemesis check: {said.error}", file=sys.stderr)
        if said.out:
            print(said.out, flush=True)
    return worst(codes)


def _said(path: Path, request: Request, as_json: bool) -> _Said:
    judged = _judge(path, request)
    out = ""
    if as_json:
        out = json.dumps(plain(_object(judged)), default=repr)
    elif judged.code not in (BAD, CRASH):
        out = "\n".join(_lines(judged))
    return _Said(judged.code, out, judged.error if judged.code in (BAD, CRASH) else "")


def verdicts(history: History, request: Request) -> tuple[Verdict, ...]:
    """The verdicts of the checks asked for, by default the history's own. CheckError where there are none."""
    names = request.names() or tuple(history.header.get("checks") or ())
    if not names:
        raise CheckError(
            f"{history.path} names no check; choose one: nemesis check --check NAME HISTORY, "
            f"NAME being {choices()}; or nemesis check --model NAME HISTORY, "
            f"NAME being {', '.join(MODELS)}"
        )
    if request.init and not any(map(_model_of, names)):
        raise CheckError(f"an initial state is for linearizability, which none of {', '.join(names)} judges")
    return tuple(_verdict(history, str(name), request) for name in names)


def _judge(path: Path, request: Request) -> _Judged:
    try:
        history = request.read(path)
        found = verdicts(history, request)
    except MemoryError:
        limit = f"{request.megabytes:,} MB" if request.megabytes else "the memory there is"
        return _Judged(path, code=UNKNOWN, cause="memory", error=f"not decided within {limit}")
    except (HistoryError, CheckError, OSError) as error:
        return _Judged(path, code=BAD, cause="malformed", error=_told(path, error))
    except Exception as error:
        traceback.print_exc()
        return _Judged(
            path, code=CRASH, cause="crashed", error=f"{path}: {type(error).__name__}: {told(error)}"
        )
    codes = [_CODES[verdict.judgement] for verdict in found] + [INVALID] * bool(history.findings)
    return _Judged(path, found, history, worst(codes))


def _told(path: Path, error: Exception) -> str:
    said = told(error)
    return said if said.startswith((f"{path}: ", f"{path} ")) else f"{path}: {said}"


def _model_of(name: str) -> str:
    """The model by which the check of that name judges linearizability, or ""."""
    kind, _, of = name.partition(":")
    return of if kind == _LINEARIZABLE and of in MODELS else ""


def _verdict(history: History, name: str, request: Request) -> Verdict:
    if of := _model_of(name):
        chosen = model(of)
        if request.init:
            chosen = replace(chosen, initial=frozen(request.init[0]))
        return linearizable(history, chosen, _budget(request))
    try:
        with _time(request.seconds):
            return check(history, name)
    except _Late:
        summary = f"not decided within {request.seconds:g} s"
        return Verdict(name, "unknown", summary, cause="time", evidence={"missing": [summary]})


def _budget(request: Request) -> Budget:
    budget = Budget() if request.seconds is None else Budget(seconds=request.seconds)
    if request.megabytes is None:
        return budget
    return replace(budget, configurations=max(1, request.megabytes * 1_000_000 // _CONFIGURATION))


# -------------------------------------------------------------------------------------------- limits


class _Late(BaseException):
    """The time for a check is over; no checker may take it for an error of its own."""


@contextmanager
def _time(seconds: float | None) -> Iterator[None]:
    """Raises _Late in the block once it took so long; where signals cannot be had, it takes what it takes."""
    if seconds is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def late(number: int, frame: FrameType | None) -> None:
        raise _Late

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _apart(path: Path, request: Request, as_json: bool) -> _Said:
    """`_said` in a process of its own, with memory of its own: what one took the next one does not lack."""
    sys.stdout.flush()
    sys.stderr.flush()
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        code = CRASH
        try:
            os.close(reading)
            _bound_memory(request.megabytes or 0)
            said = pickle.dumps(_said(path, request, as_json))
            with open(writing, "wb") as pipe:
                pipe.write(said)
            code = VALID
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    if status == 0:
        told_so: _Said = pickle.loads(answer)
        return told_so
    how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"code {os.WEXITSTATUS(status)}"
    judged = _Judged(path, code=CRASH, cause="crashed", error=f"{path}: its process ended with {how}")
    return _Said(CRASH, json.dumps(plain(_object(judged))) if as_json else "", judged.error)


def _bound_memory(megabytes: int) -> None:
    """MemoryError once this process would have so much more than it has now."""
    has = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    wanted = has + megabytes * 1_000_000
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, hard))


# ------------------------------------------------------------------------------------ what is printed


def _lines(judged: _Judged) -> Iterator[str]:
    if judged.history is None:
        yield f"{judged.path}: UNKNOWN: {judged.cause}: {judged.error}"
        return
    for verdict in judged.verdicts:
        said = headline(verdict, judged.history) if verdict.valid else text(verdict, judged.history)
        yield f"{judged.path}: {verdict.checker}: {said}"
    for finding in judged.history.findings:
        yield f"{judged.path}: finding: {finding}"


def _object(judged: _Judged) -> dict[str, Any]:
    """One JSON object for a file: the verdict that decides, all that is wrong, and every verdict."""
    findings = list(judged.history.findings) if judged.history else []
    decides = deciding(judged.verdicts)
    told_of = _told_of(decides, judged.history) if decides and judged.history else {}
    return {
        "file": str(judged.path),
        "valid": {VALID: True, INVALID: False}.get(judged.code, "unknown"),
        "cause": (decides.cause if decides else judged.cause) or None,
        "summary": decides.summary if decides else judged.error,
        "witness": told_of.get("witness"),
        "anomalies": [*(name for v in judged.verdicts for name in _anomalies(v)), *findings],
        "findings": findings,
        "verdicts": [_told_of(v, judged.history) for v in judged.verdicts if judged.history],
    }


def _told_of(verdict: Verdict, history: History) -> dict[str, Any]:
    witness = verdict.witness
    shown = None
    if witness is not None:
        wanted = set(witness.operations)
        rows = [row for row, index in enumerate(history.columns.index) if index in wanted]
        shown = {
            "sentence": witness.sentence,
            "culprit": witness.culprit,
            "operations": [_operation(history, row) for row in rows],
            "edges": [[edge.before, edge.after, edge.why] for edge in witness.edges],
        }
    return {
        "checker": verdict.checker,
        "valid": {"valid": True, "invalid": False}.get(verdict.judgement, "unknown"),
        "cause": verdict.cause or None,
        "summary": verdict.summary,
        "key": verdict.key,
        "anomalies": _anomalies(verdict),
        "witness": shown,
        "evidence": verdict.evidence,
    }


def _anomalies(verdict: Verdict) -> list[str]:
    """The names of what was found, as the checker has them, or in the words of its verdict."""
    named = verdict.evidence.get("anomalies")
    if isinstance(named, (list, tuple, Mapping)) and named:
        return list(map(str, named))
    return [verdict.summary] if verdict.judgement == "invalid" else []


def _operation(history: History, row: int) -> dict[str, Any]:
    op = history.operations[row]
    return {
        "index": op.index, "process": op.process, "f": op.f, "key": op.key, "value": op.value,
        "result": op.result, "type": op.type, "start": op.seconds,
        "end": None if op.end is None else op.end / NANOSECONDS, "node": op.node,
    }  # fmt: skip
