"""The client of a Toxiproxy server, real or embedded, and the only module that touches `toxiproxy-python`.

The library keeps one host for the whole process, sets no time-outs and lets an HTTP 500 pass. Here each
`Server` has an address, a session and a time-out of its own; whatever is not the status asked for is a
`ProxyError`; and what was asked for is read back. Of the library this uses its check of statuses with its
exceptions, and its values; its verbs are left alone, as they reach for that one host. What it lacks (updates,
an atomic populate, many toxics at once) is written out here.
"""

from __future__ import annotations

import io
import json
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from http.client import HTTPException, HTTPResponse
from typing import Any, NamedTuple, cast

import requests
from toxiproxy.api import validate_response
from toxiproxy.exceptions import InvalidToxic, NotFound, ProxyExists
from toxiproxy.proxy import Proxy as LibraryProxy
from toxiproxy.toxic import Toxic as LibraryToxic

from harness.proxy.toxics import Stream, Toxic, complete, same, segment, toxic, validate

__all__ = ["Framed", "Proxy", "ProxyError", "Server", "Toxic", "toxic"]

_WINDOW = 64  # requests sent ahead of their answers: few enough that neither side's buffers fill


class ProxyError(RuntimeError):
    """A server did not do what it was asked; says what was asked, what it answered, what to do."""

    def __init__(self, asked: str, answered: str, advice: str, *, status: int | None = None) -> None:
        super().__init__(f"{asked}: {answered}. {advice}")
        self.status = status  # of the HTTP answer, if there was one


# ---------------------------------------------------------------- values


@dataclass(frozen=True)
class Proxy:
    """One proxy as the server reports it; `listen` is the address as bound, once it has been enabled."""

    name: str
    listen: str
    upstream: str
    enabled: bool
    toxics: tuple[Toxic, ...] = ()


@dataclass(frozen=True)
class Framed:
    """A stream whose messages the embedded server tells apart, and what became of them.

    `toxics` are the toxics on it that act on messages, each with the counts that
    `harness.proxy.embedded.COUNTS` names. Connections pass untouched that were open before the framing was
    told (`untracked`), and those that did not keep to it (`unparsable`; `error` says how the first did not).
    """

    proxy: str
    stream: Stream
    framing: Mapping[str, Any]
    untracked: int
    unparsable: int
    error: str
    toxics: Mapping[str, Mapping[str, int]]


def _read_framed(row: Mapping[str, Any]) -> Framed:
    others = [field.name for field in fields(Framed) if field.name != "framing"]
    framing = {name: value for name, value in row.items() if name not in others}
    return Framed(framing=framing, **{name: row[name] for name in others})


def _read_toxic(row: Mapping[str, Any]) -> Toxic:
    read = LibraryToxic(**row)
    return Toxic(read.type, read.stream, dict(read.attributes), read.name, float(read.toxicity))


def _read_proxy(row: Mapping[str, Any]) -> Proxy:
    read = LibraryProxy(**row)
    toxics = tuple(_read_toxic(each) for each in row.get("toxics") or ())
    return Proxy(read.name, read.listen, read.upstream, read.enabled, toxics)


def _body(toxic: Toxic) -> dict[str, Any]:
    return {
        "name": toxic.name,
        "type": toxic.type,
        "stream": toxic.stream,
        "toxicity": toxic.toxicity,
        "attributes": complete(toxic),
    }


# ---------------------------------------------------------------- the client


class _Request(NamedTuple):
    method: str
    path: str
    body: object = None
    expect: tuple[int, ...] = (200,)


class Server:
    """A client of one running Toxiproxy server; any number of them live side by side, in any threads.

    `timeout` is in seconds, for each answer. All methods raise ProxyError where the server does not answer in
    time, refuses, or reports another state afterwards than the one asked for.

    >>> server = Server("127.0.0.1", 8474)                                          # doctest: +SKIP
    >>> server.await_ready()                                                        # doctest: +SKIP
    '2.12.0'
    >>> server.populate([("n1-n2", "127.0.0.1:0", "127.0.0.1:6379")])               # doctest: +SKIP
    {'n1-n2': '127.0.0.1:40231'}
    >>> slow = server.add("n1-n2", toxic("latency", stream="upstream", latency=50)) # doctest: +SKIP
    """

    def __init__(self, host: str, port: int, *, timeout: float = 5.0) -> None:
        self.host = host
        self.port = port
        self.timeout = timeout
        self._base = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._session = requests.Session()
        self._session.trust_env = False  # a proxy of the environment is not for the loopback
        self._session.headers["User-Agent"] = "pytest-nemesis"

    def close(self) -> None:
        """Give the connections back; the server goes on as it is."""
        self._session.close()

    def await_ready(self, within: float = 10.0) -> str:
        """Wait until the server answers, for at most `within` seconds, and return its version."""
        deadline = time.monotonic() + within
        while True:
            try:
                answer = self._ask(_Request("GET", "/version"))
                if isinstance(answer, dict) and isinstance(answer.get("version"), str):
                    return cast(str, answer["version"])
                seen = f"GET /version answered {answer!r}, which has no version"
            except ProxyError as error:
                seen = str(error)
            if time.monotonic() >= deadline:
                raise ProxyError(
                    f"Toxiproxy at {self._base} within {within:g} s",
                    f"not ready, last seen: {seen}",
                    "Look at the server's own output, and whether host and port are its API's",
                )
            time.sleep(0.01)  # nothing but asking again can tell when a server starts to listen

    def populate(self, proxies: Iterable[tuple[str, str, str]]) -> dict[str, str]:
        """Create proxies from (name, listen, upstream) in one request; returns each one's address as bound.

        A proxy that is there already with the same addresses is kept with its toxics, another one of its name
        is replaced. Unlike with single requests, an invalid row means that nothing is created.
        """
        rows = [{"name": name, "listen": at, "upstream": to} for name, at, to in proxies]
        names = [row["name"] for row in rows]
        for name in names:
            segment(name)
        if len(set(names)) < len(names):
            raise ValueError(f"proxy names must differ, got {', '.join(sorted(names))}")
        request = _Request("POST", "/populate", rows, (201,))
        answer = self._ask(request)
        with self._reading(request):
            made = {proxy.name: proxy for proxy in map(_read_proxy, answer["proxies"] or ())}
        for row in rows:
            proxy = made.get(row["name"])
            if proxy is None or proxy.upstream != row["upstream"] or not proxy.enabled:
                raise self._mismatch(request, f"an enabled proxy {row}", proxy)
        return {name: made[name].listen for name in names}

    def proxies(self) -> dict[str, Proxy]:
        """All proxies with their toxics, by name."""
        request = _Request("GET", "/proxies")
        answer = self._ask(request)
        with self._reading(request):
            return {name: _read_proxy(row) for name, row in answer.items()}

    def add(self, proxy: str, toxic: Toxic) -> Toxic:
        """Add one toxic, and return it as read back; for several, `add_many` is faster."""
        validate(toxic)
        self._ask(_Request("POST", f"/proxies/{segment(proxy)}/toxics", _body(toxic)))
        return self._read_back(proxy, toxic)

    def update(self, proxy: str, toxic: Toxic) -> Toxic:
        """Give the toxic of that name other attributes or another toxicity; type and stream cannot change."""
        validate(toxic)
        body = {"attributes": complete(toxic), "toxicity": toxic.toxicity}
        self._ask(_Request("PATCH", self._path(proxy, toxic.name), body))
        return self._read_back(proxy, toxic)

    def remove(self, proxy: str, name: str) -> None:
        """Remove one toxic, which must be there; `remove_many` does not insist."""
        self._ask(_Request("DELETE", self._path(proxy, name), None, (204,)))
        self._gone(self._path(proxy, name))

    def add_many(self, pairs: Iterable[tuple[str, Toxic]]) -> None:
        """Add toxics to proxies as fast as the server takes them, and read all of them back at once."""
        wanted = list(pairs)
        for _, each in wanted:
            validate(each)
        requests = [
            _Request("POST", f"/proxies/{segment(proxy)}/toxics", _body(each)) for proxy, each in wanted
        ]
        self._ask_all(requests)
        there = self._toxics()
        for request, (proxy, each) in zip(requests, wanted, strict=True):
            found = there.get((proxy, each.name))
            if found is None or not same(each, found):
                raise self._mismatch(request, f"{each} on proxy {proxy!r}", found)

    def remove_many(self, pairs: Iterable[tuple[str, str]]) -> None:
        """Remove toxics (proxy, name) as fast as the server takes it; one that is gone already is as good."""
        wanted = list(pairs)
        requests = [_Request("DELETE", self._path(proxy, name), None, (204, 404)) for proxy, name in wanted]
        for request, (status, body) in zip(requests, self._ask_all(requests), strict=True):
            if status == 404 and b"toxic not found" not in body:
                raise self._refused(request, status, body)
        there = self._toxics()
        for request, pair in zip(requests, wanted, strict=True):
            if pair in there:
                raise self._mismatch(request, "no such toxic any more", there[pair])

    def enable(self, proxy: str, enabled: bool) -> None:
        """Let a proxy listen, or close its listener and all its connections; its toxics are kept."""
        request = _Request("PATCH", f"/proxies/{segment(proxy)}", {"enabled": enabled})
        self._ask(request)
        answer = self._ask(_Request("GET", request.path))
        with self._reading(request):
            found = _read_proxy(answer)
        if found.enabled is not enabled:
            raise self._mismatch(request, f"enabled {enabled}", found)

    def delete(self, proxy: str) -> None:
        """Remove a proxy, with its connections."""
        path = f"/proxies/{segment(proxy)}"
        self._ask(_Request("DELETE", path, None, (204,)))
        self._gone(path)

    def reset(self) -> None:
        """Enable all proxies and remove all toxics."""
        request = _Request("POST", "/reset", None, (204,))
        self._ask(request)
        for proxy in self.proxies().values():
            if not proxy.enabled or proxy.toxics:
                raise self._mismatch(request, "every proxy enabled and without toxics", proxy)

    # -- messages, which only the embedded server knows of

    def frame(self, rows: Iterable[tuple[str, Stream, Mapping[str, Any]]]) -> bool:
        """Say how the messages of streams (proxy, stream, framing) are told apart on connections yet to come.

        False where the server is a real one, which has no messages; read back like everything.
        """
        wanted = list(rows)
        body = [{"proxy": proxy, "stream": stream, **framing} for proxy, stream, framing in wanted]
        request = _Request("POST", "/framing", body)
        try:
            answer = self._ask(request)
        except ProxyError as error:
            if error.status == 404 and "proxy not found" not in str(error):
                return False
            raise
        with self._reading(request):
            there = {(one.proxy, one.stream): one for one in map(_read_framed, answer)}
        for proxy, stream, framing in wanted:
            found = there.get((proxy, stream))
            if found is None or any(found.framing.get(name) != value for name, value in framing.items()):
                raise self._mismatch(request, f"{dict(framing)} on {stream} of proxy {proxy!r}", found)
        return True

    def framed(self) -> dict[tuple[str, Stream], Framed]:
        """What became of the messages of all streams whose framing was told. ProxyError at a real server."""
        request = _Request("GET", "/framing")
        answer = self._ask(request)
        with self._reading(request):
            return {(one.proxy, one.stream): one for one in map(_read_framed, answer)}

    # -- reading back

    def _path(self, proxy: str, name: str) -> str:
        return f"/proxies/{segment(proxy)}/toxics/{segment(name)}"

    def _toxics(self) -> dict[tuple[str, str], Toxic]:
        return {(name, each.name): each for name, proxy in self.proxies().items() for each in proxy.toxics}

    def _read_back(self, proxy: str, toxic: Toxic) -> Toxic:
        request = _Request("GET", self._path(proxy, toxic.name))
        answer = self._ask(request)
        with self._reading(request):
            found = _read_toxic(answer)
        if not same(toxic, found):
            raise self._mismatch(request, str(toxic), found)
        return found

    def _gone(self, path: str) -> None:
        request = _Request("GET", path, None, (200, 404))
        try:
            found = self._ask(request)
        except ProxyError as error:
            if error.status == 404:
                return
            raise
        raise self._mismatch(request, "nothing, as it was removed", found)

    # -- asking

    def _ask(self, request: _Request) -> Any:
        """One request through the session; the decoded body of the answer, None where it has none."""
        try:
            response = self._session.request(
                request.method, f"{self._base}{request.path}", json=request.body, timeout=self.timeout
            )
        except requests.RequestException as error:
            raise self._silent(request, error) from error
        try:
            validate_response(response)  # the library's: 400, 404 and 409 only
        except (InvalidToxic, NotFound, ProxyExists) as error:
            raise self._refused(request, response.status_code, response.content) from error
        if response.status_code not in request.expect:
            raise self._refused(request, response.status_code, response.content)
        if response.status_code == 204:
            return None
        with self._reading(request):
            return response.json()

    def _ask_all(self, requests: Sequence[_Request]) -> list[tuple[int, bytes]]:
        """Many requests over one connection, none of them waiting for the answer to the one before."""
        answers: list[tuple[int, bytes]] = []
        for start in range(0, len(requests), _WINDOW):
            window = requests[start : start + _WINDOW]
            try:
                answers += self._pipeline(window)
            except (OSError, HTTPException) as error:
                raise self._silent(window[0], error) from error
        for request, (status, body) in zip(requests, answers, strict=True):
            if status not in request.expect:
                raise self._refused(request, status, body)
        return answers

    def _pipeline(self, requests: Sequence[_Request]) -> list[tuple[int, bytes]]:
        with socket.create_connection((self.host, self.port), self.timeout) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.sendall(b"".join(map(self._encode, requests)))
            with connection.makefile("rb", buffering=0) as raw:
                reader = _Shared(raw)
                return [_read_response(reader, request.method) for request in requests]

    def _encode(self, request: _Request) -> bytes:
        body = b"" if request.body is None else json.dumps(request.body).encode()
        head = (
            f"{request.method} {request.path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\n"
            "User-Agent: pytest-nemesis\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    # -- complaining

    def _asked(self, request: _Request) -> str:
        body = "" if request.body is None else f" {json.dumps(request.body)}"
        return f"{request.method} {self._base}{request.path}{body if len(body) < 500 else body[:500] + '...'}"

    def _silent(self, request: _Request, error: Exception) -> ProxyError:
        return ProxyError(
            self._asked(request),
            f"no answer within {self.timeout:g} s ({type(error).__name__}: {error})",
            "Look whether the server is still running, and at its output; on a slow machine raise `timeout`",
        )

    def _refused(self, request: _Request, status: int, body: bytes) -> ProxyError:
        text = body.decode("utf-8", "replace").strip()
        advice = {
            400: "The server does not take this value; see its message",
            404: "There is no such proxy or toxic; `proxies()` lists what there is",
            409: "The name is taken; remove the other one first, or `update` it",
            500: "The server failed; where it cannot listen, choose an address that is free and its own",
        }.get(status, "This is not what a Toxiproxy 2.12 server answers; look at what is listening there")
        return ProxyError(
            self._asked(request), f"the server answered {status} {text!r}", advice, status=status
        )

    def _mismatch(self, request: _Request, wanted: str, found: object) -> ProxyError:
        return ProxyError(
            self._asked(request),
            f"expected {wanted}, the server reports {found!r}",
            "The fault is not as asked, so conclude nothing from it; look who else changes this server",
        )

    @contextmanager
    def _reading(self, request: _Request) -> Iterator[None]:
        """An answer that cannot be read is the server's mistake, not a KeyError somewhere."""
        try:
            yield
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ProxyError(
                self._asked(request),
                f"the answer cannot be read ({type(error).__name__}: {error})",
                "This is not what a Toxiproxy 2.12 server answers; look at what is listening there",
            ) from error


class _Shared(io.BufferedReader):
    """A reader for response after response: each one believes that it has it to itself, and closes it."""

    def makefile(self, mode: str) -> _Shared:
        return self

    def close(self) -> None: ...


def _read_response(reader: _Shared, method: str) -> tuple[int, bytes]:
    response = HTTPResponse(cast(socket.socket, reader), method=method)
    response.begin()
    return response.status, response.read()
