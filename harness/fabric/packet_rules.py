"""Which engine serves which verb of a packet fault, and in which rules of iptables and tc."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

from harness.fabric import FaultUnsupported
from harness.fabric.packet_engine import MARK
from harness.fabric.packet_spec import NOTHING, Addresses, PacketSpec

CHAIN = "NEMESIS_PACKETS"
SERVES: Mapping[str, tuple[str, ...]] = {  # in the order of preference
    "statistic": ("loss",),
    "netem": ("delay", "jitter", "loss", "reorder", "corrupt"),
    "nfqueue": ("delay", "jitter", "loss", "reorder", "duplicate", "corrupt"),
}
# netem can duplicate, but kernels since 6.16 (and stable ones) refuse a duplicating netem beside another.
_COUNTED = ("loss", "reorder", "corrupt")  # verbs that are wrong on a packet which is several
_NETEM_LIMIT = 100_000  # packets; tc's default of 1000 drops
_OPEN = "100gbit"
_FRAME = 1514  # bytes


@dataclass(frozen=True, slots=True)
class Served:
    """The faults in force on a pair: its number (queue, class, filter), spec, and the engine of each verb."""

    number: int
    pair: Addresses
    spec: PacketSpec
    engines: Mapping[str, str]
    seed: str

    @property
    def used(self) -> frozenset[str]:
        return frozenset(self.engines.values())

    @property
    def split(self) -> bool:
        """Whether segment offloading must be off for it."""
        return any(splits(engine, [verb]) for verb, engine in self.engines.items())


def chosen(
    spec: PacketSpec,
    several: Callable[[], str | None],
    usable: Callable[[str], str | None],
    forced: str | None = None,
) -> Mapping[str, str]:
    """The engine of each verb of `spec`.

    `several` says why what looks like one packet may be many (None: it is not), `usable` why an engine
    cannot be had (None: it can); neither is asked in vain. `forced` is the only engine that may be taken
    beside htb. Raises FaultUnsupported with each one tried.
    """
    found = {}
    if spec.rate is not None:
        if why := usable("htb"):
            raise FaultUnsupported(f"rate cannot be had here: htb: {why}")
        found["rate"] = "htb"
        several()  # a rate is right in any case, and smoother on single packets
    verbs = [verb for verb in spec.verbs if verb != "rate"]
    if not verbs:
        return found
    tried = []
    for engine in [forced] if forced else SERVES:
        why = _unfit(engine, verbs) or usable(engine)
        if not why and splits(engine, verbs) and (joined := several()):
            why = f"it would take up to 64 KB of a stream for one packet ({joined})"
        if not why:
            return found | dict.fromkeys(verbs, engine)
        tried.append(f"{engine}: {why}")
    raise FaultUnsupported(f"{', '.join(verbs)} cannot be had here: {'; '.join(tried)}")


def _unfit(engine: str, verbs: Collection[str]) -> str | None:
    """Why an engine does not serve these verbs together."""
    missing = [verb for verb in verbs if verb not in SERVES[engine]]
    return f"it serves {', '.join(SERVES[engine])}, not {', '.join(missing)}" if missing else None


def splits(engine: str, verbs: Collection[str]) -> bool:
    """Whether an engine needs segment offloading to be off for these verbs; NFQUEUE cuts segments itself."""
    return engine == "htb" or (engine in ("statistic", "netem") and any(verb in _COUNTED for verb in verbs))


def may_split(spec: PacketSpec) -> bool:
    """Whether some engine that serves the spec needs segment offloading to be off."""
    return spec.rate is not None or (not spec.duplicate and any(verb in _COUNTED for verb in spec.verbs))


# ---------------------------------------------------------------- iptables


def skip_duplicates() -> str:
    """The chain's first rule: what the engine has sent a second time is not queued again."""
    return f"-m mark --mark {MARK:#x} -j RETURN"


def rules(served: Served) -> tuple[str, ...]:
    """The rules of a pair; their counters tell how many packets came, and how many were lost."""
    match = "-s {}/32 -d {}/32".format(*served.pair)
    if "nfqueue" in served.used:
        return (f"{match} -j NFQUEUE --queue-num {served.number} --queue-bypass",)
    if "statistic" in served.used:
        lose = f"{match} -m statistic --mode random --probability {served.spec.loss:.10f} -j DROP"
        return (lose, f"{match} -j RETURN")
    return (f"{match} -j RETURN",)  # counts what tc shapes


def restore(lines: list[str]) -> str:
    """Input of iptables-restore that carries `lines` out in one step."""
    return "\n".join(["*mangle", *lines, "COMMIT", ""])


# ---------------------------------------------------------------- tc


def shaped(served: Served) -> bool:
    """Whether tc has a part in the faults of a pair."""
    return bool(served.used & {"htb", "netem"})


def root(interface: str) -> str:
    return f"qdisc add dev {interface} root handle 1: htb default 0"


def leaf_kind(served: Served) -> str:
    return "netem" if "netem" in served.used else "bfifo"


def added(interface: str, served: Served) -> list[str]:
    """Lines of ``tc -batch`` that shape a pair on the interface towards its destination."""
    number = served.number
    src, dst = served.pair
    return [
        f"class add {_class(interface, number, served.spec.rate)}",
        f"qdisc add {_leaf(interface, served)}",
        f"filter add dev {interface} parent 1: protocol ip pref {number} u32"
        f" match ip src {src}/32 match ip dst {dst}/32 flowid 1:{number:x}",
    ]


def changed(interface: str, served: Served) -> list[str]:
    """The same for a pair that is shaped already, with a leaf of the same kind."""
    return [
        f"class change {_class(interface, served.number, served.spec.rate)}",
        f"qdisc change {_leaf(interface, served)}",
    ]


def opened(interface: str, served: Served) -> list[str]:
    """Lines that let what is queued go out, in order: the rate is no limit, new packets have no delay."""
    lines = [f"class change {_class(interface, served.number, None)}"]
    if leaf_kind(served) == "netem":
        lines.append(
            f"qdisc change dev {interface} parent 1:{served.number:x} handle {leaf_handle(served.number)}"
            f" netem delay 0us {netem(NOTHING)}"
        )
    return lines


def removed(interface: str, served: Served) -> list[str]:
    number = served.number
    return [
        f"filter del dev {interface} parent 1: protocol ip pref {number}",
        f"class del dev {interface} classid 1:{number:x}",
    ]


def leaf_handle(number: int) -> str:
    return f"{number + 1:x}:"  # 1: is the root


def _class(interface: str, number: int, rate: float | None) -> str:
    """A class; burst and quantum are given, since tc's guesses are of the size of the kernel's tick."""
    if rate is None:
        size = f"rate {_OPEN} ceil {_OPEN} burst 1mb cburst 1mb quantum 200000"
    else:
        burst = max(2 * _FRAME, int(rate / 200))  # 5 ms
        size = (
            f"rate {8 * rate:.0f}bit ceil {8 * rate:.0f}bit burst {burst}b cburst {burst}b quantum {_FRAME}"
        )
    return f"dev {interface} parent 1: classid 1:{number:x} htb {size}"


def _leaf(interface: str, served: Served) -> str:
    spec, number = served.spec, served.number
    head = f"dev {interface} parent 1:{number:x} handle {leaf_handle(number)}"
    if leaf_kind(served) == "bfifo":
        # What waits for the rate: half a second of it, as long as whole bursts of TCP find place.
        return f"{head} bfifo limit {max(128 << 10, int((spec.rate or 0) / 2))}"
    return f"{head} netem {netem(spec)}"


def netem(spec: PacketSpec) -> str:
    """The words of tc-netem(8) for a spec.

    With a rate of its own, however high, netem keeps the order of packets under jitter.

    >>> netem(PacketSpec(delay=0.05, jitter=0.01, loss=0.1))
    'delay 50000us 10000us loss random 10.000000% corrupt 0.000000% rate 100gbit limit 100000'
    """
    words = []
    if spec.delay:
        jitter = f" {spec.jitter * 1e6:.0f}us" if spec.jitter else ""
        words.append(f"delay {spec.delay * 1e6:.0f}us{jitter}")
    if spec.loss:
        words.append(f"loss random {spec.loss * 100:.6f}%")
    if spec.reorder:
        words.append(f"reorder {spec.reorder * 100:.6f}%")
    # Never left out, since a change would keep the old value then.
    words += [f"corrupt {spec.corrupt * 100:.6f}%", f"rate {_OPEN}", f"limit {_NETEM_LIMIT}"]
    return " ".join(words)


def queue(served: Served) -> Mapping[str, float | str | bool]:
    """The spec of a pair as the engine takes it."""
    spec = served.spec
    return {
        "delay": spec.delay,
        "jitter": spec.jitter,
        "loss": spec.loss,
        "reorder": spec.reorder,
        "duplicate": spec.duplicate,
        "corrupt": spec.corrupt,
        "keep_order": True,
        "seed": served.seed,
    }
