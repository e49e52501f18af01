"""Histories of other tools: read into a `History`, written from one.

Differs from `harness.journal`, which has our own format alone, in that it knows how Jepsen, elle-cli and
Porcupine write theirs. What is read here is judged by the same checkers as a run of our own.
"""

from harness.interchange.export import to_edn, to_json
from harness.interchange.reading import FORMATS, read

__all__ = ["FORMATS", "read", "to_edn", "to_json"]
