"""Builds as a user starts them."""

import os
import sys
from pathlib import Path

import pytest

from data_prep import build as build_script
from smim import config, storage
from smim.text.corpus import Corpus

ROOT = Path(__file__).resolve().parents[2]
DATA = Path(os.environ.get("SMIM_DATA", ROOT.parent / "shared" / "data"))
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"no corpora in {DATA} (set SMIM_DATA)")


def build(output: Path, *overrides: str) -> Corpus:
    """Builds a corpus in this process, without workers unless some are asked for, and opens it."""
    build_script.main(config.compose("build", [f"output={output}", "prep.workers=1", *overrides]))
    return Corpus.open(output)


def command(output: Path, *overrides: str) -> list[str]:
    return [sys.executable, "data_prep/build.py", f"output={output}", *overrides]


def hashes(directory: Path) -> dict[str, str]:
    """SHA-256 of every file below a directory."""
    return {str(f.relative_to(directory)): storage.sha256(f) for f in sorted(directory.rglob("*")) if f.is_file()}
