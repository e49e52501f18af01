"""What the command ``nemesis`` ends with, as Jepsen has it."""

VALID, INVALID, UNKNOWN = 0, 1, 2
BAD = 254  # bad usage, or a file that cannot be read
CRASH = 255  # a failure of this program itself

SEVERITY = (VALID, UNKNOWN, INVALID, BAD, CRASH)


def worst(codes: list[int]) -> int:
    """The one that decides: a crash before a bad file before invalid before unknown before valid."""
    return max(codes, key=SEVERITY.index, default=VALID)
