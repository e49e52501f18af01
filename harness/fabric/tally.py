"""Numbered frames on a probe connection, of which each may come never, changed, late, or more than once."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from harness.fabric.message_spec import Shares
from harness.fabric.probe import FRAME, HEADER

SIZE = FRAME + 40  # bytes of a frame


@dataclass
class Tally:
    """What arrived of the frames that were sent at one instant on the connection `number`.

    `first` are the places at which numbers came first, `times` how often each came, `changed` those whose
    first copy was not as it was sent, `quickest` and `slowest` the one-way times in seconds; `strange` says
    what cannot be explained by any message fault.
    """

    number: int
    sent: int
    stamp: int
    first: dict[int, int] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    arrived: int = 0
    quickest: float = float("inf")
    slowest: float = 0.0
    strange: str = ""
    _rest: bytearray = field(default_factory=bytearray)

    def frames(self) -> bytes:
        """All frames, to be sent at once."""
        return b"".join(map(self._frame, range(1, self.sent + 1)))

    def _frame(self, count: int) -> bytes:
        return HEADER.pack(self.number, count, SIZE, self.stamp) + bytes(SIZE - FRAME)

    def feed(self, data: bytes, now: int) -> None:
        """Take what has arrived at `now` (ns)."""
        self._rest += data
        place, took = 0, (now - self.stamp) / 1e9
        while len(self._rest) - place >= SIZE:
            frame = bytes(self._rest[place : place + SIZE])
            place += SIZE
            number, count, size, _ = HEADER.unpack_from(frame)
            if number != self.number or size != SIZE or not 1 <= count <= self.sent:
                self.strange = (
                    f"frame {count} of connection {number} with {size} bytes, where one of the frames"
                )
                self.strange += f" 1 to {self.sent} of {self.number} with {SIZE} bytes was due"
                break
            self.arrived += 1
            if count not in self.first:
                self.first[count] = self.arrived
                if frame != self._frame(count):
                    self.changed.add(count)
            self.times[count] = self.times.get(count, 0) + 1
            self.quickest, self.slowest = min(self.quickest, took), max(self.slowest, took)
        del self._rest[:place]

    @property
    def left(self) -> int:
        """Bytes of a frame that never became whole."""
        return len(self._rest)

    def overtaken(self, upto: int) -> int:
        """How many of the frames 1 to `upto` came after one that was sent later."""
        count, earliest = 0, self.arrived + 1
        for number in range(self.sent, 0, -1):
            place = self.first.get(number)
            if place is not None:
                count += number <= upto and earliest < place
                earliest = min(earliest, place)
        return count


@dataclass(frozen=True, slots=True)
class Counts:
    """Of `sent` messages, how many did not come, came more than once, were overtaken, and came changed."""

    sent: int = 0
    dropped: int = 0
    duplicated: int = 0
    overtaken: int = 0
    corrupted: int = 0

    @classmethod
    def of(cls, tally: Tally, number: int) -> Counts:
        """Those of the first `number` frames."""
        came = [n for n in range(1, number + 1) if n in tally.first]
        return cls(
            number,
            number - len(came),
            sum(tally.times[n] > 1 for n in came),
            tally.overtaken(number),
            sum(n in tally.changed for n in came),
        )

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def __str__(self) -> str:
        names = [f.name for f in fields(self) if f.name != "sent" and getattr(self, f.name)]
        seen = ", ".join(f"{getattr(self, name)} {name}" for name in names)
        return f"{self.sent} messages {seen or 'all came once, whole, in order'}"

    def judged(self, asked: Shares) -> tuple[tuple[str, int, int, float], ...]:
        """Each effect: its name, how many it had, of how many, and the share that was asked for."""
        return (
            ("dropped", self.dropped, self.sent, asked.missing),
            ("duplicated", self.duplicated, self.sent, asked.repeated),
            ("overtaken", self.overtaken, self.sent, asked.overtaken),
            ("corrupted", self.corrupted, self.sent - self.dropped, asked.corrupted),
        )


__all__ = ["SIZE", "Counts", "Tally"]
