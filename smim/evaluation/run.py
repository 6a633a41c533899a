"""Evaluate a trained model of sentences or of vectors (the job behind `eval/run.py` and `smim evaluate`)."""

if __name__ == "__main__":  # before the imports below, which take seconds
    from smim.waiting import starting

    starting("starting the evaluation")

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, make_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig

from smim import config, generation, schema, storage, vector_model
from smim.errors import SmimError, UserError, nearest, not_among, refuse
from smim.evaluation import answering, likelihood, report, semantics, vectors
from smim.evaluation.groups import BY_DEFAULT, GROUPS, OF_SENTENCES
from smim.evaluation.history import history_of, train_sentences
from smim.evaluation.job import Job, sample, split_of_rows
from smim.evaluation.reference import Row
from smim.evaluation.retokenize import unknown_share
from smim.evaluation.section import Section
from smim.evaluation.vectors import VectorJob
from smim.generation import DECODED_LENGTH, SentenceModel
from smim.model.directory import read_settings
from smim.processes import close, make_accelerator
from smim.progress import console
from smim.text.corpus import CARD, Corpus, Split
from smim.vector_model import VectorModel
from smim.vectors.corpus import VectorCorpus
from smim.waiting import doing
from smim.work import WorkDirectory

# A dataclass with each group's settings under its name.
_GROUPS = {name: group.settings for name, group in GROUPS.items() if group.settings}
_OfGroups: Any = make_dataclass(
    "_OfGroups", [(name, cls, field(default_factory=cls)) for name, cls in _GROUPS.items()], frozen=True
)
# If these settings of noise and order are not the defaults, the report names them beside encoder and decoder.
_NOISE = ["min_log_variance", "max_log_variance", "word_dropout", "encoder_word_dropout", "encoder.order_weight"]


@dataclass(frozen=True)
class EvalArgs(_OfGroups):
    """The settings of an evaluation, with the settings of each metric group under its name.

    `metrics`: the groups in the order of the report; by default those that need no other files. `num_runs`: repetitions
    with new noise. `max_sentences`: evaluate only this number of random sentences of the split. `max_length`: the
    longest decoded sentence in tokens; by default that of the split, at least 100. `tokens_per_batch`: padded tokens
    per batch, which changes no metric. `precision`: fp32, or bf16 for the decoder's products in the groups
    `likelihood`, `reconstruction` and `overlap`. A model of vectors has one group, `vectors`. Of the other settings it
    uses `split`, `max_sentences` and `seed`.
    """

    split: str = "test"
    metrics: list[str] = field(default_factory=lambda: list(BY_DEFAULT))
    num_runs: int = schema.bounded(3, least=1)
    max_sentences: int | None = schema.bounded(None, least=1)
    max_length: int | None = schema.bounded(None, least=1)
    tokens_per_batch: int = schema.bounded(8192, least=1)
    precision: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        unknown = [
            f"eval.metrics: there is no {name!r}; {nearest(name, OF_SENTENCES)}"
            for name in self.metrics
            if name not in OF_SENTENCES
        ]
        empty = [] if self.metrics else [f"eval.metrics is empty; valid: {', '.join(OF_SENTENCES)}"]
        wrong = not_among(self, "eval", precision=["fp32", "bf16"])
        refuse([*schema.out_of_bounds(self, "eval"), *wrong, *unknown, *empty])


# The defaults of configs/eval/_base.yaml.
ConfigStore.instance().store("_args", asdict(EvalArgs()), group="eval")


def main(cfg: DictConfig, *, reference: Sequence[Row] = ()) -> None:
    """Load model and corpus, evaluate, and write the report with the rows of `reference` (published) that fit."""
    if isinstance(cfg.eval.metrics, str):
        cfg.eval.metrics = [cfg.eval.metrics]  # eval.metrics=likelihood is a list of one
    args = config.make(EvalArgs, cfg.eval, "eval")
    if cfg.model.dir is None or cfg.corpus.dir is None:
        raise UserError(
            "model.dir or corpus.dir is missing; give model.dir=DIR with a trained model and corpus.dir=DIR with a "
            "prepared corpus"
        )
    model_dir, output = Path(cfg.model.dir), Path(cfg.output or Path(cfg.model.dir).parent / "report").absolute()
    doing("loading the model")
    accelerator = make_accelerator()
    model: SentenceModel | VectorModel
    corpus: Corpus | VectorCorpus
    if read_settings(model_dir).unit == "vector":
        model, corpus = vector_model.load(model_dir), VectorCorpus.open(cfg.corpus.dir)
        prepare = partial(_of_vectors, model, corpus)
    else:
        model, corpus = generation.load(model_dir, device=str(accelerator.device)), Corpus.open(cfg.corpus.dir)
        prepare = partial(_of_sentences, model, corpus, retokenize=cfg.corpus.retokenize)
    work = WorkDirectory(output, _identity(model, corpus, args), card="report.json", kind="a report")
    with work.owned(accelerator):
        if accelerator.is_main_process:
            (work.path / "plots").mkdir(exist_ok=True)
        job, names, described = prepare(args, accelerator, work.path)
        sections, seconds = evaluate(job, args, names)
        doing("writing the report")
        if accelerator.is_main_process:
            content = {
                "model": _describe_model(model, model_dir, corpus),
                **described,
                "processes": accelerator.num_processes,
                "device": str(accelerator.device),
                "seconds": seconds,
            }
            report.write_report(work.result, content, sections, work.path / "plots", reference=reference)
    if accelerator.is_main_process:
        console.print(f"written to {output}/report.html (and .md, .json)", soft_wrap=True)
    accelerator.wait_for_everyone()
    close(accelerator)


def _of_sentences(
    model: SentenceModel, corpus: Corpus, args: EvalArgs, accelerator: Accelerator, work: Path, *, retokenize: bool
) -> tuple[Job | VectorJob, list[str], dict[str, Any]]:
    """Return the job, its metric groups, and the report's `corpus` and `settings`."""
    split = corpus.split(args.split)
    if "answering" in args.metrics:
        answering.find_pairs(corpus, args.answering)  # reports a wrong corpus now, not after hours of other metrics
    if "semantics" in args.metrics:
        semantics.check(args.semantics)  # for the same reason
    retokenized = model.tokenizer.hash != corpus.tokenizer.hash
    if retokenized and not retokenize:
        raise UserError(
            f"{corpus.directory} was prepared with another tokenizer than the model's "
            f"({corpus.tokenizer.vocabulary_size:,} words, the model's has {model.tokenizer.vocabulary_size:,}); "
            f"evaluate on a corpus prepared with the model's tokenizer, or encode the texts again with "
            f"corpus.retokenize=true"
        )
    job = make_job(model, corpus, split, args, accelerator, work)
    described = {**_describe_corpus(corpus, job.split), "retokenized": retokenized}
    return job, args.metrics, {"corpus": described, "settings": asdict(args) | {"max_length": job.max_length}}


def _of_vectors(
    model: VectorModel, corpus: VectorCorpus, args: EvalArgs, accelerator: Accelerator, work: Path
) -> tuple[Job | VectorJob, list[str], dict[str, Any]]:
    """Return the same as `_of_sentences`, for vectors."""
    if model.autoencoder.input_size != corpus.input_size:
        raise UserError(
            f"{corpus.directory} holds vectors of {corpus.input_size} dimensions, but the model takes vectors of "
            f"{model.autoencoder.input_size}; give the corpus on which it was trained, or one with the same dimension"
        )
    split = corpus.split(args.split)
    model.autoencoder.args.for_corpus(corpus).check_split(split, cut=None)
    split = vectors.take(split, sample(len(split), args.max_sentences or len(split), seed=args.seed))
    job = VectorJob(model, corpus, split, accelerator, work, seed=args.seed)
    settings = {name: asdict(args)[name] for name in ("split", "max_sentences", "seed", "vectors")}
    return job, ["vectors"], {"corpus": vectors.describe_corpus(corpus, split), "settings": settings}


def make_job(
    model: SentenceModel, corpus: Corpus, split: Split, args: EvalArgs, accelerator: Accelerator, work: Path
) -> Job:
    """Make the job that all groups share, with its sentences in the model's ids."""
    job = Job(
        model=model,
        corpus=corpus,
        split=split,
        accelerator=accelerator,
        work=work,
        seed=args.seed,
        num_runs=args.num_runs,
        max_length=args.max_length or 1,
        tokens_per_batch=args.tokens_per_batch,
        precision=args.precision,
    )
    split = job.in_model_ids(split)
    if args.max_sentences is not None and args.max_sentences < len(split):
        split = split_of_rows(split, job.sample(len(split), args.max_sentences), name=split.name)
    max_length = args.max_length or max(DECODED_LENGTH, int(split.lengths.max()))
    return replace(job, split=split, max_length=max_length)


def evaluate(job: Job | VectorJob, args: EvalArgs, names: Sequence[str]) -> tuple[dict[str, Section], dict[str, float]]:
    """Compute each group's section and its seconds. Groups with a result in `job.work` are not computed again."""
    sections, seconds = {}, {}
    for name in names:
        settings = [getattr(args, name)] if name in _GROUPS else []
        done = job.work / f"{name}.json"
        if not done.exists():
            doing(f"evaluating {name}")
            started = time.monotonic()
            try:
                section = GROUPS[name].evaluate(job, *settings, job.work / "plots")
            except SmimError as error:
                raise type(error)(f"{name}: {error}") from error
            except ValueError as error:  # from a library or an estimator, for unusable input
                raise SmimError(f"{name}: {error}") from error
            job.accelerator.wait_for_everyone()
            if job.accelerator.is_main_process:
                storage.write_json(done, {"section": asdict(section), "seconds": time.monotonic() - started})
            job.accelerator.wait_for_everyone()
        content = storage.read_json(done)
        sections[name], seconds[name] = schema.make(Section, content["section"], done), round(content["seconds"], 1)
        if job.accelerator.is_main_process:
            console.print(f"{name:16} {seconds[name]:8.1f} s")
    return sections, seconds


def _identity(model: SentenceModel | VectorModel, corpus: Corpus | VectorCorpus, args: EvalArgs) -> dict[str, Any]:
    """Collect everything that the metrics depend on, including our code, but not the published rows."""
    corpus.split(args.split)  # raises if the split is unknown
    code = b"".join(file.read_bytes() for file in sorted(Path(__file__).parents[1].rglob("*.py")))
    questions = {"answering": args.answering.corpus, "examples": args.examples.question_corpus}
    others = [Corpus.open(path) for name, path in questions.items() if path is not None and name in args.metrics]
    files = [file for name in args.metrics for file in GROUPS[name].files(getattr(args, name, None))]
    return {
        "model": model.hash,
        "corpus": corpus.hash_of(args.split),
        "cards": [storage.sha256(each.directory / CARD) for each in (corpus, *others)],
        "files": [storage.sha256(file) for file in files],
        "settings": asdict(args),
        "code": hashlib.sha256(code).hexdigest(),
    }


def _describe_model(
    model: SentenceModel | VectorModel, directory: Path, corpus: Corpus | VectorCorpus
) -> dict[str, Any]:
    """Describe the model for the report. `architecture`, such as "gru, word_dropout 0.1", distinguishes models."""
    training, changed = model.config["training"], schema.changed(model.autoencoder.args)
    noise = [f"{name.removeprefix('encoder.')} {changed[name]:g}" for name in _NOISE if name in changed]
    return {
        "directory": str(directory),
        "hash": model.hash,
        "latent_dim": model.latent_dim,
        "parameters": model.config["num_parameters"],
        "architecture": ", ".join([model.autoencoder.args.kind, *noise]),
        "trained_on": training.get("corpus"),
        "train_sentences": train_sentences(training, corpus),
        "history": history_of(directory, training),
        "settings": training.get("settings", {})
        | {name: value for name, value in changed.items() if name in ("prior", "posterior")},
        **{name: training[name] for name in ("objective", "seed", "step", "epoch", "valid_loss")},
    }


def _describe_corpus(corpus: Corpus, split: Split) -> dict[str, Any]:
    tokens = int(split.lengths.sum())
    return {
        "name": corpus.name,
        "directory": str(corpus.directory),
        "split": split.name,
        "sentences": len(split),
        "tokens": tokens,
        "tokens_per_sentence": tokens / len(split),
        "bytes": int(likelihood.sizes_of(split)[1].sum()),
        "unknown_share": unknown_share(split),
        "hash": storage.sha256(corpus.directory / CARD),
    }


if __name__ == "__main__":
    config.run("evaluate", main)
