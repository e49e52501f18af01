"""Services that extend others: what is merged how, from which file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.compose import Bind, Compose, HealthCheck, Volume

Reader = Callable[..., Compose]
Refusal = Callable[..., str]


def test_what_is_merged_and_what_is_replaced(compose: Reader) -> None:
    made = compose("""
        services:
          base:
            image: base
            command: [one, two]
            user: root
            environment: [A=base, B=base, C=base]
            labels: {l: base}
            ports: ['1:80']
            expose: [7]
            volumes: [data:/data, other:/other]
            cap_add: [A, B]
            dns: 1.1.1.1
            tmpfs: /run
            depends_on: [db]
            networks: [one]
            extra_hosts: ['h:10.0.0.1']
            healthcheck: {test: [CMD, one, two], interval: 1s}
            deploy: {resources: {limits: {cpus: 1, memory: 1g}}}
          a:
            extends: base
            image: own
            command: [three]
            environment: {B: own, C: }
            labels: [m=own]
            ports: ['2:81', '1:80']
            expose: [8]
            volumes: [{type: volume, source: mine, target: /data, read_only: true}]
            cap_add: [B, C]
            dns: [2.2.2.2]
            tmpfs: [/tmp]
            depends_on: {cache: {condition: service_healthy}}
            networks: {two: {aliases: [x]}}
            extra_hosts: {i: 10.0.0.2}
            healthcheck: {test: [CMD, own]}
            deploy: {resources: {limits: {cpus: 2}}}
          db: {image: i}
          cache: {image: i}
        volumes: {data: , other: , mine: }
        networks: {one: , two: }
    """)
    a = made["a"]
    assert (a.image, a.command, a.user) == ("own", ("three",), "root")
    assert a.environment == {"A": "base", "B": "own"}
    assert a.labels == {"l": "base", "m": "own"}
    assert a.ports == (80, 81, 7, 8)
    assert a.volumes == (Volume("mine", "/data", read_only=True), Volume("other", "/other"))
    assert a.cap_add == ("A", "B", "C")
    assert a.dns == ("1.1.1.1", "2.2.2.2")
    assert list(a.tmpfs) == ["/run", "/tmp"]
    assert a.depends_on == {"db": "service_started", "cache": "service_healthy"}
    assert a.networks == {"one": (), "two": ("x",)}
    assert a.extra_hosts == {"h": "10.0.0.1", "i": "10.0.0.2"}
    assert a.healthcheck == HealthCheck(("CMD", "own"), interval=1.0)
    assert (a.limits.cpus, a.limits.mem_limit) == (2.0, 1 << 30)
    assert made["base"].command == ("one", "two") and made["base"].environment["B"] == "base"


def test_over_several_steps_and_files_with_paths_of_each(compose: Reader, tmp_path: Path) -> None:
    files = {
        "shared/base.yml": """
            services:
              deep: {image: 'i:${TAG}', volumes: ['./deep.conf:/deep.conf:ro'], env_file: base.env}
              base: {extends: {service: deep}, build: ., volumes: ['./base.conf:/base.conf:ro']}
        """,
        "shared/base.env": "FROM=shared\n",
        "shared/deep.conf": "",
        "shared/base.conf": "",
        "shared/Dockerfile": "",
        "own.conf": "",
        "Dockerfile": "",
    }
    text = """
        services:
          a:
            extends: {file: shared/base.yml, service: base}
            build: {args: {A: 1}}
            volumes: ['./own.conf:/own.conf:ro']
    """
    a = compose(text, files, environment={"TAG": "1"})["a"]
    assert a.image == "i:1" and a.environment == {"FROM": "shared"}
    assert a.volumes == (
        Bind(tmp_path / "shared/deep.conf", "/deep.conf"),
        Bind(tmp_path / "shared/base.conf", "/base.conf"),
        Bind(tmp_path / "own.conf", "/own.conf"),
    )
    assert a.build is not None and (a.build.context, a.build.args) == (str(tmp_path / "shared"), {"A": "1"})


def test_an_error_in_what_was_extended_names_both(refusal: Refusal) -> None:
    text = refusal(
        "services: {a: {extends: {file: base.yml, service: base}}}",
        {"base.yml": "services:\n  base:\n    image: i\n    privileged: true\n"},
    )
    assert text.startswith("base.yml, line 4: service a: privileged: is 'true', which cannot be honoured")


def test_circles_and_strangers(refusal: Refusal) -> None:
    circle = refusal("services: {a: {extends: b, image: i}, b: {extends: {service: c}}, c: {extends: a}}")
    assert circle == "compose.yml, line 1: service a: extends itself: a → b → c → a"
    over = {"other.yml": "services: {b: {extends: {file: compose.yml, service: a}}}"}
    assert "extends itself: a → b → a" in refusal(
        "services: {a: {extends: {file: other.yml, service: b}}}", over
    )
    stranger = refusal("services: {a: {extends: x}, b: {image: i}}")
    assert (
        stranger
        == "compose.yml, line 1: service a: extends: is 'x', which is no service there; the services are a, b"
    )
    assert "gone.yml: cannot be read" in refusal("services: {a: {extends: {file: gone.yml, service: b}}}")
