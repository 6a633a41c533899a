"""Mistakes that whoever puts a service before an index tells apart."""

from smim.errors import UserError


class NoSuchSentence(UserError):
    """There is no sentence of that id."""


class Unreadable(UserError):
    """The index on disk is missing, damaged, of another format, or of another model."""
