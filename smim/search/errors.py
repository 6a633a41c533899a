"""Errors of an index that a service distinguishes."""

from pathlib import Path

from smim.errors import UserError


class OfIndex(UserError):
    """A request that does not fit the index at `directory`. `what` is the message without that path."""

    def __init__(self, directory: Path, what: str) -> None:
        super().__init__(directory, what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.args[0]} {self.what}"


class NoSuchSentence(OfIndex):
    """No sentence has this id."""

    code = "not_found"


class Unreadable(UserError):
    """The index on disk is missing, damaged, of another format, or of another model."""

    code = "unreadable"


class BadFilter(UserError):
    """A filter that is malformed, too large, or does not fit the index's labels."""

    code = "bad_filter"
