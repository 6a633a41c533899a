"""Commands on a terminal, where bars and waiting lines are shown."""

import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def on_a_terminal(*arguments: str, stdout: bool = True) -> tuple[str, str]:
    """What `python ARGUMENTS...` writes to its terminal, and to its standard output where that is a pipe instead."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm", "COLUMNS": "100"}
    command: Sequence[str] = [sys.executable, *arguments]
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=theirs if stdout else subprocess.PIPE, stderr=theirs
    ) as process:
        os.close(theirs)
        shown = bytearray()
        with suppress(OSError):  # Linux says so that the other end was closed
            while part := os.read(ours, 65536):
                shown += part
        printed = process.stdout.read().decode() if process.stdout else ""
    os.close(ours)
    assert process.returncode == 0, shown.decode()
    return shown.decode(), printed
