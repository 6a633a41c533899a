"""Compare all objectives on Penn Treebank at equal size and steps, over several seeds.

    python benchmarks/objectives.py data/ptb --labelled data/yelp_short -o family
    python benchmarks/objectives.py data/ptb --labelled data/yelp_short -o family --only vae --only mim --seeds 5

Trains `experiment=ptb_family` once for each method and seed, two at a time with one thread each. Evaluates each model
on the test split, and its codes on a corpus with labels, with the model's own words. Then compares all finished
reports. After an interruption, the same command continues.
"""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.common import ROOT, main
from smim.errors import nearest

METHODS = {
    "vae": ["objective=vae"],
    "annealed": ["objective=vae", "objective.kl_annealing=linear", "objective.annealing_steps=500"],
    "free_bits": ["objective=vae", "objective.free_bits=0.5"],
    "beta_vae": ["objective=beta_vae"],
    "low_beta": ["objective=beta_vae", "objective.beta=0.25"],
    "vae_entropy": ["objective=vae", "objective.entropy_weight=1"],
    "vae_vamp": ["objective=vae", "model.prior=vamp"],
    "mmd_vae": ["objective=mmd_vae"],
    "stein_vae": ["objective=stein_vae"],
    "adversarial": ["objective=adversarial"],
    "infomax_vae": ["objective=infomax_vae"],
    "infomax_dv": ["objective=infomax_vae", "objective.dual=donsker_varadhan"],
    "amim": ["objective=amim"],
    "cmim": ["objective=cmim"],
    "amim_warmup": ["objective=amim", "objective.warmup_steps=500"],
    "amim_sampled_variance": ["objective=amim", "model.posterior=sampled_variance"],
    "mim": ["objective=mim"],
    "mim_entropy": ["objective=mim", "objective.entropy_weight=-1"],
    "autoencoder": ["objective=autoencoder"],
    "probabilistic_autoencoder": ["objective=probabilistic_autoencoder"],
}
EVALUATION = [
    *("eval.metrics=[likelihood,reconstruction,information]", "eval.num_runs=1", "eval.max_sentences=2000"),
    *("eval.likelihood.importance_samples=0", "eval.likelihood.train_sentences=10_000"),
]


def compare(
    corpus: Path,
    labelled: Annotated[Path, typer.Option(help="A prepared corpus with a label column.")],
    output: Annotated[Path, typer.Option("--output", "-o")],
    overrides: Annotated[list[str] | None, typer.Argument(help="Further settings of the trainings.")] = None,
    only: Annotated[list[str], typer.Option(metavar="METHOD", help="May be repeated.")] = list(METHODS),  # noqa: B006
    seeds: int = 2,
    workers: int = 2,
) -> None:
    for name in only:
        if name not in METHODS:
            raise typer.BadParameter(f"--only {name}; {nearest(name, list(METHODS))}")
    # All methods of one seed come before the next seed, so that an early comparison is possible.
    jobs = [(method, seed) for seed in range(seeds) for method in only]
    work = partial(_train_and_evaluate, corpus.resolve(), labelled.resolve(), output.resolve(), overrides or [])
    with ThreadPoolExecutor(workers) as pool:
        done = list(pool.map(lambda job: work(*job), jobs))
    print(f"{sum(done)} of {len(done)} trainings done; the logs of the others are in {output}")
    reports = sorted(map(str, output.glob("*/report*")))
    subprocess.run([sys.executable, "eval/compare.py", *reports, "--output", str(output)], cwd=ROOT, check=True)


def _train_and_evaluate(
    corpus: Path, labelled: Path, output: Path, overrides: list[str], method: str, seed: int
) -> bool:
    run_dir = output / f"{method}-{seed}"
    run_dir.mkdir(parents=True, exist_ok=True)
    settings = ["experiment=ptb_family", *METHODS[method], f"train.seed={seed}", *overrides]
    evaluate = ["eval/run.py", f"model.dir={run_dir / 'model'}"]
    commands = {
        "model": ["smim/train.py", *settings, f"corpus.dir={corpus}", f"run.dir={run_dir}", "train.resume=auto"],
        "report": [*evaluate, f"corpus.dir={corpus}", f"output={run_dir / 'report'}", *EVALUATION],
        "report_labelled": [
            *(*evaluate, f"corpus.dir={labelled}", "corpus.retokenize=true", f"output={run_dir / 'report_labelled'}"),
            *("eval.metrics=[representation]", "eval.representation.map_sentences=0"),
        ],
    }
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (run_dir / "log.txt").open("a") as log:
        run = partial(subprocess.run, cwd=ROOT, env=environment, stdout=log, stderr=log)
        return all(
            run([sys.executable, *command]).returncode == 0
            for name, command in commands.items()
            if name == "model" or not (run_dir / name).exists()
        )


if __name__ == "__main__":
    main(__doc__, compare)
