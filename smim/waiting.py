"""A status line that says what a program does and for how long, while it writes nothing else to the terminal.

The module imports little, so that an entry point can call `starting` before slow imports. A progress bar writes ten
times per second, so the line never appears beside a bar.
"""

import atexit
import os
import shutil
import sys
import threading
import time
from typing import Any, TextIO

_BEGINS_AFTER = 0.5  # seconds
_QUIET = 1.0  # seconds without output, after which the line comes back
_ERASE = "\r\x1b[K"


class _Watched:
    """Standard output or error that removes the status line before other output."""

    def __init__(self, stream: TextIO, line: "_Line") -> None:
        self._stream, self._line, self._is_terminal = stream, line, stream.isatty()

    def write(self, text: str) -> int:
        with self._line.lock:
            # Output into a pipe may reach the terminal through another program, as in `smim ... | head`.
            self._line.make_way(text if self._is_terminal else "")
            return self._stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _Line(threading.Thread):
    def __init__(self, terminal: TextIO, doing: str) -> None:
        super().__init__(daemon=True)
        self.terminal, self.lock, self.ended = terminal, threading.RLock(), threading.Event()
        self.shown, self.between_lines = False, True
        self.wrote_at = time.monotonic() + _BEGINS_AFTER - _QUIET
        self.say(doing)

    def say(self, doing: str) -> None:
        self.doing, self.since = doing, time.monotonic()

    def make_way(self, text: str = "") -> None:
        if self.shown:
            self.terminal.write(_ERASE)
            self.terminal.flush()
        self.shown, self.wrote_at = False, time.monotonic()
        self.between_lines = text.endswith("\n") if text else self.between_lines

    def run(self) -> None:
        while not self.ended.wait(0.25):
            with self.lock:
                now = time.monotonic()
                if self.doing and self.between_lines and now - self.wrote_at >= _QUIET:
                    line = f"{self.doing}, {now - self.since:.0f} s"
                    self.terminal.write(_ERASE + line[: shutil.get_terminal_size().columns - 1])
                    self.terminal.flush()
                    self.shown = True

    def be_silent(self) -> None:
        self.lock, self.shown = threading.RLock(), False

    def end(self) -> None:
        self.ended.set()
        self.join()
        self.make_way()


_line: _Line | None = None


def starting(doing: str) -> None:
    """Show what the process does from now on, until it ends, in the pauses of its output.

    Does nothing if standard error is not a terminal, or in any but the first of several processes.
    """
    global _line
    if _line or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb" or os.environ.get("RANK", "0") != "0":
        return
    _line = _Line(sys.stderr, doing)
    sys.stdout, sys.stderr = _Watched(sys.stdout, _line), _Watched(sys.stderr, _line)
    _line.start()
    os.register_at_fork(after_in_child=_line.be_silent)  # a child has no such thread, and may inherit a held lock
    atexit.register(_line.end)


def doing(what: str) -> None:
    """Set the status text after `starting`; "" shows nothing, for a server that waits for requests."""
    if _line:
        with _line.lock:
            _line.make_way()
            _line.say(what)
