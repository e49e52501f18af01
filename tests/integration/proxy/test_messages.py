"""The embedded server's own toxic: what becomes of whole messages, and on which connections."""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from harness.framing import Framing, Http1, LengthPrefixed, Lines
from harness.proxy import ProxyError, Server, Stream, Toxic, toxic, validate
from harness.proxy.embedded import MILLION
from harness.proxy.real import NoRealServer, real_server
from tests.integration.proxy.support import (
    Bench,
    Line,
    Wire,
    embedded_command,
    read_exactly,
    read_to_end,
    running,
    silent,
)

ALL = MILLION


@pytest.fixture(scope="module")
def shared_server() -> Iterator[Server]:
    """Only the embedded server."""
    with running(embedded_command()) as server:
        yield server


def tell(bench: Bench, framing: Framing, stream: Stream = "upstream") -> None:
    assert bench.server.frame([(bench.name, stream, framing.wire())])


def act(bench: Bench, stream: Stream = "upstream", name: str | None = None, **attributes: int) -> str:
    return bench.server.add(bench.name, toxic("message", stream=stream, name=name, **attributes)).name


def counts(bench: Bench, stream: Stream = "upstream") -> Counter[str]:
    """What the server says of the messages; only what is not 0."""
    row = bench.server.framed()[bench.name, stream]
    counted = Counter(untracked=row.untracked, unparsable=row.unparsable)
    for toxic_counts in row.toxics.values():
        counted.update(toxic_counts)
    return +counted


def lines(first: int, last: int) -> list[bytes]:
    return [b"line %d\n" % number for number in range(first, last)]


def came(line: Line, sent: bytes, stream: Stream = "upstream") -> bytes:
    """What arrives of what is sent, up to the end."""
    sender, receiver = line.ends(stream)
    sender.sendall(sent)
    sender.shutdown(socket.SHUT_WR)
    return read_to_end(receiver)[0]


@pytest.mark.parametrize("stream", ["upstream", "downstream"])
def test_messages_are_dropped_whole_and_the_rest_arrives(bench: Bench, stream: Stream) -> None:
    tell(bench, Lines(), stream)
    act(bench, stream, drop=ALL // 2, seed=1)
    got = came(bench.open(), b"".join(lines(0, 1000)) + b"no end", stream)
    kept = got.removesuffix(b"no end").splitlines(keepends=True)
    assert got.endswith(b"no end") and sorted(kept, key=lines(0, 1000).index) == kept
    assert 400 < len(kept) < 600
    assert counts(bench, stream) == Counter(messages=1000, dropped=1000 - len(kept))


def test_duplicates_come_right_behind(bench: Bench) -> None:
    tell(bench, LengthPrefixed(2))
    act(bench, duplicate=ALL)
    frames = [len(body).to_bytes(2, "big") + body for body in (b"", b"a", b"bc" * 20_000)]
    assert came(bench.open(), b"".join(frames)) == b"".join(frame * 2 for frame in frames)


def test_one_bit_of_a_payload_is_flipped_and_no_end_moves(bench: Bench) -> None:
    tell(bench, Lines())
    act(bench, corrupt=ALL)
    sent = [bytes([byte]) * 3 + b"\r\n" for byte in range(256) if byte not in b"\r\n"] * 8
    got = came(bench.open(), b"".join([*sent, b"\r\n"])).split(b"\r\n")
    assert got[-2:] == [b"", b""] and len(got) == len(sent) + 2
    for before, after in zip(sent, got, strict=False):
        (changed,) = (a ^ b for a, b in zip(before[:-2], after, strict=True) if a != b)
        assert changed.bit_count() == 1
    assert counts(bench) == Counter(messages=len(sent) + 1, corrupted=len(sent), empty=1)


def test_held_messages_are_overtaken_and_come_then(bench: Bench) -> None:
    tell(bench, Lines())
    act(bench, reorder=ALL // 4, hold=100, seed=3)
    began = time.monotonic()
    got = came(bench.open(), b"".join(lines(0, 400))).splitlines(keepends=True)
    assert time.monotonic() - began >= 0.1
    assert sorted(got) == sorted(lines(0, 400))
    held = counts(bench)["reordered"]
    assert 50 < held < 150
    prompt, late = got[: 400 - held], got[400 - held :]
    order = lines(0, 400).index
    assert sorted(prompt, key=order) == prompt and sorted(late, key=order) == late


def test_delays_keep_the_order_and_hold_back_the_end(bench: Bench) -> None:
    tell(bench, Lines())
    act(bench, delay=100, jitter=50)
    line = bench.open()
    began = time.monotonic()
    line.client.sendall(b"".join(lines(0, 50)))
    line.client.shutdown(socket.SHUT_WR)
    first = read_exactly(line.peer, 7)
    assert time.monotonic() - began >= 0.05
    assert first + read_to_end(line.peer)[0] == b"".join(lines(0, 50))


def test_a_message_is_not_passed_in_parts(bench: Bench) -> None:
    tell(bench, LengthPrefixed(1))
    act(bench)
    line = bench.open()
    for byte in b"\x03ab":
        line.client.sendall(bytes([byte]))
        assert silent(line.peer, 0.03)
    line.client.sendall(b"c\x01")
    assert read_exactly(line.peer, 4) == b"\x03abc" and silent(line.peer, 0.03)
    line.client.sendall(b"d")
    assert read_exactly(line.peer, 2) == b"\x01d"


@pytest.mark.parametrize("others", [0, 1])
def test_on_a_connection_under_way_it_begins_with_the_next_message(bench: Bench, others: int) -> None:
    """Also behind other toxics, which hold bytes that it has not seen yet."""
    tell(bench, LengthPrefixed(1))
    for number in range(others):
        bench.server.add(bench.name, toxic("latency", stream="upstream", name=f"l{number}", latency=30))
        act(bench, name=f"m{number}")
    line = bench.open()
    line.client.sendall(b"\x02ab\x05cd")
    assert read_exactly(line.peer, 3) == b"\x02ab"
    if not others:
        assert read_exactly(line.peer, 3) == b"\x05cd"
    name = act(bench, drop=ALL)
    line.client.sendall(b"efg\x02hi\x02j")
    # behind another toxic for messages, the one that was under way has not begun for this one: it is dropped
    assert others or read_exactly(line.peer, 3) == b"efg"
    assert silent(line.peer, 0.15)
    assert counts(bench)["dropped"] == 1 + others
    bench.server.remove(bench.name, name)
    line.client.sendall(b"k\x01l")
    assert read_exactly(line.peer, 5) == b"\x02jk\x01l"


def test_removal_passes_on_what_is_held_in_order(bench: Bench) -> None:
    tell(bench, Lines())
    name = act(bench, delay=60_000, reorder=ALL // 2, hold=60_000)
    line = bench.open()
    line.client.sendall(b"".join(lines(0, 300)) + b"part")
    assert silent(line.peer, 0.1)
    bench.server.remove(bench.name, name)
    assert read_exactly(line.peer, len(b"".join(lines(0, 300))) + 4) == b"".join(lines(0, 300)) + b"part"
    line.client.sendall(b"ed\n")
    assert read_exactly(line.peer, 3) == b"ed\n"


def test_removal_after_the_end_passes_it_on_too(bench: Bench) -> None:
    tell(bench, Lines())
    name = act(bench, delay=60_000)
    line = bench.open()
    line.client.sendall(b"held\nrest")
    line.client.shutdown(socket.SHUT_WR)
    assert silent(line.peer, 0.1)
    bench.server.remove(bench.name, name)
    assert read_to_end(line.peer) == (b"held\nrest", "FIN")


def test_neighbours_come_and_go_and_what_is_held_stays(bench: Bench) -> None:
    tell(bench, Lines())
    name = act(bench, delay=60_000)
    line = bench.open()
    line.client.sendall(b"held\n")
    bench.server.add(bench.name, toxic("latency", stream="upstream", latency=1))
    bench.server.add(bench.name, toxic("slicer", stream="upstream", average_size=2))
    bench.server.remove(bench.name, "latency_upstream")
    assert silent(line.peer, 0.1)
    bench.server.remove(bench.name, name)
    assert read_exactly(line.peer, 5) == b"held\n"


def test_many_held_messages_stop_the_reading(bench: Bench) -> None:
    tell(bench, LengthPrefixed(1))
    name = act(bench, delay=60_000)
    line = bench.open()
    line.client.settimeout(0.5)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < 200_000_000:
            sent += line.client.send((b"\x63" + bytes(99)) * 1000)
    bench.server.remove(bench.name, name)
    line.client.shutdown(socket.SHUT_WR)
    got = read_to_end(line.peer)[0]
    assert len(got) == sent and set(got[::100]) == {0x63} and got.count(b"\x63") == len(got[::100])


def test_equal_seeds_make_equal_choices(server: Server, bench: Bench) -> None:
    tell(bench, Lines())
    seen = []
    for seed in (5, 5, 6):
        port = server.proxies()[bench.name].upstream
        server.delete(bench.name)
        bound = server.populate([(bench.name, "127.0.0.1:0", port)])[bench.name]
        bench.address = ("127.0.0.1", int(bound.rpartition(":")[2]))
        tell(bench, Lines())
        act(bench, drop=ALL // 2, seed=seed)
        seen.append([came(bench.open(), b"".join(lines(0, 100))) for _ in range(2)])
    assert seen[0] == seen[1] != seen[2]
    assert seen[0][0] != seen[0][1]


def test_http_messages_pass_whole_and_twice(bench: Bench) -> None:
    tell(bench, Http1())
    tell(bench, Http1(), "downstream")
    act(bench, duplicate=ALL)
    act(bench, "downstream", drop=ALL)
    line = bench.open()
    post = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    head = b"HEAD /a HTTP/1.1\r\nHost: n\r\n\r\n"
    line.client.sendall(post + head)
    assert read_exactly(line.peer, 2 * len(post + head)) == post + post + head + head
    bench.server.remove(bench.name, "message_downstream")
    act(bench, "downstream", corrupt=ALL)
    full = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n"
    line.peer.sendall(full + b"abc" + full + b"abc" + full + full)  # the last two answer to HEAD
    got = read_exactly(line.client, 4 * len(full) + 6)
    changed = [
        i
        for i, (a, b) in enumerate(zip(got, full + b"abc" + full + b"abc" + full + full, strict=True))
        if a != b
    ]
    assert len(changed) == 2 and len(full) <= changed[0] < len(full) + 3
    assert counts(bench, "downstream") == Counter(messages=4, corrupted=2, empty=2)


def test_what_keeps_to_no_framing_passes_untouched_and_is_told(bench: Bench) -> None:
    tell(bench, LengthPrefixed(4))
    act(bench, drop=ALL, delay=50)
    line = bench.open()
    strange = b"\x00\x00\x00\x01a" + b"GET / HTTP/1.1\r\n\r\n"
    line.client.sendall(strange)
    assert read_exactly(line.peer, len(strange) - 5) == strange[5:]
    line.client.sendall(b"and more")
    assert read_exactly(line.peer, 8) == b"and more"
    (row,) = (one for one in bench.server.framed().values() if one.proxy == bench.name)
    assert row.unparsable == 1 and "length 1195725856" in row.error
    assert row.framing["kind"] == "length" and row.stream == "upstream"


def test_it_is_told_of_streams_that_are_not_so_framed_before_any_toxic(bench: Bench) -> None:
    tell(bench, Http1())
    line = bench.open()
    line.client.sendall(b"\x16\x03\x01")
    assert read_exactly(line.peer, 3) == b"\x16\x03\x01"
    assert counts(bench) == Counter(unparsable=1)
    act(bench, drop=ALL)
    line.client.sendall(b"GET / HTTP/1.1\r\n\r\n")
    assert read_exactly(line.peer, 18) == b"GET / HTTP/1.1\r\n\r\n"


def test_a_connection_from_before_the_framing_is_left_alone_and_counted(bench: Bench) -> None:
    line = bench.open()
    line.client.sendall(b"\x05ab")
    assert read_exactly(line.peer, 3) == b"\x05ab"
    tell(bench, LengthPrefixed(1))
    act(bench, drop=ALL)
    line.client.sendall(b"cde\x01f")
    assert read_exactly(line.peer, 5) == b"cde\x01f"
    assert counts(bench) == Counter(untracked=1)
    assert came(bench.open(), b"\x01a\x01b") == b""


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"kind": "lines"}, "framing 'lines' is none of line, length, http1"),
        ({"kind": "length", "size": 5}, "size 5 is none of 1, 2, 3, 4, 8"),
        ({"kind": "length", "adjust": 5000}, "adjust 5000 is not -1024 to 1024"),
        ({"kind": "length", "offset": -1}, "offset -1"),
        ({"kind": "length", "little": 1}, "cannot unmarshal number"),
        ({"kind": "line", "stream": "sideways"}, "stream was invalid"),
    ],
)
def test_a_framing_that_cannot_be_is_refused_and_none_of_the_others_is_taken(
    bench: Bench, wire: Wire, row: dict[str, object], says: str
) -> None:
    good = {"proxy": bench.name, "stream": "downstream", "kind": "line"}
    bad = {"proxy": bench.name, "stream": "upstream", **row}
    answer = wire.ask("POST", "/framing", [good, bad])
    assert answer.status == 400 and says in answer.json()["error"]
    assert bench.server.framed() == {}


def test_without_a_framing_the_toxic_is_refused(bench: Bench) -> None:
    tell(bench, Lines(), "downstream")
    with pytest.raises(ProxyError, match="how its messages are framed was not told"):
        act(bench, "upstream", drop=ALL)
    with pytest.raises(ProxyError, match="404"):
        bench.server.frame([("nobody", "upstream", Lines().wire())])


@pytest.mark.parametrize(
    ("attributes", "says"),
    [
        ({"drop": ALL + 1}, "it can be 0 to 1000000"),
        ({"lose": 1}, "it has drop, corrupt"),
        ({"delay": -1}, "0 to"),
    ],
)
def test_attributes_that_cannot_be_never_reach_a_server(attributes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        validate(Toxic("message", "upstream", attributes, "m"))


def test_the_real_server_knows_no_messages() -> None:
    try:
        binary = real_server()
    except NoRealServer as reason:
        pytest.skip(str(reason))
    with running([binary]) as server:
        assert server.frame([]) is False
        server.populate([("p", "127.0.0.1:0", "127.0.0.1:1")])
        assert server.frame([("p", "upstream", Lines().wire())]) is False
        with pytest.raises(ProxyError, match="invalid toxic type"):
            server.add("p", toxic("message", drop=1))
