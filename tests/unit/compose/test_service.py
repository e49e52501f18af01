"""What a service may say, in its short and its long forms."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from textwrap import indent

import pytest

from harness.compose import (
    Bind,
    Build,
    Compose,
    HealthCheck,
    Inline,
    Limits,
    NamedVolume,
    Network,
    Service,
    Tmpfs,
    Volume,
)

Reader = Callable[..., Compose]


def one(compose: Reader, text: str, rest: str = "", **options: object) -> Service:
    """The service `a` that has an image and `text`."""
    return compose(f"services:\n  a:\n    image: i\n{indent(text, '    ')}\n{rest}", **options)["a"]


@pytest.mark.parametrize(
    ("text", "tcp", "udp"),
    [
        ("ports: [80]", (80,), ()),
        ("ports: ['8080:80', 22:22]", (80, 22), ()),
        ("ports: ['127.0.0.1:80:81', '127.0.0.1::82', '[::1]:83:83', '0.0.0.0:1-2:84-85', ':86']",
         (81, 82, 83, 84, 85, 86), ()),
        ("ports: ['3000-3003', '53:53/udp', '53:53/tcp']", (3000, 3001, 3002, 3003, 53), (53,)),
        ("ports: ['8000-9000:80']", (80,), ()),
        ("ports: [{target: 80, published: '8080', host_ip: 127.0.0.1, mode: host, name: web}, "
         "{target: 53, protocol: udp}]", (80,), (53,)),
        ("expose: [80, '81-82', '53/udp']", (80, 81, 82), (53,)),
        ("ports: ['1:80']\nexpose: [80, 81]", (80, 81), ()),
    ],
)  # fmt: skip
def test_ports(compose: Reader, text: str, tcp: tuple[int, ...], udp: tuple[int, ...]) -> None:
    made = one(compose, text)
    assert (made.ports, made.udp) == (tcp, udp)


def test_host_ports_are_ignored_and_that_is_said(compose: Reader) -> None:
    made = compose("services: {a: {image: i, ports: ['8080:80', '81', {target: 82, published: 9-10}]}}")
    assert made.notes == (
        "host ports of service a (8080, 9-10) are ignored: clients enter by the harness's own ports",
    )


@pytest.mark.parametrize(
    "form", ["environment:\n  A: 1\n  B: x=y\n  C:\n  D:", "environment: [A=1, B=x=y, C, D]"]
)
def test_environment(compose: Reader, form: str) -> None:
    made = compose(
        f"services:\n  a:\n    image: i\n{indent(form, '    ')}\n",
        environment={"C": "outside", "A": "not this"},
    )
    assert made["a"].environment == {"A": "1", "B": "x=y", "C": "outside"}
    assert made.notes == ("the variable D of service a is not set outside, so not in its containers",)


def test_env_files_in_order_and_under_the_environment(compose: Reader) -> None:
    files = {
        "one.env": """
            # a comment
            A=one
            export B = "two words" # why
            C='$OUTSIDE as it is'
            D=$OUTSIDE and ${A}
            E="lines\\nand \\"quotes\\" and
            more"
            F: colon
            G
        """,
        "sub/two.env": "A=two\nH=$A\n",
        "raw.env": "I='$A' # all of it\n",
    }
    text = """
        services:
          a:
            image: i
            env_file:
              - one.env
              - {path: sub/two.env}
              - {path: missing.env, required: false}
              - {path: raw.env, format: raw}
            environment: {B: own}
    """
    made = compose(text, files, environment={"OUTSIDE": "o", "G": "g"})["a"].environment
    assert made == {
        "A": "two", "B": "own", "C": "$OUTSIDE as it is", "D": "o and one",
        "E": 'lines\nand "quotes" and\nmore', "F": "colon", "G": "g", "H": "one",
        "I": "'$A' # all of it",
    }  # fmt: skip
    single = compose("services: {a: {image: i, env_file: sub/two.env}}")["a"].environment
    assert single == {"A": "two", "H": "two"}


def test_the_file_env_beside_it_fills_in_what_the_environment_has_not(compose: Reader) -> None:
    text = "services: {a: {image: 'i:${TAG}-${OS:-linux}', environment: [TAG]}}"
    assert compose(text, {".env": "TAG=7\nOS=bsd\n"})["a"].image == "i:7-bsd"
    made = compose(text, environment={"TAG": "8"})
    assert (made["a"].image, made["a"].environment) == ("i:8-bsd", {"TAG": "8"})


def test_variables_in_any_value(compose: Reader) -> None:
    made = compose(
        "services: {a: {image: i, scale: '${N}', read_only: '${RO}', ports: ['${P}:80']}}",
        environment={"N": "3", "RO": "true", "P": "8080"},
    )
    assert (made["a"].scale, made["a"].read_only, made["a"].ports) == (3, True, (80,))


def test_an_unset_variable_is_empty_and_that_is_said(compose: Reader) -> None:
    made = compose("services:\n  a:\n    image: i\n    user: ${WHO}\n")
    assert made["a"].user == ""
    assert made.notes == (
        "the variable WHO is not set, so it is empty in compose.yml, line 4: service a: user",
    )


@pytest.mark.parametrize(
    ("text", "command", "entrypoint"),
    [
        ("", None, None),
        ("command: redis-server --save '' \"a b\" \\$$x", ("redis-server", "--save", "", "a b", "$x"), None),
        ("command: [sh, -c, 'a; b | c', 1]", ("sh", "-c", "a; b | c", "1"), None),
        ("command: []\nentrypoint: ''", (), ()),
        ("command:\nentrypoint: /run.sh -x", None, ("/run.sh", "-x")),
        ("command: >\n  sh -c 'a;\n  b'", ("sh", "-c", "a; b"), None),
    ],
)
def test_commands(
    compose: Reader, text: str, command: tuple[str, ...] | None, entrypoint: tuple[str, ...] | None
) -> None:
    made = one(compose, text)
    assert (made.command, made.entrypoint) == (command, entrypoint)


def test_volumes_short_and_long(compose: Reader, tmp_path: Path) -> None:
    text = """
        services:
          a:
            image: i
            volumes:
              - data:/data
              - data:/again:ro,nocopy
              - /anonymous
              - ./conf:/conf:ro
              - type: volume
                source: data
                target: /long
                read_only: true
                volume: {nocopy: true, subpath: in/it}
              - type: bind
                source: conf/x.conf
                target: /x.conf
                read_only: true
                bind: {propagation: rprivate}
              - {type: tmpfs, target: /cache, tmpfs: {size: 64m, mode: 0700}}
              - {type: tmpfs, target: /plain}
            tmpfs: [/run, '/tmp:size=1m,mode=755']
        volumes:
          data: {driver: local, labels: [x=1]}
          ram: {driver_opts: {type: tmpfs, device: tmpfs}}
          unused:
    """
    made = compose(text, {"conf/x.conf": ""})
    assert made["a"].volumes == (
        Volume("data", "/data"),
        Volume("data", "/again", read_only=True, nocopy=True),
        Volume("", "/anonymous"),
        Bind(tmp_path / "conf", "/conf"),
        Volume("data", "/long", read_only=True, nocopy=True, subpath="in/it"),
        Bind(tmp_path / "conf/x.conf", "/x.conf", propagation="rprivate"),
        Tmpfs("/cache", 64 << 20, 0o700),
        Tmpfs("/plain"),
    )
    assert made["a"].tmpfs == {"/run": "", "/tmp": "size=1m,mode=755"}
    assert made.volumes == (NamedVolume("data", labels={"x": "1"}),)


def test_listed_binds_may_be_written_to(compose: Reader, tmp_path: Path) -> None:
    text = "services: {a: {image: i, volumes: ['./out:/out', './out/deep:/deep:rw']}}"
    made = compose(text, {"out/deep/x": ""}, writable=["out"])
    assert made["a"].volumes == (
        Bind(tmp_path / "out", "/out", read_only=False),
        Bind(tmp_path / "out/deep", "/deep", read_only=False),
    )


def test_configs_and_secrets(compose: Reader, tmp_path: Path) -> None:
    text = """
        services:
          a:
            image: i
            configs: [app, {source: inline, target: /etc/app.conf, mode: 0440, uid: '5', gid: 6}]
            secrets: [key, {source: key, target: other}, {source: env, mode: '0400'}]
        configs:
          app: {file: app.conf}
          inline: {content: "port=${PORT}"}
        secrets:
          key: {file: ./key.txt}
          env: {environment: THE_KEY}
    """
    files = {"app.conf": "", "key.txt": ""}
    made = compose(text, files, environment={"THE_KEY": "abc", "PORT": "80"})
    assert made["a"].volumes == (
        Bind(tmp_path / "app.conf", "/app"),
        Bind(tmp_path / "key.txt", "/run/secrets/key"),
        Bind(tmp_path / "key.txt", "/run/secrets/other"),
    )
    assert made["a"].files == (
        Inline("/etc/app.conf", "port=80", mode=0o440, uid=5, gid=6),
        Inline("/run/secrets/env", "abc", mode=0o400, secret=True),
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{test: 'pg_isready -U $$USER', interval: 1m30s, timeout: 500ms, retries: 5, start_period: 2s}",
         HealthCheck(("CMD-SHELL", "pg_isready -U $USER"), 90.0, 0.5, 5, 2.0)),
        ("{test: [CMD, redis-cli, ping], start_interval: 1s}",
         HealthCheck(("CMD", "redis-cli", "ping"), start_interval=1.0)),
        ("{test: [CMD-SHELL, 'a || b']}", HealthCheck(("CMD-SHELL", "a || b"))),
        ("{test: [NONE]}", HealthCheck(("NONE",))),
        ("{disable: true}", HealthCheck(("NONE",))),
        ("{interval: 5s}", HealthCheck(interval=5.0)),
    ],
)  # fmt: skip
def test_health_checks(compose: Reader, text: str, expected: HealthCheck) -> None:
    made = one(compose, f"healthcheck: {text}").healthcheck
    assert made == expected and expected.disabled == ("NONE" in text or "disable" in text)


def test_networks_and_their_names(compose: Reader) -> None:
    made = compose("""
        services:
          a: {image: i}
          b: {image: i, networks: [front, back]}
          c: {image: i, networks: {back: {aliases: [db, main]}, default: }}
        networks: {front: , back: {internal: true, driver: bridge}, unused: {external: true}}
    """)
    assert made["a"].networks == {"default": ()}
    assert made["b"].networks == {"front": (), "back": ()}
    assert made["c"].networks == {"back": ("db", "main"), "default": ()}
    assert made.networks == (Network("front"), Network("back", internal=True), Network("default"))


def test_links_are_names_and_dependencies(compose: Reader) -> None:
    made = compose("services: {a: {image: i, links: [b, 'b:db']}, b: {image: i}}")
    assert made["a"].links == {"b": "b", "db": "b"} and made["a"].depends_on == {"b": "service_started"}


def test_limits_from_both_places(compose: Reader) -> None:
    made = one(
        compose,
        "mem_limit: 1g\nmemswap_limit: -1\nmem_swappiness: 10\ncpu_shares: 512\ncpu_quota: 50ms\n"
        "cpu_period: 1000\ncpuset: 0-1\nshm_size: 64m\noom_score_adj: -5\noom_kill_disable: true\n"
        "ulimits: {nproc: 10, nofile: {soft: 20, hard: 40}, memlock: -1}\n"
        "deploy: {replicas: 2, resources: {limits: {cpus: '0.5', memory: 1024M, pids: 9}, "
        "reservations: {memory: 5m}}}",
    )
    assert made.scale == 2
    assert made.limits == Limits(
        mem_limit=1 << 30, mem_reservation=5 << 20, memswap_limit=-1, mem_swappiness=10, cpus=0.5,
        cpu_shares=512, cpu_quota=50_000, cpu_period=1000, cpuset_cpus="0-1", pids_limit=9,
        shm_size=64 << 20, oom_kill_disable=True, oom_score_adj=-5,
        ulimits={"nproc": (10, 10), "nofile": (20, 40), "memlock": (-1, -1)},
    )  # fmt: skip


def test_the_rest_as_it_is_written(compose: Reader) -> None:
    made = one(
        compose,
        "user: 1000:1000\nworking_dir: /w\nhostname: h\ndomainname: d\ncap_add: [SYS_PTRACE]\n"
        "cap_drop: [ALL]\nsysctls: [net.core.somaxconn=1024]\nlabels: {x: 1, y: }\n"
        "stop_signal: SIGINT\nstop_grace_period: 1m\n"
        "init: true\nread_only: true\ntty: true\nstdin_open: true\ndns: 1.1.1.1\ndns_search: [a, b]\n"
        "dns_opt: [use-vc]\nextra_hosts: ['h1=10.0.0.1', 'h2:[::1]', 'h3:host-gateway']\n"
        "group_add: [mail, 7]\n"
        "security_opt: ['no-new-privileges:true']\nplatform: linux/amd64\npull_policy: never\nscale: 3\n"
        "runtime: runc\nipc: private\nprivileged: false\nrestart: 'no'\ndevices: []\nx-own: anything\n"
        "annotations: {a: b}\ndevelop: {watch: []}\nattach: false",
    )
    assert made == Service(
        "a", "i", user="1000:1000", working_dir="/w", hostname="h", domainname="d", cap_add=("SYS_PTRACE",),
        cap_drop=("ALL",), sysctls={"net.core.somaxconn": "1024"}, labels={"x": "1", "y": ""},
        stop_signal="SIGINT", stop_grace_period=60.0, init=True, read_only=True, tty=True, stdin_open=True,
        dns=("1.1.1.1",), dns_search=("a", "b"), dns_opt=("use-vc",), group_add=("mail", "7"),
        extra_hosts={"h1": "10.0.0.1", "h2": "::1", "h3": "host-gateway"}, platform="linux/amd64",
        security_opt=("no-new-privileges:true",), pull_policy="never", scale=3, networks={"default": ()},
    )  # fmt: skip


def test_label_files(compose: Reader) -> None:
    text = "services: {a: {image: i, label_file: x.labels, labels: [two=own]}}"
    assert compose(text, {"x.labels": "one=1\ntwo=2\n"})["a"].labels == {"one": "1", "two": "own"}


def test_builds(compose: Reader, tmp_path: Path) -> None:
    text = """
        services:
          short: {build: ./src}
          long:
            image: named
            build:
              context: src
              dockerfile: deep/Dockerfile
              args: [A=1, GIVEN, MISSING]
              target: final
              labels: {l: 1}
              tags: [t]
              cache_from: [c]
              additional_contexts: {other: ./src, web: 'https://example.org/x.git'}
              extra_hosts: ['h=10.0.0.1']
              platforms: [linux/amd64]
              network: none
              shm_size: 1m
              no_cache: true
              pull: 'true'
          inline: {build: {dockerfile_inline: "FROM x", context: src}}
          away: {build: 'https://example.org/x.git#main'}
    """
    files = {"src/Dockerfile": "", "src/deep/Dockerfile": ""}
    made = compose(text, files, environment={"GIVEN": "g"})
    src = str(tmp_path / "src")
    assert made["short"].build == Build(src) and made["short"].image == ""
    assert made["inline"].build == Build(src, text="FROM x")
    assert made["away"].build == Build("https://example.org/x.git#main")
    assert made["long"].image == "named"
    assert made["long"].build == Build(
        src, "deep/Dockerfile", args={"A": "1", "GIVEN": "g"}, target="final", labels={"l": "1"}, tags=("t",),
        cache_from=("c",), contexts={"other": src, "web": "https://example.org/x.git"},
        extra_hosts={"h": "10.0.0.1"}, platforms=("linux/amd64",), network="none", shm_size=1 << 20,
        no_cache=True, pull=True, needs_buildkit=("additional_contexts", "platforms"),
    )  # fmt: skip
