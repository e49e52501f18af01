"""The command ``nemesis``: judge and show stored histories, begin a project, say what is missing.

Exit codes: 0 valid or done, 1 invalid, 2 unknown, 254 bad usage or unreadable input.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import platform
import shutil
import sys
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

EXIT = {"valid": 0, "invalid": 1, "unknown": 2}
BAD = 254


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    parser = argparse.ArgumentParser(prog="nemesis", description=(__doc__ or "").split("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("check", help="judge stored histories, without a cluster")
    one.add_argument("histories", nargs="+", type=Path, metavar="HISTORY")
    one.add_argument("--check", action="append", metavar="NAME", help="by default those named in the file")
    one.set_defaults(run=_check)

    one = commands.add_parser("report", help="write the page of a stored history")
    one.add_argument("history", type=Path, metavar="HISTORY")
    one.add_argument("--output", type=Path, metavar="PAGE", help="by default beside the history")
    one.set_defaults(run=_report)

    one = commands.add_parser("init", help="write a starting point that runs as it is")
    one.add_argument("directory", nargs="?", type=Path, default=Path("chaos"), metavar="DIRECTORY")
    one.set_defaults(run=_init)

    one = commands.add_parser("doctor", help="say what this machine has and what is missing")
    one.set_defaults(run=_doctor)

    given = parser.parse_args(arguments)
    try:
        return int(given.run(given))
    except (ValueError, OSError) as error:
        print(f"nemesis {given.command}: {error}", file=sys.stderr)
        return BAD


def _check(given: argparse.Namespace) -> int:
    from harness.checkers import check
    from harness.checkers.words import headline, text
    from harness.journal import load

    worst = 0
    for path in given.histories:
        history = load(path)
        names = given.check or history.header.get("checks") or ()
        if not names:
            raise ValueError(f"{path} names no check; say one: --check linearizable:cas-register")
        for name in names:
            verdict = check(history, name)
            print(f"{path}: {name}: {headline(verdict, history) if verdict.valid else text(verdict, history)}")
            worst = max(worst, {"valid": 0, "unknown": 1, "invalid": 2}[verdict.judgement])
    return EXIT[("valid", "unknown", "invalid")[worst]]


def _report(given: argparse.Namespace) -> int:
    from harness.checkers import check
    from harness.journal import load
    from harness.report import Page, write_page

    history = load(given.history)
    verdicts = tuple(check(history, name) for name in history.header.get("checks") or ())
    nodes = history.header.get("nodes") or ()
    logs = {node: given.history.with_name(f"{node}.log") for node in nodes}
    output = given.output or given.history.with_name("index.html")
    page = Page(
        history=history,
        verdicts=verdicts,
        test=str(history.header.get("test", given.history.name)),
        replay=f"pytest '{history.header.get('test', '')}' --nemesis-replay={given.history}",
        logs={node: path for node, path in logs.items() if path.exists()},
        environment={},
        findings=history.findings,
        history_link=os.path.relpath(given.history, output.parent),
    )
    print(write_page(output, page))
    return 0


def _init(given: argparse.Namespace) -> int:
    directory: Path = given.directory
    if directory.exists() and any(directory.iterdir()):
        raise ValueError(f"{directory} is there and not empty; name another directory: nemesis init DIRECTORY")

    def copy(source: Traversable, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        for item in sorted(source.iterdir(), key=lambda item: item.name):
            if item.is_dir():
                if item.name != "__pycache__":
                    copy(item, to / item.name)
            elif not item.name.startswith("__init__"):
                (to / item.name).write_bytes(item.read_bytes())

    copy(resources.files("harness").joinpath("starter"), directory)
    print(
        f"{directory}: a small service, its target and client, two fault plans and a test that runs as it is:\n"
        f"  cd {directory} && pytest -m chaos\n"
        "then make it yours:\n"
        "  target.py         command(): how a node of your service starts; ServiceClient: your driver;\n"
        "                    outcomes: which of its exceptions mean that nothing happened\n"
        "  faults/plans.py   add a fixture, get a plan\n"
        "  test_chaos.py     the workload, and the promise that is asserted\n"
        "  server.py         delete it"
    )
    return 0


def _doctor(given: argparse.Namespace) -> int:
    from harness.runtime import NoRuntime, choose

    print(f"python {platform.python_version()}, {platform.system()} {platform.release()}, {os.cpu_count()} cores")
    try:
        runtime, why = choose("auto")
        print(f"runtime: {runtime} ({why})")
        bad = 0
    except NoRuntime as error:
        print(f"runtime: none: {error}")
        bad = 1
    for module in ("xdist", "docker", "hypothesis", "toxiproxy"):
        print(f"{module}: {'there' if importlib.util.find_spec(module) else 'missing: pip install pytest-nemesis'}")
    engine = shutil.which("docker")
    print(f"docker client: {engine or 'not on PATH (not needed by the runtime local)'}")
    return bad


if __name__ == "__main__":
    sys.exit(main())
