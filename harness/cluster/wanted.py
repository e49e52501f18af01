"""What a target wants of a node's container, divided among its pod, itself and the files put into it."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from harness.cluster.lock import ClusterError
from harness.target import File

# a container that joins another's network has that one's names and resolver
POD = ("hostname", "domainname", "dns", "dns_search", "dns_opt", "extra_hosts")
_ITSELF = "the harness decides that itself"
_NETWORK = "every node has the fabric's network, or faults would not reach it"
REFUSED = {
    **dict.fromkeys(
        ("network", "network_mode", "networking_config", "network_disabled", "mac_address"), _NETWORK
    ),
    **dict.fromkeys(("name", "image", "detach", "stdout", "stderr", "stream", "remove"), _ITSELF),
    "ports": "clients enter by the harness's own ports; what a node listens on is said in Target.ports",
    "restart_policy": "it would undo a kill",
    "auto_remove": "a killed node is started again with its files",
    "privileged": "it gives the container this whole machine; valid is cap_add with what is needed",
    "tty": "its log is read, which a terminal garbles",
    "pid_mode": "a node's processes are its own, or a kill of one would be a kill of others",
    "ipc_mode": "nodes share no memory: it would pass the fabric by",
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """`pod` and `container` are options as the engine's client takes them, `files` texts by path."""

    pod: Mapping[str, Any] = field(default_factory=dict)
    container: Mapping[str, Any] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()
    files: Mapping[str, File] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any], where: str) -> Wanted:
        """From what `Target.container` returned. Raises ClusterError for what cannot be honoured.

        >>> wanted = Wanted.of({"hostname": "db", "user": "redis"}, "container(n1)")
        >>> wanted.pod, wanted.container
        ({'hostname': 'db'}, {'user': 'redis'})
        """
        given = dict(options)
        if given.get("restart_policy", {}).get("Name", "no") in ("", "no"):
            given.pop("restart_policy", None)
        for key, why in REFUSED.items():
            if given.get(key):
                raise ClusterError(f"{where} has {key}={given[key]!r}, which cannot be honoured: {why}")
        aliases, files = given.pop("aliases", ()), given.pop("files", {})
        if isinstance(aliases, str):
            raise ClusterError(f"{where} has aliases={aliases!r}; expected several names: [{aliases!r}]")
        for path in files:
            if not str(path).startswith("/"):
                raise ClusterError(
                    f"{where} has the file {path!r}; expected an absolute path of the container"
                )
        if not isinstance(given.get("volumes", {}), Mapping):
            raise ClusterError(
                f"{where} has volumes={given['volumes']!r}; "
                f"expected {{source: {{'bind': place, 'mode': 'ro'}}}}"
            )
        pod = {key: given.pop(key) for key in POD if key in given}
        sysctls = dict(given.pop("sysctls", {}))
        if net := {key: sysctls.pop(key) for key in list(sysctls) if key.startswith("net.")}:
            pod["sysctls"] = net
        if sysctls:
            given["sysctls"] = sysctls
        return cls(
            pod,
            given,
            tuple(aliases),
            {str(path): one if isinstance(one, File) else File(one) for path, one in files.items()},
        )

    def archive(self) -> bytes:
        """The files as a tar archive for the root directory."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w") as archive:
            for path, one in self.files.items():
                entry, content = tarfile.TarInfo(path.lstrip("/")), one.text.encode()
                entry.size, entry.mode, entry.mtime = len(content), one.mode, int(time.time())
                entry.uid, entry.gid = one.uid, one.gid
                archive.addfile(entry, io.BytesIO(content))
        return packed.getvalue()


__all__ = ["Wanted"]
