"""The kernel's files of a container: both versions, odd places, and what is not to be seen."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cluster.cgroup import Cgroup, CpuUse, MemoryUse, Unseen

IDENT = "5e3f" * 16
V2 = {
    "cpu.max": "25000 100000",
    "cpu.stat": "usage_usec 1500000\nuser_usec 1\nnr_periods 20\nnr_throttled 18\nthrottled_usec 700000",
    "memory.max": "67108864",
    "memory.swap.max": "0",
    "memory.current": "4096",
    "memory.events": "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\noom_group_kill 0",
}
V1 = {
    "cpu": {
        "cpu.cfs_quota_us": "25000",
        "cpu.cfs_period_us": "100000",
        "cpu.stat": "nr_periods 20\nnr_throttled 18\nthrottled_time 700000000",
    },
    "cpuacct": {"cpuacct.usage": "1500000000"},
    "memory": {
        "memory.limit_in_bytes": "67108864",
        "memory.memsw.limit_in_bytes": "67108864",
        "memory.usage_in_bytes": "4096",
        "memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    },
}


def write(directory: Path, files: dict[str, str]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (directory / name).write_text(text + "\n")


def proc(tmp_path: Path, mounts: list[str], told: str) -> Path:
    lines = [f"{k} 1 0:{k} {mount}" for k, mount in enumerate(mounts)]
    write(tmp_path / "proc/self", {"mountinfo": "\n".join(lines)})
    write(tmp_path / "proc/7", {"cgroup": told})
    return tmp_path / "proc"


@pytest.fixture(params=["2", "2 systemd", "2 below", "1", "1 hybrid"])
def group(request: pytest.FixtureRequest, tmp_path: Path) -> Cgroup:
    kind = request.param
    if kind.startswith("2"):
        way = f"system.slice/docker-{IDENT}.scope" if "systemd" in kind else f"docker/{IDENT}"
        write(tmp_path / "fs" / way, V2)
        told = f"0::/{way}" + ("/init.scope" if "below" in kind else "")
        return Cgroup(7, IDENT, proc(tmp_path, [f"/ {tmp_path}/fs rw - cgroup2 cgroup2 rw"], told))
    for name, files in V1.items():
        write(tmp_path / "fs" / name / "docker" / IDENT, files)
    mounts = [f"/ {tmp_path}/fs/{name} rw shared:1 - cgroup cgroup rw,{name}" for name in V1]
    told = "\n".join(f"{k}:{name}:/docker/{IDENT}" for k, name in enumerate(V1, 1))
    if "hybrid" in kind:  # version 2 beside it, without controllers and with nothing of the container
        mounts.append(f"/ {tmp_path}/fs/unified rw - cgroup2 cgroup2 rw")
        told += "\n0::/"
    return Cgroup(7, IDENT, proc(tmp_path, mounts, told))


def test_limits_and_counts(group: Cgroup) -> None:
    assert (group.cpus(), group.memory(), group.swap()) == (0.25, 67108864, 0)
    assert group.cpu_use() == CpuUse(1.5, 20, 18, 0.7)
    assert group.memory_use() == MemoryUse(4096, 1)
    assert "25000" in group.cpu_limit() and group.memory_limit().endswith(" 67108864")


def test_no_limit_in_either_version(tmp_path: Path) -> None:
    write(tmp_path / "fs/docker" / IDENT, {"cpu.max": "max 100000", "memory.max": "max"})
    mount = f"/ {tmp_path}/fs rw - cgroup2 cgroup2 rw"
    group = Cgroup(7, IDENT, proc(tmp_path, [mount], f"0::/docker/{IDENT}"))
    assert (group.cpus(), group.memory(), group.swap()) == (None, None, None)


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ("0::/../../docker/somebody", "their cgroup is /../../docker/somebody as seen from here"),
        ("0::/user.slice/session-1.scope", "not that of the container"),
        (f"0::/../{IDENT}", "not that of the container"),
        ("5:pids:/x", "no cgroup that is mounted here"),
    ],
)
def test_what_is_not_the_containers_is_not_read(tmp_path: Path, told: str, says: str) -> None:
    with pytest.raises(Unseen, match=says):
        Cgroup(7, IDENT, proc(tmp_path, [f"/ {tmp_path}/fs rw - cgroup2 cgroup2 rw"], told))


def test_what_does_not_run_or_has_ended_is_unseen(tmp_path: Path) -> None:
    where = proc(tmp_path, [f"/ {tmp_path}/fs rw - cgroup2 cgroup2 rw"], f"0::/docker/{IDENT}")
    with pytest.raises(Unseen, match="it does not run"):
        Cgroup(0, IDENT, where)
    with pytest.raises(Unseen, match="proc/8/cgroup cannot be read: No such file"):
        Cgroup(8, IDENT, where)
    with pytest.raises(Unseen, match=r"cpu.max cannot be read"):
        Cgroup(7, IDENT, where).cpus()
