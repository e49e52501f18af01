"""Files such as people have: every word of them is honoured or noted."""

from __future__ import annotations

from pathlib import Path

from harness.compose import Bind, HealthCheck, Tmpfs, Volume, order, read

FILES = Path(__file__).parent / "files"


def test_redis_with_sentinels() -> None:
    made = read(FILES / "redis", environment={})
    assert order(made) == (("primary",), ("replica",), ("sentinel-1", "sentinel-2", "sentinel-3"))
    primary, replica, third = made["primary"], made["replica"], made["sentinel-3"]
    assert primary.image == "redis:7.4-alpine"  # from .env
    assert primary.command == (
        "redis-server", "--save", "", "--appendonly", "yes", "--requirepass", "s3same",
        "--masterauth", "s3same",
    )  # fmt: skip
    assert (primary.ports, primary.networks) == ((6379,), {"store": ("redis-primary",)})
    assert primary.volumes == (Volume("primary-data", "/data"),)
    assert primary.limits.ulimits == {"nofile": (20000, 40000)}
    assert (replica.scale, replica.ports, replica.depends_on) == (2, (6379,), {"primary": "service_healthy"})
    assert replica.healthcheck == HealthCheck(("CMD", "redis-cli", "ping"), interval=1.0)
    assert third.environment == {"MASTER_NAME": "main", "QUORUM": "2", "DOWN_AFTER_MS": "3000"}
    assert third.volumes == (Bind(FILES / "redis/sentinel.sh", "/etc/redis/sentinel.sh"),)
    assert third.healthcheck is not None
    assert third.healthcheck.test == (
        "CMD-SHELL",
        "redis-cli -p 26379 sentinel ckquorum $MASTER_NAME | grep -q OK",
    )
    restarts = [note for note in made.notes if note.startswith("restart: ")]
    assert len(restarts) == 5 and "restart: unless-stopped of service replica is neutralised" in restarts[1]
    assert "s3same" not in repr(made.to_json())


def test_postgres_with_a_standby_and_a_migration() -> None:
    made = read(FILES / "postgres", environment={"SCHEMA": "books"})
    assert made.name == "ledger"
    assert order(made) == (("primary",), ("standby", "migrate"), ("app",))
    primary, standby, migrate, app = made.services
    assert primary.environment == {
        "POSTGRES_USER": "ledger", "POSTGRES_DB": "ledger",
        "POSTGRES_PASSWORD_FILE": "/run/secrets/password", "PGDATA": "/var/lib/postgresql/data/pgdata",
    }  # fmt: skip
    assert (primary.user, primary.stop_signal, primary.stop_grace_period) == ("postgres", "SIGINT", 90.0)
    assert primary.volumes == (
        Volume("primary", "/var/lib/postgresql/data", nocopy=True),
        Bind(FILES / "postgres/init", "/docker-entrypoint-initdb.d"),
        Bind(FILES / "postgres/password.txt", "/run/secrets/password"),
    )
    assert primary.tmpfs == {"/var/run/postgresql": "mode=1777"}
    limits = primary.limits
    assert (limits.cpus, limits.mem_limit, limits.mem_reservation, limits.shm_size) == (
        1.5,
        512 << 20,
        128 << 20,
        128 << 20,
    )
    assert primary.healthcheck == HealthCheck(
        ("CMD-SHELL", "pg_isready -U ${POSTGRES_USER} -d ${POSTGRES_DB}"), 0.5, 2.0, start_period=10.0
    )
    assert (
        primary.command is not None and primary.command[-1] == "synchronous_standby_names=FIRST 1 (standby)"
    )
    assert standby.entrypoint == ("/standby.sh",) and standby.ports == (5432,)
    assert [type(mount) for mount in standby.volumes] == [Bind, Volume, Bind]
    assert migrate.completes and migrate.build is not None and migrate.image == ""
    assert (migrate.build.dockerfile, migrate.build.args) == ("migrate.Dockerfile", {"SCHEMA": "books"})
    assert (app.ports, app.udp, app.links) == ((8080,), (8125,), {"db": "primary"})
    assert app.init and app.read_only and app.depends_on["migrate"] == "service_completed_successfully"


def test_three_of_etcd() -> None:
    made = read(FILES / "etcd", environment={})
    assert order(made) == (("etcd1", "etcd2", "etcd3"),)
    for index, service in enumerate(made.services, start=1):
        assert service.ports == (2379, 2380) and service.hostname == f"etcd{index}"
        assert service.environment["ETCD_NAME"] == f"etcd{index}"
        assert service.environment["ETCD_INITIAL_CLUSTER_STATE"] == "new"
        assert service.volumes == (Volume(f"etcd{index}", "/etcd-data"),)
        assert set(service.networks) == {"peers", "clients"} and service.cap_drop == ("ALL",)
    assert {network.name: network.internal for network in made.networks} == {"peers": True, "clients": False}
    assert [note.partition(" of service")[0] for note in made.notes if "etcd2" in note][:3] == [
        "restart: always",
        "container_name: etcd2",
        "logging",
    ]
    # a token of a cluster counts as a secret in what is kept, not in what runs
    assert made["etcd1"].environment["ETCD_INITIAL_CLUSTER_TOKEN"] == "demo"
    assert made.to_json()["services"][0]["environment"]["ETCD_INITIAL_CLUSTER_TOKEN"] == "(redacted)"


def test_brokers_with_topics_made_first() -> None:
    made = read(FILES / "kafka", environment={})
    assert order(made) == (("broker", "broker-2", "broker-3"), ("topics",), ("worker",))
    second = made["broker-2"]
    assert second.environment["KAFKA_NODE_ID"] == "2"
    assert second.environment["KAFKA_ADVERTISED_LISTENERS"] == "PLAINTEXT://broker-2:9092"
    assert second.environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    assert second.ports == (19092, 9092, 9093)
    assert second.volumes == (Volume("", "/var/lib/kafka/data"), Tmpfs("/tmp/kraft", 16 << 20))
    (config,) = second.files
    assert (config.target, config.text, config.mode) == (
        "/opt/kafka/config/log4j.properties",
        "log4j.rootLogger=WARN, stdout\n",
        0o444,
    )
    assert (second.limits.mem_limit, second.limits.cpus) == (768 << 20, 0.75)
    topics = made["topics"]
    assert topics.completes and topics.command is not None and '--topic "$topic"' in topics.command[0]
    assert made["worker"].scale == 3 and made["worker"].extra_hosts == {"metrics": "host-gateway"}
    with_ui = read(FILES / "kafka", environment={}, profiles=["debug"])
    assert with_ui["ui"].depends_on == {"broker": "service_started"}
