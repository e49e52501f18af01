"""Redis as targets: one that is alone, and a primary with two replicas and a Sentinel beside each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from redis.exceptions import RedisError

from harness.compose_target import ComposeTarget
from harness.target import Endpoint, Node, Target
from targets.redis.client import MASTER, RedisClient, SentinelClient, connection

HERE = Path(__file__).parent
WITHIN = 0.5  # seconds for an answer to a question about a node's state

CONFIGURATION = "/etc/redis/nemesis-sentinel.conf"
# Sentinel looks at roles every 10 s otherwise, which is how long a run would wait for it before and after
HURRY = "redis-cli -p 26379 SENTINEL DEBUG INFO-PERIOD 200 PUBLISH-PERIOD 200 2>&1 | grep -q OK"
SENTINEL = """\
port 26379
sentinel resolve-hostnames yes
sentinel announce-hostnames yes
sentinel announce-ip {name}
sentinel monitor {master} {primary} 6379 2
sentinel down-after-milliseconds {master} {patience}
sentinel failover-timeout {master} 2000
"""


@dataclass(frozen=True)
class Redis(Target):
    """One redis that writes every change to disk before it answers (``appendfsync always``)."""

    nodes: int | Mapping[str, int] = 1

    client: ClassVar[type[Any]] = RedisClient
    image: ClassVar[str] = "nemesis/redis"
    context: ClassVar[Path] = HERE
    ports: ClassVar[Mapping[str, int]] = {"main": 6379}

    def command(self, node: Node) -> Sequence[str]:
        """Without snapshots, so that the log alone is what survives."""
        return [
            "redis-server", "--protected-mode", "no", "--dir", str(node.data), "--save", "",
            "--appendonly", "yes", "--appendfsync", "always",
        ]  # fmt: skip

    def clock(self, node: Endpoint) -> float:
        """What TIME says. Raises RedisError and OSError."""
        seconds, micros = ask(node, "main", "TIME")
        return int(seconds) + int(micros) / 1e6


@dataclass(frozen=True)
class RedisSentinel(Target):
    """A primary (n1 at first) and its replicas, a Sentinel in each container; they find each other by name.

    Two sentinels of three make another node the primary where they miss it for one to two seconds.
    """

    client: ClassVar[type[Any]] = RedisClient
    image: ClassVar[str] = "nemesis/redis"
    context: ClassVar[Path] = HERE
    ports: ClassVar[Mapping[str, int]] = {"main": 6379, "sentinel": 26379}

    def container(self, node: Node) -> Mapping[str, Any]:
        """The configuration of its Sentinel, which that rewrites."""
        primary = self.members()[0][0]
        # one after the other, or they vote for themselves and nobody is elected
        patience = 1000 + 400 * node.index
        text = SENTINEL.format(name=node.name, master=MASTER, primary=primary, patience=patience)
        return {"files": {CONFIGURATION: text}}

    def command(self, node: Node) -> Sequence[str]:
        """Sentinel in the background, redis in the foreground."""
        primary = self.members()[0][0]
        redis = (
            f"redis-server --protected-mode no --dir {node.data} --replica-announce-ip {node.name}"
            " --repl-diskless-sync-delay 0 --repl-timeout 5 --save '' --appendonly no"
        )
        if node.name != primary:
            redis += f" --replicaof {primary} 6379"
        start = f"redis-sentinel {CONFIGURATION} & (until {HURRY}; do sleep 0.05; done) & exec {redis}"
        return ["sh", "-c", start]

    def ready(self, node: Endpoint) -> bool:
        """Whether its Sentinel has found all others, and all of them say the same of who leads."""
        others = len(self.members()) - 1
        try:
            master = _pairs(ask(node, "sentinel", "SENTINEL", "MASTER", MASTER))
            replicas = [_pairs(one) for one in ask(node, "sentinel", "SENTINEL", "REPLICAS", MASTER)]
            own = ask(node, "main", "ROLE")
        except (RedisError, OSError):
            return False
        leads = master["ip"] == node.name
        return (
            master["flags"] == "master"
            and int(master["num-other-sentinels"]) == others == len(replicas)
            and all(one["flags"] == "slave" and one["master-link-status"] == "ok" for one in replicas)
            and (own[0] == "master" if leads else own[0] == "slave" and own[3] == "connected")
        )

    def status(self, node: Endpoint) -> Mapping[str, Any]:
        """Whether `node` takes writes, and the epoch in which its Sentinel last saw a change.

        Raises OSError where it does not answer.
        """
        try:
            role = ask(node, "main", "ROLE")[0]
            epoch = _pairs(ask(node, "sentinel", "SENTINEL", "MASTER", MASTER))["config-epoch"]
        except RedisError as error:
            raise ConnectionError(f"{node.name} did not answer: {error}") from error
        return {"role": "leader" if role == "master" else "follower", "term": int(epoch)}


@dataclass(frozen=True)
class RedisPrimary(RedisSentinel):
    """`RedisSentinel` as its users have it: their driver follows the primary."""

    client: ClassVar[type[Any]] = SentinelClient


class RedisCompose(ComposeTarget):
    """The same system as somebody has it already: the services of a Compose file.

    Differs from `RedisSentinel` in that each Sentinel has a container of its own, and could be cut off alone.
    """

    client: ClassVar[type[Any]] = RedisClient
    client_roles: ClassVar[tuple[str, ...]] = ("primary", "replica")


def ask(node: Endpoint, port: str, *words: str) -> Any:
    """One question to a node. Raises RedisError and OSError."""
    there = connection(node.host, node.ports[port], WITHIN)
    try:
        there.send_command(*words)
        return there.read_response()
    finally:
        there.disconnect()


def _pairs(flat: Sequence[str]) -> Mapping[str, str]:
    """What Sentinel answers, as a mapping."""
    return dict(zip(flat[::2], flat[1::2], strict=True))


__all__ = ["Redis", "RedisCompose", "RedisPrimary", "RedisSentinel", "ask"]
