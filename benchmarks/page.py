"""The page at 10 to a million operations: time to make it, size, time to the picture, time of a zoom step.

    python -m benchmarks.page [--operations N ...] [--opens 5] [--keep DIRECTORY]

Each page is opened in headless Chromium, without a GPU, at 1280 x 900; an empty page beside it says what the
browser alone costs. *painted* is from the start of navigation, *step* the script's time for one step of zoom
or move, from the whole run down to a small part and back. Marks with ``!`` what misses its limit; the exit
code is 1 then, or where a picture at `painted` differs from the one a second later.
"""

from __future__ import annotations

import argparse
import heapq
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.history import History
from harness.report import Page, write_page
from harness.verdict import Edge, Verdict, Witness

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page as Tab

MADE, STEPS, CLIENTS, NODES = 20.0, 60, 20, 5
MEGABYTES = {100_000: 1.0, 1_000_000: 8.0}
PAINTED = {100_000: 0.5, 1_000_000: 2.0}  # seconds; smaller pages are held to that of 100,000
REDRAW = {100_000: 0.016}  # seconds, p95
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
]


def events(operations: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """A register workload as a run records it: twenty clients, one in forty outcomes not ok, faults."""
    rng = random.Random(f"{seed}/page")
    running: list[tuple[int, int, int, dict[str, Any]]] = []
    free, state, now, made, index, fault = list(range(CLIENTS)), [0] * 8, 0, 0, 0, 0
    while made < operations or running:
        if made < operations and free and (not running or now <= running[0][0]):
            client = free.pop(rng.randrange(len(free)))
            key, reads = rng.randrange(len(state)), rng.random() < 0.5
            f, asked = ("read", None) if reads else ("write", made)
            state[key] = state[key] if reads else made
            chance = rng.random()
            kind = "ok" if chance < 0.975 else "fail" if reads or chance < 0.995 else "info"
            lasted = int(rng.lognormvariate(0, 0.6) * 2e6) * (1 if kind == "ok" else 5)
            told = {
                "type": kind,
                "process": client,
                "f": f,
                "value": [f"k{key}", state[key] if kind == "ok" else asked],
            }
            if kind != "ok":
                told["error"] = "timeout: no answer"
            heapq.heappush(running, (now + lasted + 1, made, client, told))
            event = {"type": "invoke", "process": client, "f": f, "value": [f"k{key}", asked]}
            yield {"index": index, "time": now, **event, "node": f"n{client % NODES + 1}"}
            made, index = made + 1, index + 1
            now += int(rng.expovariate(1 / 400_000)) + 1
            if now > (2 * fault + 1) * 10_000_000_000:  # in force for ten seconds, then none for ten
                fault += 1
                for edge in ("start", "stop"):
                    at = now if edge == "start" else now + 10_000_000_000
                    what = {
                        "fault": fault,
                        "kind": "partition",
                        "what": "n2 cut from the others",
                        "asked": [now / 1e9, None],
                    }
                    value = {
                        **what,
                        "done": True,
                        edge.replace("stop", "end"): at,
                        "nodes": ["n2"],
                        "mechanism": "stall",
                    }
                    yield {
                        "index": index,
                        "time": now,
                        "type": "info",
                        "process": "nemesis",
                        "f": f"{edge}-partition",
                        "value": value,
                    }
                    index += 1
        else:
            end, _, client, told = heapq.heappop(running)
            yield {"index": index, "time": end, **told}
            index += 1
            now = max(now, end) if not free else now
            free.append(client + CLIENTS if told["type"] == "info" else client)


def page_of(operations: int) -> Page:
    """A page with a witness in the middle of its run; made up, for only drawing is measured."""
    header = {"keyed": True, "nodes": [f"n{k + 1}" for k in range(NODES)], "concurrency": CLIENTS}
    history = History.from_events(events(operations), header)
    rows = range(len(history) // 2, len(history) // 2 + 3)
    its = tuple(history.columns.index[row] for row in rows)
    edges = (Edge(its[0], its[1], "for the picture"), Edge(its[1], its[2], "for the picture"))
    witness = Witness("A made-up story.", its, its[-1], edges)
    witness = Witness("A made-up story.", its, its[-1], edges)
    verdict = Verdict("linearizable", "invalid", "made up", witness=witness)
    return Page(history, (verdict,), "benchmarks/page.py", replay="python -m benchmarks.page")


def painted(tab: Tab) -> float:
    """Seconds from the start of navigation until the picture stands."""
    end = time.monotonic() + 120
    while not (found := tab.evaluate("performance.getEntriesByName('painted').map(e => e.startTime)")):
        if time.monotonic() > end:
            raise TimeoutError("the page was never painted")
        tab.wait_for_timeout(5)
    return float(found[0]) / 1000


def redraws(tab: Tab) -> list[float]:
    """Seconds of script for each redraw of a zoom into the run, a walk through it and a zoom out."""
    tab.evaluate("performance.clearMeasures('redraw')")
    for k in range(STEPS):
        seen = tab.evaluate("performance.getEntriesByName('redraw').length")
        tab.keyboard.press("w" if k < STEPS // 4 else "s" if k >= 3 * STEPS // 4 else "d" if k % 2 else "a")
        end = time.monotonic() + 30
        while tab.evaluate("performance.getEntriesByName('redraw').length") == seen:
            if time.monotonic() > end:
                raise TimeoutError(f"step {k} was never drawn")
            tab.wait_for_timeout(5)
    return [d / 1000 for d in tab.evaluate("performance.getEntriesByName('redraw').map(e => e.duration)")]


def opened(browser: Browser, path: Path) -> Tab:
    """`path` in a new tab."""
    tab = browser.new_page(viewport={"width": 1280, "height": 900})
    tab.goto(path.as_uri())
    return tab


def measured(browser: Browser, operations: int, opens: int, folder: Path) -> bool:
    """Print a row of the table; whether every limit was kept."""
    page = page_of(operations)
    began = time.perf_counter()
    path = write_page(folder / f"{operations}.html", page)
    made = time.perf_counter() - began
    del page
    size, times, steps = path.stat().st_size / 1e6, list[float](), list[float]()
    for number in range(opens):
        tab = opened(browser, path)
        times.append(painted(tab))
        if number == 0:
            first = tab.screenshot()
            tab.wait_for_timeout(1000)
            still = tab.screenshot() == first
        else:
            steps += redraws(tab)
        tab.close()
    shown, slow = statistics.median(times), statistics.quantiles(steps, n=20)[-1] if steps else 0.0
    told = [
        (f"{made:.2f} s", made <= MADE),
        (f"{size:.2f} MB", size <= MEGABYTES.get(operations, 8.0)),
        (f"{shown * 1e3:.0f} ms", shown <= PAINTED.get(operations, 0.5)),
        (f"{slow * 1e3:.1f} ms", slow <= REDRAW.get(operations, 1.0)),
        ("same" if still else "differs", still),
    ]
    print(
        f"{operations:>10,}  " + "  ".join(f"{text:>9}{' ' if good else '!'}" for text, good in told),
        flush=True,
    )
    return all(good for _, good in told)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and 1 where a limit was missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--operations", type=int, nargs="+", default=[10, 1_000, 100_000, 1_000_000])
    parser.add_argument("--opens", type=int, default=5, help="of each page (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="directory for the pages")
    given = parser.parse_args(arguments)
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if chromium is None:
        print("no Chromium on PATH: apt-get install chromium", file=sys.stderr)
        return 1
    from playwright.sync_api import sync_playwright

    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; limits hold for an idle machine")
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as temporary:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        folder = given.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        empty = folder / "empty.html"
        mark = "requestAnimationFrame(() => setTimeout(() => performance.mark('painted')))"
        empty.write_text(f"<!doctype html><script>{mark}</script>")
        tabs = [opened(browser, empty) for _ in range(given.opens)]
        print(f"an empty page: painted after {statistics.median(map(painted, tabs)) * 1e3:.0f} ms")
        heads = "   ".join(f"{name:>9}" for name in ("made in", "size", "painted", "step p95", "1 s later"))
        print(f"{'operations':>10}  {heads}")
        kept = [measured(browser, n, given.opens, folder) for n in given.operations]
        browser.close()
    print(
        "limits: made in 20 s; 1 MB at 100,000, 8 MB beyond; painted in 0.5 s, 2 s at a million; "
        "a step 16 ms at 100,000"
    )
    return 0 if all(kept) else 1


if __name__ == "__main__":
    sys.exit(main())
