"""`smim doctor`: report what is installed, and what is wrong with it."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import typer

import smim
from smim.cli.shared import show

_EXTRAS = ("pipeline", "serve", "hub", "ray")
_LEAST_DISK = 5e9  # bytes
_REQUIREMENT = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?([^;]*)(?:;.*extra == ['\"](\w+)['\"])?")


def doctor() -> None:
    """Report what is installed here, and what is wrong.

    Shows versions, devices, threads, free disk, and missing optional packages. Exit status 1 means that something is
    wrong.

    Example: smim doctor
    """
    import faiss
    import torch

    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    cores, threads, free = len(os.sched_getaffinity(0)), torch.get_num_threads(), shutil.disk_usage(Path.cwd()).free
    rows = [
        ["smim", f"{smim.__version__}, {Path(smim.__file__).parent}"],
        ["Python", f"{platform.python_version()}, {sys.executable}"],
        ["machine", f"{platform.system()} {platform.machine()}, {cores} cores"],
        ["torch", f"{torch.__version__}, {threads} threads, GPUs: {', '.join(gpus) or 'none'}"],
        ["FAISS", f"{faiss.__version__}, GPUs: {faiss.get_num_gpus() or 'none'}"],
        ["free disk", f"{free / 1e9:.1f} GB in {Path.cwd()}"],
    ]
    wrong = []
    for extra in _EXTRAS:
        missing = [name for name in _needed(extra) if not _is_there(name)]
        rows.append([f"smim[{extra}]", f"lacks {', '.join(missing)}" if missing else "installed"])
    if missing := [name for name in _needed(None) if not _is_there(name)]:
        wrong.append(f"{', '.join(missing)} is not installed; run `pip install smim`")
    if torch.version.cuda and not gpus:
        wrong.append(
            "torch contains several GB of CUDA, but there is no GPU; run "
            "`pip install torch --index-url https://download.pytorch.org/whl/cpu`"
        )
    if threads < cores:
        wrong.append(f"torch uses {threads} of {cores} cores; check whether OMP_NUM_THREADS is set")
    if free < _LEAST_DISK:
        wrong.append(f"{free / 1e9:.1f} GB of disk are free here; corpora, runs and indexes need more")
    show(rows)
    print("\n".join(f"wrong: {each}" for each in wrong) or "nothing is wrong")
    if wrong:
        raise typer.Exit(1)


def _needed(extra: str | None) -> list[str]:
    """The packages of an extra, or of the base install."""
    found = (_REQUIREMENT.match(each) for each in importlib.metadata.requires("smim") or ())
    return [each[1] for each in found if each is not None and each[3] == extra]


def _is_there(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True
