"""Targets that are images: what is said by role, what is the image's, and what is refused in words."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.cluster.lock import ClusterError
from harness.cluster.member import Member
from harness.cluster.routes import named_ports
from harness.cluster.wanted import REFUSED, Wanted
from harness.runtime import NoRuntime, choose
from harness.selector import Scene, resolve
from harness.target import Client, Endpoint, File, Node, Target, TargetError
from harness.value import PlanError


class Stored(Client):
    def invoke(self, op: object) -> None: ...


class Store(Target):
    """Of an image, with nothing else said."""

    image = "redis:7.2"
    client = Stored


class Shop(Target):
    """Two roles with an image each."""

    roles: ClassVar[Mapping[str, int]] = {"app": 1, "db": 2}
    image: ClassVar[Mapping[str, str]] = {"app": "shop/app", "db": "redis:7.2"}
    context: ClassVar[Mapping[str, Path]] = {"app": Path("app")}
    ports: ClassVar[Mapping[str, Mapping[str, int]]] = {"db": {"main": 6379, "admin": 6380}}
    client = Stored


def node(target: Target) -> Node:
    return Node("n1", "node", "10.0.0.1", {"main": 1}, container=True)


def test_an_image_alone_does_what_it_says_and_listens_where_it_says() -> None:
    store = Store()
    store.check()
    assert store.runs_image and store.ports_of("node") is None and store.build_of("node") == {}
    member = Member.of(store, node(store), Path("x.log"), {})
    assert member.argv == [] and "command: that of its image" in member.command


def test_with_a_command_or_ports_of_its_own_nothing_is_left_to_the_image() -> None:
    class Told(Store):
        ports: ClassVar[Mapping[str, int]] = {"main": 6379}

    class Commanded(Store):
        def command(self, node: Node) -> list[str]:
            return ["redis-server"]

    assert Told().ports_of("node") == {"main": 6379}
    assert Commanded().ports_of("node") == ("main",) and not Commanded().runs_image
    assert named_ports(Commanded(), "node") == {"main": 7000}


def test_what_is_said_by_role() -> None:
    shop = Shop()
    shop.check()
    assert [shop.image_of(role) for role in ("app", "db")] == ["shop/app", "redis:7.2"]
    assert shop.build_of("app") == {"context": Path("app"), "dockerfile": "Dockerfile"}
    assert shop.build_of("db") == {}
    assert shop.ports_of("db") == {"main": 6379, "admin": 6380} and shop.ports_of("app") == {}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"image": {"app": "a"}}, "image says nothing for role 'db'"),
        ({"image": {"app": "a", "db": "b", "web": "c"}}, "image has 'web', but the roles are app, db"),
        ({"context": {"bd": Path()}}, "context has 'bd', but the roles are app, db"),
        ({"ports": {"bd": {"main": 1}}}, "ports has 'bd', but the roles are app, db"),
        ({"ports": {"db": {"main": 0}}}, "port 'main' is 0; expected 1 to 65535"),
        ({"ports": ()}, "must be one or more different names"),
        ({"ports": ("a", "a")}, "must be one or more different names"),
    ],
)
def test_what_does_not_fit_the_roles_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        type("Wrong", (Shop,), wrong)().check()


def test_an_endpoint_without_a_port_says_so() -> None:
    with pytest.raises(TargetError, match="worker has no TCP port: declare one"):
        _ = Endpoint("worker", "worker", "10.0.0.1", {}).port


@pytest.mark.parametrize("runtime", ["local", "netns"])
def test_an_image_alone_has_no_other_runtime(runtime: str) -> None:
    with pytest.raises(NoRuntime, match="Store is an image without a command of its own"):
        choose(runtime, Store())
    with pytest.raises(NoRuntime, match="without a command of its own: no engine"):
        choose("auto", Store(), without={"docker": "no engine"})


def test_a_node_may_have_its_role_s_name_where_it_is_alone() -> None:
    import random

    scene = Scene({"db": "db", "app1": "app", "app2": "app"})
    assert resolve("db", scene, random.Random(1)) == ("db",)
    with pytest.raises(PlanError, match="'db' is both a node and a role"):
        Scene({"db": "db", "db2": "db"})


def test_options_are_divided_among_pod_container_and_files() -> None:
    wanted = Wanted.of(
        {
            "hostname": "vault", "dns": ["192.0.2.1"], "user": "redis", "aliases": ["cache"],
            "sysctls": {"net.core.somaxconn": "9", "kernel.shm_rmid_forced": "1"},
            "files": {"/etc/a.conf": "x = 1\n", "/run/b": File("s", mode=0o400, uid=7, gid=8)},
        },
        "container(n1)",
    )  # fmt: skip
    assert wanted.pod == {
        "hostname": "vault", "dns": ["192.0.2.1"], "sysctls": {"net.core.somaxconn": "9"},
    }  # fmt: skip
    assert wanted.container == {"user": "redis", "sysctls": {"kernel.shm_rmid_forced": "1"}}
    assert wanted.aliases == ("cache",)
    with tarfile.open(fileobj=io.BytesIO(wanted.archive())) as archive:
        first, second = archive.getmembers()
        assert (first.name, first.mode, second.name, second.mode, second.uid, second.gid) == (
            "etc/a.conf", 0o644, "run/b", 0o400, 7, 8,
        )  # fmt: skip
        held = archive.extractfile(first)
        assert held is not None and held.read() == b"x = 1\n"


@pytest.mark.parametrize("key", REFUSED)
def test_options_that_would_undo_faults_are_refused(key: str) -> None:
    value = {"Name": "always"} if key == "restart_policy" else "x"
    with pytest.raises(ClusterError, match=rf"container\(n1\) has {key}=.* cannot be honoured"):
        Wanted.of({key: value}, "container(n1)")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"aliases": "cache"}, "expected several names"),
        ({"files": {"etc/a": ""}}, "expected an absolute path"),
        ({"volumes": ["/a:/b"]}, "expected {source:"),
    ],
)
def test_options_that_are_nonsense_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ClusterError, match=said):
        Wanted.of(options, "container(n1)")
    assert Wanted.of({"restart_policy": {"Name": "no"}, "ports": None}, "container(n1)")
