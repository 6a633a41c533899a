"""Every objective on Penn Treebank at equal size and steps, over seeds, side by side.

    python benchmarks/objectives.py data/ptb --labelled data/yelp_short -o family
    python benchmarks/objectives.py data/ptb --labelled data/yelp_short -o family --only vae mim --seeds 5

Trains `experiment=ptb_family` once for each method and seed, two at once with a thread each; evaluates each on the test
split, and its codes on a corpus with labels, with the model's own words; and compares all reports that are there. What
is finished is not done again, and what was interrupted goes on.
"""

import argparse
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--labelled", type=Path, required=True, help="a prepared corpus with a label column")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=METHODS, default=list(METHODS), metavar="METHOD")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("overrides", nargs="*", help="more settings of the trainings")
    args = parser.parse_intermixed_args()
    # All methods of one seed before the next: a comparison is there early.
    jobs = [(method, seed) for seed in range(args.seeds) for method in args.only]
    with ThreadPoolExecutor(args.workers) as pool:
        done = list(pool.map(lambda job: _train_and_evaluate(args, *job), jobs))
    print(f"{sum(done)} of {len(done)} trainings done; the logs of the others are in {args.output}")
    reports = sorted(map(str, args.output.glob("*/report*")))
    subprocess.run([sys.executable, "eval/compare.py", *reports, "--output", str(args.output)], cwd=ROOT, check=True)


def _train_and_evaluate(args: argparse.Namespace, method: str, seed: int) -> bool:
    run_dir = (args.output / f"{method}-{seed}").resolve()
    run_dir.mkdir(parents=True, exist_ok=True)
    model, corpus, labelled = run_dir / "model", args.corpus.resolve(), args.labelled.resolve()
    settings = ["experiment=ptb_family", *METHODS[method], f"train.seed={seed}", *args.overrides]
    evaluate = ["eval/run.py", f"model.dir={model}"]
    commands = {
        "model": ["smim/train.py", *settings, f"corpus.dir={corpus}", f"run.dir={run_dir}", "train.resume=auto"],
        "report": [*evaluate, f"corpus.dir={corpus}", f"output={run_dir / 'report'}", *EVALUATION],
        "report_labelled": [
            *(*evaluate, f"corpus.dir={labelled}", "corpus.retokenize=true", f"output={run_dir / 'report_labelled'}"),
            *("eval.metrics=[representation]", "eval.representation.map_sentences=0"),
        ],
    }
    for output, command in commands.items():
        if output != "model" and (run_dir / output).exists():
            continue
        with (run_dir / "log.txt").open("a") as log:
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            command = [sys.executable, *command]
            if subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log).returncode:
                return False
    return True


if __name__ == "__main__":
    main()
