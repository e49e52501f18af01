"""Where messages end is found whatever the parts in which a stream comes, and nothing is ever lost of it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from harness.framing import Framing, Framings, Http1, LengthPrefixed, Lines, framings
from harness.proxy.embedded import FRAMERS, Exchange, Framer, Framing as Told


def framer(framing: Framing, *, answers: bool = False, exchange: Exchange | None = None) -> Framer:
    told = Told(**framing.wire())
    assert not told.wrong()
    return FRAMERS[told.kind](told, exchange or Exchange(), answers=answers)


def pieces(of: Framer, parts: list[bytes]) -> list[tuple[bytes, bool]]:
    """What the parts are cut into, and whether each is a message; what is left at the end comes last."""
    found, rest = [], b""
    for part in parts:
        place = 0
        for end, touch in of.ends(part):
            assert place < end <= len(part)
            found.append((rest + part[place:end], touch))
            rest, place = b"", end
        rest += part[place:]
        assert of.inside is bool(rest) or of.error
    return [*found, (rest, False)] if rest else found


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """The data in parts, cut at these places."""
    edges = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in pairwise(edges)]


PLACES = st.lists(st.integers(0, 10_000), max_size=30)
BYTEWISE = list(range(10_000))
TEXT = st.binary(max_size=40).map(lambda b: b.replace(b"\n", b"x"))


@given(st.lists(TEXT.map(lambda b: b + b"\n")), TEXT, PLACES | st.just(BYTEWISE))
def test_lines(lines: list[bytes], rest: bytes, places: list[int]) -> None:
    found = pieces(framer(Lines()), cut(b"".join(lines) + rest, places))
    assert found == [(line, True) for line in lines] + ([(rest, False)] if rest else [])


LENGTHS = st.builds(
    LengthPrefixed,
    st.sampled_from((1, 2, 3, 4, 8)),
    st.sampled_from(("big", "little")),
    st.integers(0, 9),
    st.integers(-20, 5),
    st.integers(0, 2),
)


@given(LENGTHS, st.lists(st.binary(max_size=50)), PLACES | st.just(BYTEWISE), st.data())
def test_lengths(
    framing: LengthPrefixed, bodies: list[bytes], places: list[int], data: st.DataObject
) -> None:
    greeting = [data.draw(TEXT) + b"\n" for _ in range(framing.greeting)]
    head = bytes(range(framing.offset))
    bodies = [body for body in bodies if len(body) >= framing.adjust]  # no length is below nothing
    messages = [
        head + (len(body) - framing.adjust).to_bytes(framing.size, framing.byteorder) + body
        for body in bodies
    ]
    found = pieces(framer(framing), cut(b"".join(greeting + messages), places))
    assert found == [(line, False) for line in greeting] + [(message, True) for message in messages]


BODIES = st.binary(max_size=60)
FIELDS = st.sampled_from(
    (b"", b"Host: n1\r\n", b"X-Content-Length: 7\r\nAccept: */*\r\n", b"A: b\r\nA: c\r\n")
)


def sized(body: bytes) -> bytes:
    return b"content-LENGTH:  %d\r\n\r\n%s" % (len(body), body)


def chunked(body: bytes, sizes: list[int], trailer: bytes) -> bytes:
    parts, place = [], 0
    for size in sizes:
        if part := body[place : place + size]:
            parts.append(b"%X;ext=1\r\n%s\r\n" % (len(part), part))
        place += size
    if body[place:]:
        parts.append(b"%x\r\n%s\r\n" % (len(body[place:]), body[place:]))
    return b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(parts) + b"0\r\n" + trailer + b"\r\n"


WRAPPED = st.one_of(
    BODIES.map(sized),
    st.builds(chunked, BODIES, st.lists(st.integers(1, 20)), st.sampled_from((b"", b"X: 1\r\nY: 2\r\n"))),
)
REQUESTS = st.one_of(
    st.builds(lambda f, w: b"POST /k?a=1 HTTP/1.1\r\n" + f + w, FIELDS, WRAPPED),
    st.builds(lambda f: b"GET / HTTP/1.0\r\n" + f + b"\r\n", FIELDS),
    st.builds(lambda f: b"\r\nDELETE /k HTTP/1.1\n" + f + b"\n", FIELDS),
)
ANSWERS = st.one_of(
    st.builds(lambda f, w: b"HTTP/1.1 200 OK\r\n" + f + w, FIELDS, WRAPPED),
    st.builds(lambda f: b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n" + f + b"\r\n", FIELDS),
    st.just(b"HTTP/1.1 204\r\n\r\n"),
)


@given(st.lists(REQUESTS), PLACES | st.just(BYTEWISE))
def test_requests_of_http(requests: list[bytes], places: list[int]) -> None:
    found = pieces(framer(Http1()), cut(b"".join(requests), places))
    assert found == [(request, True) for request in requests]


@given(st.lists(ANSWERS), PLACES | st.just(BYTEWISE))
def test_answers_of_http(answers: list[bytes], places: list[int]) -> None:
    found = pieces(framer(Http1(), answers=True), cut(b"".join(answers), places))
    assert found == [(answer, True) for answer in answers]


def test_an_answer_to_head_has_no_body_whatever_it_says() -> None:
    exchange = Exchange()
    asked, answered = framer(Http1(), exchange=exchange), framer(Http1(), answers=True, exchange=exchange)
    assert len(asked.ends(b"GET / HTTP/1.1\r\n\r\nHEAD / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n")) == 3
    toxic = answered.copy()
    first = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab"
    second = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    for one in (toxic, answered):  # a toxic's own comes before what follows the connection
        assert pieces(one, [first + second + first]) == [(first, True), (second, True), (first, True)]


@pytest.mark.parametrize("parts", [1, 3, 1000])
def test_what_cannot_be_held_back_is_no_message(parts: int) -> None:
    def over(data: bytes, *, answers: bool) -> list[tuple[bytes, bool]]:
        step = max(1, len(data) // parts)
        return pieces(framer(Http1(), answers=answers), cut(data, list(range(0, len(data), step))))

    asks = b"PUT / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    get = b"GET / HTTP/1.1\r\n\r\n"
    assert over(asks + b"ab" + get, answers=False) == [(asks, False), (b"ab", False), (get, True)]
    go_on, answer = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    assert over(go_on + answer, answers=True) == [(go_on, False), (answer, True)]
    for last in (b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n"):
        found = over(answer + last + b"\x00no HTTP", answers=True)
        assert found[:2] == [(answer, True), (last, False)]
        assert b"".join(piece for piece, touch in found[2:] if not touch) == b"\x00no HTTP"


@pytest.mark.parametrize(
    ("framing", "answers", "data", "says"),
    [
        (Http1(), False, b"\x16\x03\x01\x02", "where a request of HTTP/1.1 is due"),
        (Http1(), False, b"GET /\r\n\r\n", "where a request of HTTP/1.1 is due"),
        (Http1(), True, b"SSH-2.0-x", "where an answer of HTTP/1.1 is due"),
        (
            Http1(),
            False,
            b"PUT / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "Content-Length",
        ),
        (Http1(), False, b"PUT / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "Content-Length"),
        (Http1(), False, b"PUT / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", "expected chunked"),
        (Http1(), False, b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "size of a chunk"),
        (LengthPrefixed(4), False, b"GET / HTTP/1.1\r\n", "a message with the length 1195725856"),
        (LengthPrefixed(2, adjust=-2), False, b"\x00\x01", "which is -1 bytes more"),
    ],
)
def test_what_is_not_so_framed_is_an_error_that_says_so(
    framing: Framing, answers: bool, data: bytes, says: str
) -> None:
    good = b"HTTP/1.1 204 No\r\n\r\n" if answers else b"GET / HTTP/1.1\r\n\r\n"
    good = good if framing == Http1() else b""
    for parts in ([good + data], cut(good + data, BYTEWISE)):
        one = framer(framing, answers=answers)
        found = pieces(one, [*parts, b"and more"])
        assert says in one.error
        assert b"".join(piece for piece, _ in found) == good + data + b"and more"
        assert [piece for piece, touch in found if touch] == [good] * bool(good)


@given(st.one_of(st.lists(REQUESTS, min_size=1), st.lists(ANSWERS, min_size=1)), st.data())
def test_the_payload_can_be_changed_without_moving_an_end(messages: list[bytes], data: st.DataObject) -> None:
    answers = messages[0].startswith(b"HTTP")
    changed = []
    for message in messages:
        of = framer(Http1(), answers=answers)
        bytes_ = bytearray(message)
        for start, stop in of.payload(message):
            assert 0 <= start <= stop <= len(message)
            for place in range(start, stop):
                bytes_[place] ^= 1 << data.draw(st.integers(0, 7))
        changed.append(bytes(bytes_))
    found = pieces(framer(Http1(), answers=answers), [b"".join(changed)])
    assert found == [(message, True) for message in changed]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        ("LengthPrefixed(5)", "size is 5, but must be one of 1, 2, 3, 4, 8"),
        ("LengthPrefixed(True)", "size is True"),
        ("LengthPrefixed(4, byteorder='middle')", "must be 'big' or 'little'"),
        ("LengthPrefixed(4, offset=-1)", "offset is -1, but must be a whole number of 0 to 1024"),
        ("LengthPrefixed(4, adjust=0.5)", "adjust is 0.5"),
        ("Framings(peers=4)", "peers is 4, but must be one of Lines(), LengthPrefixed(size), Http1()"),
        ("framings('line')", "'line' is no framing: expected Lines(), LengthPrefixed(size), Http1()"),
        ("framings(Lines)", "is no framing"),
    ],
)
def test_a_framing_that_cannot_be_is_refused(make: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        eval(
            make,
            {"Framings": Framings, "LengthPrefixed": LengthPrefixed, "Lines": Lines, "framings": framings},
        )
    assert says in str(caught.value)
