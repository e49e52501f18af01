"""A Compose file as a target: nodes, stages, images, what it says of itself, what it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from harness.compose_target import ComposeTarget
from harness.target import Client, Node, Stage, TargetError


class Stored(Client):
    def invoke(self, op: object) -> None: ...


class Services(ComposeTarget):
    client = Stored
    client_roles: ClassVar[tuple[str, ...]] = ("a",)


Made = Callable[..., Services]


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """The target of a Compose file with this text."""

    def make(text: str, kind: type[Services] = Services, **how: Any) -> Services:
        (tmp_path / "compose.yaml").write_text(text)
        return kind(tmp_path, variables={}, **how)

    return make


ORDERED = """
services:
  web: {image: i, depends_on: {fill: {condition: service_completed_successfully}}}
  fill: {image: i, depends_on: {a: {condition: service_healthy}, b: {condition: service_started}}}
  b: {image: i, scale: 2}
  a: {image: i}
"""


def test_nodes_jobs_and_stages(made: Made) -> None:
    target = made(ORDERED)
    target.check()
    assert target.members() == (("web", "web"), ("b1", "b"), ("b2", "b"), ("a", "a"))
    assert target.jobs() == (("fill", "fill"),)
    assert target.stages() == (Stage(("b", "a"), ("a",)), Stage(("fill",)), Stage(("web",)))
    assert made(ORDERED, nodes={"a": 2}).members()[-2:] == (("a1", "a"), ("a2", "a"))
    assert repr(target).startswith("Services('") and "/" not in repr(target)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (3, "nodes is 3; expected a number by service: web, b, a"),
        ({"fill": 1}, "nodes has 'fill'; expected a number by service: web, b, a"),
        ({"a": 0}, "nodes of a is 0; expected 1 or more"),
        ({"a": True}, "nodes of a is True; expected 1 or more"),
    ],
)
def test_numbers_of_nodes_that_cannot_be(made: Made, nodes: Any, said: str) -> None:
    with pytest.raises(TargetError, match=said):
        made(ORDERED, nodes=nodes).check()


class Unsaid(Services):
    client_roles: ClassVar[tuple[str, ...]] = ()


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        (ORDERED, Unsaid, "say which services clients connect to.* the services are web, b, a"),
        ("services: {b: {image: i}}", Services, "client_roles has 'a', but the roles are b"),
        ("services: {a: {image: i, scale: 2}, a1: {image: i}}", Services, "'a1' would name two nodes"),
        (
            "services: {a: {image: i, networks: {x: {aliases: [n]}}}, b: {image: i, networks: {y: {aliases:"
            " [n]}}}}\nnetworks: {x: , y: }",
            Services,
            "services a and b are both called 'n', on networks that they do not share",
        ),
        ("services: {a: {image: i, bogus: 1}}", Services, r"compose.yaml.*bogus"),
    ],
)
def test_files_that_cannot_be_a_target(made: Made, text: str, kind: type[Services], said: str) -> None:
    with pytest.raises(TargetError, match=said):
        made(text, kind).check()


def test_without_a_file_it_says_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(TargetError, match=r"Services needs the path of a Compose file: Services\('compose"):
        Services().check()
    with pytest.raises(TargetError, match="without a Compose file"):
        Services(tmp_path).check()


def test_ports_are_the_file_s_or_the_image_s(made: Made) -> None:
    target = made(
        "services: {a: {image: i, ports: ['80:8080', '53:53/udp'], expose: [9]}, b: {image: i}, "
        "c: {image: i, expose: [53/udp]}}"
    )
    target.check()
    assert [target.ports_of(role) for role in "abc"] == [{"8080": 8080, "9": 9}, None, {}]


NETWORKS = """
services:
  a: {image: i, networks: [x]}
  b: {image: i, networks: [x, y]}
  c: {image: i, networks: [y], tty: true, pull_policy: always, healthcheck: {start_interval: 1s}}
networks: {x: {internal: true}, y: }
"""


def test_who_is_apart_and_what_the_report_is_told(made: Made) -> None:
    target = made(NETWORKS)
    target.check()
    assert target.apart() == {("a", "c"), ("c", "a"), ("a", "")}
    said = "\n".join(target.notes())
    for part in (
        "tty of service c is ignored",
        "start_interval of service c is ignored",
        "pull_policy: always of service c is taken as missing",
        "services a and c share no network",
    ):
        assert part in said
    assert "a and b" not in said


def container(target: Services, role: str, **peers: str) -> dict[str, Any]:
    from harness.target import Endpoint

    others = tuple(Endpoint(name, name.rstrip("12"), host, {}) for name, host in peers.items())
    return dict(target.container(Node(role, role, "10.0.0.1", {}, peers=others, container=True)))


FULL = """
services:
  a:
    image: i
    command: []
    entrypoint: []
    links: ["b:bank"]
    extra_hosts: {h: 192.0.2.1}
    healthcheck: {interval: 1.5s, retries: 4}
    volumes: ["v:/v", "/anonymous", "./compose.yaml:/c:ro", {type: tmpfs, target: /t, tmpfs: {size: 1k}}]
    cpus: 0.5
    mem_limit: 64m
    ulimits: {nofile: {soft: 10, hard: 20}}
    cap_drop: [ALL]
    networks: {default: {aliases: [other, a]}}
    secrets: [{source: s, mode: 0400}]
  b: {image: i, scale: 2}
volumes: {v: {driver_opts: {type: tmpfs, device: tmpfs}}}
secrets: {s: {content: hush}}
"""


def test_a_service_as_options_of_its_container(made: Made, tmp_path: Path) -> None:
    how = container(made(FULL), "a", b1="10.0.0.2", b2="10.0.0.3")
    assert how["command"] == [] and how["entrypoint"] == [""]
    assert how["extra_hosts"] == {"bank": "10.0.0.2", "h": "192.0.2.1"}
    assert how["healthcheck"] == {"test": None, "interval": 1_500_000_000, "retries": 4}
    assert (how["nano_cpus"], how["mem_limit"], how["cap_drop"]) == (500_000_000, 64 << 20, ["ALL"])
    assert how["ulimits"] == [{"Name": "nofile", "Soft": 10, "Hard": 20}]
    assert how["aliases"] == ("a", "other") and how["files"]["/run/secrets/s"].text == "hush"
    named, anonymous, bound, memory = how["mounts"]
    assert named["Source"] == "v" and named["VolumeOptions"]["DriverConfig"]["Options"]["type"] == "tmpfs"
    assert anonymous["Type"] == "volume" and not anonymous.get("Source")
    assert bound["Source"] == str(tmp_path / "compose.yaml") and bound["ReadOnly"]
    assert memory["Type"] == "tmpfs" and memory["TmpfsOptions"]["SizeBytes"] == 1024


def test_a_link_to_a_job_leads_nowhere(made: Made) -> None:
    text = """
services:
  a: {image: i, links: [job], depends_on: {job: {condition: service_completed_successfully}}}
  job: {image: i}
"""
    with pytest.raises(TargetError, match="link job of a leads to a service that completes"):
        container(made(text), "a")


BUILT = """
name: shop
services:
  a: {image: "own:1", build: {context: ., dockerfile: D, args: {X: y}}}
  b: {build: {context: ., dockerfile: D, target: last}}
  c: {build: https://example.org/c.git}
"""


def test_images_that_are_built_by_the_engine(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no `docker compose` there
    (tmp_path / "D").write_text("FROM scratch\n")
    target = made(BUILT)
    assert [target.image_of(role) for role in "abc"] == ["shop-a", "shop-b", "shop-c"]
    assert target.build_of("a") == {"context": tmp_path, "dockerfile": "D", "arguments": {"X": "y"}}
    with pytest.raises(TargetError, match="service b has target, for which `docker compose build` is needed"):
        target.build_of("b")
    with pytest.raises(TargetError, match=r"service c is built from https://example.org/c.git, which"):
        target.build_of("c")
