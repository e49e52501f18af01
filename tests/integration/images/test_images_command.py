"""The commands `nemesis images` and `nemesis doctor`, and the images that are made without a registry."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness import kernel
from harness.images import BASE, TOXIPROXY, Image, ImageError, ensure, fabric_image
from harness.images.bootstrap import make_base, make_toxiproxy
from harness.images.context import reference
from harness.proxy import Server
from harness.proxy.real import VERSION
from tests.integration.images.conftest import absent

if TYPE_CHECKING:
    from docker import DockerClient

NOWHERE = "unix:///nowhere/docker.sock"


def nemesis(*words: str, before: tuple[str, ...] = (), **more: str) -> subprocess.CompletedProcess[str]:
    """The command as a user runs it."""
    command = [*before, sys.executable, "-m", "harness", *words]
    return subprocess.run(command, env={**os.environ, **more}, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def needed_images(client: DockerClient, base: str) -> None:
    """Base and Toxiproxy are there."""
    try:
        ensure(client, TOXIPROXY)
    except ImageError as error:
        absent(str(error))


# ----------------------------------------------------------------------------------------------- images


def test_list_says_what_is_there(client: DockerClient, base: str, name: str, context: Path) -> None:
    missing = nemesis("images", "list")
    assert (missing.returncode, missing.stderr) == (0, "")
    built = ensure(client, Image(name, context))
    done = nemesis("images", "list")
    rows = {line.split()[0]: line for line in done.stdout.splitlines()}
    assert rows[base].endswith("base of the images built here") and " MB" in rows[base]
    assert reference(fabric_image()) in rows and TOXIPROXY.name in rows
    assert rows[built.reference].endswith("built here") and built.reference not in missing.stdout


@pytest.mark.usefixtures("needed_images")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], [BASE, TOXIPROXY]),
        (["--base"], [BASE]),
        (["--toxiproxy"], [TOXIPROXY]),
        (["--base", "--toxiproxy"], [BASE, TOXIPROXY]),
    ],
)
def test_bootstrap_leaves_what_is_there(options: list[str], said: list[Image]) -> None:
    done = nemesis("images", "bootstrap", *options)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"{image.name}: is there already" for image in said]


@pytest.mark.parametrize("action", ["list", "bootstrap"])
def test_without_an_engine_images_says_what_mends_it(action: str) -> None:
    done = nemesis("images", action, DOCKER_HOST=NOWHERE)
    assert (done.returncode, done.stdout) == (254, "")
    assert done.stderr.startswith(f"nemesis images {action}: the Docker engine at {NOWHERE} (DOCKER_HOST)")
    assert "No such file or directory" in done.stderr and "unset DOCKER_HOST" in done.stderr


def test_the_base_is_made_from_packages(client: DockerClient, name: str) -> None:
    """What `bootstrap` does where nothing can be pulled: the result is a Debian as the published one."""
    if os.geteuid() != 0:
        with pytest.raises(ImageError, match=r"root, for debootstrap unpacks .*: `sudo "):
            make_base(client, Image(f"{name}:made"), mirror="", progress=print)
        pytest.skip("debootstrap needs root; that it is refused otherwise was tested")
    if shutil.which("debootstrap", path=kernel.PATH) is None:
        absent("no debootstrap: `sudo apt-get install debootstrap debian-archive-keyring`")
    lines: list[str] = []
    make_base(client, Image(f"{name}:made"), mirror="", progress=lines.append)
    assert "debootstrap --variant=minbase" in lines[0] and lines[-1] == f"{name}:made: made"
    script = "cat /etc/debian_version; ls /usr/share/doc/bash /var/cache/apt; dpkg --audit && echo sound"
    said = client.containers.run(f"{name}:made", ["sh", "-c", script], remove=True, network_disabled=True)
    assert said.decode().startswith("12.") and said.decode().endswith("sound\n")
    assert "copyright" in said.decode() and "changelog" not in said.decode()
    image = client.images.get(f"{name}:made")
    assert image.attrs["Config"]["Cmd"] == ["bash"] and image.attrs["Size"] < 120e6


def test_a_mirror_that_does_not_answer_is_named(client: DockerClient, name: str) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap", path=kernel.PATH) is None:
        pytest.skip("debootstrap is not installed, or not for this user")
    with pytest.raises(ImageError) as raised:
        make_base(client, Image(f"{name}:made"), mirror="http://127.0.0.1:1/debian", progress=print)
    said = str(raised.value)
    assert "debootstrap --variant=minbase" in said and "http://127.0.0.1:1/debian" in said
    assert "\n  | E: " in said and said.endswith("--mirror URL")


def test_toxiproxy_is_made_from_its_module(client: DockerClient, name: str) -> None:
    """Started without a command of its own, as the published image is, it serves its API."""
    try:
        make_toxiproxy(client, Image(f"{name}:made"), progress=print)
    except ImageError as error:
        absent(str(error))
    container = client.containers.create(f"{name}:made", ports={"8474/tcp": ("127.0.0.1", None)})
    try:
        container.start()
        container.reload()
        server = Server("127.0.0.1", int(container.ports["8474/tcp"][0]["HostPort"]))
        try:
            assert server.await_ready() == VERSION
        finally:
            server.close()
    finally:
        container.remove(force=True)


# ----------------------------------------------------------------------------------------------- doctor


@pytest.mark.usefixtures("needed_images")
def test_doctor_tells_engine_images_and_proxies(client: DockerClient) -> None:
    done = nemesis("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert "runtime docker: works\n" in done.stdout
    assert f"engine: Docker {client.version()['Version']} at " in done.stdout
    for image in (BASE, TOXIPROXY):
        assert f"image {image.name}: there, " in done.stdout
    assert f"image {reference(fabric_image())}: " in done.stdout
    assert "proxies: embedded: there; the real Toxiproxy: its image is there" in done.stdout


def test_doctor_without_an_engine_says_so_and_ends_well() -> None:
    done = nemesis("doctor", DOCKER_HOST=NOWHERE)
    assert done.returncode == 0
    assert f"engine: missing: the Docker engine at {NOWHERE}" in done.stdout
    assert "runtime docker: missing: " in done.stdout
    assert "runtime local: works\n" in done.stdout and "  tc htb" in done.stdout


def test_the_kernel_is_tried_not_asked() -> None:
    """What the doctor says of netem and of htb is what the kernel does with them."""
    if shutil.which("tc", path=kernel.PATH) is None:
        absent("no tc on PATH: `sudo apt-get install iproute2`")
    trials = {trial.name.partition(" (")[0]: trial for trial in kernel.network()}
    for kind, options in (("netem", "delay 1ms"), ("htb", "")):
        words = f"tc qdisc add dev lo root {kind} {options}".split()
        done = subprocess.run([*kernel.namespace(), *words], capture_output=True, env={"PATH": kernel.PATH})
        assert trials[f"tc {kind}"].works == (done.returncode == 0)


def test_where_nothing_is_allowed_the_doctor_says_what_would_help() -> None:
    """Root without the capabilities of root: a container as the engine starts it."""
    if os.geteuid() != 0:
        pytest.skip("only root can give capabilities away")
    away = ("setpriv", "--bounding-set=-sys_admin,-net_admin", "--inh-caps=-sys_admin,-net_admin")
    done = nemesis("doctor", before=away)
    assert done.returncode == 0, done
    assert "  network namespace (unshare -n): missing: " in done.stdout
    assert "Operation not permitted" in done.stdout and "--cap-add SYS_ADMIN" in done.stdout
