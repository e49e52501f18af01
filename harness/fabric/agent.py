"""The harness's end inside network namespaces: makes sockets there, runs commands there, reads what is there.

A file of standard library, served over a Unix socket per namespace (``DIR/NAME.sock``): a JSON line asks, a
JSON line answers, sockets travel as descriptors. A socket belongs for ever to the namespace it was made in,
whoever uses it: so the test process itself connects, listens and measures inside, without entering.

``agent.py here DIR NAME`` serves the namespace it was started in, as process 1 of a container.
``agent.py make DIR NAME...`` makes a namespace for each NAME, in threads of its own; where it is not root, in
a user namespace of its own first, so that nothing of it needs privilege.
"""

from __future__ import annotations

import array
import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
MOST = 200  # descriptors in one message; the kernel takes 253
RESTORE = ("iptables-restore", "--noflush", "--verbose")
READ_AHEAD = 1 << 16  # bytes that iptables-restore wants to have before it begins, unless its input ends


class Filter:
    """This namespace's packet filter, by one iptables-restore that is kept open: each text is a load.

    One that ends waits, before it does, until the kernel has freed the rules that it took away, and has every
    other load wait with it: some 20 ms, while what it loaded is in force after one.
    """

    def __init__(self) -> None:
        self.turn = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.said = -1
        self.loads = 0

    def load(self, rules: str, within: float) -> str:
        """Have `rules` in force; '' then, else what iptables-restore complained of."""
        with self.turn:
            if self.process is None or self.process.poll() is not None:
                self.start()
            self.loads += 1
            mark = f"# load {self.loads} is in force"  # a comment, which it repeats when it comes to it
            return self.exchange(f"{rules}{mark}\n".encode(), mark.encode(), within)

    def start(self) -> None:
        """A terminal for its output, which another program would keep to itself until there is more."""
        if self.said >= 0:
            os.close(self.said)
        self.said, theirs = os.openpty()
        try:
            self.process = subprocess.Popen(
                RESTORE, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, bufsize=0
            )
        finally:
            os.close(theirs)
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n" * READ_AHEAD)
        os.set_blocking(self.process.stdin.fileno(), False)

    def exchange(self, text: bytes, mark: bytes, within: float) -> str:
        """Write `text`, and read until `mark` comes: both at once, as neither side takes all at once."""
        assert self.process is not None and self.process.stdin is not None
        inward, said, deadline = self.process.stdin.fileno(), b"", time.monotonic() + within
        poller = select.poll()
        poller.register(self.said, select.POLLIN)
        poller.register(inward, select.POLLOUT)
        while mark not in said:
            ready = dict(poller.poll(max(deadline - time.monotonic(), 0) * 1e3))
            if not ready:
                self.process.kill()
                return f"it was not done within {within:g} s"
            if inward in ready:
                with contextlib.suppress(BlockingIOError, BrokenPipeError):  # what it says tells why
                    text = text[os.write(inward, text) :]
                if not text or ready[inward] & select.POLLERR:
                    poller.unregister(inward)
            if self.said in ready:
                try:
                    said += os.read(self.said, 1 << 16)
                except OSError:  # it has ended
                    code = self.process.wait()
                    return f"it ended with code {code}: {said.decode(errors='replace').strip()}"
        return ""


class Agent:
    """One namespace: the one in which this object's thread is."""

    def __init__(self, path: str) -> None:
        self.listener = listen(path)
        self.filter = Filter()

    def serve(self) -> None:
        """Answer whoever connects, each in a thread that inherits this namespace."""
        while True:
            connection, _ = self.listener.accept()
            threading.Thread(target=self.talk, args=(connection,), daemon=True).start()

    def talk(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, contextlib.suppress(OSError):
            for line in lines:
                request = json.loads(line)
                descriptors: list[int] = []
                try:
                    answer = getattr(self, "do_" + request.pop("do"))(descriptors, **request)
                except Exception as error:
                    answer = {"error": f"{type(error).__name__}: {error}"}
                self.answer(connection, answer, descriptors)

    def answer(self, connection: socket.socket, answer: dict[str, Any], descriptors: list[int]) -> None:
        data = json.dumps(answer).encode() + b"\n"
        if descriptors:  # with the first byte only: they would be passed again with each
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
            data = data[connection.sendmsg([data[:1]], [rights]) :]
            for descriptor in descriptors:
                os.close(descriptor)
        connection.sendall(data)

    # ------------------------------------------------------------------ what can be asked for

    def do_sockets(self, descriptors: list[int], kinds: list[list[int]]) -> dict[str, Any]:
        """New sockets of this namespace: (family, type, protocol) each."""
        for family, kind, protocol in kinds[:MOST]:
            descriptors.append(socket.socket(family, kind, protocol).detach())
        return {}

    def do_run(
        self, descriptors: list[int], argv: list[str], stdin: str = "", within: float = 10.0
    ) -> dict[str, Any]:
        """A command's output, or how it failed."""
        done = subprocess.run(argv, input=stdin, text=True, capture_output=True, timeout=within)
        return {"code": done.returncode, "out": done.stdout, "err": done.stderr}

    def do_restore(self, descriptors: list[int], rules: str, within: float = 10.0) -> dict[str, Any]:
        """Have rules of iptables-restore in force, or say why not."""
        return {"err": self.filter.load(rules, within)}

    def do_read(self, descriptors: list[int], path: str) -> dict[str, Any]:
        """A file's text as this namespace sees it (``/proc/thread-self/net/tcp``)."""
        with open(path) as file:
            return {"out": file.read()}

    def do_spawn(self, descriptors: list[int], argv: list[str]) -> dict[str, Any]:
        """Start a program whose standard input and output are one socket, handed out; it ends when that
        does."""
        ours, theirs = socket.socketpair()
        with theirs:
            started = subprocess.Popen(argv, stdin=theirs.fileno(), stdout=theirs.fileno())
        threading.Thread(target=started.wait, daemon=True).start()
        descriptors.append(ours.detach())
        return {"pid": started.pid}

    def do_namespace(self, descriptors: list[int]) -> dict[str, Any]:
        """Where another process finds this namespace, to enter it."""
        task = f"/proc/{os.getpid()}/task/{threading.get_native_id()}"
        return {"net": f"{task}/ns/net", "user": f"{task}/ns/user"}


def listen(path: str) -> socket.socket:
    """A Unix socket at `path`, however long that is (the kernel's limit is 107 bytes)."""
    directory = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)
    listener = socket.socket(socket.AF_UNIX)
    try:
        short = f"/proc/self/fd/{directory}/{os.path.basename(path)}"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(short)  # of an earlier start of the same container
        listener.bind(short)
        os.chmod(short, 0o666)  # its directory keeps others out
    finally:
        os.close(directory)
    listener.listen(64)
    return listener


def libc(name: str, *arguments: int) -> None:
    """Call a function of the C library. Raises OSError."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def own_users() -> None:
    """Enter a user namespace in which this user is root; then die with the parent, as before."""
    uid, gid, parent = os.getuid(), os.getgid(), os.getppid()
    libc("unshare", CLONE_NEWUSER)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    libc("prctl", PR_SET_DUMPABLE, 1, 0, 0, 0)  # new credentials undo both
    libc("prctl", PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def make(directory: str, names: list[str]) -> None:
    """A namespace for each of `names`, each served by threads of its own."""
    if os.getuid() != 0:
        own_users()
    failed: list[str] = []

    def one(name: str) -> None:
        try:
            libc("unshare", CLONE_NEWNET)
            agent = Agent(os.path.join(directory, f"{name}.sock"))
        except OSError as error:
            failed.append(f"{name}: {error}")
            return
        finally:
            ready.release()
        agent.serve()

    ready = threading.Semaphore(0)
    for name in names:
        threading.Thread(target=one, args=(name,)).start()
    for _ in names:
        ready.acquire()
    print("failed " + "; ".join(failed) if failed else "ready", flush=True)
    if failed:
        os._exit(1)


def main() -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    how, directory, *names = sys.argv[1:]
    try:
        if how == "make":
            make(directory, names)
        else:
            Agent(os.path.join(directory, f"{names[0]}.sock")).serve()
    except OSError as error:
        print(f"failed {error}", flush=True)
        os._exit(1)


if __name__ == "__main__":
    main()
