"""The version is the same in all places that state it, and the changelog has a section for it."""

import re
import runpy
import tomllib
from pathlib import Path

import smim

ROOT = Path(__file__).resolve().parents[1]


def stated(path: str, pattern: str) -> list[str]:
    return re.findall(pattern, (ROOT / path).read_text(), re.MULTILINE)


def test_the_package_its_metadata_the_citation_and_the_site_state_one_version() -> None:
    assert tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"] == smim.__version__
    assert stated("CITATION.cff", r"^version: (.+)$") == [smim.__version__]
    assert runpy.run_path(str(ROOT / "docs/conf.py"))["release"] == smim.__version__


def test_the_newest_dated_section_of_the_changelog_is_of_this_version_and_has_its_date() -> None:
    sections = stated("CHANGELOG.md", r"^## (.+)$")
    assert sections[0] == "Unreleased"
    assert sections[1:2] == [
        f"{smim.__version__} - {date}" for date in stated("CITATION.cff", r"^date-released: (.+)$")
    ]
