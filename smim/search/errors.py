"""Mistakes that whoever puts a service before an index tells apart."""

from pathlib import Path

from smim.errors import UserError


class OfIndex(UserError):
    """What does not fit the index at `directory`; `what` is the message without that place, which a service keeps."""

    def __init__(self, directory: Path, what: str) -> None:
        super().__init__(directory, what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.args[0]} {self.what}"


class NoSuchSentence(OfIndex):
    """There is no sentence of that id."""

    code = "not_found"


class Unreadable(UserError):
    """The index on disk is missing, damaged, of another format, or of another model."""

    code = "unreadable"


class BadFilter(UserError):
    """What is no filter, too large a one, or does not fit the index's labels."""

    code = "bad_filter"
