"""The client of a Toxiproxy server, against both servers and one that answers whatever a test wants."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from harness.proxy import ATTRIBUTES, ProxyError, Server, Toxic, toxic, validate
from tests.integration.proxy.support import embedded_command, free_port, running, stopwatch

UP = "127.0.0.1:9"


def make(server: Server, *names: str) -> dict[str, str]:
    """Proxies of these names, on free ports."""
    return server.populate([(name, "127.0.0.1:0", UP) for name in names])


# ---------------------------------------------------------------- against both servers


def test_populate_returns_addresses_as_bound(server: Server) -> None:
    bound = make(server, "a", "b")
    assert list(bound) == ["a", "b"]
    assert all(re.fullmatch(r"127\.0\.0\.1:[1-9]\d*", address) for address in bound.values())
    assert {name: proxy.listen for name, proxy in server.proxies().items()} == bound
    assert server.populate([("a", bound["a"], UP)]) == {"a": bound["a"]}
    assert server.populate([]) == {}


def test_a_toxic_is_added_updated_and_removed(server: Server) -> None:
    make(server, "a")
    slow = toxic("latency", stream="upstream", latency=50, jitter=5, toxicity=0.3)
    assert server.add("a", slow).attributes == {"latency": 50, "jitter": 5}
    assert [each.name for each in server.proxies()["a"].toxics] == ["latency_upstream"]
    server.update("a", toxic("latency", stream="upstream", latency=7))
    (found,) = server.proxies()["a"].toxics
    assert (found.attributes, found.toxicity) == ({"latency": 7, "jitter": 0}, 1.0)
    server.remove("a", "latency_upstream")
    assert server.proxies()["a"].toxics == ()


@pytest.mark.parametrize("kind", ATTRIBUTES)
def test_each_type_is_read_back(server: Server, kind: str) -> None:
    make(server, "a")
    attributes = dict.fromkeys(ATTRIBUTES[kind], 10)
    wanted = Toxic(kind, "upstream", attributes, f"é <{kind}>", 0.1)
    assert dict(server.add("a", wanted).attributes) == attributes


def test_many_toxics_are_added_and_removed(server: Server) -> None:
    names = [f"p{number}" for number in range(40)]
    make(server, *names)
    pairs = [
        (name, toxic("latency", stream=stream, latency=number))
        for number, name in enumerate(names)
        for stream in ("upstream", "downstream")
    ]
    server.add_many(pairs)
    there = {(name, each) for name, proxy in server.proxies().items() for each in proxy.toxics}
    assert there == set(pairs)
    gone = [(name, each.name) for name, each in pairs]
    server.remove("p0", "latency_upstream")
    server.remove_many(gone)  # one of them is gone already
    assert all(not proxy.toxics for proxy in server.proxies().values())
    server.add_many([])
    server.remove_many([])


def test_a_proxy_is_disabled_enabled_and_deleted(server: Server) -> None:
    address = make(server, "a")["a"]
    server.enable("a", False)
    assert not server.proxies()["a"].enabled
    server.enable("a", True)
    assert server.proxies()["a"].listen == address
    server.delete("a")
    assert server.proxies() == {}


def test_reset_enables_and_clears(server: Server) -> None:
    make(server, "a", "b")
    server.add("a", toxic("noop"))
    server.enable("b", False)
    server.reset()
    assert all(proxy.enabled and not proxy.toxics for proxy in server.proxies().values())


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda server: server.add("zz", toxic("noop")), 404),
        (lambda server: server.update("a", toxic("latency")), 404),
        (lambda server: server.remove("a", "zz"), 404),
        (lambda server: server.remove("zz", "zz"), 404),
        (lambda server: server.enable("zz", True), 404),
        (lambda server: server.delete("zz"), 404),
        (lambda server: server.add("a", toxic("noop")), 409),
        (lambda server: server.add_many([("a", toxic("latency")), ("a", toxic("noop"))]), 409),
        (lambda server: server.add_many([("zz", toxic("latency"))]), 404),
        (lambda server: server.remove_many([("zz", "noop_downstream")]), 404),
        (lambda server: server.populate([("b", "127.0.0.1:99999", UP)]), 500),
    ],
)
def test_a_refusal_is_an_error_that_says_all(
    server: Server, ask: Callable[[Server], object], status: int
) -> None:
    make(server, "a")
    server.add("a", toxic("noop"))
    with pytest.raises(ProxyError, match=rf"http://127\.0\.0\.1:{server.port}/.*answered {status}") as error:
        ask(server)
    assert error.value.status == status


def test_populate_does_not_pass_off_a_disabled_proxy(server: Server) -> None:
    bound = make(server, "a")
    server.enable("a", False)
    with pytest.raises(ProxyError, match="expected an enabled proxy"):
        server.populate([("a", bound["a"], UP)])


def test_an_update_cannot_change_the_stream_unnoticed(server: Server) -> None:
    make(server, "a")
    server.add("a", toxic("latency", name="slow"))
    with pytest.raises(ProxyError, match="the server reports"):
        server.update("a", toxic("latency", name="slow", stream="upstream"))


def test_servers_and_threads_do_not_meet(command: list[str | Path]) -> None:
    """Two servers in one process, four threads on each: every one sees its own proxies and toxics only."""
    failures: list[BaseException] = []

    def work(server: Server, name: str) -> None:
        try:
            for number in range(15):
                server.add(name, toxic("latency", latency=number))
                (found,) = server.proxies()[name].toxics
                assert found.attributes["latency"] == number
                server.remove_many([(name, found.name)])
        except BaseException as error:
            failures.append(error)

    with running(command) as one, running(embedded_command()) as two:
        names = {one: [f"one{n}" for n in range(4)], two: [f"two{n}" for n in range(4)]}
        for server in names:
            make(server, *names[server])
        work_on = [(server, name) for server in names for name in names[server]]
        threads = [threading.Thread(target=work, args=each) for each in work_on]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert not failures
        assert {server: list(server.proxies()) for server in names} == names


def test_a_proxy_of_the_environment_is_not_used(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    assert server.await_ready() == "2.12.0"


# ---------------------------------------------------------------- against a server that answers as told

Reply = Callable[[str, str, Any], tuple[int, Any]]


@contextmanager
def answering(reply: Reply, *, timeout: float = 5.0) -> Iterator[Server]:
    """A client of an HTTP server that answers `reply(method, path, body)`: a status, JSON or raw bytes."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def _answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, content = reply(self.command, self.path, json.loads(body) if body else None)
            raw = content if isinstance(content, bytes) else json.dumps(content).encode()
            self.send_response(status)
            if status != 204:
                self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            if status != 204:
                self.wfile.write(raw)

        do_GET = do_POST = do_PATCH = do_DELETE = _answer

        def log_message(self, format: str, *arguments: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        listener.daemon_threads = True
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        server = Server("127.0.0.1", listener.server_address[1], timeout=timeout)
        try:
            yield server
        finally:
            server.close()
            listener.shutdown()
            thread.join()


EVERY_CALL: dict[str, Callable[[Server], object]] = {
    "populate": lambda server: make(server, "a"),
    "proxies": lambda server: server.proxies(),
    "add": lambda server: server.add("a", toxic("latency")),
    "update": lambda server: server.update("a", toxic("latency")),
    "remove": lambda server: server.remove("a", "b"),
    "add_many": lambda server: server.add_many([("a", toxic("latency"))]),
    "remove_many": lambda server: server.remove_many([("a", "b")]),
    "enable": lambda server: server.enable("a", True),
    "delete": lambda server: server.delete("a"),
    "reset": lambda server: server.reset(),
}
every_call = pytest.mark.parametrize("call", EVERY_CALL)


@every_call
@pytest.mark.parametrize("status", [500, 503, 302, 418])
def test_no_status_passes_unseen(call: str, status: int) -> None:
    with (
        answering(lambda *_: (status, b"the server's words")) as server,
        pytest.raises(ProxyError, match=rf"answered {status} \"the server's words\"") as error,
    ):
        EVERY_CALL[call](server)
    assert error.value.status == status


@every_call
@pytest.mark.parametrize("answer", [b"not json", b"", b"[]", b"null", b'"x"', b'{"a": {}}'])
def test_an_answer_that_cannot_be_read_is_the_servers_mistake(call: str, answer: bytes) -> None:
    """Every status is the one asked for, so that only the content is wrong."""

    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE" or path == "/reset":
            return 204, b""
        return (201 if path == "/populate" else 200), answer

    with answering(reply) as server, pytest.raises(ProxyError, match=r"expected|cannot be read"):
        EVERY_CALL[call](server)


@every_call
def test_a_server_that_does_not_answer_is_not_waited_for(call: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        server = Server("127.0.0.1", deaf.getsockname()[1], timeout=0.2)
        with stopwatch() as taken, pytest.raises(ProxyError, match=r"no answer within 0\.2 s"):
            EVERY_CALL[call](server)
        server.close()
    assert 0.15 <= taken[0] < 3


@every_call
def test_a_server_that_is_not_there_is_said_to_be_not_there(call: str) -> None:
    server = Server("127.0.0.1", free_port())
    with pytest.raises(ProxyError, match="Look whether the server is still running"):
        EVERY_CALL[call](server)
    server.close()


SHOWN: dict[str, Any] = {
    "name": "latency_downstream",
    "type": "latency",
    "stream": "downstream",
    "toxicity": 1,
    "attributes": {"latency": 5, "jitter": 0},
}
OTHER_TOXICS: dict[str, dict[str, Any]] = {
    "another name": {"name": "x"},
    "another type": {"type": "bandwidth"},
    "another stream": {"stream": "upstream"},
    "another toxicity": {"toxicity": 0.5},
    "another attribute": {"attributes": {"latency": 6, "jitter": 0}},
    "an attribute less": {"attributes": {"latency": 5}},
    "an attribute more": {"attributes": {"latency": 5, "jitter": 0, "more": 1}},
}


def shown(*toxics: dict[str, Any], enabled: bool = True) -> dict[str, Any]:
    return {
        "name": "a",
        "listen": "127.0.0.1:1",
        "upstream": UP,
        "enabled": enabled,
        "Logger": {},
        "toxics": list(toxics),
    }


@pytest.mark.parametrize("change", OTHER_TOXICS)
def test_another_toxic_than_the_one_asked_for_is_an_error(change: str) -> None:
    """The answer to the request itself is right, and only what is read back is not."""
    lie = SHOWN | OTHER_TOXICS[change]

    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        if path == "/proxies":
            return 200, {"a": shown(lie)}
        return 200, SHOWN if method != "GET" else lie

    wanted = toxic("latency", latency=5)
    with answering(reply) as server:
        for call in (
            lambda: server.add("a", wanted),
            lambda: server.update("a", wanted),
            lambda: server.add_many([("a", wanted)]),
        ):
            with pytest.raises(ProxyError, match=r"expected Toxic\(.*the server reports"):
                call()


def test_what_is_still_there_after_a_removal_is_an_error() -> None:
    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        if method == "DELETE" or path == "/reset":
            return 204, b""
        return 200, {"a": shown(SHOWN, enabled=False)} if path == "/proxies" else shown(SHOWN, enabled=False)

    with answering(reply) as server:
        calls: list[Callable[[], object]] = [
            lambda: server.remove("a", "latency_downstream"),
            lambda: server.remove_many([("a", "latency_downstream")]),
            lambda: server.delete("a"),
            server.reset,
            lambda: server.enable("a", True),
        ]
        for call in calls:
            with pytest.raises(ProxyError, match=r"expected .*, the server reports"):
                call()


def test_a_toxic_that_is_missing_among_many_is_an_error() -> None:
    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        return 200, {"a": shown(SHOWN)} if path == "/proxies" else SHOWN

    with answering(reply) as server:
        server.add_many([("a", toxic("latency", latency=5))])
        with pytest.raises(ProxyError, match=r"expected .*bandwidth.*, the server reports None"):
            server.add_many([("a", toxic("latency", latency=5)), ("a", toxic("bandwidth"))])


def test_one_connection_serves_many_requests() -> None:
    threads: set[int] = set()

    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        threads.add(threading.get_ident())  # the listener has one for each connection
        return 200, {}

    with answering(reply) as server:
        for _ in range(10):
            server.proxies()
    assert len(threads) == 1


# ---------------------------------------------------------------- waiting for a server


def test_a_server_that_starts_late_is_waited_for() -> None:
    seen: list[str] = []

    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        seen.append(path)
        return (200, {"version": "2.12.0"}) if len(seen) > 3 else (503, b"starting")

    with answering(reply) as server:
        assert server.await_ready() == "2.12.0"
    assert seen == ["/version"] * 4


def test_what_was_seen_last_is_said() -> None:
    with (
        answering(lambda *_: (200, {"name": "something else"})) as server,
        pytest.raises(
            ProxyError, match=r"within 0\.1 s: not ready, last seen: .*something else.*has no version"
        ),
    ):
        server.await_ready(0.1)


def test_nothing_there_is_said() -> None:
    server = Server("127.0.0.1", free_port())
    with pytest.raises(ProxyError, match=r"not ready, last seen: GET .*/version: no answer"):
        server.await_ready(0.1)
    server.close()


# ---------------------------------------------------------------- what never reaches a server


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (
            {"type": "slow"},
            "there are noop, latency, bandwidth, slow_close, timeout, reset_peer, slicer, limit_data",
        ),
        ({"type": "latency", "stream": "both"}, "there are upstream, downstream"),
        ({"type": "latency", "attributes": {"delay": 1}}, "it has latency, jitter"),
        ({"type": "noop", "attributes": {"delay": 1}}, "it has none"),
        ({"type": "latency", "attributes": {"latency": 1.0}}, r"is 1\.0; the wire takes whole numbers"),
        ({"type": "latency", "attributes": {"latency": True}}, "is True; the wire takes whole numbers"),
        ({"type": "latency", "attributes": {"latency": "1"}}, "is '1'; the wire takes whole numbers"),
        ({"type": "latency", "attributes": {"latency": -1}}, "is -1; it can be 0 to"),
        ({"type": "latency", "attributes": {"latency": 2**63}}, "it can be 0 to"),
        ({"type": "latency", "attributes": {"jitter": 2**62}}, "it can be 0 to"),
        ({"type": "bandwidth", "attributes": {"rate": -1}}, "is -1; it can be 0 to"),
        ({"type": "slicer"}, "average_size must be at least 1"),
        (
            {"type": "slicer", "attributes": {"average_size": 10, "size_variation": 11}},
            "size_variation at most average_size",
        ),
        ({"type": "noop", "toxicity": 0}, "remove it instead"),
        ({"type": "noop", "toxicity": -0.1}, "above 0 up to 1"),
        ({"type": "noop", "toxicity": 1.1}, "above 0 up to 1"),
        ({"type": "noop", "toxicity": float("nan")}, "above 0 up to 1"),
        ({"type": "noop", "toxicity": True}, "above 0 up to 1"),
        ({"type": "noop", "name": "a/b"}, "no path can name 'a/b'"),
        ({"type": "noop", "name": ".."}, "no path can name"),
    ],
)
def test_what_is_invalid_is_refused_before_it_is_sent(given: dict[str, Any], complaint: str) -> None:
    kind = given["type"]
    bad = Toxic(
        kind,
        given.get("stream", "downstream"),
        given.get("attributes", {}),
        given.get("name", "n"),
        given.get("toxicity", 1.0),
    )
    asked: list[str] = []

    def reply(method: str, path: str, body: Any) -> tuple[int, Any]:
        asked.append(path)
        return 200, {}

    with answering(reply) as server:
        for call in (
            lambda: validate(bad),
            lambda: toxic(
                bad.type, stream=bad.stream, name=bad.name, toxicity=bad.toxicity, **bad.attributes
            ),
            lambda: server.add("a", bad),
            lambda: server.update("a", bad),
            lambda: server.add_many([("a", toxic("noop")), ("a", bad)]),
        ):
            with pytest.raises(ValueError, match=complaint):
                call()
    assert asked == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b"])
def test_names_that_no_path_can_name_are_refused(name: str) -> None:
    server = Server("127.0.0.1", 1)
    for call in (
        lambda: make(server, name),
        lambda: server.add(name, toxic("noop")),
        lambda: server.remove("a", name),
        lambda: server.enable(name, True),
        lambda: server.delete(name),
    ):
        with pytest.raises(ValueError, match="no path can name"):
            call()


def test_one_name_for_two_proxies_is_refused() -> None:
    with pytest.raises(ValueError, match="proxy names must differ, got a, a"):
        make(Server("127.0.0.1", 1), "a", "a")


def test_a_toxic_is_a_value_with_the_wires_defaults() -> None:
    made = toxic("latency", latency=5)
    assert made == Toxic("latency", "downstream", {"latency": 5, "jitter": 0}, "latency_downstream", 1.0)
    assert hash(made) == hash(toxic("latency", latency=5))
    with pytest.raises(AttributeError):
        made.name = "x"  # type: ignore[misc]
