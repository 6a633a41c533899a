"""The commands in the shell blocks of README.md and docs/ are well formed, and most of those of docs/*.md run.

All commands are parsed, in the ordinary suite. The test parses the arguments of `smim`, of `accelerate launch`, of
scripts with Typer, and of what the Slurm scripts run. It composes the settings of Hydra, and checks their types. For
pip, make and docs/examples/, it checks that extras, targets and files are there.

The slow tests run the commands of each page of docs/ in a folder with small data. tests/pages/shorter.sh shortens them:
a training ends after three steps, for example. It leaves out what needs a cluster, Docker, the network, WordNet or a
package of no extra, benchmarks, and what writes pages of results. Those commands are only parsed, and so are all of
docs/results/, docs/page.md and README.md. tests/test_readme.py runs the README's.
"""

import csv
import gzip
import os
import random
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import tomllib
from functools import cache
from itertools import islice, pairwise, product
from pathlib import Path
from typing import Any

import pytest
import typer
from accelerate.commands.launch import launch_command_parser
from hydra.core.override_parser.overrides_parser import OverridesParser

from launch.sentences import SENTENCES
from smim import cli, config
from smim.evaluation.run import EvalArgs
from smim.model.registry import make_args
from smim.objectives import objective_class
from smim.training.args import TrainArgs
from tests.preparation.image_files import omniglot_entries, write_npz, write_zip
from tests.scripts import free_port

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    str(page.relative_to(ROOT)): "".join(blocks)
    for page in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))]
    if (blocks := re.findall(r"^```(?:sh|bash|console)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL))
}
# The configuration of each script and command that takes KEY=VALUE.
COMPOSED = {
    **{"prepare": "build", "train": "train", "evaluate": "evaluate"},
    "data_prep/build.py": "build",
    "smim/train.py": "train",
    "eval/run.py": "evaluate",
    "smim/search/encode.py": "encode",
    "eval/figures.py": "figures",
}
# What launch/slurm/NAME.sbatch runs with its arguments.
JOBS = {
    "train": ["python", "smim/train.py"],
    "encode": ["python", "smim/search/encode.py"],
    "prepare": ["python", "data_prep/build.py"],
    "index": ["smim", "index", "build"],
    "serve": ["smim", "serve"],
    "pipeline": ["smim", "pipeline"],
}
TOOLS = {"awk", "curl", "cut", "docker", "gunzip", "jq", "kubectl", "npm", "nvidia-cuda-mps-control", "tr", "zcat"}
# Without a PATH, the shell finds no program. It passes the words of each command to this function.
RECORDER = """
PATH=nowhere SMIM_DATA=data KEY=key
cd() { :; }; source() { :; }
command_not_found_handle() { printf '%s\\0' $# "$@" >&3; }
set -u
exec 3>recorded
"""


@cache
def commands(page: str) -> list[list[str]]:
    """The words of each command of a page, as bash reads them. No command runs."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "demo").mkdir()  # a command writes into it
        read = subprocess.run(["bash", "-c", RECORDER + PAGES[page]], cwd=folder, capture_output=True, text=True)
        assert (read.returncode, read.stderr) == (0, ""), page
        words = iter((Path(folder) / "recorded").read_text().split("\0")[:-1])
    return [[next(words) for _ in range(int(count))] for count in words]


def parsed(app: typer.Typer, arguments: list[str]) -> dict[str, Any]:
    """What a command would be called with; a mistake raises Typer's error."""
    waiting = [command := typer.main.get_command(app)]
    while waiting:
        each = waiting.pop()
        waiting += getattr(each, "commands", {}).values()
        if not hasattr(each, "commands"):
            each.callback = lambda **given: given
    return command.main(arguments, standalone_mode=False)


def compose(name: str, arguments: list[str]) -> None:
    """Composes the configuration, for --multirun each one, and checks the types of its values."""
    overrides = [each for each in arguments if each not in ("--multirun", "--cfg", "job")]
    swept = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{each.key_or_group}={value}" for value in each.sweep_string_iterator()]
        if each.is_sweep_override()
        else [text]
        for each, text in zip(swept, overrides, strict=True)
    ]
    for chosen in product(*values):
        cfg = config.compose(name, list(chosen))
        if name == "evaluate":
            config.make(EvalArgs, cfg.eval, "eval")
        if name == "train":
            config.make(TrainArgs, cfg.train, "train")
            config.make(objective_class(cfg.objective.name), cfg.objective, "objective")
            make_args(cfg.model)


@cache
def app_of(script: str) -> typer.Typer:
    """What a script runs as its command line."""
    found: list[typer.Typer] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [script])
        patch.syspath_prepend(str((ROOT / script).parent))
        patch.setattr(typer.Typer, "__call__", lambda app: found.append(app))
        runpy.run_path(str(ROOT / script), run_name="__main__")
    return found[0]


def check_script(script: str, arguments: list[str]) -> None:
    """Checks the arguments of `python SCRIPT`."""
    text = (ROOT / script).read_text()
    if script in COMPOSED:
        compose(COMPOSED[script], arguments)
    elif "typer" in text or "common" in text:
        parsed(app_of(script), arguments)


def check(words: list[str]) -> None:
    """Raises what is wrong with a command."""
    program, *arguments = words
    match program, arguments:
        case "smim", [*_]:
            given = parsed(cli.app, arguments)
            if arguments[0] in COMPOSED:
                compose(COMPOSED[arguments[0]], given["settings"])
        case "python", ["-c", code]:
            compile(code, "-c", "exec")
        case "python", ["-m", "pytest", *_]:
            pass
        case "python", [script, *rest]:
            check_script(script, rest)
        case "accelerate", ["launch", *rest]:
            launched = launch_command_parser().parse_args(rest)
            assert launched.config_file is None or (ROOT / launched.config_file).is_file()
            check_script(launched.training_script, launched.training_script_args)
        case "sbatch", [*_]:
            [place] = [place for place, word in enumerate(arguments) if word.endswith(".sbatch")]
            job = ROOT / arguments[place]
            target = JOBS[job.stem.removesuffix("_ray")]
            assert f"{target[-1]} " in job.read_text()
            check([*target, *arguments[place + 1 :]])
        case "make", [target]:
            assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
        case "pip", ["install", *packages]:
            extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
            named = re.findall(r"(?:smim|\.)\[(.+?)\]", " ".join(packages))
            assert set(",".join(named).split(",")) - {""} <= set(extras)
        case _:
            assert program in TOOLS


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_are_well_formed(page: str) -> None:
    problems = []
    for words in commands(page):
        try:
            check(words)
        except (Exception, SystemExit) as error:
            problems.append(f"{' '.join(words)}: {type(error).__name__} {error}")
    assert not problems, "\n".join(problems)


# What is written otherwise, so that it can run here and with little data.
REPLACED = {
    "sentence-transformers/all-MiniLM-L6-v2": "teacher",
    "MODEL data/mine ": "MODEL mine.txt ",
    "MODEL": "english-small",
    "FOLDER": "$SMIM_DATA/ptb",
    "corpus=tatoeba ": "corpus=tatoeba corpus.tokenizer.size=500 ",
    "size=8000": "size=500",
    "size=16000": "size=300",
    '{"source": "reviews"}': '{"length": {"$gte": 2}}',
    "http://127.0.0.1:8000": "http://127.0.0.1:$PORT",
}


def bash(script: str, folder: Path) -> None:
    """Runs a script in a folder, with the functions of tests/pages/shorter.sh in the place of programs."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "SMIM_DATA": str(folder / "downloads"),
        "PORT": str(free_port()),
        "KEY": "edit-a-service-of-a-test-0123456789abcdef",
    }
    command = ["bash", "-c", f"source {ROOT}/tests/pages/shorter.sh\n{script}"]
    ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:] + ran.stdout[-1000:]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with files, corpora, models and an index by the names that the commands use, all of them small."""
    from tests.teachers import write_teacher  # with sentence-transformers, which takes seconds

    folder = tmp_path_factory.mktemp("prepared")
    for name in ("smim", "data_prep", "eval", "docs"):
        (folder / name).symlink_to(ROOT / name)
    published = Path(os.environ["SMIM_DATA"])
    for source in published.rglob("*.gz"):
        target = folder / "downloads" / source.relative_to(published)
        target.parent.mkdir(parents=True, exist_ok=True)
        with gzip.open(source, "rt") as lines, gzip.open(target, "wt") as shortened:
            shortened.writelines(islice(lines, 1500))
    write_npz(folder / "downloads" / "mnist", train=7200, test=1200)
    write_zip(folder / "downloads" / "omniglot" / "images_small.zip", omniglot_entries({"Greek": 1, "Latin": 2}))
    write_teacher(folder / "teacher")
    texts = [" ".join(random.Random(seed).sample(SENTENCES, 2)) for seed in range(900)]
    (folder / "mine.txt").write_text("\n".join(texts) + "\n")
    for name, separator, rows in (
        ("reviews.csv", ",", [("review", "stars"), *((text, i % 5 + 1) for i, text in enumerate(texts))]),
        ("paraphrases.tsv", "\t", [("first", "second"), *pairwise(texts)]),
    ):
        with open(folder / name, "w", newline="") as file:
            csv.writer(file, delimiter=separator).writerows(rows)
    bash((ROOT / "tests/pages/before.sh").read_text(), folder)
    return folder


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif("SMIM_DATA" not in os.environ, reason="SMIM_DATA names the folder of the published corpora")
@pytest.mark.parametrize("page", [page for page in PAGES if "docs/" in page and not re.search("results|/page", page)])
def test_the_commands_of_a_page_run(page: str, prepared: Path, tmp_path: Path) -> None:
    folder, text = tmp_path / "here", PAGES[page]
    shutil.copytree(prepared, folder, symlinks=True)
    for written, here in REPLACED.items():
        text = text.replace(written, here)
    bash(text, folder)
