"""The command ``nemesis``: judge and show stored histories, begin a project, say what is missing.

Exit codes: 0 valid or done, 1 invalid (or findings that fail the run), 2 unknown, 254 bad usage or unreadable
input, 255 a failure of this program itself.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from harness.exit_code import BAD, CRASH
from harness.interchange import FORMATS

if TYPE_CHECKING:
    from harness.check_command import Request
    from harness.report import Page

HISTORY = "history.jsonl or history.jsonl.gz, or what Jepsen, elle-cli or Porcupine wrote"


class _Parser(argparse.ArgumentParser):
    """Differs from its base in the exit code: argparse's own 2 would say *unknown*."""

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(BAD, f"{self.prog}: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; its exit code."""
    parser = _Parser(
        prog="nemesis",
        description=(__doc__ or "").split("\n")[0].replace("``", ""),
        epilog="exit codes: 0 valid or done, 1 invalid or findings, 2 unknown, "
        "254 bad usage or input, 255 a crash",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    one = commands.add_parser("check", help="judge stored histories, without a cluster")
    one.add_argument("histories", nargs="+", type=Path, metavar="HISTORY", help=HISTORY)
    _add_stored(one)
    _add_judging(one)
    one.set_defaults(run=_check)

    one = commands.add_parser("report", help="write the page of a stored history")
    one.add_argument("histories", nargs="*", type=Path, metavar="HISTORY", help=HISTORY)
    one.add_argument(
        "--output", type=Path, metavar="PAGE",
        help="by default history.html beside the history; with --extract the history file",
    )  # fmt: skip
    one.add_argument(
        "--compare", action="store_true",
        help="write one page of two histories over one time axis: the failed run, then a good one",
    )  # fmt: skip
    one.add_argument(
        "--extract", type=Path, metavar="PAGE",
        help="give the history back out of a page: times in whole microseconds, secrets blanked",
    )  # fmt: skip
    _add_stored(one)
    one.set_defaults(run=_report)

    one = commands.add_parser("init", help="write a starting point that runs as it is")
    one.add_argument("directory", nargs="?", type=Path, default=Path("chaos"), metavar="DIRECTORY")
    one.set_defaults(run=_init)

    one = commands.add_parser("doctor", help="say what this machine has and what is missing")
    one.set_defaults(run=_doctor)

    one = commands.add_parser("images", help="the images that containers are started from")
    _add_images(one)
    one.set_defaults(run=_images)

    one = commands.add_parser("clocks", help="processes whose clocks are skewed, should a run have left any")
    one.add_argument("pids", nargs="*", type=int, metavar="PID", help="only these processes")
    one.add_argument("--restore", action="store_true", help="set them right, whoever's they are")
    one.set_defaults(run=_clocks)

    given = parser.parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):  # a file's name may be of bytes that no text is
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        return int(given.run(given))
    except (ValueError, OSError) as error:
        print(f"nemesis {given.command}: {_told(error)}", file=sys.stderr)
        return BAD
    except Exception:  # Python's own exit code for it, 1, would say invalid
        traceback.print_exc()
        return CRASH


def _add_stored(parser: argparse.ArgumentParser) -> None:
    """What every command on a stored history takes."""
    add = parser.add_argument
    add(
        "--check", "--checker", action="append", default=[], metavar="NAME",
        help="a check by name, may be repeated; by default those that the file names",
    )  # fmt: skip
    add(
        "--format", choices=FORMATS, default="auto",
        help="of the file, by default told by how it begins; edn: also history.txt and Jepsen's log",
    )  # fmt: skip
    add("--keyed", action="store_true", help="values are [key, value], as Jepsen's independent ones")
    add(
        "--nil-read", choices=("value", "unknown"), default="value",
        help="an acknowledged read of nil: the value nil (default), or not known, as Knossos has it",
    )  # fmt: skip


def _add_judging(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="", metavar="NAME", help="judge linearizability by this model")
    add("--init", type=_json, default=(), metavar="JSON", help="the model's initial state")
    add("--json", action="store_true", help="one JSON object a file, in order")
    add(
        "--time-limit", type=_positive, metavar="S",
        help="seconds for each check (linearizability: 30); used up, the verdict is unknown",
    )  # fmt: skip
    add(
        "--memory-limit", type=_megabytes, metavar="MB",
        help="megabytes for each file; used up, the verdict is unknown",
    )  # fmt: skip


def _json(text: str) -> tuple[Any]:
    try:
        return (json.loads(text),)
    except (ValueError, RecursionError):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON; a string has quotes: '\"text\"'") from None


def _positive(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds above 0")
    return number


def _megabytes(text: str) -> int:
    if not (text.isdecimal() and 0 < int(text) < 1 << 30):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of megabytes above 0")
    return int(text)


def _request(given: argparse.Namespace, **more: Any) -> Request:
    from harness.check_command import Request

    return Request(
        checks=tuple(given.check), format=given.format, keyed=given.keyed, nil_read=given.nil_read, **more
    )


def _check(given: argparse.Namespace) -> int:
    from harness.check_command import check_all

    request = _request(
        given, model=given.model, init=given.init, seconds=given.time_limit, megabytes=given.memory_limit
    )
    return check_all(given.histories, request, as_json=given.json)


def _report(given: argparse.Namespace) -> int:
    if given.extract is not None:
        return _extract(given)
    if not given.histories:
        raise ValueError("name a history, or a page with --extract")
    if given.compare:
        return _compare(given)
    if given.output is not None and len(given.histories) > 1:
        raise ValueError("--output names one page; of several histories each has its page beside it")
    for path in given.histories:
        print(_page_of(path, given))
    return 0


def _compare(given: argparse.Namespace) -> int:
    from harness.report import write_comparison

    if len(given.histories) != 2:
        raise ValueError(f"--compare takes two histories, not {len(given.histories)}")
    output = given.output or given.histories[0].with_name("comparison.html")
    one, other = (_shown(path, given, output) for path in given.histories)
    print(write_comparison(output, one, other))
    return 0


def _page_of(path: Path, given: argparse.Namespace) -> Path:
    from harness.report import write_page

    # not index.html: that is the page of the run itself, which knows more
    output = given.output or path.with_name(f"{path.name.partition('.')[0]}.html")
    return write_page(output, _shown(path, given, output))


def _shown(path: Path, given: argparse.Namespace, output: Path) -> Page:
    from harness.check_command import verdicts
    from harness.report import Page

    request = _request(given)
    history = request.read(path)
    judged = verdicts(history, request) if given.check or history.header.get("checks") else ()
    logs = {name: path.with_name(f"{name}.log") for name in history.header.get("nodes") or ()}
    test = str(history.header.get("test", ""))
    return Page(
        history=history,
        verdicts=judged,
        test=test or path.name,
        replay=shlex.join(["pytest", test, f"--nemesis-replay={path}"]) if test else "",
        logs={name: log for name, log in logs.items() if log.exists()},
        findings=history.findings,
        history_link=os.path.relpath(path, output.parent),
    )


def _extract(given: argparse.Namespace) -> int:
    from harness.report.extract import history_of, write_history

    if given.histories:
        raise ValueError("--extract takes the page alone: nemesis report --extract PAGE [--output HISTORY]")
    header, events = history_of(given.extract)
    output = given.output or given.extract.with_suffix(".extracted.jsonl.gz")
    if output.exists():
        raise ValueError(f"{output} is there already; name another file with --output")
    print(write_history(output, header, events))
    return 0


def _init(given: argparse.Namespace) -> int:
    directory: Path = given.directory
    if directory.exists() and not (directory.is_dir() and not any(directory.iterdir())):
        what = "not empty" if directory.is_dir() else "no directory"
        raise ValueError(f"{directory} is there and {what}; name another directory: nemesis init DIRECTORY")

    def copy(source: Traversable, to: Path) -> None:
        to.mkdir(parents=True, exist_ok=True)
        for item in sorted(source.iterdir(), key=lambda item: item.name):
            if item.is_dir():
                if item.name != "__pycache__":
                    copy(item, to / item.name)
            else:
                name = ".gitignore" if item.name == "gitignore" else item.name
                (to / name).write_bytes(item.read_bytes())

    copy(resources.files("harness").joinpath("starter"), directory)
    print(
        f"{directory}: a small service, its target and client, two fault plans, a test that runs as it is:\n"
        f"  cd {shlex.quote(str(directory))} && pytest -m chaos\n"
        "then make it yours:\n"
        "  target.py         command(): how a node of your service starts; ServiceClient: your driver;\n"
        "                    outcomes: which of its exceptions mean that nothing happened\n"
        "  faults/plans.py   add a fixture, get a plan\n"
        "  test_chaos.py     the workload, and the promise that is asserted\n"
        "  server.py         the small service: delete it when command() starts yours"
    )
    return 0


def _clocks(given: argparse.Namespace) -> int:
    from harness.skew.command import clocks

    return clocks(given.pids, restore=given.restore)


def _add_images(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="what the runtime docker needs, and what the engine has")
    one = actions.add_parser(
        "bootstrap", help="have the published images that all builds on, also where no registry answers"
    )
    one.add_argument("--base", action="store_true", help="only the base image, by debootstrap (needs root)")
    one.add_argument("--toxiproxy", action="store_true", help="only Toxiproxy, from its Go module")
    one.add_argument("--mirror", default="", metavar="URL", help="Debian mirror (default: debootstrap's)")


def _images(given: argparse.Namespace) -> int:
    from harness.images.command import images

    return images(given)


def _doctor(given: argparse.Namespace) -> int:
    from harness.doctor import doctor

    return doctor()


def _told(error: Exception) -> str:
    """An error in a line: without the number and quotes that an OSError's own text has."""
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return str(error)


if __name__ == "__main__":
    sys.exit(main())
