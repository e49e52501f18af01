"""A bank: what is transferred neither comes into being nor goes away."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.checkers.model import CheckError
from harness.checkers.spans import Anomaly, Span, by_key, mark, of_key, spans, verdict_of
from harness.checkers.words import at, key_of, listed, number, shown
from harness.history import History, Operation
from harness.verdict import Verdict

NOUNS = {
    "wrong-total": "wrong total",
    "negative-balance": "negative balance",
    "nil-balance": "balance of nil",
    "unexpected-account": "unexpected account",
}


def bank(
    history: History, total: int | None = None, accounts: Iterable[Hashable] | None = None,
    negative: bool = False,
) -> Verdict:  # fmt: skip
    """Every acknowledged ``read``, a map from account to balance, sums up to the total; ``transfer`` moves.

    The `total` is the one given, else that of the header (``total`` or ``total-amount``), else that of the
    read that ended first (of each key): `evidence` says which, and a violation is then that two reads differ.
    Likewise `accounts`: given, else of the header, else those of the first read. Balances below 0 are wrong
    unless `negative`. Without transfers or reads that succeeded the verdict is unknown. Not seen: money that
    went to the wrong account. Raises CheckError for other operations, and where a read reports no map of
    numbers.

    >>> history = History.from_events([
    ...     {"index": 0, "time": 0, "type": "invoke", "process": 0, "f": "read", "value": None},
    ...     {"index": 1, "time": 5, "type": "ok", "process": 0, "f": "read", "value": {"a": 7, "b": 2}}])
    >>> bank(history, total=10).witness.sentence
    'process 0 read balances of 9 in all at 0.00 s, but there are 10: a 7, b 2'
    """
    given = total if total is not None else _of(history.header, "total", "total-amount")
    if given is not None and type(given) is not int:
        raise CheckError(f"the total is {given!r}: expected an integer")
    known = accounts if accounts is not None else _of(history.header, "accounts")
    found: list[Anomaly] = []
    reads = transfers = 0
    totals = []
    for group in by_key(spans(history, ("transfer", "read"), "banks")).values():
        transfers += sum(span.op.f == "transfer" and span.happened for span in group)
        seen = sorted((s for s in group if s.op.f == "read" and s.happened), key=lambda s: (s.ret, s.call))
        reads += len(seen)
        balances = {span.op.index: _balances(span.op) for span in seen}
        first = _whole(seen, balances)
        sure = given
        if sure is None and first is not None:
            sure = sum(balances[first.op.index].values())
        if sure is not None:
            totals.append(sure)
        valid = None
        if known is not None:
            as_text = history.header.get("format") == "json"  # where the names in a map are strings
            valid = {mark(str(account) if as_text else account) for account in known}
        elif first is not None:
            valid = {mark(account) for account in balances[first.op.index]}
        for span in seen:
            held = balances[span.op.index]
            by_total = first if given is None and first is not span else None
            by_account = first if known is None and first is not span else None
            wrong = _wrong(span, held, sure, valid, negative)
            if wrong:
                since = {"wrong-total": by_total, "unexpected-account": by_account}.get(wrong)
                others = () if since is None else (since.op.index,)
                found.append(
                    Anomaly(wrong, span, others, partial(_said, wrong, span, held, sure, valid, since))
                )
    source = "argument" if total is not None else "header" if given is not None else "first read"
    lacking = [] if reads else ["no read succeeded"]
    if not transfers:
        lacking.append("no transfer succeeded, so no total could change")
    return verdict_of(
        "bank", history, found, kept="the total stays", nouns=NOUNS, lacking=lacking,
        evidence={
            "reads": reads, "transfers": transfers, "total": totals[0] if totals else None,
            "total_from": source,
        },
    )  # fmt: skip


def _of(header: Mapping[str, Any], *names: str) -> Any:
    return next((header[name] for name in names if header.get(name) is not None), None)


def _balances(op: Operation) -> dict[Hashable, Any]:
    """What a read reported: a map, which a history keeps as pairs."""
    told = op.result if isinstance(op.result, tuple) else None
    if told is None or any(not isinstance(pair, tuple) or len(pair) != 2 for pair in told):
        raise CheckError(
            f"operation {op.index}, 'read', reported {op.result!r}: expected a map from account to balance"
        )
    held = dict(told)
    for account, balance in held.items():
        if balance is not None and type(balance) is not int:
            raise CheckError(
                f"operation {op.index}, 'read', reported {balance!r} in {shown(account)}: expected an integer"
            )
    return held


def _whole(seen: Sequence[Span], balances: Mapping[int, Mapping[Hashable, Any]]) -> Span | None:
    """The first read with no balance of nil and some account."""
    return next((s for s in seen if balances[s.op.index] and None not in balances[s.op.index].values()), None)


def _wrong(
    span: Span, held: Mapping[Hashable, Any], total: int | None, valid: set[Hashable] | None, negative: bool
) -> str:
    """What is wrong with a read; of several what explains the others."""
    if None in held.values():
        return "nil-balance"
    if valid is not None and not {mark(account) for account in held} <= valid:
        return "unexpected-account"
    if total is not None and sum(held.values()) != total:
        return "wrong-total"
    return "negative-balance" if not negative and min(held.values(), default=0) < 0 else ""


def _said(
    name: str, span: Span, held: Mapping[Hashable, Any], total: int | None, valid: set[Hashable] | None,
    since: Span | None,
) -> str:  # fmt: skip
    op = span.op
    of = of_key(op)
    when, *then = at(op.start, *([] if since is None else [since.op.start]))
    if name == "wrong-total":
        text = f"process {op.process} read balances{of} of {sum(held.values()):,} in all at {when}, but "
        text += f"there are {total:,}"
        if since is not None:
            text += f", as process {since.op.process} read at {then[0]}"
        if len(held) <= 5:
            text += ": " + ", ".join(f"{key_of(account)} {balance:,}" for account, balance in held.items())
        return text
    if name == "unexpected-account":
        odd = [key_of(account) for account in held if mark(account) not in (valid or ())]
        text = f"process {op.process} read{of} {number(len(odd), 'account')} at {when} that should not be: "
        text += listed(odd[:5])
        return text + (f"; process {since.op.process}'s read at {then[0]} had none such" if since else "")
    account, balance = next(
        (a, b) for a, b in held.items() if (b is None if name == "nil-balance" else b < 0)
    )
    return f"process {op.process} read a balance of {'nil' if balance is None else f'{balance:,}'} in " + (
        f"{key_of(account)}{of} at {when}"
    )
