"""When a log line says it was written, in every form that is known; what else it holds is harmless."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, strategies as st

from harness.history import NANOSECONDS
from harness.report.stamps import FAR, stamp

SEVEN = int(datetime(2026, 11, 28, 7, tzinfo=UTC).timestamp())  # at UTC
NEAR = SEVEN * NANOSECONDS


@pytest.mark.parametrize(
    ("line", "after", "zoned"),
    [
        ("2026-11-28T07:00:00Z it begins", 0, True),
        ("2026-11-28T07:00:00.123456789Z [INFO]", 123_456_789, True),
        ("2026-11-28T08:00:00.5+01:00 [INFO]", 500_000_000, True),
        ("2026-11-28T01:30:00-0530 x", 0, True),
        ("2026-11-28 07:00:00.123 UTC [12] LOG:  ready", 123_000_000, True),  # postgres
        ("2026-11-28 08:00:00.123+01 [12] LOG:  ready", 123_000_000, True),
        ("2026-11-28 07:00:00.25 +0000 UTC m=+0.01", 250_000_000, True),  # Go
        ("2026/11/28 07:00:00 listening", 0, False),
        ("2026/11/28 07:00:00.000042 listening", 42_000, False),
        ("2026-11-28  7:00:00 0 [Note] mariadbd: ready", 0, False),
        ("2026-11-28 07:00:00 -5 of 9 left", 0, False),  # no zone
        ("2026-11-28 07:00:00,123 INFO  [main] o.a.Broker - up", 123_000_000, False),  # log4j
        ("[2026-11-28 07:00:00,123] INFO up (kafka.server)", 123_000_000, False),
        ("INFO  [main] 2026-11-28 07:00:00,123 Gossiper.java:12 - up", 123_000_000, False),
        ("12345:M 28 Nov 2026 07:00:00.123 * Ready to accept connections", 123_000_000, False),  # redis
        ('127.0.0.1 - - [28/Nov/2026:07:00:00 +0000] "GET / HTTP/1.1" 200', 0, True),
        ("Nov 28 07:00:00 host etcd[1]: up", 0, False),  # syslog
        ("[Sat Nov 28 07:00:00.000123 2026] [core:notice]", 123_000, False),
        ("I1128 07:00:00.123456   12345 server.go:12] up", 123_456_000, False),  # klog
        ("I261128 07:00:00.123456 14 server/node.go:464 up", 123_456_000, False),  # CockroachDB
        (f"{SEVEN} up", 0, True),
        (f"[{SEVEN}.25] up", 250_000_000, True),
        (f"{SEVEN}123 up", 123_000_000, True),
        (f"{SEVEN}123456789 up", 123_456_789, True),
        ('{"level":"info","ts":"2026-11-28T07:00:00.5Z","msg":"up"}', 500_000_000, True),
        (f'{{"level":"info","ts":{SEVEN}.125,"msg":"up"}}', 125_000_000, True),  # zap
        (f'{{"level":30,"time":{SEVEN}123,"msg":"up"}}', 123_000_000, True),  # pino
        ('{"@timestamp" : "2026-11-28T07:00:00Z"}', 0, True),
        ('{"t":{"$date":"2026-11-28T07:00:00.123+00:00"},"s":"I"}', 123_000_000, True),  # MongoDB
        (f'{{"event":"role","time":{SEVEN}.000001,"role":"leader"}}', 1_000, True),  # raft_kv
        ('time="2026-11-28T07:00:00Z" level=info msg=up', 0, True),  # logrus
        (f"level=info caller=main.go:1 {'x' * 100} ts={SEVEN}.5", 500_000_000, True),
    ],
)
def test_the_forms(line: str, after: int, zoned: bool) -> None:
    assert stamp(line, NEAR) == (NEAR + after, zoned)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "panic: runtime error: index out of range",
        "\tat java.base/java.lang.Thread.run(Thread.java:833)",
        "2026-02-30T07:00:00Z there is no such day",
        "2026-13-01T07:00:00Z",
        "2026-11-28T25:00:00Z",
        "2026-11-28T07:00:60Z",
        "0000-00-00 00:00:00",
        "9999-12-31T23:59:59Z",  # further off than any clock is set
        "0001-01-01T00:00:00+14:00",
        "4000000000 bytes",
        "12026-11-28T07:00:00Z",
        "2026-11-28T07:00:00Zebra",
        "\u0662\u0660\u0662\u0666-11-28T07:00:00Z",  # digits, but not of a date
        f"{SEVEN}5 has eleven digits",
        f"{'1' * 5000}",
        f"2026-11-28T07:00:00.{'9' * 5000}Z",
        f"{'x' * 70} 2026-11-28T07:00:00Z is spoken of",
        '{"msg":"2026-11-28T07:00:00Z is spoken of"}',
        '{"time":{}}',
        '{"time":',
        "\x00" * 4000,
        "time=" * 800,
    ],
)
def test_what_is_no_time(line: str) -> None:
    assert stamp(line, NEAR) is None


@pytest.mark.parametrize(("day", "year"), [("Jan  1", 2027), ("Dec 31", 2026)])
def test_a_missing_year_is_the_nearest(day: str, year: int) -> None:
    night = int(datetime(2026, 12, 31, 23, 59, tzinfo=UTC).timestamp()) * NANOSECONDS
    told = stamp(f"{day} 00:00:01 host x: y", night)
    assert told is not None and datetime.fromtimestamp(told.unix / NANOSECONDS, UTC).year == year


def test_the_29th_of_february_without_a_year() -> None:
    march = int(datetime(2028, 3, 1, tzinfo=UTC).timestamp()) * NANOSECONDS
    told = stamp("I0229 23:59:59.5 1 x.go:1] y", march)
    assert told is not None and told.unix == march - NANOSECONDS // 2


MOMENTS = st.datetimes(datetime(2010, 1, 1), datetime(2040, 1, 1))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))


@given(
    MOMENTS, ZONES, st.sampled_from(["%Y-%m-%dT%H:%M:%S.%f%z", "%d/%b/%Y:%H:%M:%S.%f %z", "%Y/%m/%d %X.%f%z"])
)
def test_what_is_written_with_a_zone_is_read(moment: datetime, zone: timezone, form: str) -> None:
    since = moment.replace(tzinfo=zone) - datetime(1970, 1, 1, tzinfo=UTC)
    assert stamp(f"[{moment.replace(tzinfo=zone).strftime(form)}] x", NEAR) == (
        since // timedelta(microseconds=1) * 1000,
        True,
    )


@given(
    MOMENTS, st.sampled_from(["%Y-%m-%d %H:%M:%S,%f", "7:M %d %b %Y %H:%M:%S.%f", "%a %b %d %H:%M:%S.%f %Y"])
)
def test_what_is_written_without_a_zone_is_read(moment: datetime, form: str) -> None:
    unix = (moment - datetime(1970, 1, 1)) // timedelta(microseconds=1) * 1000
    assert stamp(f"{moment.strftime(form)} x", NEAR) == (unix, False)


@given(st.text() | st.text('0123456789-/:.,TZ+ {}"=timeJanNov[]I'), st.integers(-(1 << 62), 1 << 62))
def test_any_line_has_a_time_near_the_run_or_none(line: str, near: int) -> None:
    told = stamp(line, near)
    assert told is None or abs(told.unix - near) < FAR
