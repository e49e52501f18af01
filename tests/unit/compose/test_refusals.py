"""What cannot be honoured is an error that says where, why, and what is valid."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest

from harness.compose import Compose, ComposeError

Reader = Callable[..., Compose]
Refusal = Callable[..., str]

# the keys of a service with an image, and what the error says of them
SERVICE = [
    ("privileged: true", "privileged: is 'true', which cannot be honoured: it gives the container this whole "
     "machine; valid is cap_add with what is needed; leave it out, or write false"),
    ("network_mode: host", "network_mode: is 'host', which cannot be honoured: all traffic must pass through the "
     "fabric; valid is networks; leave it out"),
    ("network_mode: 'service:b'", "network_mode: is 'service:b', which cannot be honoured"),
    ("network_mode: none", "network_mode: is 'none', which cannot be honoured"),
    ("pid: host", "pid: is 'host', which cannot be honoured: a node's processes are its own"),
    ("ipc: host", "ipc: is 'host', which cannot be honoured: containers share no memory with others: it would "
     "pass the fabric by; leave it out, or write private or shareable"),
    ("uts: host", "uts: is 'host', which cannot be honoured"),
    ("userns_mode: host", "userns_mode: is 'host', which cannot be honoured"),
    ("cgroup: host", "cgroup: is 'host', which cannot be honoured"),
    ("runtime: runsc", "runtime: is 'runsc', which cannot be honoured: faults are proven with runc only; leave it "
     "out, or write runc"),
    ("devices: [/dev/fuse]", "devices: cannot be honoured: nodes have no devices of this machine; leave it out"),
    ("gpus: all", "gpus: cannot be honoured: nodes have no devices of this machine"),
    ("volumes_from: [b]", "volumes_from: cannot be honoured: it hides who shares what; valid is the same named "
     "volume in both services"),
    ("external_links: [b]", "external_links: cannot be honoured: it leads to containers outside the file"),
    ("mac_address: 02:42:ac:11:65:43", "mac_address: cannot be honoured: the fabric tells nodes apart"),
    ("post_start: [{command: x}]", "post_start: cannot be honoured: the harness starts containers itself"),
    ("use_api_socket: true", "use_api_socket: cannot be honoured: it gives the container the engine"),
    ("restart: sometimes", "restart: is 'sometimes', but must be no, always, unless-stopped or on-failure[:times]"),
    ("imagee: x", "imagee: unknown key 'imagee'; did you mean image?"),
    ("enviroment: {A: 1}", "enviroment: unknown key 'enviroment'; did you mean environment"),
    ("zzz: 1", "zzz: unknown key 'zzz'; the keys here are annotations, attach, blkio_config, build,"),
    ("links: ['c:d']", "links[0]: leads to 'c', which is no service that takes part; those are a, b"),
    ("security_opt: ['seccomp:./x.json']", "security_opt[0]: is 'seccomp:./x.json', but must be no-new-privileges"),
    ("pull_policy: sometimes", "pull_policy: is 'sometimes', but must be always, never, missing, build"),
    ("init: maybe", "init: is 'maybe', but must be true or false"),
    ("scale: 0", "scale: asks for 0 containers, but a role has one at least; a profile leaves a service out"),
    ("scale: -1", "scale: is -1, but must be a whole number, at least 0"),
    ("scale: 1.5", "scale: is 1.5, but must be a whole number, at least 0"),
    ("scale: 2\ndeploy: {replicas: 3}", "scale: is 2, but deploy.replicas is 3; say it once"),
    ("mem_limit: 1g\ndeploy: {resources: {limits: {memory: 2g}}}",
     "mem_limit: is 1073741824, but deploy.resources says 2147483648; say it once"),
    ("deploy: {placement: {constraints: [node.role == manager]}}",
     "deploy.placement: cannot be honoured: all nodes are on this machine; leave it out"),
    ("deploy: {mode: replicated-job}", "deploy.mode: is 'replicated-job', but must be one of replicated, global"),
    ("deploy: {resources: {reservations: {devices: [{}]}}}",
     "deploy.resources.reservations.devices: cannot be honoured: nodes have no devices; leave it out"),
    ("mem_limit: lots", "mem_limit: is 'lots', but must be a size such as 64m or 1gb (units: b, k, m, g)"),
    ("cpus: 0", "cpus: is 0, but must be a number above 0"),
    ("ulimits: {nofile: {soft: 9, hard: 5}}", "ulimits.nofile: has soft 9 above hard 5"),
    ("ulimits: {nofile: {soft: 9}}", "ulimits.nofile: must be a number, or have both soft and hard"),
    ("stop_grace_period: 10", "stop_grace_period: is 10, but must be a duration such as 1m30s or 500ms (units: h, "
     "m, s, ms, us)"),
    ("command: 'a | b'", "command: has '|' outside quotes, where Compose cuts the command off, since no shell "
     "reads it; quote it, or write sh -c '...'"),
    ("command: \"it's\"", "command: \"it's\" is no command line: No closing quotation; or write it as a list"),
    ("command: {a: b}", "command: is a mapping (a), but must be text"),
    ("labels: {com.docker.compose.project: x}", "labels: has com.docker.compose.project, but com.docker.compose is "
     "Compose's own"),
    # ports
    ("ports: ['10.1.2.3:80:80']", "ports[0]: publishes on the host address 10.1.2.3, which is not honoured: clients "
     "enter by the harness's own ports; leave the address out, or write 127.0.0.1, 0.0.0.0, ::1 or ::"),
    ("ports: [{target: 80, host_ip: 10.1.2.3}]", "ports[0].host_ip: publishes on the host address 10.1.2.3"),
    ("ports: ['80', '6060/sctp']", "ports[1]: has the protocol 'sctp'; the fabric carries tcp and udp"),
    ("ports: ['80:http']", "ports[0]: is '80:http', but must be [[address:]port:]port[/protocol] as text"),
    ("ports: ['1-3:80-81']", "ports[0]: joins 3 ports of the host with 2 of the container; valid is as many"),
    ("ports: ['70000']", "ports[0]: has the ports 70000; they must be from 1 to 65535, the smaller one first"),
    ("ports: ['90-80']", "ports[0]: has the ports 90-80; they must be from 1 to 65535"),
    ("ports: [{published: 80}]", "ports[0]: lacks the target, a port of the container"),
    ("ports: [{target: 80, publish: 1}]", "ports[0].publish: unknown key 'publish'; did you mean published?"),
    ("ports: 80", "ports: is 80, but must be a list"),
    ("expose: ['80:80']", "expose[0]: is '80:80', but must be a port, a range such as 3000-3005, or either with"),
    # mounts
    ("volumes: ['data:/d', 'other:/d:ro']", "volumes[1]: uses the volume 'other', which is not declared under "
     "volumes; the volumes are data (a path of this machine begins with ./ or /)"),
    ("volumes: ['data:/d', 'data:/d:ro']", "volumes[1]: goes to /d, where compose.yml, line 5: service a: "
     "volumes[0] already is"),
    ("volumes: ['data:d']", "volumes[0]: has the target 'd', which must be an absolute path in the container"),
    ("volumes: ['data:/d:r']", "volumes[0]: has the mode 'r', none of ro, rw"),
    ("volumes: ['./missing:/d:ro']", "/missing, which does not exist"),
    ("volumes: ['/var/run/docker.sock:/s:ro']", "gives the container the engine itself"),
    ("volumes: ['/tmp:/d:ro,rshared']", "has the propagation 'rshared', which reaches this machine"),
    ("volumes: [{type: npipe, target: /d}]", "volumes[0].type: is 'npipe', but must be one of volume, bind, tmpfs"),
    ("volumes: [{type: bind, target: /d}]", "volumes[0]: lacks the source, a path of this machine"),
    ("volumes: [{target: /d}]", "volumes[0]: lacks type or target; a mount has both"),
    ("volumes: [{type: tmpfs, target: /d, volume: {}}]", "volumes[0].volume: stands in a mount of type tmpfs"),
    ("tmpfs: run", "tmpfs: has the target 'run', which must be an absolute path"),
    ("configs: [c]", "configs[0]: uses the config 'c', which is not declared under configs; the file has none"),
    ("env_file: missing.env", "missing.env, which is no file; if it need not be there, required: false"),
    # health checks, dependencies, networks
    ("healthcheck: {test: [ping]}", 'healthcheck.test: must be a line of shell, ["CMD", word, ...], ["CMD-SHELL", '
     'line] or ["NONE"]'),
    ("healthcheck: {interval: 5}", "healthcheck.interval: is 5, but must be a duration"),
    ("healthcheck: {timeout: 1us}", "healthcheck.timeout: is '1us', but must be 0 or at least 1ms"),
    ("healthcheck: {tests: x}", "healthcheck.tests: unknown key 'tests'; did you mean test?"),
    ("depends_on: [c]", "depends_on[0]: names 'c', which is no service; the services are a, b, off"),
    ("depends_on: {c: {condition: service_started}}", "depends_on.c: names 'c', which is no service"),
    ("depends_on: [a]", "depends_on[0]: is the service itself"),
    ("depends_on: [off]", "depends_on[0]: names 'off', whose profiles are not on; turn one on, or write required"),
    ("depends_on: {b: {condition: healthy}}", "depends_on.b.condition: is 'healthy', but must be one of "
     "service_started, service_healthy, service_completed_successfully"),
    ("depends_on: {b: {condition: service_healthy}}", "depends_on: waits until b is healthy, but its health check "
     "is turned off"),
    ("networks: [far]", "networks[0]: joins the network 'far', which is not declared under networks; the networks "
     "are near"),
    ("networks: {near: {ipv4_address: 10.0.0.2}}", "networks.near.ipv4_address: cannot be honoured: the fabric gives "
     "the addresses; use names instead, and leave it out"),
    ("networks: {near: {mac_address: x}}", "networks.near.mac_address: cannot be honoured"),
    # builds
    ("build: ./nowhere", "/nowhere, which is no directory"),
    ("build: {context: ., dockerfile: Nofile}", "build.dockerfile: has no file Nofile in"),
    ("build: {context: ., ssh: [default]}", "build.ssh: cannot be honoured: images are built without this user's"),
    ("build: {context: ., network: host}", "build.network: is 'host', but must be default or none"),
    ("build: {context: ., contxt: x}", "build.contxt: unknown key 'contxt'; did you mean context?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), SERVICE, ids=[text for text, _ in SERVICE])
def test_keys_of_a_service(refusal: Refusal, text: str, expected: str) -> None:
    said = refusal(f"""
services:
  a:
    image: i
{indent(text, "    ")}
  b: {{image: i, healthcheck: {{disable: true}}}}
  off: {{image: i, profiles: [x]}}
volumes: {{data: }}
networks: {{near: }}
""")
    assert expected in said
    assert said.startswith("compose.yml, line ") and ": service a: " in said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "compose.yml, line 1: service a: has neither image nor build; it needs one of them"),
        ("networks: {n: {external: true}}", "line 2: network n: external: cannot be honoured: it is not the run's own"),
        ("networks: {n: {driver: macvlan}}", "network n: driver: is 'macvlan', which cannot be honoured; valid is bridge"),
        ("networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}",
         "network n: ipam.config: cannot be honoured: the fabric gives the addresses; leave it out"),
        ("networks: {n: {enable_ipv6: true}}", "network n: enable_ipv6: cannot be honoured: the fabric carries IPv4"),
        ("networks: {n: {extern: true}}", "network n: extern: unknown key 'extern'; did you mean external"),
        ("volumes: {v: {external: true}}", "volume v: external: is not honoured: it has data from elsewhere"),
        ("volumes: {v: {driver: nfs}}", "volume v: driver: is 'nfs', but must be local, the engine's own"),
        ("volumes: {v: {driver_opts: {type: none, o: bind, device: /srv}}}",
         "volume v: driver_opts: has type 'none', which leads out of the run; valid is tmpfs"),
        ("configs: {c: {external: true}}", "config c: external: is not honoured: the engine keeps none"),
        ("configs: {c: {file: x, content: y}}", "config c: must have one of file, environment and content, and has "
         "file, content"),
        ("configs: {c: {environment: UNSET}}", "config c: environment: names the variable UNSET, which is not set"),
        ("configs: {c: {file: ./missing}}", "/missing, which is no file"),
        ("include: [other.yml]", "include: is not honoured: a target is one file; write it with docker compose config"),
        ("service: {}", "service: unknown key 'service'; did you mean services"),
        ("models: {}", "models: unknown key 'models'; "),
    ],
)  # fmt: skip
def test_the_rest_of_the_file(refusal: Refusal, text: str, expected: str) -> None:
    uses = "image: i, networks: [n]" if "networks" in text else "image: i"
    uses = "image: i, volumes: ['v:/v']" if "volumes" in text else uses
    uses = "image: i, configs: [c]" if "configs" in text else uses
    assert expected in refusal(f"services: {{a: {{{uses if text else 'user: x'}}}}}\n{text}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: x\n", "has no services; it needs one at least"),
        ("services:\n", "has no services"),
        ("services: {a: {image: i, profiles: [x]}}", "and none is on; turn one on: x"),
        ("services: {'a b': {image: i}}", "the name 'a b' must be letters, digits, ., - and _"),
        ("name: Shop\nservices: {a: {image: i}}", "compose.yml, line 1: name: is 'Shop', but must be small letters"),
        ("services: {a: {image: i, depends_on: [b]}, b: {image: i, depends_on: [c]}, c: {image: i, links: [b]}}",
         "service b: waits for itself by depends_on: b → c → b"),
        ("services:\n  a:\n    image: ${IMAGE:?say which}\n",
         "compose.yml, line 3: service a: image: the variable IMAGE must be set and not be empty: say which"),
        ("x-own: ${OWN:?as in Compose}\nservices: {a: {image: i}}",
         "compose.yml, line 1: x-own: the variable OWN must be set and not be empty: as in Compose"),
        ("services: {a: {image: '${X'}}", "'${X' has a ${ without its }; valid are $NAME, ${NAME}"),
        ("services: [a]", "services: is a list of 1, but must be a mapping"),
    ],
)  # fmt: skip
def test_what_is_wrong_with_the_whole(refusal: Refusal, text: str, expected: str) -> None:
    assert expected in refusal(text)


def test_writable_binds_are_refused_with_every_way_out(refusal: Refusal, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    text = "services:\n  a:\n    image: i\n    volumes:\n      - ./data:/data\n"
    assert refusal(text) == (
        f"compose.yml, line 5: service a: volumes[0]: lets the container write to {tmp_path}/data on this machine, "
        "so that runs would see each other's data; make it read-only (./data:/data:ro), use a named volume, or "
        "allow it with writable=['./data']"
    )
    assert "lets the container write" in refusal(text, writable=["dat", "data/deeper"])
    assert (
        refusal(text, writable="data") == "writable is 'data', but must be several paths: writable=[\"data\"]"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A=1\n?? =2\n", "x.env, line 2: '?? =2' is no NAME=value"),
        ("A=1\nB='open\nC=2\n", "x.env, line 2: B: the quote ' has no end"),
        ("A=\"x\" y\n", "x.env, line 1: A: 'y' stands behind the end of the quotes"),
        ("A=${B:?needed}\n", "x.env, line 1: A: the variable B must be set and not be empty: needed"),
        ("A B\n", "x.env, line 1: 'A B' is no NAME=value"),
    ],
)  # fmt: skip
def test_files_of_variables(refusal: Refusal, text: str, expected: str) -> None:
    assert refusal("services: {a: {image: i, env_file: x.env}}", {"x.env": text}) == expected


def test_the_error_is_a_value_error() -> None:
    assert issubclass(ComposeError, ValueError)
