"""Takes every free byte of a file system until it is told to stop, or its standard input ends.

A file of standard library, started in a node's pod by its agent. What it takes is one file without a name,
so that nobody sees it and nothing is left however it ends. ``filler.py DIRECTORY`` answers a JSON line once
nothing is free, takes what comes free, and after a line on its input answers again once all is given back.
"""

from __future__ import annotations

import errno
import json
import os
import select
import sys

AGAIN = 0.02  # seconds between two looks for what came free
TRIES = 100  # to see it full, while the node sets free what it has


def free(directory: str) -> int:
    """Bytes that are free for everybody."""
    found = os.statvfs(directory)
    return found.f_bavail * found.f_frsize


class Filler:
    """One directory's file system, filled."""

    def __init__(self, directory: str) -> None:
        self.directory, self.taken = directory, 0
        self.file = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o600)

    def fill(self) -> None:
        """Take what is free, the last block too."""
        while room := free(self.directory):
            try:
                os.posix_fallocate(self.file, self.taken, room)
                self.taken += room
            except OSError as error:  # somebody else was quicker: less is free now
                if error.errno != errno.ENOSPC:
                    raise

    def write(self) -> str:
        """Write a byte to a new file; the error's name, or '' where it works."""
        try:
            file = os.open(self.directory, os.O_TMPFILE | os.O_RDWR, 0o600)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        try:
            os.write(file, b"\0")
            os.fsync(file)
        except OSError as error:
            return errno.errorcode.get(error.errno or 0, str(error))
        finally:
            os.close(file)
        return ""

    def look(self) -> dict[str, int | str]:
        """What there is now."""
        size = os.statvfs(self.directory)
        state = {"size": size.f_blocks * size.f_frsize, "taken": self.taken}
        return {**state, "error": self.write(), "free": free(self.directory)}

    def filled(self) -> dict[str, int | str]:
        """Fill; what there is then, looked at again where something came free just as it was looked at."""
        for _ in range(TRIES):
            self.fill()
            if not (state := self.look())["free"] and state["error"]:
                break
        return state


def tell(state: dict[str, int | str]) -> None:
    """Answer one line."""
    print(json.dumps(state), flush=True)


def main() -> None:
    try:
        filler = Filler(sys.argv[1])
        tell(filler.filled())
        while not select.select([0], [], [], AGAIN)[0]:
            filler.fill()
        if os.read(0, 1):
            os.ftruncate(filler.file, 0)
            tell(filler.look())
    except OSError as error:
        tell({"failed": str(error)})
        sys.exit(1)


if __name__ == "__main__":
    main()
