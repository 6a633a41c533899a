"""Evaluates a trained model: accelerate launch eval/run.py model.dir=RUN/model corpus.dir=data/ptb

Runs on any number of processes, each sentence exactly once, and writes `report.json` and `report.md`
into `output` (by default `report/` beside the model). Every option: `python eval/run.py --cfg job`.
"""

import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from omegaconf import DictConfig

from eval import likelihood, reconstruction, report
from smim import config, generation, storage
from smim.errors import SmimError, UserError
from smim.generation import SentenceModel
from smim.objectives import objective_class
from smim.progress import console
from smim.text.corpus import CARD, Corpus, Split
from smim.training.processes import make_accelerator
from smim.training.validation import validate

_NUM_EXAMPLES = 8


@dataclass(frozen=True)
class EvalArgs:
    """`num_runs`: repetitions for the standard error; `num_samples`: N_z of eq. 6.17."""

    split: str = "test"
    num_runs: int = 3
    num_samples: int = 1
    max_length: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        problems = [
            f"eval.{name} is {getattr(self, name)}, it must be at least 1"
            for name in ("num_runs", "num_samples", "max_length")
            if getattr(self, name) < 1
        ]
        if problems:
            raise UserError("; ".join(problems))


def main(cfg: DictConfig) -> None:
    """Loads model and corpus, evaluates, and writes the report."""
    args = config.make(EvalArgs, cfg.eval, "eval")
    if cfg.model.dir is None or cfg.corpus.dir is None:
        raise UserError("give model.dir=DIR of a trained model and corpus.dir=DIR of a prepared corpus")
    model_dir = Path(cfg.model.dir)
    output = Path(cfg.output or model_dir.parent / "report")
    accelerator = make_accelerator(precision="fp32")
    model = generation.load(model_dir, device=str(accelerator.device))
    corpus = Corpus.open(cfg.corpus.dir)
    _check_tokenizer(model, corpus)
    started = time.monotonic()
    split = corpus.split(args.split)
    figures, examples = evaluate(model, split, args, accelerator)
    if accelerator.is_main_process:
        content = {
            "model": _describe_model(model, model_dir),
            "corpus": _describe_corpus(corpus, split),
            "settings": asdict(args),
            "figures": figures,
            "thesis": report.thesis_row(corpus.name, model.config["training"]["objective"], model.latent_dim),
            "examples": examples,
            "environment": report.environment(),
            "seconds": round(time.monotonic() - started, 1),
        }
        report.write_report(output, content)
        for name, entry in figures.items():
            console.print(f"{name:24} {entry['value']:10.4g} {entry['unit']}", highlight=False)
        console.print(f"written to {output}/report.md", highlight=False, soft_wrap=True)
    accelerator.wait_for_everyone()
    accelerator.end_training()


def evaluate(
    model: SentenceModel, split: Split, args: EvalArgs, accelerator: Accelerator
) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """All figures of `split`, with the first sentences and their greedy reconstructions."""
    sentences = likelihood.sentence_likelihood(
        model,
        split,
        accelerator=accelerator,
        num_runs=args.num_runs,
        num_samples=args.num_samples,
        seed=args.seed,
    )
    reconstructions = reconstruction.reconstruct(
        model,
        split,
        accelerator=accelerator,
        num_runs=args.num_runs,
        seed=args.seed,
        max_length=args.max_length,
    )
    name = model.config["training"]["objective"]
    objective = objective_class(name)(name=name)
    usage = validate(model.autoencoder, objective, split, accelerator=accelerator, seed=args.seed)
    runs = {
        **likelihood.summarize(sentences, deterministic=model.deterministic),
        **reconstruction.summarize(reconstructions),
    }
    if not model.deterministic:
        names = ("kl", "active_units", "active_units_relative", "clamped")
        runs |= {name: np.array([usage[name]]) for name in names}
    try:
        figures = {name: report.figure(name, values) for name, values in runs.items()}
    except ValueError as error:
        raise SmimError(str(error)) from None
    pairs = list(zip(reconstructions.references, reconstructions.hypotheses, strict=True))
    return figures, pairs[:_NUM_EXAMPLES]


def _check_tokenizer(model: SentenceModel, corpus: Corpus) -> None:
    if model.tokenizer.hash != corpus.tokenizer.hash:
        raise UserError(
            f"{corpus.directory} was prepared for another tokenizer than the model's "
            f"({corpus.tokenizer.vocabulary_size:,} words, the model's has {model.tokenizer.vocabulary_size:,}); "
            f"evaluate on a corpus prepared with the model's tokenizer"
        )


def _describe_model(model: SentenceModel, directory: Path) -> dict[str, Any]:
    training = model.config["training"]
    return {
        "directory": str(directory),
        "hash": model.hash,
        "latent_dim": model.latent_dim,
        "parameters": model.config["num_parameters"],
        **{name: training[name] for name in ("objective", "seed", "step", "epoch", "valid_loss")},
    }


def _describe_corpus(corpus: Corpus, split: Split) -> dict[str, Any]:
    tokens = int(split.lengths.sum())
    return {
        "name": corpus.name,
        "split": split.name,
        "sentences": len(split),
        "tokens": tokens,
        "tokens_per_sentence": tokens / len(split),
        "hash": storage.sha256(corpus.directory / CARD),
    }


if __name__ == "__main__":
    config.run("evaluate", main)
