"""A target from an existing ``docker-compose.yml``: its services are the roles."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from harness.compose import Build, Compose, ComposeError, Service, order, read
from harness.compose.container import options
from harness.target import Node, Stage, Target, TargetError

BUILD_WITHIN = 1800.0  # seconds for the command line to build the images
_BUILT_HERE = ("context", "dockerfile", "args")  # what the engine's own builder is told


@dataclass(frozen=True, repr=False)
class ComposeTarget(Target):
    """The services of the Compose file at `file`, as a cluster on runtime docker; subclass it, say `client`.

    A service is a role. Its node has its name, several have numbers: ``app1 app2``; `nodes` gives numbers
    that differ from the file's. Services that others wait for until they have completed are no nodes: they
    run before those, and must end well. `client_roles` says which services clients connect to. `profiles`
    and `writable` are as `harness.compose.read` takes them, `variables` stands in for this process's own
    environment.

    What a run cannot do as Compose does is an error; what makes no difference to a run is a note in it.
    """

    file: str | Path = ""
    nodes: int | Mapping[str, int] = field(default_factory=dict, kw_only=True)
    profiles: tuple[str, ...] = field(default=(), kw_only=True)
    writable: tuple[str, ...] = field(default=(), kw_only=True)
    variables: Mapping[str, str] | None = field(default=None, kw_only=True)

    ready_within: ClassVar[float] = 60.0  # an engine's first look at a container's health comes after 30 s

    def __repr__(self) -> str:
        """Without the path, which is of one machine only."""
        return f"{type(self).__name__}({Path(self.file).name!r})"

    @cached_property
    def compose(self) -> Compose:
        """The file, read. Raises TargetError."""
        if not str(self.file):
            raise TargetError(f"{self.name} needs the path of a Compose file: {self.name}('compose.yaml')")
        try:
            return read(self.file, environment=self.variables, writable=self.writable, profiles=self.profiles)
        except (ComposeError, OSError) as error:
            raise TargetError(str(error)) from error

    @cached_property
    def _services(self) -> tuple[Service, ...]:
        return tuple(service for service in self.compose.services if not service.completes)

    # ------------------------------------------------------------------ what a target says

    def members(self) -> tuple[tuple[str, str], ...]:
        """(name, service) of each node."""
        given = self.nodes if isinstance(self.nodes, Mapping) else {}
        names = [service.name for service in self._services]
        if not isinstance(self.nodes, Mapping) or (strange := [role for role in given if role not in names]):
            said = f"has {strange[0]!r}" if isinstance(self.nodes, Mapping) else f"is {self.nodes!r}"
            raise TargetError(f"{self.name}: nodes {said}; expected a number by service: {', '.join(names)}")
        found: list[tuple[str, str]] = []
        for service in self._services:
            count = given.get(service.name, service.scale)
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise TargetError(f"{self.name}: nodes of {service.name} is {count!r}; expected 1 or more")
            numbered = [f"{service.name}{number + 1}" for number in range(count)]
            found += [(name, service.name) for name in (numbered if count > 1 else [service.name])]
        return tuple(found)

    def jobs(self) -> tuple[tuple[str, str], ...]:
        """The services that complete."""
        return tuple((one.name, one.name) for one in self.compose.services if one.completes)

    def check(self) -> None:
        """Raise TargetError for what the file says, or does not, and a run needs."""
        names = [name for name, _ in (*self.members(), *self.jobs())]
        if twice := [name for name in names if names.count(name) > 1]:
            raise TargetError(f"{self.name}: {twice[0]!r} would name two nodes; rename a service")
        if not self.client_roles and len(self._services) > 1:
            raise TargetError(
                f"{self.name}: say which services clients connect to, client_roles = (...); the services are "
                f"{', '.join(service.name for service in self._services)}"
            )
        for one, other in itertools.combinations(self.compose.services, 2):
            names_of = [{s.name, *itertools.chain(*s.networks.values())} for s in (one, other)]
            if both := sorted(names_of[0] & names_of[1] if not _shared(one, other) else ()):
                raise TargetError(
                    f"{self.name}: services {one.name} and {other.name} are both called {both[0]!r}, on "
                    "networks that they do not share, but nodes have one network; give them different names"
                )
        super().check()

    def environment(self, node: Node) -> Mapping[str, str]:
        """The variables of the service."""
        return self.compose[node.role].environment

    def container(self, node: Node) -> Mapping[str, Any]:
        """Everything else that the service says."""
        service = self.compose[node.role]
        addresses = {peer.role: peer.host for peer in reversed(node.peers)}
        if lost := [name for name, other in service.links.items() if other not in addresses]:
            raise TargetError(f"{self.name}: link {lost[0]} of {node.role} leads to a service that completes")
        return options(service, self.compose.volumes, addresses)

    def ports_of(self, role: str) -> Mapping[str, int] | None:
        """The service's TCP ports, named by their numbers; None: those that its image exposes."""
        service = self.compose[role]
        return {str(port): port for port in service.ports} if service.ports or service.udp else None

    def listens(self, role: str) -> bool:
        """Where the service says so itself; what an image exposes is for its own command."""
        service = self.compose[role]
        return bool(service.ports) or (service.command is None and service.entrypoint is None)

    def stages(self) -> tuple[Stage, ...]:
        """As ``depends_on`` says: whoever must be healthy is, before those that wait for it are started."""
        groups = order(self.compose)
        found = []
        for group, after in itertools.zip_longest(groups, groups[1:], fillvalue=()):
            waited = {
                other: None
                for name in after
                for other, condition in self.compose[name].depends_on.items()
                if condition == "service_healthy"
            }
            found.append(Stage(group, tuple(waited)))
        return tuple(found)

    def apart(self) -> frozenset[tuple[str, str]]:
        """Nodes whose services share no network, and those whose networks are all internal."""
        places = (*self.members(), *self.jobs())
        internal = {network.name for network in self.compose.networks if network.internal}
        found = {
            (a, b)
            for (a, one), (b, other) in itertools.permutations(places, 2)
            if not _shared(self.compose[one], self.compose[other])
        }
        alone = {(name, "") for name, role in places if set(self.compose[role].networks) <= internal}
        return frozenset(found | alone)

    def notes(self) -> tuple[str, ...]:
        """Those of the file, and what is as it is for the sake of faults."""
        found = list(self.compose.notes)
        for service in self.compose.services:
            if service.tty:
                found.append(f"tty of service {service.name} is ignored: the harness reads its log")
            if service.healthcheck is not None and service.healthcheck.start_interval is not None:
                found.append(f"start_interval of service {service.name} is ignored: not every engine has it")
            if service.pull_policy not in ("", "missing", "if_not_present", "build"):
                found.append(
                    f"pull_policy: {service.pull_policy} of service {service.name} is taken as missing: runs "
                    "that are compared have the same images"
                )
        for one, other in itertools.combinations(self.compose.services, 2):
            if not _shared(one, other):
                found.append(
                    f"services {one.name} and {other.name} share no network: each finds the other's name, "
                    "and the router drops whatever they send each other"
                )
        return tuple(found)

    # ------------------------------------------------------------------ images

    def image_of(self, role: str) -> str:
        """The service's image, or the name of the one that is built for it."""
        service = self.compose[role]
        if service.build is None or (self._builder and service.image):
            return service.image
        return f"{self.compose.name}-{service.name}"

    def build_of(self, role: str) -> Mapping[str, Any]:
        """How the engine builds it where the command line does not. Raises TargetError for what it cannot."""
        build = self.compose[role].build
        if build is None or self._builder:
            return {}
        default = Build(build.context)
        if beyond := [
            name
            for name in Build.__dataclass_fields__
            if name not in _BUILT_HERE and getattr(build, name) != getattr(default, name)
        ]:
            raise TargetError(
                f"{self.name}: build of service {role} has {beyond[0]}, for which `docker compose build` is "
                "needed, and this machine has no `docker compose`: install the plugin, or name a built image"
            )
        if "://" in build.context:
            raise TargetError(
                f"{self.name}: service {role} is built from {build.context}, which `docker compose build` "
                "fetches, and this machine has no `docker compose`: install the plugin, or clone it"
            )
        return {
            "context": Path(build.context),
            "dockerfile": build.dockerfile,
            "arguments": dict(build.args),
        }

    def build(self, progress: Callable[[str], None]) -> None:
        """Have ``docker compose`` build, where it is there. Raises TargetError with its last lines."""
        wanted = [service.name for service in self.compose.services if service.build is not None]
        if not wanted or not self._builder or "_built" in vars(self):
            return
        progress(f"docker compose builds {', '.join(wanted)}")
        argv = ["docker", "compose", "-f", str(self.compose.file), "-p", self.compose.name]
        argv += [*(word for profile in self.profiles for word in ("--profile", profile)), "build", *wanted]
        environment = dict(os.environ if self.variables is None else {**os.environ, **self.variables})
        done = subprocess.run(
            argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=BUILD_WITHIN,
        )  # fmt: skip
        if done.returncode:
            last = "\n  ".join(done.stdout.splitlines()[-12:])
            raise TargetError(f"{self.name}: {' '.join(argv)} ended with code {done.returncode}:\n  {last}")
        vars(self)["_built"] = True  # by this target: asking again would cost a second for nothing

    @cached_property
    def _builder(self) -> bool:
        """Whether this machine has ``docker compose``; asked only where there is something to build."""
        if shutil.which("docker") is None or all(s.build is None for s in self.compose.services):
            return False
        asked = subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=30.0)
        return asked.returncode == 0


def _shared(one: Service, other: Service) -> bool:
    """Whether two services share a network."""
    return bool(one.networks.keys() & other.networks.keys())


__all__ = ["ComposeTarget"]
