"""Runs a script in a process of its own, forked from one that has imported torch: half of a short training is that."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["smim.train"])


def run_script(script: str, arguments: list[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
    """What `python SCRIPT ARGUMENTS...` in the root of the clone gives, with one thread."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder) / name for name in ("stdout", "stderr")]
        process = _CONTEXT.Process(target=_run, args=(script, arguments, outputs))
        process.start()
        process.join(timeout)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([script, *arguments], timeout)
        stdout, stderr = (path.read_text() if path.exists() else "" for path in outputs)
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, stdout, stderr)


def _run(script: str, arguments: list[str], outputs: list[Path]) -> None:
    for descriptor, path in zip((1, 2), outputs, strict=True):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), descriptor)
    os.chdir(ROOT)
    torch.set_num_threads(1)
    sys.argv = [script, *arguments]
    sys.path.insert(0, str(ROOT / Path(script).parent))
    runpy.run_path(script, run_name="__main__")
