"""A built wheel works outside of the clone."""

import os
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# Runs a command a line, as where the modules that the first argument names are not installed.
ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

absent = set(sys.argv[1].split())
sys.meta_path.insert(0, Absent())
from smim.cli import main

for command in sys.stdin.read().splitlines():
    sys.argv = ["smim", *command.split(" | ")]
    try:
        main()
    except SystemExit as ended:
        if ended.code:
            raise
"""


def required(of: Distribution) -> set[str]:
    """The names of what is installed with a distribution, without any extra."""
    names: set[str] = set()
    waiting = [of]
    while waiting:
        for line in waiting.pop().requires or []:
            requirement = Requirement(line)
            name = canonicalize_name(requirement.name)
            if name in names or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
                continue
            names.add(name)
            with suppress(PackageNotFoundError):  # not for this machine
                waiting.append(distribution(name))
    return names


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the wheel is installed, without what it requires."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    site = folder / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    return site


def test_smim_and_smim_load_work_from_a_built_wheel(tiny_model, site, tmp_path):
    assert sorted(path.name for path in site.iterdir() if not path.name.endswith(".dist-info")) == ["bin", "smim"]
    assert (site / "smim" / "py.typed").is_file()  # type checkers read our annotations
    page = site / "smim" / "serve" / "page"
    assert (page / "page.css").is_file() and (page / "map.js").is_file()
    code = f"import smim; m = smim.load({str(tiny_model)!r}); print(smim.__file__, m.encode(['a bank lost']).shape)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert used.stdout.startswith(str(site)) and used.stdout.endswith("(1, 8)\n")
    command = [sys.executable, str(site / "bin" / "smim"), "reconstruct", str(tiny_model), "a bank lost shares"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stderr == "" and shown.stdout.endswith("\n")


def test_the_packaged_model_needs_none_of_the_extras(site, tmp_path):
    [info] = site.glob("*.dist-info")
    there = required(Distribution.at(info)) | {"smim"}
    modules = packages_distributions().items()
    absent = [module for module, owners in modules if not there & {canonicalize_name(owner) for owner in owners}]
    assert "hydra" in absent
    (tmp_path / "mine.txt").write_text("The old bridge was destroyed.\nHe was born in London.\n")
    commands = (
        "index | build | wikitext-small | mine.txt | -o | first",
        "search | first | The old bridge was destroyed by a flood. | -k | 1 | --decode",
        "interpolate | wikitext-small | The old bridge was destroyed. | He was born in London in 1910.",
    )
    command = [sys.executable, "-c", ALONE, " ".join(absent)]
    options = {"cwd": tmp_path, "env": {**os.environ, "PYTHONPATH": str(site)}, "input": "\n".join(commands)}
    used = subprocess.run(command, capture_output=True, text=True, **options)
    assert used.returncode == 0, used.stderr
    assert "The old bridge was destroyed." in used.stdout
