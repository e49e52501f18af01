"""Raft, pure of input and output: messages and time go in, messages and writes come out.

Source: D. Ongaro, J. Ousterhout, "In Search of an Understandable Consensus Algorithm (extended
version)", 2014: elections 5.2, replication 5.3, safety 5.4, snapshots 7, clients 8; pre-vote, check
quorum, read index and leases from Ongaro's dissertation, 9.6, 6.2, 6.4 and 6.4.1. The planted bugs (bugs.py)
are the lines that mention ``self.bug``. Only a lease reads a clock by itself.

Whoever drives it repeats: `receive` what came and `tick`; `pump`; send `early`; save `take_write()`;
`saved()`; send `late`. So a leader's disk works while its entries travel, and nobody promises (a vote,
an acknowledgement) what is not on disk.

Messages are tuples ``(kind, term, ...)``:
  ("vote?", term, pre, last_index, last_term)          ("vote!", term, pre, granted)
  ("append", term, previous_index, previous_term, entries, commit, round)
  ("snapshot", term, index, snapshot_term, digest, blob, round)
  ("ack", term, ok, index, hint, round)    ok: `index` matches; else `index` was refused, `hint` may match
"""

from __future__ import annotations

import marshal
from collections import deque
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Any
from zlib import crc32

from .lease import MACHINE, Clocks, Lease
from .log import Log, Snapshot
from .storage import Saved, Write
from .store import Entry, Store

Message = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Timing:
    """Seconds: a leader's `heartbeat`, the range from which each election time-out is drawn, and `loyal`:
    a node that heard its leader within that time supports no other (pre-vote)."""

    heartbeat: float = 0.06
    election: tuple[float, float] = (0.3, 0.6)
    loyal: float = 0.3


@dataclass(slots=True)
class Follower:
    """What a leader knows of one peer. `sent` are the last indexes of the messages under way."""

    next: int
    heard: float
    match: int = 0
    round: int = 0
    probing: bool = True
    snapshot_until: float = 0.0
    sent: deque[int] = field(default_factory=deque)

    def probe(self, following: int) -> None:
        """Go back to `following`, one message at a time until one fits."""
        self.next, self.probing, self.snapshot_until = following, True, 0.0
        self.sent.clear()


class Raft:
    """One node's part in Raft.

    With `lease_reads` a leader answers reads by itself while it holds a lease, and nodes keep to what that
    needs of them: who heard a leader, or started, less than `Timing.loyal` ago has no vote for another.

    Outcomes collect in `answers` (token, result), `dropped` (tokens whose fate this node no longer
    knows) and `events`; the driver empties them.
    """

    window = 4  # messages under way per peer
    batch = 512  # entries per message

    def __init__(
        self, name: str, peers: Iterable[str], saved: Saved, *, now: float, random: Random,
        timing: Timing = Timing(), snapshot_every: int = 10_000, audit: bool = False, bug: str | None = None,
        lease_reads: bool = False, clocks: Clocks = MACHINE,
    ) -> None:  # fmt: skip
        self.name, self.peers = name, tuple(peers)
        self.quorum = (len(self.peers) + 1) // 2 + 1
        self.timing, self.snapshot_every, self.audit, self.bug = timing, snapshot_every, audit, bug
        self.random = random
        self.lease_reads, self.clocks = lease_reads, clocks
        self.lease: Lease | None = None  # of a leader
        self.leased = 0  # reads that a lease answered
        self.term, self.voted = saved.term, saved.voted
        self.log = Log(saved.snapshot, saved.entries)
        self.store = Store(bug)
        if saved.snapshot.blob:
            self.store.load(saved.snapshot.blob)
        self.commit = self.applied = saved.snapshot.index
        self.digest = saved.snapshot.digest
        self.role, self.leader, self._told = "", "", -1
        self.followers: dict[str, Follower] = {}
        self.granted: set[str] = set()
        # When a leader was last heard; who restarts may have promised one a lease just before.
        self.heard = now if lease_reads else now - timing.election[1]
        self.election_due = self.heartbeat_due = 0.0
        self.durable = self.log.last
        self.barrier = 0  # the no-op of this leader's term
        self.round = 0  # numbers the leader's appends, so that acknowledgements say what they confirm
        self.asked: list[tuple[Hashable, Any]] = []  # reads that wait for a round
        self.reading: deque[tuple[int, int, Hashable, Any]] = deque()  # (round, index, token, key)
        self.waiting: dict[int, Hashable] = {}  # index -> token
        self.early: list[tuple[str, Message]] = []
        self.late: list[tuple[str, Message]] = []
        self.answers: list[tuple[Hashable, Any]] = []
        self.dropped: list[Hashable] = []
        self.events: list[tuple[str, dict[str, Any]]] = []
        self._unsaved = self.log.last + 1
        self._new_vote = self._new_snapshot = False
        self._await_leader(now)
        self._become("follower")

    # ------------------------------------------------------------------ time

    def tick(self, now: float) -> None:
        """Do what is due at `now` (monotonic seconds)."""
        if self.role != "leader":
            if now >= self.election_due:
                self._campaign(now, pre=True)
            return
        heard = sorted((f.heard for f in self.followers.values()), reverse=True)
        alone = self.quorum > 1 and heard[self.quorum - 2] < now - self.timing.election[1]
        if alone and self.bug != "deposed_reads" and not (self.lease and self.lease.holds()):
            self._follow(self.term, "", now)
        elif now >= self.heartbeat_due:
            self._broadcast(now)

    def _await_leader(self, now: float) -> None:
        self.election_due = now + self.random.uniform(*self.timing.election)

    # ------------------------------------------------------------------ clients

    def propose(self, token: Hashable, session: str, number: int, f: str, key: Any, value: Any) -> None:
        """Append a command to the leader's log; its result comes to `answers` when it is applied."""
        index = self.log.append((self.term, session, number, f, key, value))
        self.waiting[index] = token
        if self.bug == "early_ack" and f != "cas":
            self.answers.append((self.waiting.pop(index), None))

    def serves(self, f: str) -> bool:
        """Whether this node may take a request of kind `f` itself."""
        return self.role == "leader" or (self.bug == "stale_reads" and f == "read")

    def read(self, token: Hashable, key: Any) -> None:
        """Read `key`: answered once a majority confirmed that this leader still led after the call.

        A leader that holds a lease knows that it leads, and answers at once.
        """
        if self.bug in ("stale_reads", "deposed_reads"):
            self.answers.append((token, self.store.read(key)))
            return
        if self.lease and self.applied >= self.barrier:
            # The value first, the clock second. While the lease holds nobody else leads, so nobody had
            # overwritten the value when it was taken, and that was after the request came: this is the
            # read's instant. If the process stands still from here on, the answer is late and no less true.
            # The `now` with which the turn began would not do: a process that stood still since then would
            # take for valid a lease that was over before the read began.
            value = self.store.read(key)
            if self.lease.holds():
                self.leased += 1
                self.answers.append((token, value))
                return
        self.asked.append((token, key))

    # ------------------------------------------------------------------ elections

    def _campaign(self, now: float, pre: bool) -> None:
        if not pre:
            self.term, self.voted, self._new_vote = self.term + 1, self.name, True
        self._become("pre-candidate" if pre else "candidate")
        self.leader = ""
        self._await_leader(now)
        self.granted = {self.name}
        last = self.log.last
        ask = ("vote?", self.term + pre, pre, last, self.log.term(last))
        self.late += [(peer, ask) for peer in self.peers]
        self._count_votes(now)

    def _count_votes(self, now: float) -> None:
        if len(self.granted) < self.quorum:
            return
        if self.role == "pre-candidate":
            self._campaign(now, pre=False)
        elif self.role == "candidate":
            self._lead(now)

    def _lead(self, now: float) -> None:
        last = self.log.last
        self.leader = self.name
        self.followers = {peer: Follower(next=last + 1, heard=now) for peer in self.peers}
        self.round = 0
        if self.lease_reads:
            clock = self.clocks.wall if self.bug == "lease_by_wall_clock" else self.clocks.monotonic
            self.lease = Lease(self.timing.loyal, clock)
        self._become("leader")
        if self.bug != "counts_old_terms":
            self.log.append((self.term, "", 0, "noop", None, None))
        self.barrier = self.log.last
        self._broadcast(now)

    def _follow(self, term: int, leader: str, now: float) -> None:
        """Be a follower in `term`; whatever waited on this node's leadership is dropped."""
        if term > self.term:
            self.term, self.voted, self._new_vote = term, "", True
        if self.role == "leader":
            self._await_leader(now)
            self.dropped += [*self.waiting.values(), *(read[2] for read in self.reading)]
            self.dropped += [token for token, _ in self.asked]
            self.waiting.clear()
            self.reading.clear()
            self.asked.clear()
            self.lease = None
        self._become("follower")
        self.leader = leader

    def _become(self, role: str) -> None:
        if (role, self.term) != (self.role, self._told):
            self.role, self._told = role, self.term
            self.events.append(("role", {"role": role, "term": self.term}))
            if role == "leader" and self.audit:
                self.events.append(("log", self._describe()))

    def _asked_for_vote(self, peer: str, message: Message, now: float) -> None:
        _, term, pre, last_index, last_term = message
        last = self.log.last
        current = (last_term, last_index) >= (self.log.term(last), last)
        if pre:
            led = self.role == "leader" or now - self.heard < self.timing.loyal
            grant = term > self.term and current and not led
        else:
            grant = term == self.term and current and self.voted in ("", peer)
        if self.bug == "random_votes":
            grant = self.random.random() < 0.5
        if grant and not pre:
            self.voted, self._new_vote = peer, True
            self._await_leader(now)
        self.late.append((peer, ("vote!", term if grant else self.term, pre, grant)))

    # ------------------------------------------------------------------ messages

    def receive(self, peer: str, message: Message, now: float) -> None:
        """Take one message from `peer`; stale ones are told by their terms."""
        kind, term = message[0], message[1]
        if kind == "vote?" and not message[2] and self.lease_reads and now - self.heard < self.timing.loyal:
            return  # its term is not taken over either: the leader that was heard may hold a lease
        of_pre_vote = (kind == "vote?" and message[2]) or (kind == "vote!" and message[2] and message[3])
        if term > self.term and not of_pre_vote:
            self._follow(term, "", now)
        if kind == "vote?":
            self._asked_for_vote(peer, message, now)
        elif kind == "vote!":
            _, _, pre, grant = message
            wanted = ("pre-candidate", self.term + 1) if pre else ("candidate", self.term)
            if grant and (self.role, term) == wanted:
                self.granted.add(peer)
                self._count_votes(now)
        elif kind == "ack":
            if term == self.term and self.role == "leader":
                self._acknowledged(self.followers[peer], message, now)
        elif term < self.term:
            self.late.append((peer, ("ack", self.term, False, 0, 0, 0)))
        elif self.role != "leader":  # two leaders in one term: only a planted bug gets here, and it stays
            self.heard = now
            self._follow(term, peer, now)
            self._await_leader(now)
            if kind == "append":
                self._append(peer, message)
            else:
                self._install(peer, message)

    def _append(self, peer: str, message: Message) -> None:
        _, _, previous, previous_term, entries, commit, round_ = message
        log = self.log
        upto = previous + len(entries)
        if previous < log.snapshot.index:  # the snapshot holds this part already, and it is committed
            entries = entries[log.snapshot.index - previous :]
            previous = log.snapshot.index
        elif log.term(previous) != previous_term and not (self.bug == "no_truncate" and previous <= log.last):
            self.late.append((peer, ("ack", self.term, False, previous, self._hint(previous), round_)))
            return
        first = previous + 1
        for place, entry in enumerate(entries):
            if self.bug == "no_truncate" and first + place <= log.last:
                continue
            if log.term(first + place) != entry[0]:
                log.put(first + place, entries[place:])
                self._unsaved = min(self._unsaved, first + place)
                break
        self.commit = max(self.commit, min(commit, upto))
        self._apply()
        self.late.append((peer, ("ack", self.term, True, upto, 0, round_)))

    def _hint(self, refused: int) -> int:
        """The last index that may still match, one conflicting term back (section 5.3)."""
        if refused > self.log.last:
            return self.log.last
        conflicting, index = self.log.term(refused), refused - 1
        while index > self.commit and self.log.term(index) == conflicting:
            index -= 1
        return index

    def _install(self, peer: str, message: Message) -> None:
        _, _, index, snapshot_term, digest, blob, round_ = message
        if index > self.commit:
            self.log.compact(Snapshot(index, snapshot_term, digest, blob))
            self.store.load(blob)
            self.commit = self.applied = index
            self.digest = digest
            self._unsaved, self._new_snapshot = self.log.last + 1, True
        self.late.append((peer, ("ack", self.term, True, index, 0, round_)))

    # ------------------------------------------------------------------ the leader's side

    def pump(self, now: float) -> None:
        """Send new entries and start the round that waiting reads need."""
        if self.role != "leader":
            return
        if self.asked and (self.log.last >= self._unsaved or self._confirmed() >= self.round):
            self._broadcast(now)
            return
        for peer, follower in self.followers.items():
            if follower.next <= self.log.last and not (follower.probing and follower.sent):
                self._send(peer, follower, now)

    def linked(self, peer: str) -> None:
        """The connection to `peer` is a new one: what was under way may be lost."""
        if self.role == "leader":
            follower = self.followers[peer]
            follower.probe(follower.match + 1 if follower.match else follower.next)

    def _broadcast(self, now: float) -> None:
        """A round to everyone, with the entries that each still needs."""
        self.round += 1
        if self.lease:
            self.lease.sending(self.round)
        self.reading += [(self.round, max(self.commit, self.barrier), *asked) for asked in self.asked]
        self.asked.clear()
        self.heartbeat_due = now + self.timing.heartbeat
        for peer, follower in self.followers.items():
            self._send(peer, follower, now, always=True)
        self._answer_reads()  # of a cluster of one
        self._extend_lease()

    def _send(self, peer: str, follower: Follower, now: float, always: bool = False) -> None:
        log = self.log
        previous = follower.next - 1
        if previous < log.snapshot.index:
            if now >= follower.snapshot_until:
                s = log.snapshot
                follower.snapshot_until, follower.probing = now + 10 * self.timing.election[1], True
                snapshot = ("snapshot", self.term, s.index, s.term, s.digest, s.blob, self.round)
                self.early.append((peer, snapshot))
                return
            previous = log.snapshot.index  # meanwhile heartbeats without entries, which it may refuse
        room = 0 if follower.sent and (follower.probing or len(follower.sent) >= self.window) else self.batch
        entries = log.slice(follower.next, room) if room and previous == follower.next - 1 else ()
        if not entries and not always:
            return
        self.early.append(
            (peer, ("append", self.term, previous, log.term(previous), entries, self.commit, self.round))
        )
        if entries:
            follower.sent.append(previous + len(entries))
            if not follower.probing:
                follower.next += len(entries)

    def _acknowledged(self, follower: Follower, message: Message, now: float) -> None:
        _, _, ok, index, hint, round_ = message
        follower.heard = now
        follower.round = max(follower.round, round_)
        if ok:
            while follower.sent and follower.sent[0] <= index:
                follower.sent.popleft()
            if index >= follower.match:
                follower.match = index
                follower.next = max(follower.next, index + 1)
                if follower.probing:
                    follower.probing = False
                    follower.sent.clear()
                self._count_copies()
        elif index > follower.match and (not follower.probing or index == follower.next - 1):
            follower.probe(max(follower.match, min(hint, index - 1)) + 1)
        self._answer_reads()
        self._extend_lease()

    def _count_copies(self) -> None:
        """Commit what a majority holds, if it is of this leader's own term (section 5.4.2)."""
        copies = sorted([self.durable, *(f.match for f in self.followers.values())], reverse=True)
        index = copies[self.quorum - 1]
        if index > self.commit and (self.log.term(index) == self.term or self.bug == "counts_old_terms"):
            self.commit = index
            self._apply()

    def _confirmed(self) -> int:
        """The last round in which a majority took this node for the leader."""
        rounds = sorted([self.round, *(f.round for f in self.followers.values())], reverse=True)
        return rounds[self.quorum - 1]

    def _extend_lease(self) -> None:
        if self.lease:
            self.lease.confirmed(self._confirmed())

    def _answer_reads(self) -> None:
        if self.reading:
            confirmed = self._confirmed()
            while self.reading and self.reading[0][0] <= confirmed and self.reading[0][1] <= self.applied:
                _, _, token, key = self.reading.popleft()
                self.answers.append((token, self.store.read(key)))

    # ------------------------------------------------------------------ applying and saving

    def _apply(self) -> None:
        first, before = self.applied + 1, self.digest
        batch: list[list[Any]] = []
        while self.applied < self.commit:
            self.applied += 1
            entry = self.log[self.applied]
            result = self.store.apply(entry)
            if self.audit:
                check = checksum(entry)
                self.digest = chained(self.digest, check)
                batch.append([entry[0], entry[2] if entry[1] else None, check])
            if (token := self.waiting.pop(self.applied, None)) is not None:
                self.answers.append((token, result))
        if batch:
            detail = {"term": self.term, "first": first, "before": before, "entries": batch}
            self.events.append(("apply", detail))
        if self.applied - self.log.snapshot.index >= self.snapshot_every:
            at = self.applied
            self.log.compact(Snapshot(at, self.log.term(at), self.digest, self.store.dump()))
            self._new_snapshot = True
        self._answer_reads()

    def _describe(self) -> dict[str, Any]:
        """A new leader's log: the digest of what it applied, and of each entry behind that."""
        digest, tail = self.digest, []
        for index in range(self.applied + 1, self.log.last + 1):
            digest = chained(digest, checksum(self.log[index]))
            tail.append([self.log.term(index), digest])
        return {"term": self.term, "applied": self.applied, "digest": self.digest, "tail": tail}

    def take_write(self) -> Write | None:
        """What must be on disk before `late` may be sent; None where nothing changed."""
        first = self._unsaved
        if not (self._new_vote or self._new_snapshot or first <= self.log.last):
            return None
        vote = (self.term, self.voted) if self.bug != "forgetful" else (0, "")
        snapshot = self.log.snapshot if self._new_snapshot else None
        if snapshot:
            first = self.log.first
        write = Write(*vote, first, self.log.slice(first, self.log.last - first + 1), snapshot)
        self._unsaved, self._new_vote, self._new_snapshot = self.log.last + 1, False, False
        return write

    def saved(self) -> None:
        """Everything taken by `take_write` is on disk: this node's own copy counts from now on."""
        self.durable = self._unsaved - 1
        if self.role == "leader":
            self._count_copies()

    def status(self) -> dict[str, Any]:
        """Role, term and indexes for whoever watches."""
        return {
            "role": self.role, "term": self.term, "leader": self.leader, "commit": self.commit,
            "applied": self.applied, "last": self.log.last, "snapshot": self.log.snapshot.index,
            "leased": self.leased,
        }  # fmt: skip


def chained(digest: int, check: int) -> int:
    """The digest of a log that goes on with an entry of checksum `check`."""
    return crc32(check.to_bytes(4, "little"), digest)


def checksum(entry: Entry) -> int:
    """The same on every node (marshal's later versions mark shared references)."""
    return crc32(marshal.dumps(entry, 2))
