"""An existing ``docker-compose.yml`` read into frozen values, for clusters made of its services."""

from harness.compose.build import Build
from harness.compose.dependency import CONDITIONS, Condition
from harness.compose.health import HealthCheck
from harness.compose.item import ComposeError
from harness.compose.limits import Limits
from harness.compose.mount import Bind, Inline, Mount, NamedVolume, Tmpfs, Volume
from harness.compose.network import Network
from harness.compose.project import Compose, order, read
from harness.compose.service import Service

__all__ = [
    "CONDITIONS", "Bind", "Build", "Compose", "ComposeError", "Condition", "HealthCheck", "Inline", "Limits",
    "Mount", "NamedVolume", "Network", "Service", "Tmpfs", "Volume", "order", "read",
]  # fmt: skip
