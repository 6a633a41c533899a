"""Runs a script and kills the process right before its N-th touch of the files below a directory.

    python kill_at.py N DIRECTORY SCRIPT ARGUMENTS...

A touch is an open for writing, a rename, creation or removal, seen through Python's audit events; the
exchange of two directories, made through ctypes, is seen as the look-up of `renameat2`. What
safetensors writes is not seen: kills at random times may land in it. With N = 0 nothing is
killed. The list of touches is written to DIRECTORY.touches, the last one being that of the kill.
"""

import os
import runpy
import signal
import sys

TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "ctypes.dlsym"}


def main() -> None:
    number, directory, script = int(sys.argv[1]), os.path.abspath(sys.argv[2]), sys.argv[3]
    log = os.open(f"{directory}.touches", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    count = 0

    def watch(event: str, arguments: tuple) -> None:
        nonlocal count
        if event not in TOUCHES:
            return
        about = arguments[1] if event == "ctypes.dlsym" else arguments[0]
        if isinstance(about, bytes):
            about = os.fsdecode(about)
        if event == "open" and not arguments[2] & (os.O_WRONLY | os.O_RDWR):
            return
        inside = isinstance(about, str | os.PathLike) and os.path.abspath(about).startswith(directory + os.sep)
        if not inside and about != "renameat2":
            return
        count += 1
        os.write(log, f"{event} {about}\n".encode())
        if count == number:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.argv = sys.argv[3:]
    sys.path[0] = os.path.dirname(script)
    sys.addaudithook(watch)
    runpy.run_path(script, run_name="__main__")


main()
