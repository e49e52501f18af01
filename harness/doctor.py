"""The command ``nemesis doctor``: what this machine has, what is missing, and what mends it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Iterator

from harness import kernel
from harness.runtime import RUNTIMES, NoRuntime, choose

NOTHING_RUNS = 1  # the exit code where no runtime is to be had
# what every run imports, and what only some do
_NEEDED, _OPTIONAL = ("msgspec", "requests", "toxiproxy"), ("docker", "hypothesis", "xdist")


def doctor() -> int:
    """Print what there is; 0, or 1 where nothing at all can run here."""
    system = f"{platform.system()} {platform.release()}"
    print(f"python {platform.python_version()}, {system}, {os.cpu_count()} cores")
    code = NOTHING_RUNS
    for runtime in RUNTIMES[1:]:  # not auto, which is the first of them that a target can have
        try:
            choose(runtime)
            print(f"runtime {runtime}: works")
            code = 0
        except NoRuntime as error:
            print(f"runtime {runtime}: missing: {error}")
    for module in (*_NEEDED, *_OPTIONAL):
        there = importlib.util.find_spec(module) is not None
        print(f"{module}: {'there' if there else 'missing: pip install pytest-nemesis'}")
        if module in _NEEDED and not there:
            code = NOTHING_RUNS
    print(f"checkers: {_checkers()}")
    if code == 0:  # what follows needs what was looked for so far
        for line in (*_containers(), *_kernel()):
            print(line)
    return code


def _checkers() -> str:
    """Which kernel judges linearizability."""
    if importlib.util.find_spec("harness.checkers._linearize") is not None:
        return "the native kernel judges linearizability"
    return "pure Python judges linearizability; much faster: a C compiler and pip install again"


def _containers() -> Iterator[str]:
    """Engine, images and proxies."""
    from harness.engine import NoEngine, engine, where
    from harness.images.command import state, way
    from harness.images.image import TOXIPROXY, ImageError, needed

    if importlib.util.find_spec("docker") is None:
        yield "engine: not asked, the module docker is missing"
        yield _proxies("no image")
        return
    import docker.errors

    image = "no engine for its image"
    try:
        with engine(timeout=10) as client:
            version = client.version()
            yield f"engine: Docker {version['Version']} at {where()}, API {version['ApiVersion']}"
            for purpose, one in needed().items():
                name, size = state(client, one)
                yield f"image {name}: {f'there, {size}' if size else f'missing, {way(one)}'} ({purpose})"
                if one == TOXIPROXY:
                    image = "its image is there" if size else "its image is missing"
    except (NoEngine, ImageError, docker.errors.DockerException, OSError) as error:
        yield f"engine: missing: {error} (not needed by the runtime local)"
    yield _proxies(image)


def _proxies(image: str) -> str:
    from harness.proxy.real import cached

    binary = shutil.which("toxiproxy-server") or (str(cached()) if cached().exists() else "")
    on_path = binary or "no toxiproxy-server on PATH"
    return f"proxies: embedded: there; the real Toxiproxy: {image}, {on_path}"


def _kernel() -> Iterator[str]:
    """What the fabrics and the clock faults ask of the kernel."""
    if platform.system() != "Linux":
        return
    from harness.skew.trial import trials

    yield f"kernel, each tried in namespaces of its own ({' '.join(kernel.namespace())}):"
    for trial in (*kernel.network(), kernel.user_namespaces(), *trials()):
        mend = f"; {trial.mend}" if trial.mend else ""
        yield f"  {trial.name}: {'works' if trial.works else f'missing: {trial.trouble}{mend}'}"


__all__ = ["doctor"]
