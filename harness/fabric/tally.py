"""Numbered frames on a probe connection, of which each may come never, changed, late, or more than once."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.fabric.probe import FRAME, HEADER

SIZE = FRAME + 40  # bytes of a frame


@dataclass
class Tally:
    """What arrived of the frames that were sent at one instant on the connection `number`.

    `first` are the places at which numbers came first, `times` how often each came, `changed` those whose
    first copy was not as it was sent, `quickest` the smallest one-way time in seconds; `strange` says what
    cannot be explained by any message fault.
    """

    number: int
    sent: int
    stamp: int
    first: dict[int, int] = field(default_factory=dict)
    times: dict[int, int] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    arrived: int = 0
    quickest: float = float("inf")
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
            self.quickest = min(self.quickest, took)
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


__all__ = ["SIZE", "Tally"]
