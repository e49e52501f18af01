"""The server as a program: its options, for the embedded server as for the real one."""

from __future__ import annotations

import json
import re
import subprocess
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.integration.proxy.support import Bench, Wire, free_port, noise, one_way, read_to_end, running

UP = "127.0.0.1:9"


@pytest.mark.parametrize("option", ["-version", "--version"])
def test_version_is_printed(command: list[str | Path], option: str) -> None:
    ended = subprocess.run([*command, option], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (0, "toxiproxy-server version 2.12.0\n")


def test_a_configuration_is_populated_from(command: list[str | Path], tmp_path: Path) -> None:
    listen = f"127.0.0.1:{free_port()}"
    config = tmp_path / "proxies.json"
    config.write_text(
        json.dumps(
            [
                {"name": "a", "listen": listen, "upstream": UP},
                {"name": "b", "listen": "x", "upstream": UP, "enabled": False},
            ]
        )
    )
    with running(command, "-config", str(config)) as server:
        proxies = server.proxies()
    assert {name: (proxy.listen, proxy.enabled) for name, proxy in proxies.items()} == {
        "a": (listen, True),
        "b": ("x", False),
    }


@pytest.mark.parametrize(
    "content", [None, "not json", '[{"name": "a"}]', '[{"name": "a", "upstream": "x", "listen": "y"}]']
)
def test_a_configuration_that_cannot_be_used_stops_nobody(
    command: list[str | Path], tmp_path: Path, content: str | None
) -> None:
    config = tmp_path / "proxies.json"
    if content is not None:
        config.write_text(content)
    with running(command, "-config", str(config)) as server:
        assert server.proxies() == {}


def test_bytes_are_counted_per_proxy_and_direction(command: list[str | Path]) -> None:
    with running(command, "-proxy-metrics") as server, ExitStack() as stack:
        bench = Bench(server, stack)
        for _ in range(2):
            line = bench.open()
            one_way(line, "upstream", noise(1000))
            one_way(line, "downstream", noise(300))
            line.client.close()
            read_to_end(line.peer)
        wire = Wire(server)
        stack.callback(wire.close)
        proxy = server.proxies()[bench.name]
        wanted = {("received", "upstream"): 2000.0, ("received", "downstream"): 600.0}
        wanted |= {("sent", "upstream"): 2000.0, ("sent", "downstream"): 600.0}
        counted: dict[tuple[str, str], float] = {}
        answer = wire.ask("GET", "/metrics")
        for _ in range(200):  # they are counted when a direction has ended, which the test cannot see
            if counted == wanted:
                break
            answer = wire.ask("GET", "/metrics")
            counted = {
                (what, direction): float(number)
                for what, direction, number in re.findall(
                    r"^toxiproxy_proxy_(received|sent)_bytes_total\{"
                    rf'direction="(\w+)",listener="{re.escape(proxy.listen)}",proxy="{proxy.name}",'
                    rf'upstream="{re.escape(proxy.upstream)}"\}} (\S+)$',
                    answer.body.decode(),
                    re.MULTILINE,
                )
            }
        assert counted == wanted
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4; charset=utf-8")


def test_the_program_is_measured_too(command: list[str | Path]) -> None:
    with running(command, "-runtime-metrics") as server:
        wire = Wire(server)
        answer = wire.ask("GET", "/metrics")
        wire.close()
    assert re.search(rb"^process_cpu_seconds_total [0-9.]+$", answer.body, re.MULTILINE)
    assert b"toxiproxy_proxy_" not in answer.body
