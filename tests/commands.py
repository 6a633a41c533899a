"""`smim ...` in this process."""

import sys
from dataclasses import dataclass
from typing import Protocol

import pytest

from smim import cli


@dataclass(frozen=True)
class Outcome:
    status: int
    out: str
    err: str

    @property
    def cells(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


class Command(Protocol):
    """Runs `smim ARGS` to its end."""

    def __call__(self, *args: object) -> Outcome: ...


def make_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *prefix: str) -> Command:
    """Runs `smim PREFIX ARGS`."""

    def run(*args: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["smim", *prefix, *map(str, args)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return Outcome(int(ended.value.code or 0), *capsys.readouterr())

    return run
