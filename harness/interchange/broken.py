"""What is wrong with a text, and where in it."""

from harness.history import HistoryError


class Broken(HistoryError):
    """A text is not what it should be from `offset` on; whoever knows the file makes a line number of it."""

    def __init__(self, text: str, offset: int) -> None:
        super().__init__(text)
        self.offset = offset
