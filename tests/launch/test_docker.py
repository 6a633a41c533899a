"""The container files: what they copy and name exists, and they run without rights."""

import re
from pathlib import Path

import pytest
import yaml

from smim.cli import app
from tests.training.conftest import ROOT

DOCKER = ROOT / "launch/docker"


@pytest.mark.parametrize("file", sorted(DOCKER.glob("*.Dockerfile")), ids=lambda file: file.name)
def test_an_image_has_a_user_without_rights_and_installs_pinned_versions(file: Path) -> None:
    text = file.read_text()
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert "-c /tmp/constraints.txt" in text and (ROOT / "constraints.txt").read_text().count("torch==") == 1
    extras = re.findall(r"whl\)\[(\w+)\]", text)
    assert extras and all(f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text() for extra in extras)


def test_the_composed_service_runs_a_command_that_exists_read_only() -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["smim"]
    assert service["read_only"] and service["cap_drop"] == ["ALL"]
    assert (ROOT / service["build"]["dockerfile"]).is_file()
    assert (DOCKER / service["build"]["context"]).resolve() == ROOT
    entry = re.search(r"^ENTRYPOINT (.*)$", (ROOT / service["build"]["dockerfile"]).read_text(), re.MULTILINE)
    assert entry and '"smim", "serve"' in entry[1]
    assert "serve" in {command.callback.__name__ for command in app.registered_commands if command.callback}
