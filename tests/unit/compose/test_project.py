"""The file as a whole: names, profiles, order, what a report says of it, what a history keeps."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from harness.compose import Compose, order, read
from harness.compose.dependency import Condition, waves

Reader = Callable[..., Compose]
Refusal = Callable[..., str]


def test_the_name(compose: Reader, tmp_path: Path) -> None:
    assert compose("name: shop-${N}\nservices: {a: {image: i}}", environment={"N": "1"}).name == "shop-1"
    assert compose("services: {a: {image: i}}", environment={"COMPOSE_PROJECT_NAME": "own"}).name == "own"
    (tmp_path / "My App.d").mkdir()
    (tmp_path / "My App.d" / "compose.yaml").write_text("services: {a: {image: 'i:${COMPOSE_PROJECT_NAME}'}}")
    made = read(tmp_path / "My App.d", environment={})
    assert (made.name, made["a"].image) == ("myappd", "i:myappd")


def test_a_service_by_its_name(compose: Reader) -> None:
    with pytest.raises(KeyError, match="no service 'b'; the services are a"):
        compose("services: {a: {image: i}}")["b"]


PROFILES = """
services:
  a: {image: i, depends_on: {tools: {condition: service_started, required: false}}}
  tools: {image: i, profiles: [debug, admin]}
  ops: {image: i, profiles: [ops], depends_on: [a]}
"""


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({}, "a"),
        ({"profiles": ["debug"]}, "a tools"),
        ({"profiles": ["admin", "ops"]}, "a tools ops"),
        ({"profiles": ["*"]}, "a tools ops"),
        ({"environment": {"COMPOSE_PROFILES": "x,ops"}}, "a ops"),
    ],
)
def test_profiles(compose: Reader, options: dict[str, object], names: str) -> None:
    made = compose(PROFILES, **options)
    assert [service.name for service in made.services] == names.split()
    assert ("tools" in made["a"].depends_on) == ("tools" in names)


def test_services_of_profiles_that_are_off_may_be_beyond_honouring(compose: Reader) -> None:
    made = compose("services: {a: {image: i}, b: {image: i, privileged: true, profiles: [x]}}")
    assert [service.name for service in made.services] == ["a"]


def test_order_in_waves(compose: Reader) -> None:
    made = compose("""
        services:
          app:
            image: i
            depends_on:
              migrate: {condition: service_completed_successfully, restart: true}
              cache: {condition: service_healthy}
          migrate: {image: i, depends_on: {db: {condition: service_healthy}}}
          cache: {image: i}
          proxy: {image: i, depends_on: [app]}
          db: {image: i}
    """)
    assert order(made) == (("cache", "db"), ("migrate",), ("app",), ("proxy",))
    assert [service.name for service in made.services if service.completes] == ["migrate"]
    assert made["app"].depends_on == {
        "migrate": "service_completed_successfully",
        "cache": "service_healthy",
    }


@given(st.lists(st.sets(st.integers(0, 9)), min_size=10, max_size=10))
def test_waves_are_early_and_complete_or_there_is_a_cycle(edges: list[set[int]]) -> None:
    waiting: dict[str, dict[str, Condition]] = {
        str(i): {str(other): "service_started" for other in others if other != i}
        for i, others in enumerate(edges)
    }
    try:
        found = waves(waiting)
    except ValueError as error:
        way = str(error).split(" → ")
        assert way[0] == way[-1] and len(way) > 2
        assert all(after in waiting[before] for before, after in itertools.pairwise(way))
        return
    place = {name: index for index, group in enumerate(found) for name in group}
    assert sorted(name for group in found for name in group) == sorted(waiting)
    for name, others in waiting.items():
        assert place[name] == max((place[other] + 1 for other in others), default=0)


def test_notes_say_what_is_not_as_in_compose(compose: Reader) -> None:
    made = compose(
        """
        services:
          db:
            image: i
            restart: always
            container_name: the-db
            logging: {driver: syslog}
            cap_add: [NET_ADMIN]
            ports: ['5432:5432']
            networks: {back: {priority: 5}}
            volumes: [data:/data]
            deploy:
              restart_policy: {condition: on-failure}
              update_config: {parallelism: 1}
              resources: {reservations: {cpus: '0.1'}}
        volumes: {data: {name: the-data}}
        networks: {back: {name: the-net}}
        """,
        {"compose.override.yml": ""},
    )
    assert made.notes == (
        "compose.override.yml beside compose.yml is not read",
        "restart: always of service db is neutralised, since it would undo a kill",
        "container_name: the-db of service db is ignored: containers are named by run and node",
        "logging of service db is ignored: the harness reads the logs itself",
        "cap_add: NET_ADMIN lets service db change its own network, and so undo a fault",
        "host ports of service db (5432) are ignored: clients enter by the harness's own ports",
        "deploy.restart_policy of service db is neutralised, since it would undo a kill",
        "deploy.update_config of service db is ignored: it is for a swarm",
        "deploy.resources.reservations.cpus of service db is ignored: it is for a swarm",
        "priority of service db in network back is ignored: a node has one interface",
        "the name the-net of network back is ignored: it is new for each run",
        "the name the-data of volume data is ignored: it is new for each run",
    )


def test_a_plain_file_needs_no_notes(compose: Reader) -> None:
    assert compose("services: {a: {image: i, restart: 'no', expose: [80]}}").notes == ()


SECRET = """
services:
  a:
    image: postgres:16
    build:
      dockerfile_inline: FROM x
      args: {GIT_TOKEN: built-in, TAG: v1}
    command: serve --password ${DB_PASSWORD} --port 80
    environment:
      DB_PASSWORD: ${DB_PASSWORD}
      URL: postgres://u:inline@db/x
      DSN: user=u password=${DB_PASSWORD}
      PLAIN: text
    env_file: a.env
    healthcheck: {test: "check ${DB_PASSWORD}"}
    secrets: [env, typed]
    configs: [conf]
    volumes: ['./in.txt:/in.txt:ro']
configs:
  conf: {content: "pw=${DB_PASSWORD}"}
secrets:
  env: {environment: WHATEVER}
  typed: {content: typed-in}
"""


def test_a_history_keeps_no_secrets_and_no_paths(compose: Reader, tmp_path: Path) -> None:
    given = {"DB_PASSWORD": "hunter.2", "WHATEVER": "sesame"}
    made = compose(SECRET, {"a.env": "API_KEY=from-file\nCOPY=x:$API_KEY\n", "in.txt": ""}, environment=given)
    assert made["a"].environment["DB_PASSWORD"] == "hunter.2"  # the containers do get it
    kept = made.to_json()
    text = json.dumps(kept)
    for secret in ("hunter.2", "sesame", "from-file", "typed-in", "inline@", "built-in", str(tmp_path)):
        assert secret not in text, secret
    assert "hunter.2" not in repr(made)
    (a,) = kept["services"]
    assert a["image"] == "postgres:16"
    assert a["environment"] == {
        "DB_PASSWORD": "(redacted)", "URL": "postgres://u:(redacted)@db/x", "PLAIN": "text",
        "DSN": "user=u password=(redacted)", "API_KEY": "(redacted)", "COPY": "x:(redacted)",
    }  # fmt: skip
    assert a["command"] == ["serve", "--password", "(redacted)", "--port", "80"]
    assert a["build"] == {"context": ".", "text": "FROM x", "args": {"GIT_TOKEN": "(redacted)", "TAG": "v1"}}
    assert a["volumes"] == [{"kind": "Bind", "source": "in.txt", "target": "/in.txt"}]


def test_a_password_like_a_common_word_spoils_no_names(compose: Reader) -> None:
    made = compose(
        "services: {postgres: {image: 'postgres:16', user: postgres, environment: [PGPASSWORD]}}",
        environment={"PGPASSWORD": "postgres"},
    )
    (kept,) = made.to_json()["services"]
    assert (kept["name"], kept["image"], kept["user"]) == ("postgres", "postgres:16", "postgres")
    assert kept["environment"] == {"PGPASSWORD": "(redacted)"}


def test_equal_files_are_equal_and_frozen(compose: Reader) -> None:
    one, two = (compose("services: {a: {image: i, command: x}}") for _ in range(2))
    assert one == two
    with pytest.raises(AttributeError):
        one.services[0].image = "other"  # type: ignore[misc]


def test_files_of_configs_and_secrets_are_mounted_as_they_are(compose: Reader) -> None:
    text = "services: {a: {image: i, secrets: [{source: s, mode: 0400}]}}\nsecrets: {s: {file: s.txt}}"
    assert compose(text, {"s.txt": ""}).notes == (
        "mode of secret s in service a is ignored: its file is mounted as it is",
    )
