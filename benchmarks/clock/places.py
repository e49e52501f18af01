"""Where a program runs: on this machine, or in a container that has the same files at the same place."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.clock.programs import PROBES, PROGRAMS, Lacking, Probe, needed
from benchmarks.clock.servers import SERVERS, Server

IMAGE = "nemesis-bench/clock"
SOCKET = "/var/run/docker.sock"
PORT = 12379  # of a server in a container
WITHIN = 30.0  # seconds for a container to be there

Running = Probe | Server
Environ = Mapping[str, str]


class Local:
    """This machine."""

    name, how = "local", ("fast", "stub", "preload")

    def __init__(self, out: Path) -> None:
        self.out = out

    @contextlib.contextmanager
    def started(self, name: str, environ: Environ | None = None) -> Iterator[Running]:
        """The program `name`, which runs. Raises Lacking where it is not here."""
        if name in PROGRAMS:
            program = PROGRAMS[name]
            argv = program.built(self.out)
            needed(argv[0])
            with Probe(argv, environ, program.monotonic) as probe:
                yield probe
            return
        with tempfile.TemporaryDirectory(dir=self.out) as place:
            kind, port = SERVERS[name], free_port()
            serve = kind.argv("127.0.0.1", port, Path(place, "data"))
            needed(serve[0])
            with kind(serving(serve, place, environ), lambda: ("127.0.0.1", port)) as server:
                yield server


class Docker:
    """Containers of an image that has all that the programs need; made on first use. Raises Lacking."""

    name, how = "docker", ("fast", "stub", "helper", "preload")

    def __init__(self, out: Path) -> None:
        self.out, self._count = out, 0
        build = [needed("docker"), "build", "-q", "-t", IMAGE, "-"]
        with (Path(__file__).parent / "Dockerfile").open() as recipe:
            done = subprocess.run(build, stdin=recipe, capture_output=True, text=True,
                                  env={**os.environ, "DOCKER_BUILDKIT": "0"})  # fmt: skip
        if done.returncode:
            raise Lacking(f"docker build: {(done.stderr or done.stdout).strip().splitlines()[-1]}")

    @contextlib.contextmanager
    def started(self, name: str, environ: Environ | None = None) -> Iterator[Running]:
        """The program `name` in a container; `pid` is what this machine calls it."""
        self._count += 1
        container = f"{self.out.name}-{self._count}"
        run = ["docker", "run", "--rm", "-i", "--name", container]
        run += ["-v", f"{self.out}:{self.out}", "-v", f"{PROBES}:{PROBES}:ro"]
        run += [word for key, value in (environ or {}).items() for word in ("-e", f"{key}={value}")]
        try:
            if name in PROGRAMS:
                program = PROGRAMS[name]
                with Probe([*run, IMAGE, *program.built(self.out)], None, program.monotonic) as probe:
                    probe.pid = pid_of(container)
                    yield probe
            else:
                kind = SERVERS[name]
                argv = [*run, IMAGE, *kind.argv("0.0.0.0", PORT, Path("/tmp/data"))]
                with kind(serving(argv, str(self.out)), lambda: (address_of(container), PORT)) as server:
                    server.pid = pid_of(container)
                    yield server
        finally:
            subprocess.run(["docker", "rm", "-f", container], capture_output=True)

    @contextlib.contextmanager
    def beside(self, running: Running, program: Path) -> Iterator[subprocess.Popen[str]]:
        """A Python program in a helper container that sees the processes of `running`'s and may trace them.

        It is started by a user who is nobody, save for the group that may speak to the engine.
        """
        helper = f"{self.out.name}-{self._count}"
        group = os.stat(SOCKET).st_gid
        user = [
            needed("setpriv"),
            "--reuid=65534",
            f"--regid={group}",
            "--clear-groups",
            "--bounding-set=-all",
        ]
        run = ["docker", "run", "--rm", "-i", "--name", f"{helper}-helper", f"--pid=container:{helper}"]
        run += ["--network=none", "--cap-add=SYS_PTRACE", "-v", f"{program}:/patcher.py:ro"]
        argv = [*user, *run, IMAGE, "python3", "-I", "-S", "/patcher.py"]
        environ = {**os.environ, "DOCKER_CONFIG": str(self.out)}
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environ) as process:
            try:
                yield process
            finally:
                assert process.stdin is not None
                process.stdin.close()
                process.wait(WITHIN)


def serving(argv: Sequence[str], place: str, environ: Environ | None = None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv, cwd=place, env={**os.environ, **(environ or {})}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def inspected(container: str, template: str) -> str:
    done = subprocess.run(["docker", "inspect", "-f", template, container], capture_output=True, text=True)
    return done.stdout.strip()


def pid_of(container: str) -> int:
    deadline = time.monotonic() + WITHIN
    while (pid := inspected(container, "{{.State.Pid}}")) in ("", "0"):
        if time.monotonic() > deadline:
            raise RuntimeError(f"container {container} does not run")
        time.sleep(0.02)
    return int(pid)


def address_of(container: str) -> str:
    if address := inspected(container, "{{.NetworkSettings.IPAddress}}"):
        return address
    raise LookupError(f"container {container} has no address yet")


def free_port() -> int:
    """A port that is free, as is the one after it."""
    while True:
        with socket.socket() as one, socket.socket() as other:
            one.bind(("127.0.0.1", 0))
            port = int(one.getsockname()[1])
            with contextlib.suppress(OSError, OverflowError):
                other.bind(("127.0.0.1", port + 1))
                return port


Place = Local | Docker
