"""Keys of a service that are not as in Compose: refused, or ignored with a sentence for the report."""

from __future__ import annotations

import re

from harness.compose.item import Item
from harness.compose.limits import KEYS as LIMITS

_HONOURED = (
    "build", "cap_add", "cap_drop", "command", "configs", "depends_on", "deploy", "dns", "dns_opt",
    "dns_search", "domainname", "entrypoint", "env_file", "environment", "expose", "extra_hosts",
    "group_add", "healthcheck", "hostname", "image", "init", "label_file", "labels", "links", "networks",
    "platform", "ports", "pull_policy", "read_only", "scale", "secrets", "security_opt", "stdin_open",
    "stop_grace_period", "stop_signal", "sysctls", "tmpfs", "tty", "user", "volumes", "working_dir",
    *LIMITS,
)  # fmt: skip

# without any effect on what a run is about
_SILENT = ("annotations", "attach", "develop", "profiles", "pull_refresh_after")
# handled here: some values are as good as none
_PARTLY = (
    "cgroup", "container_name", "ipc", "isolation", "logging", "network_mode", "pid", "privileged", "restart",
    "runtime", "userns_mode", "uts",
)  # fmt: skip

_LEAVE = "leave it out"
_REFUSED = {
    "blkio_config": f"it is about devices of this machine; {_LEAVE}",
    "cgroup_parent": f"it is about this machine's own groups; {_LEAVE}",
    "cpu_count": "it is for Windows; valid is cpus",
    "cpu_percent": "it is for Windows; valid is cpus",
    "cpu_rt_period": f"realtime scheduling would starve the other nodes; {_LEAVE}",
    "cpu_rt_runtime": f"realtime scheduling would starve the other nodes; {_LEAVE}",
    "credential_spec": f"it is for Windows; {_LEAVE}",
    "device_cgroup_rules": f"nodes have no devices of this machine; {_LEAVE}",
    "devices": f"nodes have no devices of this machine; {_LEAVE}",
    "external_links": "it leads to containers outside the file, which no fault reaches; make them services",
    "gpus": f"nodes have no devices of this machine; {_LEAVE}",
    "mac_address": f"the fabric tells nodes apart by addresses of its own; {_LEAVE}",
    "models": f"models run outside the containers, where no fault reaches; {_LEAVE}",
    "post_start": "the harness starts containers itself, also after a kill; do it in the entrypoint",
    "pre_stop": "a kill would pass it by; do it on the stop signal",
    "provider": "it runs outside the containers, where no fault reaches; make it a service with an image",
    "storage_opt": f"not every storage of the engine has it; {_LEAVE}",
    "use_api_socket": f"it gives the container the engine, with which it could undo any fault; {_LEAVE}",
    "volumes_from": "it hides who shares what; valid is the same named volume in both services",
}

_HARMLESS = {
    "cgroup": ("private",),
    "ipc": ("private", "shareable", ""),
    "isolation": ("default", ""),
    "network_mode": (),
    "pid": ("", "private"),
    "privileged": ("false",),
    "runtime": ("runc", ""),
    "userns_mode": ("",),
    "uts": ("",),
}
_WHY = {
    "cgroup": "containers have a cgroup namespace of their own",
    "ipc": "containers share no memory with others: it would pass the fabric by",
    "isolation": "it is for Windows",
    "network_mode": "all traffic must pass through the fabric; valid is networks",
    "pid": "a node's processes are its own, or a kill of one would be a kill of others",
    "privileged": "it gives the container this whole machine; valid is cap_add with what is needed",
    "runtime": "faults are proven with runc only",
    "userns_mode": "it gives the container this machine's own users",
    "uts": "it gives the container this machine's own name",
}
KNOWN = frozenset((*_HONOURED, *_SILENT, *_PARTLY, *_REFUSED))

_NETWORKERS = ("ALL", "NET_ADMIN")
_SECURITY = re.compile(
    r"no-new-privileges(?:[:=](?:true|false))?|(?:seccomp|apparmor|systempaths)[:=]unconfined|"
    r"apparmor[:=][\w.-]+|label[:=].+"
)
_PULL = re.compile("always|never|missing|if_not_present|build|daily|weekly|refresh|every_([0-9]+[wdhms])+")


def honoured(item: Item, name: str, notes: list[str]) -> dict[str, Item]:
    """The keys of the service `item` that are as in Compose; others are noted, or refused by ComposeError."""
    keys = item.mapping(KNOWN)
    for key, why in _REFUSED.items():
        if key in keys and keys[key].value not in (None, False, [], {}):
            raise keys[key].error(f"cannot be honoured: {why}")
    for key, harmless in _HARMLESS.items():
        if key in keys and keys[key].value is not None and (said := keys[key].text()) not in harmless:
            valid = " or ".join(word for word in harmless if word)
            choice = f"leave it out, or write {valid}" if valid else "leave it out"
            raise keys[key].error(f"is {said!r}, which cannot be honoured: {_WHY[key]}; {choice}")
    if "restart" in keys:
        policy = keys["restart"].text()
        if not re.fullmatch("no|false|always|unless-stopped|on-failure(:[0-9]+)?", policy):
            raise keys["restart"].expected("no, always, unless-stopped or on-failure[:times]")
        if policy not in ("no", "false"):
            notes.append(f"restart: {policy} of service {name} is neutralised, since it would undo a kill")
    if "container_name" in keys:
        notes.append(
            f"container_name: {keys['container_name'].text()} of service {name} is ignored: "
            "containers are named by run and node"
        )
    if "logging" in keys:
        notes.append(f"logging of service {name} is ignored: the harness reads the logs itself")
    if "cap_add" in keys:
        for added in keys["cap_add"].texts():
            if added.removeprefix("CAP_") in _NETWORKERS:
                notes.append(
                    f"cap_add: {added} lets service {name} change its own network, and so undo a fault"
                )
    for option in keys["security_opt"].items() if "security_opt" in keys else ():
        if not _SECURITY.fullmatch(option.text()):
            raise option.expected(
                "no-new-privileges, seccomp:unconfined, apparmor:..., label:... or systempaths=unconfined; "
                "a profile in a file cannot be honoured"
            )
    if "pull_policy" in keys and not _PULL.fullmatch(keys["pull_policy"].text()):
        raise keys["pull_policy"].expected("always, never, missing, build, daily, weekly or every_<duration>")
    return {key: part for key, part in keys.items() if key in _HONOURED}


__all__ = ["KNOWN", "honoured"]
