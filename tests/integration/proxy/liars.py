"""Servers that lie: everything that trusts a proxy has to be shown one that does not deserve it.

`--lie stores`: toxics are stored and shown, and applied to nothing. `--lie keeps`: toxics are removed for the
API, and stay in the traffic. `--lie halves`: toxics do half of what the API says. It takes the options of the
embedded server, and prints the same line:

    python tests/integration/proxy/liars.py --lie keeps --port 0
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from harness.proxy import embedded


class Stores(embedded.Proxy):
    """Says that the toxic is there, and lets all traffic pass as if it were not."""

    def chain(self, direction: str) -> list[embedded.Toxic]:
        return []

    def attach(self, toxic: embedded.Toxic) -> None: ...


class Keeps(embedded.Proxy):
    """Says that the toxic is gone, and applies it for ever, to new connections too."""

    def __init__(self, server: embedded.Server, name: str, listen: str, upstream: str) -> None:
        super().__init__(server, name, listen, upstream)
        self.kept: list[embedded.Toxic] = []

    def attach(self, toxic: embedded.Toxic) -> None:
        self.kept.append(toxic)
        super().attach(toxic)

    def chain(self, direction: str) -> list[embedded.Toxic]:
        return [toxic for toxic in self.kept if toxic.direction == direction]

    def detach(self, toxic: embedded.Toxic) -> None: ...


class Halves(embedded.Proxy):
    """Says that it acts on a share of the messages, and acts on half of it, after half the delay."""

    def __init__(self, server: embedded.Server, name: str, listen: str, upstream: str) -> None:
        super().__init__(server, name, listen, upstream)
        self.half: dict[embedded.Toxic, embedded.Toxic] = {}

    def _half(self, toxic: embedded.Toxic) -> embedded.Toxic:
        if toxic not in self.half:
            less = {
                name: value if name in ("seed", "hold") else value // 2
                for name, value in toxic.attributes.items()
            }
            self.half[toxic] = embedded.Toxic(toxic.name, toxic.kind, toxic.stream, toxic.toxicity, less)
        return self.half[toxic]

    def chain(self, direction: str) -> list[embedded.Toxic]:
        return [self._half(toxic) for toxic in super().chain(direction)]

    def attach(self, toxic: embedded.Toxic) -> None:
        super().attach(self._half(toxic))

    def detach(self, toxic: embedded.Toxic) -> None:
        super().detach(self._half(toxic))


LIES: dict[str, type[embedded.Proxy]] = {"stores": Stores, "keeps": Keeps, "halves": Halves}


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--lie", choices=LIES, required=True)
    options, others = parser.parse_known_args()
    embedded.main(others, type("Liar", (embedded.Server,), {"proxy_type": LIES[options.lie]}))


if __name__ == "__main__":
    main()
