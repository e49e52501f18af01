"""A witness is drawn from its operations, edges and sentence alone, whichever checker it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.history import History
from harness.report import Page, write_page
from harness.report.text import operation_text
from harness.verdict import Edge, Verdict, Witness
from tests.integration.report.chromium import OPEN, await_

MS = 1_000_000
# Texts of the picture on screen that leave it, and pairs of texts that lie over each other.
CLASHES = """() => {
    const svg = [...document.querySelectorAll('.picture svg')].find(s => s.getClientRects().length);
    const outer = svg.getBoundingClientRect(), texts = [...svg.querySelectorAll('text')].map(t => [t.textContent, t.getBoundingClientRect()]);
    const out = texts.filter(([, b]) => b.left < outer.left - 1 || b.right > outer.right + 1 || b.bottom > outer.bottom + 1).map(([t]) => t);
    const over = [];
    texts.forEach(([s, a], k) => texts.slice(k + 1).forEach(([t, b]) => {
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left), high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 4) over.push(`${s} / ${t}`);
    }));
    return [out, over]; }"""  # noqa: E501


def transactions(steps: int = 2) -> History:
    """Forty transactions of one process each, `steps` steps long, each overlapping the next."""
    events: list[tuple[int, dict[str, Any]]] = []
    for k in range(40):
        asked = [
            ["append" if s % 2 == 0 else "r", f"key{s}", k if s % 2 == 0 else None] for s in range(steps)
        ]
        told = [[f, key, [k - 1] if f == "r" else value] for f, key, value in asked]
        events.append(
            (k * 30, {"type": "invoke", "process": k, "f": "txn", "value": asked, "node": f"n{k % 3 + 1}"})
        )
        events.append((k * 30 + 50, {"type": "ok", "process": k, "f": "txn", "value": told}))
    events.sort(key=lambda event: event[0])
    made = [{"index": i, "time": time * MS, **event} for i, (time, event) in enumerate(events)]
    return History.from_events(made, {"nodes": ["n1", "n2", "n3"]})


def cycle(history: History, length: int, culprit: bool = True) -> Verdict:
    its = [history.operations[10 + k].index for k in range(length)]
    edges = [
        Edge(a, b, f"{a} is before {b} for a reason") for a, b in zip(its, its[1:] + its[:1], strict=True)
    ]
    witness = Witness("a cycle that nobody can order", tuple(its), its[-1] if culprit else None, tuple(edges))
    return Verdict("serializable", "invalid", "G2", witness=witness)


@pytest.mark.parametrize("width", [390, 1280, 1920])
@pytest.mark.parametrize(("length", "steps"), [(2, 2), (4, 2), (7, 3), (12, 8)])
def test_a_cycle_is_drawn_whole(tmp_path: Path, open_page: OPEN, length: int, steps: int, width: int) -> None:
    history = transactions(steps)
    verdict = cycle(history, length)
    page = open_page(
        write_page(tmp_path / "index.html", Page(history, (verdict,), "test_x")),
        viewport={"width": width, "height": 900},
    )
    assert verdict.witness is not None
    shown = page.locator(".picture svg:visible")
    assert shown.count() == 1
    assert shown.locator("g.op").count() == length
    assert shown.locator("circle.number").count() == length
    assert page.locator("#witness .edges li").count() == length
    assert page.evaluate(CLASHES) == [[], []]
    table = page.locator("#witness [aria-label=Witness]").inner_text()
    for index in verdict.witness.operations:
        assert f"#{index}" in table
        assert operation_text(next(op for op in history.operations if op.index == index)) in table


def test_a_witness_without_a_last_word_ends_with_its_last_operation(tmp_path: Path, open_page: OPEN) -> None:
    history = transactions()
    verdict = cycle(history, 3, culprit=False)
    assert verdict.witness is not None
    last = max(verdict.witness.operations)
    page = open_page(write_page(tmp_path / "index.html", Page(history, (verdict,), "test_x")))
    assert f"#{last}" in page.locator("#answer-proof").inner_text()
    page.locator("#b-witness").click()
    await_(page, f"document.getElementById('pinned').textContent.includes('Operation #{last}')")


def test_transactions_read_as_steps(tmp_path: Path, open_page: OPEN) -> None:
    history = transactions()
    page = open_page(write_page(tmp_path / "index.html", Page(history, (), "test_x")))
    first = page.locator("#table-space [role=row]").first.inner_text()
    assert operation_text(history.operations[0]) == "txn append key0 0, r key1 [-1]"
    assert "txn append key0 0, r key1 [-1]" in first


def test_several_keys_and_checkers_at_once(tmp_path: Path, open_page: OPEN) -> None:
    history = transactions()
    both = (cycle(history, 3), cycle(history, 5), Verdict("set", "unknown", "no final read", cause="vacuous"))
    page = open_page(write_page(tmp_path / "index.html", Page(history, both, "test_x")))
    assert "and 1 more invalid verdict" in page.locator("h1").inner_text()
    assert page.locator(".picture svg:visible").count() == 2
    assert "cause: vacuous" in page.locator("#witness").inner_text()
