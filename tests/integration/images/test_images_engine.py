"""Images of the real engine: built once, found again, pulled from a registry, refused with every way."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cluster.lock import base_directory, private, try_lock
from harness.images import Image, ImageError, ensure, fabric_image, find
from harness.images.store import LABEL
from tests.integration.cluster.support import until

if TYPE_CHECKING:
    from docker import DockerClient

BUILDER = """
import sys
from pathlib import Path
from harness.engine import engine
from harness.images import Image, ensure

with engine() as client:
    image = Image(sys.argv[1], Path(sys.argv[2]))
    found = ensure(client, image, progress=lambda line: print(line, flush=True))
print("RESULT", found.how, found.id, found.reference)
"""


def content(client: DockerClient, reference: str) -> dict[str, bytes]:
    """The regular files of an image that was built from scratch."""
    container = client.api.create_container(reference, command=["none"])["Id"]
    try:
        stream = b"".join(client.api.export(container))
    finally:
        client.api.remove_container(container)
    files = {}
    with tarfile.open(fileobj=io.BytesIO(stream)) as members:
        for member in members:
            if member.isreg() and (held := members.extractfile(member)) is not None:
                files[member.name] = held.read()
    return files


def test_two_processes_build_an_image_once(
    client: DockerClient, name: str, context: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    turn = try_lock(private(base_directory()) / "images")
    assert turn is not None
    logs = [tmp_path / f"builder{i}" for i in range(2)]
    processes = []
    for log in logs:
        with log.open("w") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-c", BUILDER, name, str(context)],
                    env={**os.environ, "TMPDIR": str(tmp_path)},
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
    try:
        # Both have looked and found nothing; only then may one of them begin.
        until(lambda: all("waiting for another" in log.read_text() for log in logs), 30, "both wait")
        assert not client.images.list(name)
        os.close(turn)
        assert [process.wait(60) for process in processes] == [0, 0], [log.read_text() for log in logs]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = [log.read_text() for log in logs]
    results = [re.findall(r"^RESULT (\w+) (\S+) (\S+)$", text, re.M)[0] for text in said]
    assert sorted(how for how, _, _ in results) == ["built", "found"]
    assert len({id for _, id, _ in results}) == 1
    assert sum("Step 1/" in text for text in said) == 1


def test_unchanged_is_found_and_changed_is_rebuilt(client: DockerClient, name: str, context: Path) -> None:
    image = Image(name, context)
    built = ensure(client, image)
    assert built.how == "built" and built.reference.startswith(f"{name}:")
    assert content(client, built.reference)["file"] == b"one\n"
    assert client.images.get(built.reference).labels[LABEL] == name

    lines: list[str] = []
    again = ensure(client, image, progress=lines.append)
    assert (again.how, again.id, again.reference, lines) == ("found", built.id, built.reference, [])

    (context / "file").write_text("two\n")
    changed = ensure(client, image)
    assert changed.how == "built" and changed.reference != built.reference
    assert content(client, changed.reference)["file"] == b"two\n"
    assert find(client, built.reference) == built.id, "the one before stays"

    (context / "file").write_text("one\n")
    assert ensure(client, image).id == built.id


def test_what_is_ignored_is_not_in_the_image(client: DockerClient, name: str, context: Path) -> None:
    (context / ".dockerignore").write_text("*.pyc\nDockerfile\n")
    (context / "a.pyc").write_bytes(b"1")
    built = ensure(client, Image(name, context))
    files = content(client, built.reference)
    assert "file" in files and "a.pyc" not in files
    (context / "a.pyc").write_bytes(b"2")
    assert ensure(client, Image(name, context)).how == "found"


def test_a_dockerfile_from_outside_with_arguments(
    client: DockerClient, name: str, context: Path, tmp_path: Path
) -> None:
    (tmp_path / "other").write_text("FROM scratch\nARG WHICH\nCOPY $WHICH /chosen\n")
    (context / "two").write_text("2\n")
    image = Image(name, context, "../other", {"WHICH": "two"})
    assert content(client, ensure(client, image).reference)["chosen"] == b"2\n"
    other = ensure(client, Image(name, context, "../other", {"WHICH": "file"}))
    assert other.how == "built" and content(client, other.reference)["chosen"] == b"one\n"


def test_a_build_that_fails_shows_its_last_lines(
    client: DockerClient, base: str, name: str, context: Path
) -> None:
    (context / "Dockerfile").write_text(f"FROM {base}\nRUN echo last words && exit 3\n")
    lines: list[str] = []
    with pytest.raises(ImageError) as raised:
        ensure(client, Image(name, context), progress=lines.append)
    said = str(raised.value)
    assert said.startswith(f"image {name} could not be built as {name}:")
    assert "returned a non-zero code: 3" in said and "\n  | last words\n" in said
    assert f"{context / 'Dockerfile'} must build, or by hand: `docker build -t {name}:" in said
    assert "bootstrap" not in said, "the base is there"
    assert any("Step 2/" in line for line in lines)
    assert not client.images.list(name)


def test_a_dockerfile_that_is_no_dockerfile(client: DockerClient, name: str, context: Path) -> None:
    (context / "Dockerfile").write_text("FROM scratch\nFLY away\n")
    with pytest.raises(ImageError, match=r"could not be built as .*: .*FLY"):
        ensure(client, Image(name, context))


def test_a_missing_dockerfile_is_named(client: DockerClient, name: str, context: Path) -> None:
    (context / "Dockerfile").unlink()
    with pytest.raises(ImageError) as raised:
        ensure(client, Image(name, context))
    said = str(raised.value)
    assert "cannot be built, its context cannot be read" in said
    assert f"a Dockerfile: {context / 'Dockerfile'} must build" in said


def test_an_unknown_image_names_every_way(client: DockerClient) -> None:
    lines: list[str] = []
    with pytest.raises(ImageError) as raised:
        ensure(client, "nemesis.invalid/none:1", progress=lines.append)
    said = str(raised.value)
    assert said.startswith("image nemesis.invalid/none:1 could not be pulled: ")
    assert "`docker pull nemesis.invalid/none:1` must work (nemesis.invalid;" in said
    assert "`docker login nemesis.invalid` first" in said and "a Dockerfile: put one" in said
    assert lines == ["nemesis.invalid/none:1: pulling"]


def test_what_is_published_is_pulled(client: DockerClient, registry: str, name: str, context: Path) -> None:
    published = f"{registry}/{name}:1"
    built = ensure(client, Image(name, context))
    client.api.tag(built.reference, f"{registry}/{name}", "1")
    assert "error" not in client.api.push(f"{registry}/{name}", tag="1")
    client.images.remove(published)
    client.images.remove(built.reference)

    lines: list[str] = []
    pulled = ensure(client, published, progress=lines.append)
    assert (pulled.how, pulled.reference, pulled.id) == ("pulled", published, built.id)
    assert lines[0] == f"{published}: pulling" and lines[-1].startswith(f"{published}: 1 of 1 layers")
    assert ensure(client, published).how == "found"

    with pytest.raises(ImageError, match=r"could not be pulled: .*unknown"):
        ensure(client, f"{registry}/{name}:2")


def test_a_build_that_a_registry_has_is_pulled(
    client: DockerClient, registry: str, name: str, context: Path
) -> None:
    image = Image(f"{registry}/{name}", context)
    built = ensure(client, image)
    assert built.how == "built"
    assert "error" not in client.api.push(*built.reference.rsplit(":", 1))
    client.images.remove(built.reference)
    pulled = ensure(client, image)
    assert (pulled.how, pulled.id, pulled.reference) == ("pulled", built.id, built.reference)


def test_a_published_image_with_a_context_is_built_where_nothing_is_pulled(
    client: DockerClient, name: str, context: Path
) -> None:
    image = Image(f"nemesis.invalid/{name}:7", context)
    lines: list[str] = []
    built = ensure(client, image, progress=lines.append)
    assert built.how == "built" and built.reference.startswith(f"nemesis.invalid/{name}:7-")
    assert any("not pulled (image" in line for line in lines)
    assert ensure(client, image).how == "found"
    client.api.tag(built.reference, f"nemesis.invalid/{name}", "7")
    assert ensure(client, image).reference == image.name, "the published one comes first"


def test_the_fabric_has_its_tools(client: DockerClient, base: str) -> None:
    fabric = ensure(client, fabric_image())
    script = (
        "iptables --version && tc -V && ip -V && python3 -I -c 'import ctypes, json, asyncio' && echo all"
    )
    said = client.containers.run(fabric.reference, ["sh", "-c", script], remove=True, network_disabled=True)
    assert said.decode().splitlines()[-1] == "all"
