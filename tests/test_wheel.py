"""A built wheel works outside of the clone."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import Distribution, PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
# MB of an installation without extras, torch left out: README.md says so.
STATED = 600
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
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True, timeout=120)
    [wheel] = folder.glob("*.whl")
    assert wheel.stat().st_size < 30e6
    return wheel


@pytest.fixture(scope="module")
def site(wheel: Path) -> Path:
    """Where the wheel is installed, without what it requires."""
    site = wheel.parent / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True, timeout=120)
    return site


def environment(site: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(site)}


def of_extras(site: Path) -> list[str]:
    """The modules that are installed here, but not with the wheel where no extra is asked for."""
    [info] = site.glob("*.dist-info")
    there = required(Distribution.at(info)) | {"smim"}
    modules = packages_distributions().items()
    return [module for module, owners in modules if not there & {canonicalize_name(owner) for owner in owners}]


def run_alone(
    site: Path, folder: Path, commands: Sequence[str], absent: Sequence[str] = ()
) -> subprocess.CompletedProcess[str]:
    """Commands of the wheel, in another folder and in one process, where the modules `absent` are not installed."""
    command = [sys.executable, "-c", ALONE, " ".join(absent)]
    options = {"cwd": folder, "env": environment(site), "input": "\n".join(commands)}
    return subprocess.run(command, capture_output=True, text=True, **options)


def test_smim_and_smim_load_work_from_a_built_wheel(tiny_model, site, tmp_path):
    assert sorted(path.name for path in site.iterdir() if not path.name.endswith(".dist-info")) == ["bin", "smim"]
    assert (site / "smim" / "py.typed").is_file()  # type checkers read our annotations
    page = site / "smim" / "serve" / "page"
    assert (page / "static" / "page.css").is_file() and (page / "static" / "map.js").is_file()
    assert not (page / "source").exists()
    code = f"import smim; m = smim.load({str(tiny_model)!r}); print(smim.__file__, m.encode(['a bank lost']).shape)"
    used = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment(site), capture_output=True, text=True, check=True
    )
    assert used.stdout.startswith(str(site)) and used.stdout.endswith("(1, 8)\n")
    command = [sys.executable, str(site / "bin" / "smim"), "reconstruct", str(tiny_model), "a bank lost shares"]
    shown = subprocess.run(command, cwd=tmp_path, env=environment(site), capture_output=True, text=True)
    assert shown.returncode == 0 and shown.stderr == "" and shown.stdout.endswith("\n")


def test_a_users_text_becomes_a_corpus_a_model_and_a_report_without_a_clone(site, tmp_path):
    (tmp_path / "mine.txt").write_text("".join(f"line {i} of a {i % 7} text\n" for i in range(200)))
    (tmp_path / "configs").mkdir()  # of somebody else
    commands = (
        "prepare | corpus.path=mine.txt | corpus.test=0.2 | output=corpus | prep.workers=1",
        "train | corpus.dir=corpus | model.latent_dim=4 | model.hidden_dim=8 | train.max_steps=3 | run.dir=run",
        "evaluate | model.dir=run/model | corpus.dir=corpus | eval.metrics=likelihood | output=report",
    )
    used = run_alone(site, tmp_path, commands)
    assert used.returncode == 0, used.stderr
    assert "finished after 3 steps" in used.stderr and (tmp_path / "report" / "report.html").is_file()


@pytest.mark.slow
def test_many_processes_train_and_evaluate_from_a_wheel(site, tiny_corpus, tmp_path):
    config = ["--config_file", str(ROOT / "launch" / "accelerate" / "cpu.yaml"), "--main_process_port", "0"]
    small = ["model.latent_dim=4", "model.hidden_dim=8", "train.max_steps=3", "train.batch_size=4", "run.dir=run"]
    for module, settings in (
        ("smim.train", small),
        ("smim.evaluation.run", ["model.dir=run/model", "eval.metrics=likelihood", "output=report"]),
    ):
        command = [
            sys.executable,
            "-m",
            "accelerate.commands.accelerate_cli",
            "launch",
            *config,
            "--num_processes",
            "2",
        ]
        command += ["-m", module, f"corpus.dir={tiny_corpus}", *settings]
        used = subprocess.run(command, cwd=tmp_path, env=environment(site), capture_output=True, text=True)
        assert used.returncode == 0, used.stderr
    assert json.loads((tmp_path / "report" / "report.json").read_text())["processes"] == 2


def test_the_packaged_model_needs_none_of_the_extras(site, tmp_path):
    absent = of_extras(site)
    assert "hydra" in absent
    (tmp_path / "mine.txt").write_text("The old bridge was destroyed.\nHe was born in London.\n")
    commands = (
        "index | build | english-small | mine.txt | -o | first",
        "search | first | The old bridge was destroyed by a flood. | -k | 1 | --decode",
        "interpolate | english-small | The old bridge was destroyed. | He was born in London in 1910.",
    )
    used = run_alone(site, tmp_path, commands, absent)
    assert used.returncode == 0, used.stderr
    assert "The old bridge was destroyed." in used.stdout


@pytest.mark.parametrize("command", ["prepare", "train", "evaluate"])
def test_the_extra_that_a_command_needs_is_named(site, tmp_path, command):
    refused = run_alone(site, tmp_path, [f"{command} | corpus.path=mine.txt"], of_extras(site))
    assert refused.returncode == 2 and "Traceback" not in refused.stderr
    assert f"smim {command} needs hydra; install it with `pip install 'smim[pipeline]'`" in refused.stderr


# A newcomer's table: quotes, a line break inside of quotes, a text too long for the model, none, and no label.
REVIEWS = (
    ('"The waiter said ""hello"" and was kind."', "5"),
    ('"The food was cold.\nThe waiter was rude."', "1"),
    ("We waited for a long time and then " * 500, "2"),
    ("", "3"),
    ("The pizza was great.", ""),
)
PYTHON = """
import smim
from smim.search import open_index

model = smim.load("english-small")
assert model.encode(["The server was impolite.", "Bread."]).shape == (2, 512)
index = open_index("reviews", model=model)
[hit] = index.search("The server was impolite.", k=1)
assert (hit.text, hit.labels) == ("The food was cold.\\nThe waiter was rude.", {"stars": 1}), hit
[hit] = index.search("I liked the pizza.", k=1)
assert (hit.text, hit.labels) == ("The pizza was great.", {"stars": None}), hit
"""


def megabytes(folder: Path) -> float:
    """What its files take of the disk."""
    return sum(512 * path.stat().st_blocks for path in folder.rglob("*") if path.is_file()) / 1e6


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_from_the_wheel_alone_a_table_is_searched_in_an_environment_of_the_stated_size(wheel, tmp_path):
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    python = tmp_path / "venv" / "bin" / "python"

    def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        ended = subprocess.run([*map(str, command)], cwd=tmp_path, env=alone, capture_output=True, text=True)
        assert not check or ended.returncode == 0, ended.stderr
        return ended

    run(sys.executable, "-m", "venv", tmp_path / "venv")
    pip = (python, "-m", "pip", "install", "--quiet")
    constraints = ROOT / "constraints.txt"
    [torch] = [line for line in constraints.read_text().splitlines() if line.startswith("torch==")]
    # The CPU build, as launch/install.sh takes it.
    if run(*pip, "--no-index", "--no-deps", torch, check=False).returncode:
        run(*pip, "--no-deps", "--index-url", "https://download.pytorch.org/whl/cpu", torch)
    run(*pip, "-c", constraints, wheel)

    (tmp_path / "reviews.csv").write_text("review,stars\n" + "".join(f"{','.join(row)}\n" for row in REVIEWS))
    smim = python.with_name("smim")
    built = run(smim, "index", "build", "english-small", "reviews.csv", "--text-column", "review", "-o", "reviews")
    assert built.stdout.startswith("4 sentences in reviews\n")
    assert "1 of 5 rows have no text and were left out: reviews.csv, row 4" in built.stderr
    assert "1 of 4 texts" in built.stderr
    found = run(smim, "search", "reviews", "The server was impolite.", "-k", "1")
    assert found.stdout.endswith("\tThe food was cold. The waiter was rude.\t1\n")
    run(python, "-c", PYTHON)

    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    of_torch = megabytes(packages / "torch")
    print(f"{megabytes(packages):.0f} MB, {of_torch:.0f} of them torch")
    assert megabytes(packages) - of_torch < STATED  # as the README states it, whose torch is the CPU build
