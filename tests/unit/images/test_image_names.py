"""Images by name: what is published, what a content's tag is made of, what a refusal says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.images import BASE, TOXIPROXY, Image, fabric_image, needed
from harness.images.context import packed, reference
from harness.images.progress import Layers, Steps
from harness.images.store import refusal


@pytest.fixture
def context(tmp_path: Path) -> Path:
    root = tmp_path / "context"
    (root / "src").mkdir(parents=True)
    (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
    (root / "src" / "server.py").write_text("print(1)\n")
    return root


@pytest.mark.parametrize(
    ("name", "repository", "registry", "published"),
    [
        ("redis", "redis", "", "redis:latest"),
        ("redis:7.2-alpine", "redis", "", "redis:7.2-alpine"),
        ("nemesis/raft_kv", "nemesis/raft_kv", "", "nemesis/raft_kv:latest"),
        ("ghcr.io/shopify/toxiproxy:2.12.0", "ghcr.io/shopify/toxiproxy", "ghcr.io", TOXIPROXY.name),
        ("localhost:5000/a/b__c:1", "localhost:5000/a/b__c", "localhost:5000", "localhost:5000/a/b__c:1"),
        ("localhost/a", "localhost/a", "localhost", "localhost/a:latest"),
        (f"redis@sha256:{'0' * 64}", "redis", "", f"redis@sha256:{'0' * 64}"),
    ],
)
def test_a_name_is_read_as_the_engine_reads_it(
    name: str, repository: str, registry: str, published: str
) -> None:
    image = Image(name)
    assert (image.repository, image.registry, image.published) == (repository, registry, published)


@pytest.mark.parametrize(
    "name", ["", "Redis", "redis:", "a//b", "redis:a b", "-x", "redis@sha256:12", "$BASE"]
)
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="cannot name an image: expected"):
        Image(name)


def test_what_cannot_be_built_is_refused() -> None:
    with pytest.raises(ValueError, match="no context to build from"):
        Image("redis", arguments={"A": "1"})
    with pytest.raises(ValueError, match="use a tag"):
        Image(f"redis@sha256:{'0' * 64}", Path("."))


def test_an_image_is_a_value() -> None:
    assert {fabric_image(): 1}[fabric_image()] == 1
    assert Image("a", Path("."), arguments={"A": "1"}) != Image("a", Path("."), arguments={"A": "2"})


def _content(context: Path) -> None:
    (context / "src" / "server.py").write_text("print(2)\n")


def _name(context: Path) -> None:
    (context / "src" / "server.py").rename(context / "src" / "node.py")


def _mode(context: Path) -> None:
    (context / "src" / "server.py").chmod(0o755)


def _more(context: Path) -> None:
    (context / "empty").mkdir()


def _link(context: Path) -> None:
    (context / "src" / "server.py").unlink()
    (context / "src" / "server.py").symlink_to("elsewhere")


def _dockerfile(context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nCOPY src /\n")


@pytest.mark.parametrize("change", [_content, _name, _mode, _more, _link, _dockerfile])
def test_a_changed_context_is_another_image(context: Path, change: Callable[[Path], None]) -> None:
    image = Image("nemesis/t", context)
    before = reference(image)
    change(context)
    assert reference(image) != before


def test_times_and_place_do_not_count(context: Path) -> None:
    before = reference(Image("nemesis/t", context))
    for path in context.rglob("*"):
        os.utime(path, (1, 1))
    moved = context.rename(context.with_name("moved"))
    assert reference(Image("nemesis/t", moved)) == before


def test_arguments_count(context: Path) -> None:
    made = {reference(Image("nemesis/t", context, arguments=a)) for a in ({}, {"A": "1"}, {"A": "2"})}
    assert len(made) == 3
    both = {"A": "1", "B": "2"}
    turned = dict(reversed(both.items()))
    assert reference(Image("nemesis/t", context, arguments=both)) == reference(
        Image("nemesis/t", context, arguments=turned)
    )


def test_what_is_ignored_does_not_count_save_the_dockerfile(context: Path) -> None:
    (context / ".dockerignore").write_text("# a comment\n\n**/__pycache__\nDockerfile\n")
    image = Image("nemesis/t", context)
    before = reference(image)
    (context / "src" / "__pycache__").mkdir()
    (context / "src" / "__pycache__" / "server.pyc").write_bytes(b"1")
    assert reference(image) == before
    _dockerfile(context)
    assert reference(image) != before


def test_a_dockerfile_from_outside_has_the_same_tag_each_time(context: Path, tmp_path: Path) -> None:
    outside = tmp_path / "other.Dockerfile"
    outside.write_text("FROM scratch\n")
    by_path, by_dots = (Image("nemesis/t", context, str(d)) for d in (outside, "../other.Dockerfile"))
    before = reference(by_path)
    assert reference(by_path) == before == reference(by_dots)
    with packed(by_path) as pack:
        assert pack.bases == ("scratch",)
    outside.write_text("FROM scratch\nLABEL a=1\n")
    assert reference(by_path) != before


def test_what_the_runtime_needs_is_in_the_package() -> None:
    fabric = fabric_image()
    assert fabric.context is not None and (fabric.context / "Dockerfile").is_file()
    assert list(needed().values()) == [BASE, fabric, TOXIPROXY]
    assert reference(fabric).startswith("nemesis/fabric:")


def test_a_refusal_names_every_way(context: Path) -> None:
    said = refusal(BASE, "could not be pulled: no such host")
    assert said.startswith("image debian:bookworm-slim could not be pulled: no such host\n")
    assert "`docker pull debian:bookworm-slim` must work" in said and "`docker login` first" in said
    assert "context=Path('DIRECTORY')" in said and "`nemesis images bootstrap --base`" in said
    assert "bootstrap --toxiproxy" in refusal(TOXIPROXY, "x") and "bootstrap" not in refusal(
        Image("redis"), "x"
    )

    image = Image("nemesis/t", context, arguments={"A": "b c"})
    with packed(image) as pack:
        said = refusal(image, "x", pack, ("debian:bookworm-slim",))
    assert f"`docker build -t {pack.reference} --build-arg 'A=b c' {context}`" in said
    assert f"{context / 'Dockerfile'} must build" in said and "bootstrap --base" in said
    assert "docker login" not in said, "nobody's registry has it"


def test_a_build_is_told_by_its_steps_and_remembered_by_its_last_lines() -> None:
    lines: list[str] = []
    steps = Steps("a:1", lines.append)
    for part in ("Step 1/2 : FROM scr", "atch\n", "\x1b[91mwarning\x1b[0m\n", *(f"{i}\n" for i in range(20))):
        steps.take({"stream": part})
    assert lines == ["a:1: Step 1/2 : FROM scratch"]
    assert list(steps.last)[-1] == "19" and len(steps.last) == 15


def test_a_pull_is_told_by_its_layers() -> None:
    lines: list[str] = []
    layers = Layers("a:1", lines.append, every=3600)
    layers.take({"status": "Pulling from a", "id": "1"})
    for layer in ("x", "y"):
        layers.take({"status": "Pulling fs layer", "id": layer})
    layers.take(
        {"status": "Downloading", "id": "x", "progressDetail": {"current": 10**6, "total": 4 * 10**6}}
    )
    assert lines == [] and layers.line() == "a:1: 0 of 2 layers, 1 MB of 4 MB"
    layers.take({"status": "Pull complete", "id": "x"})
    layers.take({"status": "Already exists", "id": "y"})
    assert lines == ["a:1: 2 of 2 layers, 4 MB of 4 MB"]
