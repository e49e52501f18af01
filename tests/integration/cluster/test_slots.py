"""Slots: how many clusters run at once, over threads, processes and sessions."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from harness.cluster import ClusterError
from harness.cluster.slots import Slot

HOLD = """
import sys
from pathlib import Path
from harness.cluster.slots import Slot
slot = Slot.take(1, base=Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_next_one_waits_until_a_slot_is_free(tmp_path: Path) -> None:
    first, second = Slot.take(2, base=tmp_path), Slot.take(2, base=tmp_path)
    said, third = list[str](), list[Slot]()
    heard = threading.Event()

    def progress(text: str) -> None:
        said.append(text)
        heard.set()

    thread = threading.Thread(target=lambda: third.append(Slot.take(2, progress=progress, base=tmp_path)))
    thread.start()
    assert heard.wait(10) and not third and said == ["waiting for one of 2 slots"]
    second.release()
    thread.join(10)
    assert third
    for slot in (first, second, *third):
        slot.release()
    Slot.take(1, base=tmp_path).release()


def test_a_slot_ends_with_its_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdin=pipe, stdout=pipe) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == b"held\n"
        monkeypatch.setattr("harness.cluster.slots.WITHIN", 0.1)
        with pytest.raises(ClusterError, match=r"1 clusters have been running .* raise --nemesis-slots"):
            Slot.take(1, base=tmp_path)
        holder.kill()
        holder.wait()
        monkeypatch.undo()
        Slot.take(1, base=tmp_path).release()
