"""When a line of a log says it was written, in the forms that programs use."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from harness.history import NANOSECONDS

HEAD = 64
"""Characters within which a time begins, unless a name before it says that it is one."""
FAR = 20 * 365 * 86_400 * NANOSECONDS
"""ns; what is further off than any clock is set by a fault is not when the line was written."""

_EPOCH = datetime(1970, 1, 1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_NAME = rf"(?P<name>{'|'.join(_MONTHS)})"
_CLOCK = r"(?P<hour>\d\d?):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,](?P<fraction>\d{1,18}))?"
_END = r"(?![\w:]|[.,]\d)"
_ZONE = rf"(?P<zone> ?(?:Z|UTC|GMT|[+-]\d\d:?\d\d)|[+-]\d\d)?{_END}"
_FORMS = tuple(
    re.compile(form, re.ASCII)
    for form in (
        # ISO 8601 and its likes: Go, Python, log4j
        rf"(?<!\d)(?P<year>\d{{4}})[-/.](?P<month>\d\d)[-/.](?P<day>\d\d)[ T_]{{1,2}}{_CLOCK}{_ZONE}",
        # redis, and what web servers write
        rf"(?<!\d)(?P<day>\d\d?)[ /-]{_NAME}[ /-](?P<year>\d{{4}})[ :]{_CLOCK}{_ZONE}",
        # syslog, ctime
        rf"\b{_NAME} {{1,2}}(?P<day>\d\d?) {_CLOCK}(?: (?P<year>\d{{4}}))?{_END}",
        # klog
        rf"^[IWEFD](?P<year>\d\d)?(?P<month>\d\d)(?P<day>\d\d) {_CLOCK}{_END}",
    )
)
_NUMBER = re.compile(r"(?P<number>[1-9]\d{9}(?:\d{3}){0,3})(?:\.(?P<fraction>\d{1,18}))?(?![\w.])", re.ASCII)
_NAMED = re.compile(
    r"""(?:^|[\s,{(\[])["']?@?(?:t|ts|time|timestamp|datetime|date|\$date)["']?\s{0,4}[=:]\s{0,4}["']?""",
    re.ASCII | re.IGNORECASE,
)


class Stamp(NamedTuple):
    """A time as a line tells it, in ns since 1970; where it names no zone (`zoned`), as if it were UTC."""

    unix: int
    zoned: bool


def stamp(line: str, near: int) -> Stamp | None:
    """The time in `line`, or None; within `FAR` of `near` (ns since 1970), which also decides a missing year.

    >>> near = 1_795_849_200 * 10**9
    >>> stamp("7:M 28 Nov 2026 07:00:00.123 * Ready", near)
    Stamp(unix=1795849200123000000, zoned=False)
    >>> stamp('{"level":"info","ts":1795849200.5}', near)
    Stamp(unix=1795849200500000000, zoned=True)
    """
    for found in _matches(line):
        told = None if found is None else _read(found, near)
        if told is not None and abs(told.unix - near) < FAR:
            return told
    return None


def _matches(line: str) -> Iterator[re.Match[str] | None]:
    """Whatever looks like the time of `line`, the likeliest first."""
    if not line.startswith("{"):  # in JSON a time has a name
        yield _NUMBER.match(line, 1 if line[:1] in ("[", "(", "<") else 0)
        for form in _FORMS:
            found = form.search(line, 0, 2 * HEAD)
            yield found if found and found.start() < HEAD else None
    for name in _NAMED.finditer(line):
        for form in (*_FORMS, _NUMBER):
            yield form.match(line, name.end())


def _read(found: re.Match[str], near: int) -> Stamp | None:
    part = found.groupdict()
    if number := part.get("number"):  # of seconds, of milli-, micro- or nanoseconds
        unit = 10 ** (19 - len(number))
        return Stamp(int(number) * unit + _fraction(part["fraction"], unit), True)
    month = _MONTHS.index(part["name"]) + 1 if part.get("name") else int(part["month"])
    day, hour, minute, second = (int(part[name]) for name in ("day", "hour", "minute", "second"))
    moments = []
    for year in _years(part["year"], near):
        with contextlib.suppress(ValueError):  # there is no such day, or no such hour
            since = datetime(year, month, day, hour, minute, second) - _EPOCH
            moments.append(since // timedelta(seconds=1) * NANOSECONDS)
    if not moments:
        return None
    zone = part.get("zone")
    unix = min(moments, key=lambda moment: abs(moment - near))
    unix += _fraction(part["fraction"], NANOSECONDS) - _east(zone) * NANOSECONDS
    return Stamp(unix, zone is not None)


def _years(told: str | None, near: int) -> tuple[int, ...]:
    if told:
        return (int(told) + (2000 if len(told) == 2 else 0),)
    year = datetime.fromtimestamp(near // NANOSECONDS, UTC).year
    return year - 1, year, year + 1


def _fraction(digits: str | None, unit: int) -> int:
    return int(digits) * unit // 10 ** len(digits) if digits else 0


def _east(zone: str | None) -> int:
    """How far a zone is east of UTC, in seconds."""
    if zone is None or (zone := zone.strip()) in ("Z", "UTC", "GMT"):
        return 0
    digits = zone[1:].replace(":", "")
    size = int(digits[:2]) * 3600 + int(digits[2:] or 0) * 60
    return -size if zone[0] == "-" else size


__all__ = ["Stamp", "stamp"]
