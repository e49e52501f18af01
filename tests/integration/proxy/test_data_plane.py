"""The data plane of the wire: what each toxic does to bytes, to time and to the end of a connection.

The test holds both ends of each connection. Lower bounds on time are exact, as a server may not be early;
upper bounds are generous and on medians, as the machine may be busy.
"""

from __future__ import annotations

import socket
import statistics
import threading

import pytest

from harness.proxy import Stream, toxic
from tests.integration.proxy.support import (
    Bench,
    Line,
    Wire,
    noise,
    one_way,
    read_exactly,
    read_to_end,
    silent,
    stopwatch,
)

STREAMS: tuple[Stream, ...] = ("upstream", "downstream")
LATE = 0.4  # seconds by which a busy machine may be late, where one measurement has to do
EARLY = 0.003  # seconds by which clocks and their rounding may differ

both_streams = pytest.mark.parametrize("stream", STREAMS)


def add(bench: Bench, kind: str, stream: Stream, name: str | None = None, **attributes: int) -> str:
    """Add a toxic to the bench's proxy, and return its name."""
    return bench.server.add(bench.name, toxic(kind, stream=stream, name=name, **attributes)).name


def other(stream: Stream) -> Stream:
    return "downstream" if stream == "upstream" else "upstream"


def one_ways(line: Line, stream: Stream, count: int = 7) -> list[float]:
    return [one_way(line, stream) for _ in range(count)]


def delayed_by(times: list[float], seconds: float) -> bool:
    """No time below, and the middle one not far above."""
    return min(times) >= seconds - EARLY and statistics.median(times) < seconds + LATE / 2


def send_in_background(end: socket.socket, data: bytes) -> threading.Thread:
    """Sends without being held up by a connection that takes it slowly, or not any more."""

    def send() -> None:
        try:
            end.sendall(data)
        except OSError:
            return  # the test looks at the receiving end

    thread = threading.Thread(target=send)
    thread.start()
    return thread


# ---------------------------------------------------------------- no toxic


@both_streams
def test_bytes_pass_unchanged(bench: Bench, stream: Stream) -> None:
    sender, receiver = bench.open().ends(stream)
    data = noise(8_000_000)
    thread = send_in_background(sender, data)
    assert read_exactly(receiver, len(data)) == data
    thread.join()


@both_streams
def test_bytes_wait_for_a_receiver_that_does_not_read(bench: Bench, stream: Stream) -> None:
    """The proxy stops reading instead of keeping all of it, and loses nothing."""
    sender, receiver = bench.open().ends(stream)
    data = noise(40_000_000)
    sender.settimeout(0.3)
    sent = 0
    with pytest.raises(TimeoutError):
        while sent < len(data):
            sent += sender.send(data[sent : sent + 65536])
    assert sent < len(data)
    sender.settimeout(10)
    thread = send_in_background(sender, data[sent:])
    assert read_exactly(receiver, len(data)) == data
    thread.join()


def test_connections_do_not_disturb_each_other(bench: Bench) -> None:
    lines = [bench.open() for _ in range(30)]
    for number, line in enumerate(lines):
        line.client.sendall(b"up%d" % number)
        line.peer.sendall(b"down%d" % number)
    for number, line in enumerate(lines):
        assert read_exactly(line.peer, len(b"up%d" % number)) == b"up%d" % number
        assert read_exactly(line.client, len(b"down%d" % number)) == b"down%d" % number


def test_noop_changes_nothing(bench: Bench) -> None:
    for stream in STREAMS:
        add(bench, "noop", stream)
    line = bench.open()
    for stream in STREAMS:
        assert delayed_by(one_ways(line, stream), 0.0)


# ---------------------------------------------------------------- the end of a connection


@both_streams
def test_an_end_closes_the_other_side(bench: Bench, stream: Stream) -> None:
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"last words")
    sender.close()
    assert read_to_end(receiver) == (b"last words", "FIN")


@both_streams
def test_there_is_no_half_close(bench: Bench, stream: Stream) -> None:
    """The end of one direction closes the whole other socket, and so both directions."""
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"question")
    sender.shutdown(socket.SHUT_WR)
    assert read_to_end(receiver) == (b"question", "FIN")
    assert read_to_end(sender) == (b"", "FIN")


@both_streams
def test_a_reset_ends_the_other_side(bench: Bench, stream: Stream) -> None:
    sender, receiver = bench.open().ends(stream)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
    sender.close()
    assert read_to_end(receiver)[0] == b""


def test_upstream_down_is_a_connection_that_ends(bench: Bench) -> None:
    bench.upstream.close()
    assert read_to_end(bench.dial())[0] == b""


def test_disabling_closes_and_refuses(bench: Bench) -> None:
    add(bench, "latency", "upstream", latency=60_000)  # holds nothing up
    line = bench.open()
    line.client.sendall(b"held")
    bench.server.enable(bench.name, False)
    assert read_to_end(line.client)[0] == read_to_end(line.peer)[0] == b""
    with pytest.raises(ConnectionRefusedError):
        bench.dial()
    bench.server.enable(bench.name, True)
    assert [each.name for each in bench.server.proxies()[bench.name].toxics] == ["latency_upstream"]
    bench.server.reset()
    assert delayed_by(one_ways(bench.open(), "upstream"), 0.0)


def test_deleting_closes_and_refuses(bench: Bench) -> None:
    line = bench.open()
    bench.server.delete(bench.name)
    assert read_to_end(line.client) == read_to_end(line.peer) == (b"", "FIN")
    with pytest.raises(ConnectionRefusedError):
        bench.dial()


def test_another_upstream_closes_and_applies_to_new_connections(bench: Bench, wire: Wire) -> None:
    line = bench.open()
    with socket.create_server(("127.0.0.1", 0)) as second:
        second.settimeout(10)
        wire.ask("PATCH", f"/proxies/{bench.name}", {"upstream": f"127.0.0.1:{second.getsockname()[1]}"})
        assert read_to_end(line.client) == read_to_end(line.peer) == (b"", "FIN")
        client = bench.dial()
        with second.accept()[0] as peer:
            client.sendall(b"hello")
            assert read_exactly(peer, 5) == b"hello"


# ---------------------------------------------------------------- latency


@both_streams
def test_latency_delays_its_stream_only(bench: Bench, stream: Stream) -> None:
    add(bench, "latency", stream, latency=100)
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.1)
    assert delayed_by(one_ways(line, other(stream)), 0.0)


@both_streams
def test_latency_delays_a_burst_once(bench: Bench, stream: Stream) -> None:
    """It counts from the arrival of each chunk, so that a megabyte takes no longer than a byte."""
    add(bench, "latency", stream, latency=300)
    sender, receiver = bench.open().ends(stream)
    data = noise(1_000_000)
    with stopwatch() as taken:
        thread = send_in_background(sender, data)
        assert read_exactly(receiver, len(data)) == data
    thread.join()
    assert 0.3 - EARLY <= taken[0] < 0.3 + 2 * LATE


@both_streams
def test_latency_delays_the_end_only_behind_data(bench: Bench, stream: Stream) -> None:
    add(bench, "latency", stream, latency=400)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"x")
    with stopwatch() as taken:
        sender.close()
        assert read_to_end(receiver) == (b"x", "FIN")
    assert taken[0] >= 0.3
    sender, receiver = bench.open().ends(stream)
    with stopwatch() as taken:
        sender.close()
        assert read_to_end(receiver) == (b"", "FIN")
    assert taken[0] < 0.3


@both_streams
def test_jitter_varies_the_delay_and_keeps_the_order(bench: Bench, stream: Stream) -> None:
    add(bench, "latency", stream, latency=40, jitter=30)
    line = bench.open()
    times = one_ways(line, stream, 40)
    assert min(times) >= 0.010 - EARLY
    assert 0.010 <= statistics.median(times) < 0.070 + LATE
    # 40 draws from 60 ms are all within 25 ms of each other once in 10**14 runs.
    assert max(times) - min(times) > 0.025
    sender, receiver = line.ends(stream)
    for number in range(200):
        sender.sendall(b"%3d" % number)
    assert read_exactly(receiver, 600) == b"".join(b"%3d" % number for number in range(200))


@both_streams
def test_latencies_add_up(bench: Bench, stream: Stream) -> None:
    add(bench, "latency", stream, "one", latency=60)
    add(bench, "latency", stream, "two", latency=40)
    assert delayed_by(one_ways(bench.open(), stream), 0.1)


@both_streams
def test_latency_comes_changes_and_goes_on_a_live_connection(bench: Bench, stream: Stream) -> None:
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.0)
    name = add(bench, "latency", stream, latency=80)
    assert delayed_by(one_ways(line, stream), 0.08)
    bench.server.update(bench.name, toxic("latency", stream=stream, latency=30))
    assert delayed_by(one_ways(line, stream), 0.03)
    bench.server.remove(bench.name, name)
    times = one_ways(line, stream)
    assert delayed_by(times, 0.0) and min(times) < 0.03


@both_streams
@pytest.mark.parametrize("how", ["remove", "update", "reset"])
def test_what_latency_holds_goes_out_when_it_changes(bench: Bench, stream: Stream, how: str) -> None:
    name = add(bench, "latency", stream, latency=60_000)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"held")
    assert silent(receiver, 0.1)
    if how == "remove":
        bench.server.remove(bench.name, name)
    elif how == "update":
        bench.server.update(bench.name, toxic("latency", stream=stream, latency=50_000))
    else:
        bench.server.reset()
    assert read_exactly(receiver, 4) == b"held"


@both_streams
def test_removing_latency_lets_all_out_in_order(bench: Bench, stream: Stream) -> None:
    name = add(bench, "latency", stream, latency=60_000)
    sender, receiver = bench.open().ends(stream)
    data = noise(400_000)
    sender.sendall(data)
    assert silent(receiver, 0.1)
    bench.server.remove(bench.name, name)
    sender.sendall(b"after")
    assert read_exactly(receiver, len(data) + 5) == data + b"after"


# ---------------------------------------------------------------- bandwidth


@both_streams
@pytest.mark.parametrize("rate", [100, 1000])
def test_bandwidth_is_kilobytes_of_1000_bytes_a_second(bench: Bench, stream: Stream, rate: int) -> None:
    add(bench, "bandwidth", stream, rate=rate)
    sender, receiver = bench.open().ends(stream)
    data = noise(rate * 500)  # half a second
    with stopwatch() as taken:
        thread = send_in_background(sender, data)
        assert read_exactly(receiver, len(data)) == data
    thread.join()
    assert 0.5 - 0.02 <= taken[0] < 0.5 + 2 * LATE


@both_streams
def test_bandwidth_leaves_the_other_stream_alone(bench: Bench, stream: Stream) -> None:
    add(bench, "bandwidth", stream, rate=1)
    assert delayed_by(one_ways(bench.open(), other(stream)), 0.0)


@both_streams
def test_bandwidth_0_stalls_and_loses_nothing(bench: Bench, stream: Stream) -> None:
    name = add(bench, "bandwidth", stream, rate=0)
    sender, receiver = bench.open().ends(stream)
    data = noise(2_000_000)
    thread = send_in_background(sender, data)
    assert silent(receiver, 0.3)
    bench.server.remove(bench.name, name)
    assert read_exactly(receiver, len(data)) == data
    thread.join()


@both_streams
def test_bandwidth_0_ends_with_an_update(bench: Bench, stream: Stream) -> None:
    add(bench, "bandwidth", stream, rate=0)
    sender, receiver = bench.open().ends(stream)
    data = noise(200_000)
    thread = send_in_background(sender, data)
    assert silent(receiver, 0.2)
    bench.server.update(bench.name, toxic("bandwidth", stream=stream, rate=10_000))
    assert read_exactly(receiver, len(data)) == data
    thread.join()


@both_streams
def test_bandwidth_holds_the_end_behind_data(bench: Bench, stream: Stream) -> None:
    add(bench, "bandwidth", stream, rate=50)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(noise(20_000))
    with stopwatch() as taken:
        sender.close()
        assert read_to_end(receiver) == (noise(20_000), "FIN")
    assert 0.3 <= taken[0] < 0.4 + 2 * LATE


# ---------------------------------------------------------------- slow_close


@both_streams
def test_slow_close_delays_the_end_and_no_data(bench: Bench, stream: Stream) -> None:
    add(bench, "slow_close", stream, delay=400)
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.0)
    sender, receiver = line.ends(stream)
    with stopwatch() as taken:
        sender.close()
        assert read_to_end(receiver) == (b"", "FIN")
    assert 0.4 - EARLY <= taken[0] < 0.4 + LATE


@both_streams
def test_removing_slow_close_ends_at_once(bench: Bench, stream: Stream) -> None:
    name = add(bench, "slow_close", stream, delay=60_000)
    sender, receiver = bench.open().ends(stream)
    sender.close()
    assert silent(receiver, 0.1)
    bench.server.remove(bench.name, name)
    assert read_to_end(receiver) == (b"", "FIN")


# ---------------------------------------------------------------- timeout


@both_streams
def test_timeout_drops_data_and_closes_when_it_is_over(bench: Bench, stream: Stream) -> None:
    add(bench, "timeout", stream, timeout=300)
    with stopwatch() as taken:
        sender, receiver = bench.open().ends(stream)
        sender.sendall(b"dropped")
        assert read_to_end(receiver)[0] == b""
    assert 0.3 - EARLY <= taken[0] < 0.3 + LATE
    assert read_to_end(sender)[0] == b""


@both_streams
def test_timeout_starts_again_with_each_chunk(bench: Bench, stream: Stream) -> None:
    add(bench, "timeout", stream, timeout=400)
    sender, receiver = bench.open().ends(stream)
    for _ in range(4):
        assert silent(receiver, 0.15)
        sender.sendall(b"dropped")
    with stopwatch() as taken:
        assert read_to_end(receiver)[0] == b""
    assert taken[0] >= 0.4 - 0.05


@both_streams
def test_timeout_0_swallows_until_its_removal_closes(bench: Bench, stream: Stream) -> None:
    name = add(bench, "timeout", stream, timeout=0)
    line = bench.open()
    sender, receiver = line.ends(stream)
    sender.sendall(b"dropped")
    assert silent(receiver, 0.2)
    assert delayed_by(one_ways(line, other(stream)), 0.0)
    bench.server.remove(bench.name, name)
    assert read_to_end(receiver)[0] == b""
    assert read_to_end(sender)[0] == b""
    assert delayed_by(one_ways(bench.open(), stream), 0.0)


@both_streams
def test_timeout_comes_to_a_live_connection(bench: Bench, stream: Stream) -> None:
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.0)
    add(bench, "timeout", stream, timeout=100)
    assert read_to_end(line.ends(stream)[1])[0] == b""


@both_streams
def test_timeout_lets_the_end_pass(bench: Bench, stream: Stream) -> None:
    add(bench, "timeout", stream, timeout=60_000)
    sender, receiver = bench.open().ends(stream)
    sender.close()
    assert read_to_end(receiver) == (b"", "FIN")


# ---------------------------------------------------------------- reset_peer


@both_streams
@pytest.mark.parametrize("wait", [0, 300])
def test_reset_peer_resets_both_ends(bench: Bench, stream: Stream, wait: int) -> None:
    add(bench, "reset_peer", stream, timeout=wait)
    sender, receiver = bench.open().ends(stream)
    assert silent(receiver, 0.1)  # it waits for a first chunk
    with stopwatch() as taken:
        sender.sendall(b"dropped")
        assert read_to_end(receiver) == (b"", "RST")
        assert read_to_end(sender) == (b"", "RST")
    assert wait / 1e3 - EARLY <= taken[0] < wait / 1e3 + LATE


@both_streams
def test_reset_peer_acts_on_an_end_too(bench: Bench, stream: Stream) -> None:
    add(bench, "reset_peer", stream, timeout=200)
    sender, receiver = bench.open().ends(stream)
    with stopwatch() as taken:
        sender.close()
        assert read_to_end(receiver) == (b"", "RST")
    assert 0.2 - EARLY <= taken[0] < 0.2 + LATE


@both_streams
def test_reset_peer_closes_an_older_connection_without_rst(bench: Bench, stream: Stream) -> None:
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.0)  # the proxy is through with its own connecting, too
    add(bench, "reset_peer", stream, timeout=0)
    sender, receiver = line.ends(stream)
    sender.sendall(b"dropped")
    assert read_to_end(receiver) == (b"", "FIN")
    assert read_to_end(sender) == (b"", "FIN")


@both_streams
def test_reset_peer_removed_in_time_does_nothing(bench: Bench, stream: Stream) -> None:
    name = add(bench, "reset_peer", stream, timeout=0)
    line = bench.open()
    bench.server.remove(bench.name, name)
    assert delayed_by(one_ways(line, stream), 0.0)


# ---------------------------------------------------------------- slicer


@both_streams
def test_slicer_cuts_and_delays(bench: Bench, stream: Stream) -> None:
    """80 bytes halve into eight slices of 10, each at least 20 ms after the one before it."""
    add(bench, "slicer", stream, average_size=10, size_variation=0, delay=20_000)
    sender, receiver = bench.open().ends(stream)
    data = noise(80)
    parts: list[bytes] = []
    with stopwatch() as taken:
        sender.sendall(data)
        while sum(map(len, parts)) < len(data):
            parts.append(receiver.recv(1 << 16))
            assert parts[-1]
    assert b"".join(parts) == data
    assert all(len(part) % 10 == 0 for part in parts)
    assert len(parts) > 1 and len(parts[0]) < 80
    assert 7 * 0.02 - EARLY <= taken[0] < 7 * 0.02 + 2 * LATE


@both_streams
def test_slicer_varies_the_sizes_within_bounds(bench: Bench, stream: Stream) -> None:
    add(bench, "slicer", stream, average_size=100, size_variation=30, delay=3_000)
    sender, receiver = bench.open().ends(stream)
    data = noise(3_000)
    parts: list[bytes] = []
    sender.sendall(data)
    while sum(map(len, parts)) < len(data):
        parts.append(receiver.recv(1 << 16))
        assert parts[-1]
    assert b"".join(parts) == data
    assert len(parts) > 5
    # Halving stops at 130; a part of 131 is cut in the middle, give or take 30. Reads may join slices.
    assert min(map(len, parts)) >= 131 // 2 - 30
    assert len(set(map(len, parts))) > 2


@both_streams
def test_removing_slicer_lets_the_rest_out_at_once(bench: Bench, stream: Stream) -> None:
    name = add(bench, "slicer", stream, average_size=1, size_variation=0, delay=1_000_000)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"abcdefgh")
    assert read_exactly(receiver, 1) == b"a"
    bench.server.remove(bench.name, name)
    with stopwatch() as taken:
        assert read_exactly(receiver, 7) == b"bcdefgh"
    assert taken[0] < 1


# ---------------------------------------------------------------- limit_data


@both_streams
@pytest.mark.parametrize(("limit", "sent"), [(1500, 10_000), (10, 10), (0, 5), (100_000, 300_000)])
def test_limit_data_closes_after_so_many_bytes(bench: Bench, stream: Stream, limit: int, sent: int) -> None:
    add(bench, "limit_data", stream, bytes=limit)
    sender, receiver = bench.open().ends(stream)
    data = noise(sent)
    thread = send_in_background(sender, data)
    assert read_to_end(receiver)[0] == data[:limit]
    thread.join()


@both_streams
def test_limit_data_counts_over_chunks_and_per_connection(bench: Bench, stream: Stream) -> None:
    add(bench, "limit_data", stream, bytes=10)
    for _ in range(2):
        line = bench.open()
        sender, receiver = line.ends(stream)
        one_way(line, stream, b"12345")
        sender.sendall(b"678901")
        assert read_to_end(receiver)[0] == b"67890"


@both_streams
def test_limit_data_keeps_its_count_when_it_changes(bench: Bench, stream: Stream) -> None:
    add(bench, "limit_data", stream, bytes=10)
    line = bench.open()
    one_way(line, stream, b"12345")
    bench.server.update(bench.name, toxic("limit_data", stream=stream, bytes=8))
    sender, receiver = line.ends(stream)
    sender.sendall(b"678901")
    assert read_to_end(receiver)[0] == b"678"


@both_streams
def test_limit_data_leaves_the_other_stream_alone(bench: Bench, stream: Stream) -> None:
    add(bench, "limit_data", stream, bytes=3)
    one_way(bench.open(), other(stream), noise(10_000))


# ---------------------------------------------------------------- several toxics, and their odds


@both_streams
def test_a_chain_of_toxics_keeps_all_bytes_in_order(bench: Bench, stream: Stream) -> None:
    add(bench, "latency", stream, latency=20, jitter=10)
    add(bench, "slicer", stream, average_size=2_000, size_variation=500, delay=0)
    add(bench, "bandwidth", stream, rate=2_000)
    add(bench, "noop", stream)
    add(bench, "limit_data", stream, bytes=10**9)
    sender, receiver = bench.open().ends(stream)
    data = noise(600_000)
    with stopwatch() as taken:
        thread = send_in_background(sender, data)
        assert read_exactly(receiver, len(data)) == data
    thread.join()
    assert taken[0] >= 0.3 - EARLY


@both_streams
def test_toxics_come_and_go_under_traffic_and_lose_nothing(bench: Bench, stream: Stream) -> None:
    sender, receiver = bench.open().ends(stream)
    data = noise(3_000_000)
    add(bench, "bandwidth", stream, rate=1_500)
    thread = send_in_background(sender, data)
    received: list[bytes] = []
    reader = threading.Thread(target=lambda: received.append(read_exactly(receiver, len(data))))
    reader.start()
    for _ in range(4):
        add(bench, "latency", stream, latency=15)
        add(bench, "slicer", stream, average_size=3_000, delay=10)
        add(bench, "noop", stream)
        bench.server.update(bench.name, toxic("latency", stream=stream, latency=5, jitter=2))
        for kind in ("slicer", "latency", "noop"):
            bench.server.remove(bench.name, f"{kind}_{stream}")
    bench.server.remove(bench.name, f"bandwidth_{stream}")
    reader.join(30)
    thread.join()
    assert received == [data]


@both_streams
def test_the_order_of_addition_is_the_order_of_the_chain(bench: Bench, stream: Stream) -> None:
    """A limit behind a timeout that drops everything sees nothing; before it, it closes the connection."""
    add(bench, "timeout", stream, timeout=0)
    add(bench, "limit_data", stream, bytes=1)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"dropped")
    assert silent(receiver, 0.2)
    bench.server.reset()
    add(bench, "limit_data", stream, bytes=1)
    add(bench, "timeout", stream, timeout=0)
    sender, receiver = bench.open().ends(stream)
    sender.sendall(b"dropped")
    assert read_to_end(receiver)[0] == b""


@both_streams
def test_toxicity_is_the_share_of_connections(bench: Bench, stream: Stream) -> None:
    bench.server.add(bench.name, toxic("limit_data", stream=stream, toxicity=0.5))
    closed = 0
    for _ in range(60):
        sender, receiver = bench.open().ends(stream)
        sender.sendall(b"x")
        data = receiver.recv(1)
        closed += not data
    assert 8 <= closed <= 52  # of 60; further out once in 10**9 runs


@both_streams
def test_toxicity_is_rolled_again_on_an_update(bench: Bench, stream: Stream) -> None:
    bench.server.add(bench.name, toxic("latency", stream=stream, latency=60_000, toxicity=1e-9))
    line = bench.open()
    assert delayed_by(one_ways(line, stream), 0.0)
    bench.server.update(bench.name, toxic("latency", stream=stream, latency=60))
    assert delayed_by(one_ways(line, stream), 0.06)
