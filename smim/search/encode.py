"""Encode a prepared corpus into a latents directory, shard by shard, on any number of processes and machines.

    accelerate launch smim/search/encode.py model.dir=RUN/model corpus.dir=data/ptb output=latents/ptb encode.split=test
    python smim/search/encode.py model.dir=... corpus.dir=... output=... encode.workers=4
    python smim/search/encode.py model.dir=... corpus.dir=... output=... encode.engine=ray encode.address=HOST:PORT

In the working directory (`smim/work.py`), `done/00000.json` marks a finished shard and holds its files' checksums.

A shard depends only on the model and its rows. Any process may encode it, and encoding it again gives the same result.
Every option: `python smim/search/encode.py --cfg job`.
"""

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from smim import __version__, generation
from smim.engine import EngineArgs, open_engine
from smim.errors import SmimError, UserError, not_among, too_low
from smim.generation import SentenceModel
from smim.model.directory import find
from smim.progress import console, sentences_bar
from smim.search.latents import CARD, Latents, LatentsCard, write_card
from smim.shards import DTYPES, ShardInfo, finished, write_mark, write_shard
from smim.text.corpus import Corpus, Split
from smim.work import WorkDirectory

if TYPE_CHECKING:
    from accelerate import Accelerator
    from omegaconf import DictConfig

# Sentences encoded between two updates of the progress bar.
_ROWS_AT_ONCE = 16_384
# Seconds. The processes synchronize only at the end, when the fastest waits for the slowest.
_PATIENCE = 7 * 24 * 3600


@dataclass(frozen=True)
class EncodeArgs(EngineArgs):
    """Settings of the encoding job, `encode.` on the command line.

    `dtype`: the stored type, fp32 or fp16. `log_variance`: store the posterior's log variance beside its mean.
    `rows_per_shard`: the sentences of a shard, which a process or Ray task encodes at a time. `engine`: local or ray.
    `workers`: processes, or Ray tasks at a time; None for those of this launch, or for all of the cluster. `too_long`:
    for sentences above the model's limit, truncate encodes the beginning and error refuses them.
    """

    section = "encode"
    task_size = "encode.rows_per_shard"

    split: str = "train"
    dtype: str = "fp32"
    log_variance: bool = False
    rows_per_shard: int = 65_536
    too_long: str = "truncate"

    def problems(self) -> list[str]:
        return (
            super().problems()
            + not_among(self, "encode", dtype=DTYPES, too_long=["truncate", "error"])
            + too_low(self, "encode", rows_per_shard=1)
        )

    @property
    def in_workers(self) -> bool:
        """Whether an engine's workers encode, rather than the processes of this launch."""
        return self.engine == "ray" or self.workers is not None


@dataclass(frozen=True)
class ShardTask:
    """One shard, with all that a fresh worker needs; paths are absolute. `threads`: None for all."""

    number: int
    card: LatentsCard
    work: Path
    threads: int | None


def main(cfg: "DictConfig") -> None:
    """Encode on the processes of this launch, or on Ray."""
    from smim import config
    from smim.processes import close, make_accelerator

    args = config.make(EncodeArgs, cfg.encode, "encode")
    if None in (cfg.model.dir, cfg.corpus.dir, cfg.output):
        raise UserError("give model.dir=DIR of a trained model, corpus.dir=DIR of a prepared corpus, and output=DIR")
    accelerator = make_accelerator(timeout=_PATIENCE)
    encode_corpus(cfg.model.dir, cfg.corpus.dir, cfg.output, args=args, accelerator=accelerator)
    close(accelerator)


def encode_corpus(
    model_dir: Path | str,
    corpus_dir: Path | str,
    output: Path | str,
    *,
    args: EncodeArgs,
    accelerator: "Accelerator | None" = None,
) -> None:
    """Encode one split of a corpus into a latents directory; replaces existing latents.

    Under `accelerate launch` each process calls this and takes every n-th shard. A restarted job skips finished shards.
    Existing latents of the same model, corpus and settings are kept.

    Raises `UserError` for a corpus of another tokenizer, an unknown split, and an `output` that holds something else.
    """
    output = Path(output).resolve()
    is_main = accelerator is None or accelerator.is_main_process
    if args.in_workers and accelerator is not None and accelerator.num_processes > 1:
        raise UserError(
            "encode.engine=ray and encode.workers distribute the work themselves; start them with "
            "`python smim/search/encode.py ...`"
        )
    device = str(accelerator.device) if accelerator else None
    model = generation.load(model_dir, device="cpu" if args.in_workers else device)
    corpus = Corpus.open(corpus_dir)
    split = corpus.split(args.split)
    card = _card(model, Path(model_dir), corpus, split, args)
    # Everything that the files depend on, except where the model and the corpus are.
    identity = {**asdict(card), "model": None, "corpus": None, "version": __version__}
    work = WorkDirectory(output, identity, card=CARD, kind="a directory of latents")
    with work.owned(accelerator):
        if _is_there(output, card):
            if is_main:
                console.print(f"{output} already holds the latents of this model, corpus and settings")
            return
        folder = work.path
        (folder / "done").mkdir(exist_ok=True)
        rank, num_processes = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
        own = range(card.num_shards)[rank::num_processes]
        waiting = [number for number in own if _finished(folder, number) is None]
        if is_main:
            model.tell_cut(split.lengths, f"{corpus.directory}, split {args.split}", too_long=args.too_long)
        total = sum(len(card.rows_of(number)) for number in waiting)
        name = f"encoding {corpus.name} {args.split}" + (f", process 1 of {num_processes}" if num_processes > 1 else "")
        with sentences_bar(name, total=total, visible=is_main) as advance:
            if args.in_workers:
                local = args.workers if args.engine == "local" else None
                threads = max(1, torch.get_num_threads() // local) if local else None
                tasks = [ShardTask(number, card, folder, threads) for number in waiting]
                with open_engine(args, gpu=True) as engine:
                    for number, _ in engine.map(encode_task, tasks):
                        advance(len(card.rows_of(tasks[number].number)))
            else:
                for number in waiting:
                    encode_shard(model, split, card, number, folder, advance)
        if accelerator:
            accelerator.wait_for_everyone()
        if is_main:
            shards = [_finished(folder, number) for number in range(card.num_shards)]
            if missing := [number for number, shard in enumerate(shards) if shard is None]:
                raise SmimError(f"shard {missing[0]} is missing or damaged in {folder}; run the same command again")
            write_card(folder / "result", card, [shard for shard in shards if shard is not None])
    if is_main:
        console.print(f"{card.count:,} codes of {card.dimension} dimensions in {output}", soft_wrap=True)


def encode_shard(
    model: SentenceModel,
    split: Split,
    card: LatentsCard,
    number: int,
    work: Path,
    advance: Callable[[int], None] = lambda rows: None,
) -> None:
    """Write one shard's files into `work` and mark it as done; `advance` receives the number of finished rows."""
    rows = card.rows_of(number)
    shape, dtype = (len(rows), card.dimension), DTYPES[card.dtype]
    arrays = {kind: np.empty(shape, dtype) for kind in card.kinds}
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        posterior = model.posterior_of_ids(split.ids(rows[part]))
        for kind, codes in arrays.items():
            with np.errstate(over="ignore"):
                codes[part] = getattr(posterior, kind).numpy()
            if not np.isfinite(codes[part]).all():
                raise SmimError(
                    f"in rows {rows[part].start} to {rows[part].stop - 1} of {card.corpus_name} {card.split}, the "
                    f"{kind} is NaN or too large for {card.dtype}; try encode.dtype=fp32, or check the model's training"
                )
        advance(len(rows[part]))
    shard = write_shard(work / "result", number, arrays)
    write_mark(work, number, shard)


def encode_task(task: ShardTask) -> None:
    """Run `encode_shard` in a worker process, which keeps model and corpus for its next shards."""
    if _finished(task.work, task.number) is None:
        if task.threads:
            torch.set_num_threads(task.threads)
        model, split = _opened(task.card)
        encode_shard(model, split, task.card, task.number, task.work)


@lru_cache(maxsize=1)
def _opened(card: LatentsCard) -> tuple[SentenceModel, Split]:
    model, corpus = generation.load(card.model), Corpus.open(card.corpus)
    if (model.hash, corpus.hash_of(card.split)) != (card.model_hash, card.corpus_hash):
        raise UserError(
            f"{card.model} or {card.corpus} is not the same on all machines, or was changed meanwhile; "
            "put the same files on all machines, and run the command again"
        )
    return model, corpus.split(card.split)


def _finished(work: Path, number: int) -> ShardInfo | None:
    return finished(work, number, directory=work / "result")


def _card(model: SentenceModel, model_dir: Path, corpus: Corpus, split: Split, args: EncodeArgs) -> LatentsCard:
    if corpus.tokenizer.hash != model.tokenizer.hash:
        raise UserError(
            f"corpus {corpus.directory} was prepared with another tokenizer than the model's; "
            "encode the corpus that the model was trained on, or prepare this one with the model's tokenizer"
        )
    return LatentsCard(
        model=os.path.abspath(find(model_dir)),
        model_hash=model.hash,
        tokenizer_hash=model.tokenizer.hash,
        corpus=os.path.abspath(corpus.directory),
        corpus_name=corpus.name,
        corpus_hash=corpus.hash_of(args.split),
        split=args.split,
        count=len(split),
        dimension=model.latent_dim,
        dtype=args.dtype,
        has_log_variance=args.log_variance,
        rows_per_shard=args.rows_per_shard,
    )


def _is_there(output: Path, card: LatentsCard) -> bool:
    try:
        latents = Latents.open(output)
    except UserError:
        return False
    return all(getattr(latents, name) == value for name, value in asdict(card).items())


if __name__ == "__main__":
    # Ray's workers find the tasks by the module's name. As a script, this module is called `__main__`.
    from smim import config
    from smim.search import encode

    config.run("encode", encode.main)
