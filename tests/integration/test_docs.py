"""README and docs say what is true: every block runs, every name exists, every option is as `--help` has it.

The blocks of a document run in their order in one directory. One whose first line is ``# NAME`` is written
to that file; Python with tests goes to pytest, other Python runs as a script, ``sh`` in a shell. A comment
before a block gives pytest options (``<!-- pytest -k calm -->``), says that it needs a Docker engine (without
one it is left out, save in CI) or says why it is not run.
"""

from __future__ import annotations

import builtins
import html
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

import harness
import harness.checkers
from harness import plans
from harness.chaos import Chaos
from harness.cluster.local import LocalCluster
from harness.engine import NoEngine, engine
from harness.images import BASE, TOXIPROXY, Image, find
from harness.nemesis import Context

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in (
            "targets",
            "plans",
            "verdicts",
            "report",
            "sessions",
            "promises",
            "transactions",
            "histories",
            "options",
            "images",
            "own-cluster",
        )
    ),
]
BLOCK = re.compile(r"(?:<!-- (?P<how>.*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
SHOWN = {
    "",
    "yaml",
    "dockerfile",
}  # unless it names its file: output and configuration of others: read, not run


@dataclass(frozen=True)
class Block:
    """A fenced block: `how` is the comment before it."""

    how: str
    language: str
    text: str

    @property
    def file(self) -> str:
        """The file that its first line names, or ""."""
        named = re.match(r"# ([\w/]+\.\w+)", self.text)
        return named[1] if named else ""

    @property
    def left_out(self) -> bool:
        return self.how.startswith("not run") or (self.language in SHOWN and not self.file)

    @property
    def needs_engine(self) -> bool:
        return self.how == "needs an engine"


def blocks(document: Path) -> list[Block]:
    return [Block(m["how"] or "", m["language"], m["text"]) for m in BLOCK.finditer(document.read_text())]


def run(command: list[str], where: Path) -> str:
    """Run a program of this environment; what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(where),
    }
    done = subprocess.run(command, cwd=where, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def engine_here() -> bool:
    """Whether there is an engine with the base images; in CI there has to be."""
    try:
        with engine() as client:
            there = all(find(client, image.published) for image in (BASE, TOXIPROXY))
    except NoEngine:
        there = False
    assert there or os.environ.get("CI") != "true", "CI must have a Docker engine and the base images"
    return there


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_block_runs(document: Path, tmp_path: Path) -> None:
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    ran = 0
    for number, block in enumerate(blocks(document), 1):
        if block.left_out or (block.needs_engine and not engine_here()):
            continue
        file = tmp_path / (block.file or f"{'test_' if 'def test_' in block.text else ''}block_{number}.py")
        if block.language == "sh":
            run(["sh", "-e", "-c", block.text], tmp_path)
        else:
            known = {"python", "ini", *(SHOWN if block.file else ())}
            assert block.language in known, f"{document.name}: who runs {block.language!r}?"
            file.parent.mkdir(exist_ok=True)
            file.write_text(block.text)
            if file.name.startswith("test_"):
                options = shlex.split(block.how.removeprefix("pytest")) if not block.needs_engine else []
                said = run(
                    [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", file.name, *options], tmp_path
                )
                assert re.search(r"^\d+ valid", said, re.M) or "1 invalid as expected" in said, said
            elif not block.file:
                run([sys.executable, file.name], tmp_path)
        ran += 1
    assert ran, f"nothing in {document.name} was run"


def test_what_is_not_run_says_why() -> None:
    silent = [
        block for document in DOCUMENTS for block in blocks(document) if block.how.startswith("not run")
    ]
    assert len(silent) <= 3
    for block in silent:
        assert re.fullmatch(r"not run.*: .{10,}", block.how), block


# -------------------------------------------------------------------------------------------- names


def code(text: str) -> Iterator[str]:
    """The inline code of a document."""
    yield from re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def known() -> set[str]:
    """Every name that a document may call."""
    parts = (
        harness.Target,
        harness.Client,
        harness.Run,
        harness.Op,
        harness.Node,
        harness.History,
        harness.Verdict,
    )
    names = {name for part in (*parts, Chaos, Context, LocalCluster) for name in dir(part)}
    names |= {"Path", Image.__name__}
    return names | {*harness.__all__, *plans.STANDARD, *dir(builtins), *harness.checkers.__all__}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.stem)
def test_every_name_exists(document: Path) -> None:
    called = {
        name
        for text in code(document.read_text())
        for name in re.findall(r"(?<![\w.\"'])([A-Za-z_]\w*)\(", text)
    }
    assert called - known() - {"RaftKV", "Shop", "chaos"} == set()


def test_every_public_name_is_explained() -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    assert [name for name in harness.__all__ if not re.search(rf"\b{name}\b", text)] == []


def test_every_fault_and_topology_of_the_tables_can_be_made() -> None:
    namespace = {name: getattr(harness, name) for name in harness.__all__}
    rows = re.findall(
        r"^\| `([a-z_]+\(.*?\))`(?:, `([a-z_]+\(.*?\))`)? \|", (ROOT / "docs/plans.md").read_text(), re.M
    )
    made = {type(eval(text, namespace)).__name__ for row in rows for text in row if text}
    from harness.faults import FAULTS
    from harness.topology import TOPOLOGIES

    assert made >= {kind.__name__ for kind in (*FAULTS, *TOPOLOGIES)} - {"fault"}


# ------------------------------------------------------------------------------------------ options


@pytest.fixture(scope="module")
def help_text(tmp_path_factory: pytest.TempPathFactory) -> str:
    where = tmp_path_factory.mktemp("help")
    (where / "pytest.ini").write_text("[pytest]\n")
    return " ".join(run([sys.executable, "-m", "pytest", "--help"], where).split())


def options() -> list[tuple[str, str, str, str]]:
    """The rows of the table: option, ini name, default, help."""
    text = (ROOT / "docs/options.md").read_text()
    rows = [[cell.strip("` ") for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [(row[0], row[1], row[2], row[3]) for row in rows if len(row) == 4 and "nemesis_" in row[1]]


def test_the_table_of_options_equals_the_help(help_text: str) -> None:
    for option, ini, _, text in options():
        if option:
            assert f"{option} {text}" in help_text
        assert f"{ini} (string): {text}" in help_text
    assert {option.partition("=")[0] for option, *_ in options()} - {""} == set(
        re.findall(r"--nemesis-[a-z]+", help_text)
    )
    assert {ini for _, ini, _, _ in options()} == set(re.findall(r"nemesis_[a-z]+", help_text))


def test_the_defaults_are_those_of_the_table(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\n")
    config = pytester.parseconfig()
    assert {ini: str(config.getini(ini)) for _, ini, _, _ in options()} == {
        ini: d for _, ini, d, _ in options()
    }


def test_options_in_the_text_exist(help_text: str) -> None:
    text = "\n".join(document.read_text() for document in DOCUMENTS)
    used = set(re.findall(r"--nemesis-[a-z]+|nemesis_[a-z]+", text)) - {"--nemesis-"}
    assert {name for name in used if name not in help_text} == set()


# ------------------------------------------------------------------------------- the rest of the README


def test_links_lead_somewhere() -> None:
    for document in (*DOCUMENTS, ROOT / "reports/README.md"):
        for link in re.findall(r"\]\(([^)#:]+)\)", document.read_text()):
            assert (document.parent / link).exists(), f"{document.name}: {link}"


def test_numbers_are_true() -> None:
    from harness.topology import TOPOLOGIES

    text = (ROOT / "README.md").read_text()
    assert "nineteen standard plans" in text and len(plans.STANDARD) == 19
    assert "partitions in eight topologies" in text and len(TOPOLOGIES) == 8


def test_the_sample_page_is_the_run_that_the_readme_shows() -> None:
    page = html.unescape((ROOT / "reports/sample.html").read_text())
    (shown,) = (b.text for b in blocks(ROOT / "README.md") if "INVALID" in b.text)
    sentence = shown.splitlines()[1].strip()
    assert sentence.startswith("process ") and sentence in page
    assert (ROOT / "docs/report.png").stat().st_size < 300_000


def test_the_sample_page_tells_nothing_of_the_machine_that_made_it() -> None:
    page = (ROOT / "reports/sample.html").read_text()
    assert re.findall(r"/(?:home|root|tmp|usr|var|opt|Users)/[\w./-]*", page) == []
    assert "environment variable" not in page and "kernel" not in page
