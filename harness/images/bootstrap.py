"""The two published images that everything builds on, made where no registry can be reached."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from harness.engine import where
from harness.images.image import BASE, Image, ImageError
from harness.images.progress import Progress
from harness.images.store import find, had, pull
from harness.proxy.real import NoRealServer, real_server

if TYPE_CHECKING:
    from docker import DockerClient

SUITE = "bookworm"
ADMIN_PATH = "/usr/sbin:/sbin"  # where debootstrap is, and what is not on every user's PATH
_ENGINE = {"x86_64": "amd64", "aarch64": "arm64"}  # a machine as the engine calls it
# As in the published images: nothing that a container does not read, and the real one's entry point.
_DOCUMENTS = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")
_SLIM = ("var/cache/apt", "var/lib/apt/lists", *_DOCUMENTS)
_KEPT = "path-include /usr/share/doc/*/copyright\n"
_DPKG = "".join(f"path-exclude /{path}/*\n" for path in _DOCUMENTS) + _KEPT
_APT = """\
DPkg::Post-Invoke { "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/*.bin || true"; };
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
"""
_PUBLISHED = ('ENTRYPOINT ["/toxiproxy"]', 'CMD ["-host=0.0.0.0"]', "EXPOSE 8474")
# what debootstrap says of each of a hundred packages
_NOISE = ("I: Retrieving", "I: Validating", "I: Extracting", "I: Unpacking", "I: Configuring")


def bootstrap(client: DockerClient, images: Iterable[Image], *, mirror: str, progress: Progress) -> None:
    """Have each of `images` (`BASE`, `TOXIPROXY`): it is there, a registry gives it, or it is made here.

    Goes on past a failure, and raises ImageError with all of them at the end.
    """
    failed = []
    for image in images:
        try:
            _have(client, image, mirror, progress)
        except ImageError as error:
            failed.append(str(error))
    if failed:
        raise ImageError("\n".join(failed))


def _have(client: DockerClient, image: Image, mirror: str, progress: Progress) -> None:
    if find(client, image.published):
        progress(f"{image.name}: is there already")
        return
    try:
        pull(client, image, image.published, progress)
        progress(f"{image.name}: pulled")
        return
    except ImageError as error:
        progress(f"{error}".splitlines()[0])
    if image == BASE:
        make_base(client, image, mirror=mirror, progress=progress)
    else:
        make_toxiproxy(client, image, progress=progress)


def make_base(client: DockerClient, image: Image, *, mirror: str, progress: Progress) -> None:
    """Make a minimal Debian under the name of `image`, from the packages of a Debian mirror.

    Needs root and debootstrap, a minute and 500 MB in TMPDIR; the packages are checked against Debian's
    keys. It has what the mirror's main archive has, without later security updates. Raises ImageError.
    """
    debootstrap = _tool(image)
    _same_machine(client, image)
    with tempfile.TemporaryDirectory(prefix="nemesis-base-") as scratch:
        root, archive = Path(scratch) / "root", Path(scratch) / "root.tar"
        command = [debootstrap, "--variant=minbase", "--force-check-gpg", SUITE, str(root)]
        command += [mirror] if mirror else []
        progress(f"{image.name}: making it: {shlex.join(command)}")
        _run(command, image, "add a mirror that answers: --mirror URL", progress)
        _slim(root)
        progress(f"{image.name}: giving it to the engine")
        _run(["tar", "-C", str(root), "--numeric-owner", "-cf", str(archive), "."], image, "", progress)
        _import(client, image, archive, 'CMD ["bash"]')
    progress(f"{image.name}: made")


def make_toxiproxy(client: DockerClient, image: Image, *, progress: Progress) -> None:
    """Make an image of the real Toxiproxy server under the name of `image`, started as the published one is.

    Its binary is built from the Go module, with a Go toolchain and a module proxy. Raises ImageError.
    """
    _same_machine(client, image)
    progress(f"{image.name}: making it from the Go module (a minute where it has not been built before)")
    try:
        binary = real_server()
    except NoRealServer as error:
        raise ImageError(f"image {image.name} cannot be made here: {error}") from error
    with tempfile.TemporaryDirectory(prefix="nemesis-toxiproxy-") as scratch:
        shutil.copy(binary, Path(scratch) / "toxiproxy")
        (Path(scratch) / "toxiproxy").chmod(0o755)
        archive = Path(scratch) / "root.tar"
        command = ["tar", "-C", scratch, "--owner=0", "--group=0", "-cf", str(archive), "toxiproxy"]
        _run(command, image, "", progress)
        _import(client, image, archive, *_PUBLISHED)
    progress(f"{image.name}: made")


def _tool(image: Image) -> str:
    """The path of debootstrap. ImageError where it is missing, or this user cannot use it."""
    found = shutil.which("debootstrap", path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")
    missing = []
    if found is None:
        missing.append("debootstrap: `sudo apt-get install debootstrap debian-archive-keyring`")
    if os.geteuid() != 0:
        again = shlex.join([sys.executable, "-m", "harness", "images", "bootstrap", "--base"])
        missing.append(f"root, for debootstrap unpacks a system with its owners: `sudo {again}`")
    if missing or found is None:
        listed = "".join(f"\n  - {what}" for what in missing)
        raise ImageError(f"image {image.name} cannot be made here; what is missing:{listed}")
    return found


def _same_machine(client: DockerClient, image: Image) -> None:
    engine, here = str(client.version()["Arch"]), platform.machine()
    if _ENGINE.get(here, here) != engine:
        raise ImageError(
            f"image {image.name} cannot be made here: the engine at {where()} runs on {engine} and this is "
            f"{here}: make it on a machine like the engine's, then `docker save` and `docker load` it"
        )


def _run(command: list[str], image: Image, advice: str, progress: Progress) -> None:
    """Run a program, whose output is progress. ImageError with its last lines where it fails."""
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:{ADMIN_PATH}", "LC_ALL": "C.UTF-8"}
    last: list[str] = []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            last = [*last[-9:], line.rstrip()]
            if not line.startswith(_NOISE):
                progress(f"{image.name}: {line.rstrip()}")
    if process.returncode:
        tail = "".join(f"\n  | {line}" for line in last)
        raise ImageError(
            f"image {image.name} cannot be made here: {shlex.join(command)} ended with "
            f"{process.returncode}{tail}" + (f"\n{advice}" if advice else "")
        )


def _slim(root: Path) -> None:
    """Take out what the published image does not have, and what debootstrap copied from this machine."""
    for name in ("etc/resolv.conf", "etc/hostname"):
        (root / name).write_text("")
    for path in _SLIM:
        for directory, folders, files in os.walk(root / path):
            for name in (*files, *(folder for folder in folders if (Path(directory) / folder).is_symlink())):
                if name != "copyright":
                    (Path(directory) / name).unlink()
    (root / "etc/dpkg/dpkg.cfg.d/docker").write_text(_DPKG)
    (root / "etc/apt/apt.conf.d/docker-clean").write_text(_APT)


def _import(client: DockerClient, image: Image, archive: Path, *changes: str) -> None:
    """Give an archive of a root directory to the engine, with instructions of a Dockerfile on top."""
    import docker.errors

    repository, tag = image.published.rsplit(":", 1)
    try:
        client.api.import_image_from_file(  # the one of its kind that sets no time-out
            str(archive), repository=repository, tag=tag, changes=list(changes)
        )
    except (docker.errors.DockerException, OSError) as error:
        raise ImageError(f"image {image.name}: the engine did not take it: {error}") from error
    had(client, image, image.published)


__all__ = ["bootstrap", "make_base", "make_toxiproxy"]
