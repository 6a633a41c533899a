"""The installer, without a network: it ends when it has an environment, for want of packages to install."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.training.conftest import ROOT, environment


def install(venv: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "", "PIP_CONFIG_FILE": "/dev/null"}
    return subprocess.run(
        ["sh", "launch/install.sh", str(venv)],
        cwd=ROOT,
        env={**environment(), **offline, **variables},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_environment_without_pip_is_completed(tmp_path):
    venv = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", venv], check=True)
    install(venv)
    subprocess.run([venv / "bin" / "python", "-m", "pip", "--version"], check=True, capture_output=True)


def test_without_the_module_that_makes_environments_its_package_is_named(tmp_path):
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\n[ "$2" != venv ] && exec {shutil.which("python3")} "$@"\n')
    python.chmod(0o755)
    refused = install(tmp_path / "venv", PATH=f"{python.parent}:/usr/bin:/bin")
    assert refused.returncode == 2 and "apt install python3-venv" in refused.stderr
