"""Runtime docker: whatever happens to the test process or its supervisor, the engine keeps nothing."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.cluster import ClusterError, SiteCluster
from harness.cluster.docker import DockerCluster
from harness.cluster.engine import RUN, sweep
from harness.engine import where
from tests.integration.cluster.engines import boxes, gone, of_run, site
from tests.integration.cluster.support import Boxed, Events, ask, of_run as processes_of, until, with_words
from tests.integration.cluster.test_cluster_owner import first_line, owner

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.usefixtures("untouched")
GONE_WITHIN = 15.0  # seconds for the engine to remove eight containers on a loaded machine
ALL = 2 + 2 + 2 + 1 + 2  # nodes, pods, router and proxy server; the network; volumes


@pytest.fixture(scope="module")
def neighbour(client: DockerClient, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SiteCluster]:
    """A cluster of this process that lives all the time."""
    with boxes(Boxed(nodes=1), tmp_path_factory.mktemp("neighbour"), "neighbour") as cluster:
        pid = cluster._members["n1"].pid
        yield cluster
        assert cluster._members["n1"].pid == pid and ask(cluster.entry("n1"))
        assert cluster.await_healthy(10.0) < 10.0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_signals(
    tmp_path: Path, client: DockerClient, neighbour: SiteCluster, number: signal.Signals
) -> None:
    run_id = f"signal-{number}"
    with owner(tmp_path / "base", run_id, "docker") as process:
        assert first_line(process).startswith("ready")
        assert len(of_run(client, tmp_path, run_id)) == ALL
        process.send_signal(number)
        process.wait(20)
        print(f"{number.name}: all gone after {gone(client, tmp_path, run_id, GONE_WITHIN):.2f} s")
        until(lambda: not processes_of(tmp_path, run_id), GONE_WITHIN, "the end of the supervisor")
        assert (tmp_path / "base" / "runs" / run_id).exists()  # for the next start to remove


def no_process(directory: Path, run_id: str) -> bool:
    return not processes_of(directory, run_id)


def test_killed_while_it_starts(tmp_path: Path, client: DockerClient, neighbour: SiteCluster) -> None:
    """By Ctrl-C and kill -9 at random moments, with requests to the engine under way."""
    rng, base = random.Random(5), tmp_path / "base"
    for place, number in enumerate((signal.SIGKILL, signal.SIGINT, signal.SIGKILL)):
        run_id = f"early-{place}"
        with owner(base, run_id, "docker") as process:
            until(partial(of_run, client, tmp_path, run_id), 20.0, "its network")
            time.sleep(rng.uniform(0, 1.5))  # the moment is what is tested
            process.send_signal(number)
            process.wait(20)
            gone(
                client, tmp_path, run_id, GONE_WITHIN
            )  # first: a supervisor that execs has no label for an instant
            until(partial(no_process, tmp_path, run_id), GONE_WITHIN, "its supervisor's end")
        assert not of_run(client, tmp_path, run_id)


def test_the_next_start_removes_what_lost_owner_and_supervisor(
    tmp_path: Path, client: DockerClient, neighbour: SiteCluster
) -> None:
    base, run_id = tmp_path / "base", "both"
    with owner(base, run_id, "docker") as process:
        assert first_line(process).startswith("ready")
        (supervisor,) = (pid for pid in with_words("supervisor.py") if pid in processes_of(tmp_path, run_id))
        os.kill(process.pid, signal.SIGSTOP)  # so that it sees nothing
        os.kill(supervisor, signal.SIGKILL)
        process.kill()
        process.wait()
    assert len(of_run(client, tmp_path, run_id)) == ALL
    DockerCluster(Boxed(), run_id="next", logs=tmp_path, on_event=lambda *_: None, base=base).sweep()
    assert not of_run(client, tmp_path, run_id) and not list((base / "runs").iterdir())
    assert not any("neighbour" in one for one in sweep(client))
    assert len(of_run(client, neighbour._base.parent, "neighbour")) == 1 + 1 + 2 + 1 + 1


def test_two_clusters_at_once_and_the_end_of_one_by_ctrl_c(
    tmp_path: Path, client: DockerClient, neighbour: SiteCluster
) -> None:
    with owner(tmp_path / "base", "other", "docker") as process:
        assert first_line(process).startswith("ready")
        process_in = process.stdin
        assert process_in is not None
        neighbour.fabric.cut("cut", [("client", "n1"), ("n1", "client")])
        process_in.write("healthy\n")
        process_in.flush()
        assert first_line(process) == "True\n"
        neighbour.fabric.heal("cut")
        label = f"{RUN}={tmp_path / 'base' / 'runs' / 'other'}"
        (network,) = client.networks.list(filters={"label": label})
        subnet = network.attrs["IPAM"]["Config"][0]["Subnet"].removesuffix("0/24")
        for host, port in ((f"{subnet}11", 7000), (f"{subnet}2", 8474), (f"{subnet}2", 20_000)):
            with pytest.raises(OSError, match=r"timed out|unreachable|refused"):
                site(neighbour).inside["n1"].connect(host, port, 0.5)
        process.send_signal(signal.SIGINT)
        process.wait(20)
        assert not of_run(client, tmp_path, "other") and not processes_of(tmp_path, "other")
        assert not list((tmp_path / "base" / "runs").iterdir())


def test_kept(tmp_path: Path, client: DockerClient) -> None:
    run_id = "kept"
    with owner(tmp_path / "base", run_id, "docker", "keep") as process:
        words = first_line(process)
        process.wait(20)
    command = words.split("stop it with: ")[1]
    assert re.fullmatch(r"kill \d+\n", command)
    assert not any(run_id in one for one in sweep(client))  # the supervisor holds the lock now
    assert len(of_run(client, tmp_path, run_id)) == ALL
    found = re.search(r"n1 (\S+):(\d+) \(itself (\S+):(\d+)\)", words)
    assert found is not None
    for host, port in ((found[1], found[2]), (found[3], found[4])):
        with socket.create_connection((host, int(port)), 2.0):
            pass
    subprocess.run(command, shell=True, check=True)
    gone(client, tmp_path, run_id, GONE_WITHIN)
    until(lambda: not processes_of(tmp_path, run_id), GONE_WITHIN, "the end of the supervisor")


def test_a_killed_supervisor(tmp_path: Path, client: DockerClient) -> None:
    events = Events()
    with boxes(Boxed(nodes=1), tmp_path, events=events) as cluster:
        os.kill(site(cluster).supervisor.pid, signal.SIGKILL)
        assert events.wait("n1", "exit")["asked"] is False
        with pytest.raises(ClusterError, match="the supervisor has ended"):
            cluster.kill("n1")
    assert not of_run(client, tmp_path) and not list((tmp_path / "base" / "runs").iterdir())


def test_keep_in_a_process_that_goes_on(tmp_path: Path, client: DockerClient) -> None:
    before = {*threading.enumerate()}
    with boxes(Boxed(nodes=1), tmp_path) as cluster:
        words = cluster.stop(keep=True)
        assert cluster.stop() == "" and ask(cluster.nodes[0])
        waiting = [thread for thread in threading.enumerate() if thread.name == "nemesis-wait"]
        threads = {*waiting} - before
        assert len(threads) == 1 + 1 + 2
    os.kill(int(words.split()[-1]), signal.SIGTERM)
    gone(client, tmp_path, "run", GONE_WITHIN)
    for thread in threads:  # they have seen the end of the containers, and said nothing
        thread.join(5.0)
        assert not thread.is_alive()
    until(lambda: not processes_of(tmp_path), GONE_WITHIN, "the end of the supervisor")


MEMBER = "nemesis-tests"  # a user who may ask the engine, and nothing else
AS_MEMBER = """
import sys, pathlib
sys.path[:0] = sys.argv[2:]
from tests.integration.cluster.engines import boxes
from harness.skew.patcher import Spec
from tests.integration.cluster.support import Boxed
with boxes(Boxed(nodes=2), pathlib.Path(sys.argv[1])) as cluster:
    print("roots", [path.stat().st_uid for path in cluster._run.path.glob("net/*.sock")])
    print(cluster.fabric.cut("c", [("n1", "n2")]).proof)
    print(cluster.fabric.heal("c").proof)
    print(cluster.kill("n1"), cluster.restart("n1"), cluster.pause("n2"), cluster.resume("n2"))
    for again in range(2):
        print(cluster.skew("n1", Spec(offset=5.0)))
        print(cluster.kill("n1"), cluster.restart("n1"))
        print(cluster.set_right("n1"))
"""


@pytest.fixture
def member() -> Iterator[str]:
    """A user in the engine's group, for a while."""
    if os.getuid() != 0:
        pytest.skip("is somebody else than root already")
    if not where().startswith("unix://"):
        pytest.skip(f"the engine at {where()} is no socket of a group")
    group = Path(where().removeprefix("unix://")).stat().st_gid  # "docker", or as dockerd was told
    subprocess.run(["useradd", "-M", "-N", "-g", "nogroup", "-G", str(group), MEMBER], check=True)
    yield MEMBER
    subprocess.run(["userdel", MEMBER], check=True)


def test_no_privilege_is_needed_beside_the_engine_s(
    open_path: Path, client: DockerClient, member: str
) -> None:
    """By the system's Python, which all may run."""
    python, packages = shutil.which("python3", path="/usr/bin:/bin"), Path(pytest.__file__).parents[1]
    home = open_path / "home"
    home.mkdir()
    shutil.chown(home, member)
    who = ("setpriv", f"--reuid={member}", "--regid=nogroup", "--init-groups")
    argv = [*who, str(python), "-c", AS_MEMBER, str(home), str(Path(__file__).parents[3]), str(packages)]
    env = {**os.environ, "HOME": str(home), "TMPDIR": str(home)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, cwd="/", env=env, check=False)
    if "ImportError" in done.stderr or "ModuleNotFoundError" in done.stderr:
        pytest.skip("the system's Python has another version than these packages are for")
    assert done.returncode == 0, done.stderr
    assert "roots [0, 0, 0]" in done.stdout, "what containers left in the run's directory"
    assert "no datagram crossed n1→n2" in done.stdout and "0 packets crossed" in done.stdout
    assert done.stdout.count("'vdso, from a helper container'") == 4, done.stdout
    assert not of_run(client, home) and not list((home / "base" / "runs").iterdir())
