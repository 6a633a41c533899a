"""One evaluation: a model, the sentences it is evaluated on, and the processes that share the work.

Shapes: N sentences, B of a batch, D latent dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from smim.errors import SmimError
from smim.evaluation.retokenize import open_retokenized, retokenize
from smim.generation import SentenceModel
from smim.model import noise
from smim.model.distributions import DiagonalGaussian
from smim.progress import track
from smim.text.batch import Batch
from smim.text.batches import evaluation_order
from smim.text.corpus import Corpus, Split

_ROWS_AT_ONCE = 8192

Array = np.ndarray | Tensor


@dataclass(frozen=True)
class Job:
    """What every group of metrics is given.

    `split`: the evaluated sentences, in ids of the model's tokenizer; `corpus`: where they come from;
    `work`: a directory that all processes share, removed when the report is written.
    """

    model: SentenceModel
    corpus: Corpus
    split: Split
    accelerator: Accelerator
    work: Path
    seed: int
    num_runs: int
    max_length: int
    tokens_per_batch: int

    @property
    def is_main(self) -> bool:
        """True for the one process that draws, writes and prints."""
        return self.accelerator.is_main_process

    @property
    def train_split(self) -> Split | None:
        """The corpus's training sentences in ids of the model's tokenizer.

        None where it has none, and where they are what is evaluated: each would be judged by itself.
        """
        if self.split.name == "train" or "train" not in self.corpus.card["splits"]:
            return None
        return self.in_model_ids(self.corpus.split("train"))

    def in_model_ids(self, split: Split) -> Split:
        """A split of the corpus as it is, or encoded anew where the corpus is of another tokenizer than the model."""
        if self.corpus.tokenizer.hash == self.model.tokenizer.hash:
            return split
        path = self.work / f"{split.name}.arrow"
        if self.is_main and not path.exists():
            retokenize(split, self.model.tokenizer, path)
        self.accelerator.wait_for_everyone()
        return open_retokenized(split.name, path)

    def posterior(self, split: Split | None = None) -> DiagonalGaussian:
        """q(z|x) of all sentences of a split (the evaluated one by default), fp32 [N, D] each, on the CPU.

        Each process encodes its share into one memory-mapped file, once in a job: a split's name stands for it.
        Raises `SmimError` where the encoder gave NaN.
        """
        split = split or self.split
        arrays = self._filled(split, ["mean", "log_variance"], lambda *arrays: self._encode(split, *arrays))
        return DiagonalGaussian(*map(torch.from_numpy, arrays))

    def _encode(self, split: Split, mean: np.ndarray, log_variance: np.ndarray) -> None:
        failed = torch.zeros(1, dtype=torch.int64, device=self.accelerator.device)
        with torch.no_grad():
            for batch in self._batches(split, f"encoding {split.name}"):
                posterior = self.model.autoencoder.posterior(batch.to(self.model.autoencoder.device))
                both = torch.stack([posterior.mean, posterior.log_variance])
                failed += (~torch.isfinite(both)).any(-1).any(0).sum()
                rows = batch.rows.numpy()
                mean[rows], log_variance[rows] = both.cpu().numpy()
        if num_failed := int(self.accelerator.reduce(failed, reduction="sum")):
            raise SmimError(
                f"the posterior q(z|x) came out as NaN or infinite for {num_failed} of {len(split)} sentences; "
                f"the model is not usable"
            )

    def codes(self) -> np.ndarray:
        """The first draw of z for each evaluated sentence (an autoencoder's mean), fp32 [N, D], memory-mapped."""
        posterior = self.posterior()
        if self.model.deterministic:
            return posterior.mean.numpy()

        def draw(codes: np.ndarray) -> None:
            for rows in blocks(self.share(len(codes)), _ROWS_AT_ONCE):
                codes[rows] = self.draw(select(posterior, rows, "cpu"), rows, number=0).numpy()

        [codes] = self._filled(self.split, ["codes"], draw)
        return codes

    def _filled(self, split: Split, names: list[str], fill: Callable[..., None]) -> list[np.ndarray]:
        """Arrays fp32 [N, D] of a split in files, of which `fill` writes this process's share; once in a job."""
        files = [self.work / "posteriors" / split.name / f"{name}.npy" for name in names]
        mark = files[0].with_suffix(".done")
        if not mark.exists():
            if self.is_main:
                mark.parent.mkdir(parents=True, exist_ok=True)
                shape = (len(split), self.model.latent_dim)
                for file in files:
                    np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape).flush()
            self.accelerator.wait_for_everyone()
            arrays = [np.lib.format.open_memmap(file, mode="r+") for file in files]
            fill(*arrays)
            for array in arrays:
                array.flush()
            self.accelerator.wait_for_everyone()
            if self.is_main:
                mark.touch()
            self.accelerator.wait_for_everyone()
        # Copy-on-write: pages are read as they are needed, and torch wants arrays that it may write to.
        return [np.load(file, mmap_mode="c") for file in files]

    def batches(self, description: str) -> Iterator[tuple[Batch, DiagonalGaussian]]:
        """This process's share of the evaluated sentences with their posteriors, on the model's device."""
        posterior = self.posterior()
        device = self.model.autoencoder.device
        for batch in self._batches(self.split, description):
            yield batch.to(device), select(posterior, batch.rows, device)

    def _batches(self, split: Split, description: str) -> Iterator[Batch]:
        batches = evaluation_order(split.lengths, tokens_per_batch=self.tokens_per_batch)
        own = batches[self.accelerator.process_index :: self.accelerator.num_processes]
        for rows in track(own, description, visible=self.is_main):
            yield split.batch(rows)

    def share(self, num: int) -> np.ndarray:
        """This process's share of the rows 0 .. num - 1, int64; every row is one process's."""
        return np.arange(self.accelerator.process_index, num, self.accelerator.num_processes)

    def compute(
        self, total: int, compute: Callable[[np.ndarray], Array], *, at_once: int, description: str | None = None
    ) -> np.ndarray:
        """What `compute` gives for the rows 0 .. total - 1, [n, ...] for n of them; fp64 [total, ...].

        Each process computes its share, `at_once` rows at a time, and has all of it; `description`: of the progress.
        """
        rows = blocks(self.share(total), at_once)
        shown = rows if description is None else track(rows, description, visible=self.is_main)
        return self.gather(rows, [compute(part) for part in shown], total=total)

    def gather(self, rows: Sequence[Array], values: Sequence[Array], *, total: int) -> np.ndarray:
        """Parts of `values` [n, ...] of this process's `rows` [n], from all processes, as fp64 [total, ...] by row.

        Raises `RuntimeError` where a row is missing or came twice.
        """
        own = [tuple(torch.as_tensor(array).cpu().numpy() for array in part) for part in zip(rows, values, strict=True)]
        parts = gather_object(own)
        all_rows = np.concatenate([numbers for numbers, _ in parts])
        if not np.array_equal(np.sort(all_rows), np.arange(total)):
            raise RuntimeError(f"{len(all_rows)} values came from all processes for {total} sentences")
        gathered = np.concatenate([part.astype(np.float64) for _, part in parts])
        return gathered[np.argsort(all_rows)]

    def draw(self, posterior: DiagonalGaussian, rows: Sequence[int] | np.ndarray | Tensor, *, number: int) -> Tensor:
        """The `number`-th draw of z ~ q(z|x) for posteriors of the given rows [B, D]; an autoencoder's is its mean.

        A function of (seed, row, number), whatever the process or batch.
        """
        return self.model.draw(posterior, noise.normal(self.seed, rows, number, self.model.latent_dim))

    def sample(self, num: int, limit: int, *, stream: int = 0) -> np.ndarray:
        """`limit` of the rows 0 .. num - 1 at random by the job's seed, or all where they are no more; ascending."""
        return sample(num, limit, seed=self.seed, stream=stream)


def sample(num: int, limit: int, *, seed: int, stream: int = 0) -> np.ndarray:
    """`limit` of the rows 0 .. num - 1 at random, or all where they are no more; int64, ascending."""
    if num <= limit:
        return np.arange(num)
    return np.sort(np.random.default_rng([seed, stream]).choice(num, limit, replace=False))


def blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """`rows` in about equal parts of at most `size`; none where there are no rows."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []


def select(posterior: DiagonalGaussian, rows: Tensor | np.ndarray, device: torch.device | str) -> DiagonalGaussian:
    """The posteriors of some rows, on `device`."""
    index = torch.as_tensor(rows).cpu()
    return DiagonalGaussian(posterior.mean[index].to(device), posterior.log_variance[index].to(device))


def log_prob_64(posterior: DiagonalGaussian, z: Tensor) -> Tensor:
    """log q(z|x) in fp64 [B], to be compared with densities that are sums of many."""
    return DiagonalGaussian(posterior.mean.double(), posterior.log_variance.double()).log_prob(z.double())


def split_of_ids(name: str, ids: Sequence[Sequence[int] | np.ndarray]) -> Split:
    """Sentences of token ids as a split, to be encoded like any other; `name` has to be the job's alone."""
    lengths = pa.array([len(sentence) for sentence in ids], pa.int32())
    table = pa.table({"ids": pa.array(ids, pa.list_(pa.int32())), "length": lengths})
    return Split(name=name, table=table)


def split_of_rows(split: Split, rows: np.ndarray, *, name: str) -> Split:
    """Some rows of a split, ascending, as a split of their own, numbered from 0."""
    chosen = np.zeros(len(split), bool)
    chosen[rows] = True
    # Filtered chunk by chunk: put together, the texts of all rows would be read, and may be more than an array's 2 GiB.
    return Split(name=name, table=split.table.filter(pa.array(chosen)))
