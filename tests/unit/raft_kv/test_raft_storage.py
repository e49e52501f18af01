"""The disk: what was saved comes back, whatever instant the node was killed at."""

from __future__ import annotations

from pathlib import Path

import pytest

from targets.raft_kv.node.log import Snapshot
from targets.raft_kv.node.storage import Saved, Storage, StorageError, Write
from targets.raft_kv.node.store import Entry


def entries(*terms: int) -> list[Entry]:
    return [(term, "s", place, "write", "k", place) for place, term in enumerate(terms)]


def reopen(directory: Path) -> Saved:
    storage = Storage(directory)
    try:
        return storage.load()
    finally:
        storage.close()


def write(directory: Path, *writes: Write) -> None:
    storage = Storage(directory)
    storage.load()
    for each in writes:
        storage.save(each)
    storage.close()


def test_nothing_at_first(tmp_path: Path) -> None:
    assert reopen(tmp_path) == Saved()


def test_vote_and_entries_come_back_and_conflicts_are_replaced(tmp_path: Path) -> None:
    write(tmp_path, Write(1, "n2", 1, entries(1, 1, 1)), Write(2, "", 2, entries(2)), Write(3, "n1", 3, ()))
    saved = reopen(tmp_path)
    assert (saved.term, saved.voted) == (3, "n1")
    assert [entry[0] for entry in saved.entries] == [1, 2]


def test_a_torn_tail_is_cut_at_every_byte(tmp_path: Path) -> None:
    write(tmp_path, Write(1, "n1", 1, entries(1)))
    whole = (tmp_path / "log").read_bytes()
    write(tmp_path, Write(1, "n1", 2, entries(1)))
    both = (tmp_path / "log").read_bytes()
    for end in range(len(whole), len(both)):
        (tmp_path / "log").write_bytes(both[:end])
        assert len(reopen(tmp_path).entries) == 1
        assert (tmp_path / "log").read_bytes() == whole  # so that nothing old can follow what comes next


def test_a_damaged_record_ends_the_log(tmp_path: Path) -> None:
    write(tmp_path, Write(1, "n1", 1, entries(1)))
    length = len((tmp_path / "log").read_bytes())
    write(tmp_path, Write(2, "n1", 2, entries(2)), Write(3, "n1", 3, entries(3)))
    raw = bytearray((tmp_path / "log").read_bytes())
    raw[length + 12] ^= 1
    (tmp_path / "log").write_bytes(raw)
    saved = reopen(tmp_path)
    assert saved.term == 1 and len(saved.entries) == 1


def test_a_snapshot_replaces_the_log(tmp_path: Path) -> None:
    snapshot = Snapshot(2, 1, 99, b"state")
    write(
        tmp_path,
        Write(1, "n1", 1, entries(1, 1, 1)),
        Write(1, "n1", 3, entries(1), snapshot),
        Write(1, "n1", 4, entries(1)),
    )
    saved = reopen(tmp_path)
    assert saved.snapshot == snapshot and len(saved.entries) == 2 and saved.term == 1


@pytest.mark.parametrize("term, kept", [(1, 1), (2, 0)], ids=["follows", "conflicts"])
def test_killed_between_snapshot_and_log(tmp_path: Path, term: int, kept: int) -> None:
    write(tmp_path, Write(1, "n1", 1, entries(1, 1, 1)))
    old = (tmp_path / "log").read_bytes()
    write(tmp_path, Write(2, "n1", 3, entries(1), Snapshot(2, term, 0, b"state")))
    (tmp_path / "log").write_bytes(old)
    assert len(reopen(tmp_path).entries) == kept


def test_a_half_written_snapshot_has_no_name(tmp_path: Path) -> None:
    write(tmp_path, Write(1, "n1", 1, entries(1)))
    (tmp_path / "snapshot.new").write_bytes(b"half")
    assert len(reopen(tmp_path).entries) == 1


def test_a_damaged_snapshot_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, Write(1, "n1", 1, (), Snapshot(2, 1, 0, b"state")))
    raw = bytearray((tmp_path / "snapshot").read_bytes())
    raw[-1] ^= 1
    (tmp_path / "snapshot").write_bytes(raw)
    with pytest.raises(StorageError, match="damaged"):
        reopen(tmp_path)


def test_one_node_per_directory(tmp_path: Path) -> None:
    first = Storage(tmp_path)
    with pytest.raises(StorageError, match="in use"):
        Storage(tmp_path)
    first.close()
    Storage(tmp_path).close()
