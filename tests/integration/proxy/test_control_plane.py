"""The control plane of the wire, as a table: what is asked, and what a Toxiproxy 2.12 server has to answer.

The expectations are written from the wire's specification. Each server, embedded and real, is held to them.
In paths, bodies and answers `FREE1`..`FREE3` stand for free ports, `TAKEN` for one that is in use.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.proxy import ATTRIBUTES, Server
from tests.integration.proxy.support import Answer, Wire, free_port, running

UP = "127.0.0.1:9"  # an upstream; nothing here connects to it
JSON = "application/json"
PLAIN = "text/plain; charset=utf-8"
HUGE = 99999999999999999999  # beyond 64 bits


# ---------------------------------------------------------------- the vocabulary of the table


@dataclass(frozen=True)
class Expected:
    """What has to come back; a `body` that is callable decides itself."""

    status: int
    body: Any
    content_type: str | None = None
    no_sniff: bool = False
    request_id: bool = True


@dataclass(frozen=True)
class Starts:
    """Equal to every text with this beginning: how a decoder words its complaint is its own affair."""

    prefix: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other.startswith(self.prefix)


Step = tuple[str, str, object, Expected]
BAD_BODY = "bad request body: "
NONE = Expected(204, b"")
NOT_FOUND = Expected(404, b"404 page not found\n", PLAIN, no_sniff=True, request_id=False)
NOT_ALLOWED = Expected(405, b"", request_id=False)


def ok(body: Any, status: int = 200) -> Expected:
    return Expected(status, body, JSON)


def refused(status: int, message: str | Starts) -> Expected:
    """Go's http.Error: JSON in the body, plain text in the header."""
    return Expected(status, {"error": message, "status": status}, PLAIN, no_sniff=True)


BAD = refused(400, Starts(BAD_BODY))
NO_PROXY = refused(404, "proxy not found")
NO_TOXIC = refused(404, "toxic not found")


def proxy(name: str, listen: str = "127.0.0.1:FREE1", upstream: str = UP, **given: Any) -> dict[str, Any]:
    """A proxy as it is shown."""
    return {
        "name": name,
        "listen": listen,
        "upstream": upstream,
        "enabled": given.get("enabled", True),
        "Logger": {},
        "toxics": given.get("toxics", []),
    }


def toxic(
    kind: str, name: str = "", stream: str = "downstream", toxicity: float = 1, **attributes: int
) -> dict[str, Any]:
    """A toxic as it is shown."""
    every = {attribute: attributes.get(attribute, 0) for attribute in ATTRIBUTES[kind]}
    name = name or f"{kind}_{stream}"
    return {"attributes": every, "name": name, "type": kind, "stream": stream, "toxicity": toxicity}


def made(name: str = "a", listen: str = "127.0.0.1:FREE1") -> Step:
    """A step that makes a proxy."""
    asked = {"name": name, "listen": listen, "upstream": UP}
    return ("POST", "/proxies", asked, ok(proxy(name, listen), 201))


def added(kind: str, name: str = "", stream: str = "downstream", proxy: str = "a", **attributes: int) -> Step:
    """A step that adds a toxic."""
    shown = toxic(kind, name, stream, **attributes)
    asked = {"type": kind, "name": shown["name"], "stream": stream, "attributes": attributes}
    return ("POST", f"/proxies/{proxy}/toxics", asked, ok(shown))


# ---------------------------------------------------------------- the table

A = "/proxies/a"
T = "/proxies/a/toxics"
DOWN = proxy("a", enabled=False)

SCENARIOS: dict[str, list[Step]] = {
    "version": [
        (
            "GET",
            "/version",
            None,
            Expected(200, b'{"version": "2.12.0"}\n', "application/json;charset=utf-8"),
        ),
        *((method, "/version", None, NOT_ALLOWED) for method in ("POST", "PUT", "PATCH", "DELETE", "HEAD")),
    ],
    "paths that are not there": [
        *(
            ("GET", path, None, NOT_FOUND)
            for path in ("/", "/nope", "/version/", "/proxies/", "/metrics", "/proxies/a/", "/proxies/a/foo")
        ),
        ("POST", "/nope", None, NOT_FOUND),
        ("GET", "/proxies/a/toxics/", None, NOT_FOUND),
        ("GET", "/proxies/a/toxics/x/y", None, NOT_FOUND),
        ("GET", "/proxies/a/b/c", None, NOT_FOUND),
        ("GET", "/proxies/x%2Fy", None, NOT_FOUND),
        ("GET", "/reset/now", None, NOT_FOUND),
        ("GET", "/Version", None, NOT_FOUND),
    ],
    "methods that are not allowed": [
        *(
            (method, path, None, NOT_ALLOWED)
            for path, methods in {
                "/proxies": "PUT DELETE PATCH OPTIONS HEAD",
                "/proxies/a": "PUT HEAD OPTIONS",
                "/proxies/a/toxics": "PUT DELETE PATCH HEAD",
                "/proxies/a/toxics/b": "PUT HEAD OPTIONS",
                "/reset": "GET PUT DELETE PATCH HEAD",
                "/populate": "GET PUT DELETE PATCH HEAD",
            }.items()
            for method in methods.split()
        ),
    ],
    "an empty server": [
        ("GET", "/proxies", None, ok({})),
        ("GET", "/proxies?x=1", None, ok({})),
        ("POST", "/reset", None, NONE),
        ("GET", "/proxies/zz", None, NO_PROXY),
        ("POST", "/proxies/zz", {}, NO_PROXY),
        ("PATCH", "/proxies/zz", {}, NO_PROXY),
        ("PATCH", "/proxies/zz", "{", NO_PROXY),
        ("DELETE", "/proxies/zz", None, NO_PROXY),
        ("GET", "/proxies/zz/toxics", None, NO_PROXY),
        ("POST", "/proxies/zz/toxics", {"type": "latency"}, NO_PROXY),
        ("GET", "/proxies/zz/toxics/zz", None, NO_PROXY),
        ("PATCH", "/proxies/zz/toxics/zz", {}, NO_PROXY),
        ("DELETE", "/proxies/zz/toxics/zz", None, NO_PROXY),
    ],
    "the life of a proxy": [
        made(),
        ("GET", "/proxies", None, ok({"a": proxy("a")})),
        ("GET", A, None, ok(proxy("a"))),
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "127.0.0.1:FREE2", "upstream": UP},
            refused(409, "proxy already exists"),
        ),
        ("DELETE", A, None, NONE),
        ("GET", A, None, NO_PROXY),
        ("DELETE", A, None, NO_PROXY),
        ("GET", "/proxies", None, ok({})),
        made(),
    ],
    "what a new proxy lacks": [
        ("POST", "/proxies", {}, refused(400, "missing required field: name")),
        ("POST", "/proxies", "null", refused(400, "missing required field: name")),
        ("POST", "/proxies", {"name": ""}, refused(400, "missing required field: name")),
        ("POST", "/proxies", {"name": None, "upstream": UP}, refused(400, "missing required field: name")),
        ("POST", "/proxies", {"upstream": UP}, refused(400, "missing required field: name")),
        ("POST", "/proxies", {"name": "a"}, refused(400, "missing required field: upstream")),
        ("POST", "/proxies", {"name": "a", "upstream": ""}, refused(400, "missing required field: upstream")),
        ("GET", "/proxies", None, ok({})),
    ],
    "bodies that cannot be read": [
        ("POST", "/proxies", "", refused(400, "bad request body: EOF")),
        ("POST", "/proxies", " \n", refused(400, "bad request body: EOF")),
        ("POST", "/proxies", "{", refused(400, "bad request body: unexpected EOF")),
        ("POST", "/proxies", '{"name": "a', refused(400, "bad request body: unexpected EOF")),
        *(
            ("POST", "/proxies", body, BAD)
            for body in (
                "[]",
                '"x"',
                "1",
                "true",
                "not json",
                "{'name':1}",
                '{"name":"a","upstream":"x",}',
                '{"name":"a" "upstream":"x"}',
                b"\xff\xfe{}",
                '{"name":1}',
                '{"name":"a","listen":5,"upstream":"x"}',
                '{"name":"a","listen":"","upstream":[]}',
                '{"name":"a","upstream":"x","enabled":"yes"}',
                '{"name":"a","upstream":"x","enabled":1}',
                '{"name":NaN}',
                '{"name":"tab\there"}',
            )
        ),
        ("GET", "/proxies", None, ok({})),
    ],
    "bodies that are read all the same": [
        (
            "POST",
            "/proxies",
            f'{{"name":"a","upstream":"{UP}","listen":"127.0.0.1:FREE1"}} trailing',
            ok(proxy("a"), 201),
        ),
        ("DELETE", A, None, NONE),
        (
            "POST",
            "/proxies",
            f'{{"NAME":"a","Upstream":"{UP}","LISTEN":"127.0.0.1:FREE1","more":[1]}}',
            ok(proxy("a"), 201),
        ),
        ("DELETE", A, None, NONE),
        (
            "POST",
            "/proxies",
            f'{{"name":"z","name":"a","upstream":"{UP}","listen":"127.0.0.1:FREE1"}}',
            ok(proxy("a"), 201),
        ),
        ("DELETE", A, None, NONE),
        (
            "POST",
            "/proxies",
            f'\n\t {{"name":"a","name":null,"upstream":"{UP}","listen":"127.0.0.1:FREE1"}}',
            ok(proxy("a"), 201),
        ),
        ("DELETE", A, None, NONE),
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "127.0.0.1:FREE1", "upstream": UP, "toxics": [{"type": "noop"}]},
            ok(proxy("a"), 201),
        ),
        ("DELETE", A, None, NONE),
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "127.0.0.1:FREE1", "upstream": "x" * 100_000},
            ok(proxy("a", upstream="x" * 100_000), 201),
        ),
        ("GET", A, None, ok(proxy("a", upstream="x" * 100_000))),
    ],
    "a disabled proxy": [
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "127.0.0.1:FREE1", "upstream": UP, "enabled": False},
            ok(DOWN, 201),
        ),
        ("GET", A, None, ok(DOWN)),
        ("POST", A, {"enabled": True}, ok(proxy("a"))),
        ("PATCH", A, {"enabled": False}, ok(DOWN)),
        ("PATCH", A, {"enabled": False}, ok(DOWN)),
        ("PATCH", A, {"enabled": None}, ok(DOWN)),
        ("PATCH", A, {}, ok(DOWN)),
        added("latency", latency=5),
        (
            "PATCH",
            A,
            {"upstream": "127.0.0.1:7"},
            ok(proxy("a", upstream="127.0.0.1:7", enabled=False, toxics=[toxic("latency", latency=5)])),
        ),
        (
            "PATCH",
            A,
            {"enabled": True},
            ok(proxy("a", upstream="127.0.0.1:7", toxics=[toxic("latency", latency=5)])),
        ),
    ],
    "listen addresses of a disabled proxy are kept raw": [
        *(
            (
                "POST",
                "/proxies",
                {"name": f"n{n}", "listen": at, "upstream": UP, "enabled": False},
                ok(proxy(f"n{n}", at, enabled=False), 201),
            )
            for n, at in enumerate(
                ["", "127.0.0.1:0", "localhost:FREE1", "127.0.0.1:http", "127.0.0.1:", "bogus"]
            )
        ),
        ("PATCH", "/proxies/n2", {"enabled": True}, ok(proxy("n2", "127.0.0.1:FREE1"))),
        ("PATCH", "/proxies/n2", {"enabled": False}, ok(proxy("n2", "127.0.0.1:FREE1", enabled=False))),
        ("PATCH", "/proxies/n5", {"enabled": True}, refused(500, "address bogus: missing port in address")),
        ("GET", "/proxies/n5", None, ok(proxy("n5", "bogus", enabled=False))),
    ],
    "listen addresses of an enabled proxy are resolved": [
        made("a", "127.0.0.1:FREE1"),
        (
            "POST",
            "/proxies",
            {"name": "b", "listen": "localhost:FREE2", "upstream": "localhost:9"},
            ok(proxy("b", "127.0.0.1:FREE2", "localhost:9"), 201),
        ),
        ("DELETE", "/proxies/b", None, NONE),
        (
            "POST",
            "/proxies",
            {"name": "c", "listen": ":FREE2", "upstream": UP},
            ok(proxy("c", "[::]:FREE2"), 201),
        ),
        ("DELETE", "/proxies/c", None, NONE),
        (
            "POST",
            "/proxies",
            {"name": "d", "listen": "0.0.0.0:FREE2", "upstream": UP},
            ok(proxy("d", "[::]:FREE2"), 201),
        ),
        ("DELETE", "/proxies/d", None, NONE),
        (
            "POST",
            "/proxies",
            {"name": "e", "listen": "[::1]:FREE2", "upstream": "[::1]:9"},
            ok(proxy("e", "[::1]:FREE2", "[::1]:9"), 201),
        ),
        (
            "POST",
            "/proxies",
            {"name": "f", "listen": "127.0.0.1:FREE3", "upstream": "whatever"},
            ok(proxy("f", "127.0.0.1:FREE3", "whatever"), 201),
        ),
    ],
    "listen addresses that fail": [
        *(
            ("POST", "/proxies", {"name": "a", "listen": at, "upstream": UP}, refused(500, reason))
            for at, reason in {
                "127.0.0.1:TAKEN": "listen tcp 127.0.0.1:TAKEN: bind: address already in use",
                "local373": "listen tcp: address local373: missing port in address",
                "127.0.0.1:99999": "listen tcp: address 99999: invalid port",
                "127.0.0.1:-1": "listen tcp: address -1: invalid port",
                "127.0.0.1:nosuchsvc": "listen tcp: lookup tcp/nosuchsvc: unknown port",
                "1:2:3": "listen tcp: address 1:2:3: too many colons in address",
                "203.0.113.9:FREE1": "listen tcp 203.0.113.9:FREE1: bind: cannot assign requested address",
            }.items()
        ),
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "no.such.host.invalid:1", "upstream": UP},
            refused(500, Starts("listen tcp: lookup no.such.host.invalid")),
        ),
        ("GET", "/proxies", None, ok({})),
    ],
    "changing a proxy": [
        made(),
        ("POST", A, {}, ok(proxy("a"))),
        ("POST", A, "null", ok(proxy("a"))),
        ("PATCH", A, {"name": "zzz"}, ok(proxy("a"))),
        ("PATCH", A, {"upstream": "127.0.0.1:8"}, ok(proxy("a", upstream="127.0.0.1:8"))),
        ("PATCH", A, {"upstream": ""}, ok(proxy("a", upstream=""))),
        ("PATCH", A, {"upstream": UP, "listen": "127.0.0.1:FREE2"}, ok(proxy("a", "127.0.0.1:FREE2"))),
        ("PATCH", A, {"listen": "localhost:FREE2"}, ok(proxy("a", "127.0.0.1:FREE2"))),
        ("PATCH", A, {"listen": "127.0.0.1:FREE1", "enabled": False}, ok(DOWN)),
        ("PATCH", A, {"LISTEN": "127.0.0.1:FREE1", "Enabled": True}, ok(proxy("a"))),
        ("GET", A, None, ok(proxy("a"))),
    ],
    "changing a proxy, in vain": [
        made(),
        ("POST", A, "", refused(400, "bad request body: EOF")),
        ("POST", A, "{", refused(400, "bad request body: unexpected EOF")),
        ("POST", A, "[1]", BAD),
        ("PATCH", A, {"enabled": "x"}, BAD),
        ("PATCH", A, {"listen": 1}, BAD),
        ("PATCH", A, {"name": 1}, BAD),
        ("PATCH", A, {"listen": "bogus"}, refused(500, "address bogus: missing port in address")),
        ("GET", A, None, ok(proxy("a"))),
        # It has stopped by the time the new address turns out to be taken.
        (
            "PATCH",
            A,
            {"listen": "127.0.0.1:TAKEN"},
            refused(500, "listen tcp 127.0.0.1:TAKEN: bind: address already in use"),
        ),
        ("GET", A, None, ok(proxy("a", "127.0.0.1:TAKEN", enabled=False))),
        ("PATCH", A, {"listen": "127.0.0.1:FREE1", "enabled": True}, ok(proxy("a"))),
    ],
    "a change keeps toxics": [
        made(),
        added("timeout", stream="upstream", timeout=7),
        (
            "PATCH",
            A,
            {"listen": "127.0.0.1:FREE2"},
            ok(proxy("a", "127.0.0.1:FREE2", toxics=[toxic("timeout", stream="upstream", timeout=7)])),
        ),
    ],
    "each type of toxic": [
        made(),
        *(
            step
            for kind, names in ATTRIBUTES.items()
            for given in [{name: 10 + n for n, name in enumerate(names)}]
            for step in [
                ("POST", T, {"type": kind}, ok(toxic(kind))),
                ("GET", f"{T}/{kind}_downstream", None, ok(toxic(kind))),
                (
                    "PATCH",
                    f"{T}/{kind}_downstream",
                    {"attributes": given},
                    ok(toxic(kind, "", "downstream", 1, **given)),
                ),
                ("GET", T, None, ok([toxic(kind, "", "downstream", 1, **given)])),
                ("DELETE", f"{T}/{kind}_downstream", None, NONE),
                added(kind, "mine", "upstream", "a", **given),
                ("GET", f"{T}/mine", None, ok(toxic(kind, "mine", "upstream", 1, **given))),
                ("DELETE", f"{T}/mine", None, NONE),
                ("GET", f"{T}/mine", None, NO_TOXIC),
            ]
        ),
        ("GET", A, None, ok(proxy("a"))),
    ],
    "toxics are listed by stream, then in the order of addition": [
        made(),
        added("latency", "1"),
        added("slicer", "2", "upstream", average_size=5),
        added("noop", "3"),
        added("timeout", "4", "upstream"),
        (
            "GET",
            T,
            None,
            ok(
                [
                    toxic("slicer", "2", "upstream", average_size=5),
                    toxic("timeout", "4", "upstream"),
                    toxic("latency", "1"),
                    toxic("noop", "3"),
                ]
            ),
        ),
        ("DELETE", f"{T}/2", None, NONE),
        (
            "GET",
            A,
            None,
            ok(
                proxy(
                    "a", toxics=[toxic("timeout", "4", "upstream"), toxic("latency", "1"), toxic("noop", "3")]
                )
            ),
        ),
    ],
    "toxics that are refused": [
        made(),
        added("latency", "taken", "upstream"),
        ("POST", T, {"type": "latency", "name": "taken"}, refused(409, "toxic already exists")),
        (
            "POST",
            T,
            {"type": "latency", "name": "taken", "attributes": {"latency": "x"}},
            refused(409, "toxic already exists"),
        ),
        *(
            ("POST", T, {"type": kind}, refused(400, "invalid toxic type"))
            for kind in ("nope", "", "Latency")
        ),
        ("POST", T, {}, refused(400, "invalid toxic type")),
        ("POST", T, "null", refused(400, "invalid toxic type")),
        *(
            (
                "POST",
                T,
                {"type": kind, "stream": stream},
                refused(400, "stream was invalid, can be either upstream or downstream"),
            )
            for kind, stream in (("latency", "sideways"), ("latency", ""), ("nope", "nope"))
        ),
        ("POST", T, "", refused(400, "bad request body: EOF")),
        ("POST", T, "{", refused(400, "bad request body: unexpected EOF")),
        *(
            ("POST", T, body, BAD)
            for body in (
                "[]",
                '{"type":5}',
                '{"type":"latency","name":7}',
                '{"type":"latency","stream":7}',
                '{"type":"latency","attributes":[]}',
                '{"type":"latency","attributes":"x"}',
                '{"type":"noop","attributes":5}',
                '{"type":"latency","attributes":{"latency":"x"}}',
                '{"type":"latency","attributes":{"latency":1.5}}',
                '{"type":"latency","attributes":{"latency":1e3}}',
                '{"type":"latency","attributes":{"latency":true}}',
                f'{{"type":"latency","attributes":{{"latency":{HUGE}}}}}',
                f'{{"type":"latency","attributes":{{"latency":-{HUGE}}}}}',
                '{"type":"noop","toxicity":"1"}',
                '{"type":"noop","toxicity":true}',
                '{"type":"noop","toxicity":1e40}',
                '{"type":"noop","toxicity":1e400}',
                '{"type":"noop","toxicity":NaN}',
            )
        ),
        ("GET", T, None, ok([toxic("latency", "taken", "upstream")])),
    ],
    "toxics that are taken": [
        made(),
        ("POST", T, {"type": "latency", "name": "n1", "attributes": None}, ok(toxic("latency", "n1"))),
        (
            "POST",
            T,
            {"type": "latency", "name": "n2", "attributes": {"latency": None}},
            ok(toxic("latency", "n2")),
        ),
        (
            "POST",
            T,
            {"type": "latency", "name": "n3", "attributes": {"LATENCY": 9, "bogus": 1}},
            ok(toxic("latency", "n3", latency=9)),
        ),
        (
            "POST",
            T,
            {"type": "latency", "name": "n4", "attributes": {"latency": -5}},
            ok(toxic("latency", "n4", latency=-5)),
        ),
        (
            "POST",
            T,
            {"type": "latency", "name": "n5", "attributes": {"latency": 2**63 - 1}},
            ok(toxic("latency", "n5", latency=2**63 - 1)),
        ),
        ("POST", T, {"type": "noop", "name": "n6", "attributes": {"latency": 1}}, ok(toxic("noop", "n6"))),
        (
            "POST",
            T,
            {"TYPE": "noop", "Name": "n7", "STREAM": "upstream"},
            ok(toxic("noop", "n7", "upstream")),
        ),
        (
            "POST",
            T,
            {"type": "noop", "name": "n8", "stream": "UpStream"},
            ok(toxic("noop", "n8", "UpStream")),
        ),
        (
            "POST",
            T,
            {"type": "noop", "stream": "DOWNSTREAM"},
            ok(toxic("noop", "noop_DOWNSTREAM", "DOWNSTREAM")),
        ),
        ("POST", T, {"type": "noop", "name": "", "stream": None, "toxicity": None}, ok(toxic("noop"))),
    ],
    "changing a toxic": [
        made(),
        added("latency", "l", "upstream"),
        (
            "POST",
            f"{T}/l",
            {"attributes": {"latency": 11}},
            ok(toxic("latency", "l", "upstream", latency=11)),
        ),
        (
            "PATCH",
            f"{T}/l",
            {"attributes": {"Jitter": 2}},
            ok(toxic("latency", "l", "upstream", latency=11, jitter=2)),
        ),
        (
            "PATCH",
            f"{T}/l",
            {"toxicity": 0.25},
            ok(toxic("latency", "l", "upstream", 0.25, latency=11, jitter=2)),
        ),
        (
            "PATCH",
            f"{T}/l",
            {"type": "timeout", "name": "q", "stream": "downstream"},
            ok(toxic("latency", "l", "upstream", 0.25, latency=11, jitter=2)),
        ),
        ("PATCH", f"{T}/l", "null", ok(toxic("latency", "l", "upstream", 0.25, latency=11, jitter=2))),
        (
            "PATCH",
            f"{T}/l",
            {"attributes": None},
            ok(toxic("latency", "l", "upstream", 0.25, latency=11, jitter=2)),
        ),
        ("PATCH", f"{T}/q", {}, NO_TOXIC),
        ("POST", f"{T}/q", {}, NO_TOXIC),
        ("DELETE", f"{T}/q", None, NO_TOXIC),
        ("GET", f"{T}/q", None, NO_TOXIC),
        ("DELETE", f"{T}/l", None, NONE),
        ("DELETE", f"{T}/l", None, NO_TOXIC),
    ],
    "changing a toxic, in vain": [
        made(),
        added("latency", "l", latency=1, jitter=2),
        ("PATCH", f"{T}/l", "", refused(400, "bad request body: EOF")),
        ("PATCH", f"{T}/l", "{", refused(400, "bad request body: unexpected EOF")),
        *(
            ("PATCH", f"{T}/l", body, BAD)
            for body in (
                "[]",
                '{"toxicity":"x"}',
                '{"toxicity":1e40}',
                '{"attributes":[]}',
                '{"attributes":{"latency":1.5}}',
                '{"toxicity":0.5,"attributes":{"latency":"x"}}',
            )
        ),
        ("GET", f"{T}/l", None, ok(toxic("latency", "l", latency=1, jitter=2))),
        # What could be decoded has been, whether it stands before or after what could not.
        ("PATCH", f"{T}/l", '{"attributes":{"jitter":"x","latency":77}}', BAD),
        ("GET", f"{T}/l", None, ok(toxic("latency", "l", latency=77, jitter=2))),
        ("PATCH", f"{T}/l", '{"attributes":{"jitter":88,"latency":"x"},"toxicity":0.5}', BAD),
        ("GET", f"{T}/l", None, ok(toxic("latency", "l", latency=77, jitter=88))),
    ],
    "populate": [
        ("POST", "/populate", [], ok({"proxies": None}, 201)),
        ("POST", "/populate", "null", ok({"proxies": None}, 201)),
        (
            "POST",
            "/populate",
            [
                {"name": "a", "listen": "127.0.0.1:FREE1", "upstream": UP},
                {"name": "b", "listen": "127.0.0.1:FREE2", "upstream": UP, "enabled": False},
            ],
            ok({"proxies": [proxy("a"), proxy("b", "127.0.0.1:FREE2", enabled=False)]}, 201),
        ),
        added("latency"),
        # The same addresses: left as it is, with its toxics, whatever is said of `enabled`.
        (
            "POST",
            "/populate",
            [
                {"name": "a", "listen": "localhost:FREE1", "upstream": UP, "enabled": False},
                {"name": "b", "listen": "127.0.0.1:FREE2", "upstream": UP},
            ],
            ok(
                {
                    "proxies": [
                        proxy("a", toxics=[toxic("latency")]),
                        proxy("b", "127.0.0.1:FREE2", enabled=False),
                    ]
                },
                201,
            ),
        ),
        # Another address: replaced, and its toxics are gone.
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "127.0.0.1:FREE3", "upstream": UP}],
            ok({"proxies": [proxy("a", "127.0.0.1:FREE3")]}, 201),
        ),
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "127.0.0.1:FREE3", "upstream": "x:1"}],
            ok({"proxies": [proxy("a", "127.0.0.1:FREE3", "x:1")]}, 201),
        ),
        (
            "GET",
            "/proxies",
            None,
            ok(
                {"a": proxy("a", "127.0.0.1:FREE3", "x:1"), "b": proxy("b", "127.0.0.1:FREE2", enabled=False)}
            ),
        ),
        (
            "POST",
            "/populate",
            [{"name": "c", "listen": "127.0.0.1:FREE1", "upstream": UP, "toxics": [{"type": "noop"}]}],
            ok({"proxies": [proxy("c")]}, 201),
        ),
    ],
    "populate: one name twice": [
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "127.0.0.1:FREE1", "upstream": UP}] * 2,
            ok({"proxies": [proxy("a")] * 2}, 201),
        ),
        ("GET", "/proxies", None, ok({"a": proxy("a")})),
    ],
    "populate: a wildcard is always another address": [
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": ":FREE1", "upstream": UP}],
            ok({"proxies": [proxy("a", "[::]:FREE1")]}, 201),
        ),
        added("noop"),
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "[::]:FREE1", "upstream": UP}],
            ok({"proxies": [proxy("a", "[::]:FREE1", toxics=[toxic("noop")])]}, 201),
        ),
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": ":FREE1", "upstream": UP}],
            ok({"proxies": [proxy("a", "[::]:FREE1")]}, 201),
        ),
    ],
    "populate, in vain": [
        *(
            ("POST", "/populate", body, ok({"error": error, "status": 400, "proxies": None}, 400))
            for body, error in [
                ("", "bad request body: EOF"),
                ("{", "bad request body: unexpected EOF"),
                ("{}", Starts(BAD_BODY)),
                ("[1]", Starts(BAD_BODY)),
                ('["x"]', Starts(BAD_BODY)),
                ('[{"name":"a","upstream":3}]', Starts(BAD_BODY)),
                (f'[{{"name":"a","upstream":"{UP}","enabled":"x"}}]', Starts(BAD_BODY)),
                ("[null]", "missing required field: name at proxy 1"),
                (f'[{{"name":"a","upstream":"{UP}"}},{{}}]', "missing required field: name at proxy 2"),
                ('[{"name":"a"}]', "missing required field: upstream at proxy 1"),
            ]
        ),
        ("GET", "/proxies", None, ok({})),
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "bogus", "upstream": UP}],
            ok(
                {
                    "error": "listen tcp: address bogus: missing port in address",
                    "status": 500,
                    "proxies": None,
                },
                500,
            ),
        ),
        # Done in order until one fails; what was done stays.
        (
            "POST",
            "/populate",
            [
                {"name": "a", "listen": "127.0.0.1:FREE1", "upstream": UP},
                {"name": "b", "listen": "127.0.0.1:FREE1", "upstream": UP},
                {"name": "c", "listen": "127.0.0.1:FREE2", "upstream": UP},
            ],
            ok(
                {
                    "error": "listen tcp 127.0.0.1:FREE1: bind: address already in use",
                    "status": 500,
                    "proxies": [proxy("a")],
                },
                500,
            ),
        ),
        ("GET", "/proxies", None, ok({"a": proxy("a")})),
        (
            "POST",
            "/populate",
            [{"name": "a", "listen": "bogus", "upstream": UP}],
            ok({"error": "address bogus: missing port in address", "status": 500, "proxies": None}, 500),
        ),
        ("GET", A, None, ok(proxy("a"))),
    ],
    "reset": [
        made(),
        made("b", "127.0.0.1:FREE2"),
        added("latency", latency=5),
        added("timeout", stream="upstream"),
        added("noop", proxy="b"),
        (
            "PATCH",
            A,
            {"enabled": False},
            ok(
                proxy(
                    "a",
                    enabled=False,
                    toxics=[toxic("timeout", stream="upstream"), toxic("latency", latency=5)],
                )
            ),
        ),
        ("POST", "/reset", "garbage", NONE),
        ("GET", "/proxies", None, ok({"a": proxy("a"), "b": proxy("b", "127.0.0.1:FREE2")})),
        ("POST", "/reset?x=1", None, NONE),
    ],
    "reset, with an address that is taken": [
        (
            "POST",
            "/proxies",
            {"name": "a", "listen": "127.0.0.1:TAKEN", "upstream": UP, "enabled": False},
            ok(proxy("a", "127.0.0.1:TAKEN", enabled=False), 201),
        ),
        ("POST", "/reset", None, refused(500, "listen tcp 127.0.0.1:TAKEN: bind: address already in use")),
        ("GET", A, None, ok(proxy("a", "127.0.0.1:TAKEN", enabled=False))),
    ],
    "names are percent-decoded": [
        *(
            step
            for name, path in {
                "a b": "a%20b",
                "é✓": "%C3%A9%E2%9C%93",
                "p%q": "p%25q",
                '<&>"\\': "%3C%26%3E%22%5C",
                "a+b;c?d": "a+b;c%3Fd",
                " ": "%20",
                "toxics": "toxics",
                "tab\tnl\n\u2028": "tab%09nl%0A%E2%80%A8",
            }.items()
            for step in [
                made(name),
                ("GET", f"/proxies/{path}", None, ok(proxy(name))),
                ("POST", f"/proxies/{path}/toxics", {"type": "noop", "name": name}, ok(toxic("noop", name))),
                ("GET", f"/proxies/{path}/toxics/{path}", None, ok(toxic("noop", name))),
                ("DELETE", f"/proxies/{path}/toxics/{path}", None, NONE),
                ("GET", f"/proxies/{path}/toxics", None, ok([])),
                ("DELETE", f"/proxies/{path}", None, NONE),
            ]
        ),
        (
            "POST",
            "/proxies",
            f'{{"name":"x\\ud800","listen":"127.0.0.1:FREE1","upstream":"{UP}"}}',
            ok(proxy("x\ufffd"), 201),
        ),
        ("GET", "/proxies/x%EF%BF%BD", None, ok(proxy("x\ufffd"))),
    ],
}


# ---------------------------------------------------------------- running the table


@pytest.fixture
def ports() -> Iterator[Callable[[Any], Any]]:
    """Puts ports in the place of their names, in anything that consists of text."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        numbers = {f"FREE{n}": str(free_port()) for n in (1, 2, 3)}
        numbers["TAKEN"] = str(taken.getsockname()[1])

        def fill(value: Any) -> Any:
            match value:
                case str():
                    for name, number in numbers.items():
                        value = value.replace(name, number)
                    return value
                case dict():
                    return {fill(key): fill(each) for key, each in value.items()}
                case list():
                    return [fill(each) for each in value]
                case Starts():
                    return Starts(fill(value.prefix))
            return value

        yield fill


def check(answer: Answer, expected: Expected, body: Any) -> None:
    """Hold an answer to what was expected of it."""
    assert answer.status == expected.status
    assert (answer.body if isinstance(body, bytes) else answer.json()) == body
    assert answer.headers.get("content-type") == expected.content_type
    assert answer.headers.get("x-content-type-options") == ("nosniff" if expected.no_sniff else None)
    assert ("x-toxiproxy-request-id" in answer.headers) is expected.request_id


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario: str, wire: Wire, ports: Callable[[Any], Any]) -> None:
    """One row after another, on one connection, against a server without proxies."""
    for number, (method, path, body, expected) in enumerate(SCENARIOS[scenario], 1):
        answer = wire.ask(method, ports(path), ports(body))
        __tracebackhide__ = True
        try:
            check(answer, expected, ports(expected.body))
        except (AssertionError, ValueError) as error:
            pytest.fail(f"row {number}, {method} {path} {body!r}: {error}\nanswer: {answer}")


def test_the_table_is_as_long_as_it_claims() -> None:
    """Rows are generated; a mistake there must not leave the table empty."""
    assert sum(map(len, SCENARIOS.values())) > 330


# ---------------------------------------------------------------- what does not fit a table


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("//version", "/version"),
        ("/./version", "/version"),
        ("/x/../version", "/version"),
        ("/proxies//toxics", "/proxies/toxics"),
        ("/proxies/..", "/"),
        ("/proxies/%2e%2e", "/"),
        ("/proxies/./a?x=1", "/proxies/a?x=1"),
        ("/proxies//", "/proxies/"),
        ("//a%20b", "/a%20b"),
    ],
)
def test_unclean_paths_are_redirected(wire: Wire, path: str, location: str) -> None:
    answer = wire.ask("GET", path)
    assert (answer.status, answer.headers["location"], answer.body) == (301, location, b"")


def test_a_bad_escape_is_a_bad_request(wire: Wire) -> None:
    answer = wire.ask("GET", "/proxies/p%q")
    assert (answer.status, answer.body, answer.headers["connection"]) == (400, b"400 Bad Request", "close")
    assert answer.headers["content-type"] == PLAIN


@pytest.mark.parametrize(
    ("agent", "path", "status"),
    [
        ("Mozilla/5.0 (X11)", "/version", 403),
        ("Mozilla/5.0 (X11)", "/proxies/zz", 403),
        ("mozilla/5.0", "/version", 200),
        ("curl Mozilla/5.0", "/version", 200),
        ("Mozilla/5.0", "/nope", 404),
    ],
)
def test_browsers_are_turned_away_where_there_is_something(
    wire: Wire, agent: str, path: str, status: int
) -> None:
    answer = wire.ask("GET", path, User_Agent=agent)
    assert answer.status == status
    if status == 403:
        assert answer.body == b"User agent not allowed\n"


def test_a_browser_gets_405_before_403(wire: Wire) -> None:
    assert wire.ask("PUT", "/proxies", User_Agent="Mozilla/5.0").status == 405


def test_the_order_of_fields_is_the_wires(wire: Wire, ports: Callable[[Any], Any]) -> None:
    """Clients need not care, but a diff of two servers' answers does."""
    asked = {"upstream": UP, "name": "a", "listen": ports("127.0.0.1:FREE1")}
    assert wire.ask("POST", "/proxies", asked).status == 201
    wire.ask("POST", T, {"type": "latency", "attributes": {"jitter": 1, "latency": 2}})
    assert wire.ask("GET", A).body.decode() == ports(
        '{"name":"a","listen":"127.0.0.1:FREE1","upstream":"127.0.0.1:9","enabled":true,"Logger":{},"toxics":['
        '{"attributes":{"latency":2,"jitter":1},"name":"latency_downstream","type":"latency","stream":"downstream",'
        '"toxicity":1}]}'
    )


def test_proxies_are_listed_in_the_order_of_their_names(wire: Wire) -> None:
    for name in ("b", "é", "a", "B"):
        wire.ask("POST", "/proxies", {"name": name, "upstream": UP, "enabled": False})
    assert list(wire.ask("GET", "/proxies").json()) == ["B", "a", "b", "é"]


def test_text_is_raw_utf8_but_for_what_html_could_take_amiss(wire: Wire) -> None:
    asked = {"name": 'é<&>\u2028"\\\t', "upstream": UP, "enabled": False}
    body = wire.ask("POST", "/proxies", asked).body.decode()
    assert body.startswith('{"name":"é\\u003c\\u0026\\u003e\\u2028\\"\\\\\\t","listen":"",')


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("0", "0"),
        ("0.5", "0.5"),
        ("1.0", "1"),
        ("0.1", "0.1"),
        ("0.3333333333", "0.33333334"),
        ("-1", "-1"),
        ("-0.25", "-0.25"),
        ("2", "2"),
        ("1e-7", "1e-7"),
        ("1.5e-10", "1.5e-10"),
        ("0.00001", "0.00001"),
        ("0.000001", "0.000001"),
        ("1e20", "100000000000000000000"),
        ("340282350000000000000", "340282350000000000000"),
        ("1e21", "1e+21"),
        ("3.4028234e38", "3.4028235e+38"),
        ("123456789", "123456790"),
        ("16777217", "16777216"),
        ("0.30000001", "0.3"),
    ],
)
def test_a_toxicity_is_the_shortest_text_of_32_bits(wire: Wire, given: str, shown: str) -> None:
    wire.ask("POST", "/proxies", {"name": "a", "upstream": UP, "enabled": False})
    answer = wire.ask("POST", T, f'{{"type":"noop","toxicity":{given}}}')
    assert answer.body.decode().endswith(f'"toxicity":{shown}}}'), answer


@pytest.mark.parametrize("name", ["x/y", "..", "."])
def test_names_that_no_path_can_name_are_taken_all_the_same(command: list[str | Path], name: str) -> None:
    """A server of its own, as nothing can remove such a proxy again."""
    with running(command) as server:
        wire = Wire(server)
        asked = {"name": name, "upstream": UP, "enabled": False}
        assert wire.ask("POST", "/proxies", asked).status == 201
        assert list(wire.ask("GET", "/proxies").json()) == [name]
        wire.close()


def test_requests_may_be_sent_ahead_of_answers(server: Server) -> None:
    request = b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(request * 20 + request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answers = b""
        while part := connection.recv(1 << 16):
            answers += part
    assert answers.count(b"HTTP/1.1 200 OK") == 21
    assert answers.count(b'{"version": "2.12.0"}') == 21


def test_a_chunked_body_is_read(server: Server) -> None:
    body = json.dumps({"name": "a", "upstream": UP, "enabled": False}).encode()
    head = b"POST /proxies HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:7], body[7:]))
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(head + chunks + b"0\r\n\r\n")
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 201 Created")
    assert list(server.proxies()) == ["a"]


def test_an_old_client_is_answered_and_hung_up_on(server: Server) -> None:
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(b"GET /version HTTP/1.0\r\n\r\n")
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.endswith(b'{"version": "2.12.0"}\n')


@pytest.mark.parametrize(
    "garbage", [b"\x16\x03\x01\x02\r\n\r\n", b"GET /version\r\n\r\n", b"GET /version HTTP/1.1\r\n\r\n"]
)
def test_what_is_not_http_is_a_bad_request(server: Server, garbage: bytes) -> None:
    with socket.create_connection((server.host, server.port), 10) as connection:
        connection.sendall(garbage)
        answer = b""
        while part := connection.recv(1 << 16):
            answer += part
    assert answer.startswith(b"HTTP/1.1 400 Bad Request")
    assert server.await_ready() == "2.12.0"
