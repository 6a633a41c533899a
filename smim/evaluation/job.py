"""One evaluation job: a model, the evaluated sentences, and the processes that share the work.

Shapes: N sentences, B sentences of a batch, D latent dimensions.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
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
    """The input of all metric groups.

    `split`: the evaluated sentences, in ids of the model's tokenizer. `corpus`: their source. `work`: a directory that
    all processes share; it is removed after the report is written.
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
    precision: str = "fp32"

    @property
    def is_main(self) -> bool:
        """True for the process that makes plots, writes and prints."""
        return self.accelerator.is_main_process

    @property
    def train_split(self) -> Split | None:
        """The corpus's training sentences in ids of the model's tokenizer.

        None if there are none, or if they are evaluated: each sentence would be compared with itself.
        """
        if self.split.name == "train" or "train" not in self.corpus.card["splits"]:
            return None
        return self.in_model_ids(self.corpus.split("train"))

    def in_model_ids(self, split: Split) -> Split:
        """Return a split of the corpus, tokenized again if the corpus has another tokenizer than the model."""
        if self.corpus.tokenizer.hash == self.model.tokenizer.hash:
            return split
        path = self.work / f"{split.name}.arrow"
        if self.is_main and not path.exists():
            retokenize(split, self.model.tokenizer, path)
        self.accelerator.wait_for_everyone()
        return open_retokenized(split.name, path)

    def posterior(self, split: Split | None = None) -> DiagonalGaussian:
        """Compute q(z|x) of all sentences of a split (by default the evaluated one), fp32 [N, D] each, on the CPU.

        Each process encodes its share into a memory-mapped file. A job does this once per split name.
        Raises `SmimError` if the encoder returns NaN.
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
        """The first draw of z for each evaluated sentence (for an autoencoder the mean), fp32 [N, D], memory-mapped."""
        posterior = self.posterior()
        if self.model.deterministic:
            return posterior.mean.numpy()

        def draw(codes: np.ndarray) -> None:
            for rows in blocks(self.share(len(codes)), _ROWS_AT_ONCE):
                codes[rows] = self.draw(select(posterior, rows, "cpu"), rows, number=0).numpy()

        [codes] = self._filled(self.split, ["codes"], draw)
        return codes

    def _filled(self, split: Split, names: list[str], fill: Callable[..., None]) -> list[np.ndarray]:
        """Make fp32 arrays [N, D] of a split in files, once per job. `fill` writes this process's share."""
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
        # Copy-on-write: pages are read on demand, and torch needs writable arrays.
        return [np.load(file, mmap_mode="c") for file in files]

    def batches(self, description: str) -> Iterator[tuple[Batch, DiagonalGaussian]]:
        """Yield this process's share of the evaluated sentences with their posteriors, on the model's device."""
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
        """This process's share of the rows 0 .. num - 1, int64. Each row belongs to exactly one process."""
        return np.arange(self.accelerator.process_index, num, self.accelerator.num_processes)

    def compute(
        self, total: int, compute: Callable[[np.ndarray], Array], *, at_once: int, description: str | None = None
    ) -> np.ndarray:
        """Call `compute` for the rows 0 .. total - 1; it returns [n, ...] for n rows. The result is fp64 [total, ...].

        Each process computes its share, `at_once` rows at a time, and gets the whole result. `description`: of the bar.
        """
        rows = blocks(self.share(total), at_once)
        shown = rows if description is None else track(rows, description, visible=self.is_main)
        return self.gather(rows, [compute(part) for part in shown], total=total)

    def gather(self, rows: Sequence[Array], values: Sequence[Array], *, total: int) -> np.ndarray:
        """Gather `values` [n, ...] of each process's `rows` [n] into fp64 [total, ...] by row.

        Raises `RuntimeError` if a row is missing or occurs twice.
        """
        own = [tuple(torch.as_tensor(array).cpu().numpy() for array in part) for part in zip(rows, values, strict=True)]
        parts = gather_object(own)
        all_rows = np.concatenate([numbers for numbers, _ in parts])
        if not np.array_equal(np.sort(all_rows), np.arange(total)):
            raise RuntimeError(f"{len(all_rows)} values came from all processes for {total} sentences")
        gathered = np.concatenate([part.astype(np.float64) for _, part in parts])
        return gathered[np.argsort(all_rows)]

    def decoding(self) -> AbstractContextManager[None]:
        """Return a context in which a decoder's matrix products have the job's precision."""
        device = self.model.autoencoder.device.type
        return torch.autocast(device, torch.bfloat16, enabled=self.precision == "bf16")

    def draw(self, posterior: DiagonalGaussian, rows: Sequence[int] | np.ndarray | Tensor, *, number: int) -> Tensor:
        """Return the `number`-th draw of z ~ q(z|x) for the posteriors of `rows` [B, D]; for an autoencoder the mean.

        It depends only on (seed, row, number), not on the process or the batch.
        """
        return self.model.draw(posterior, noise.normal(self.seed, rows, number, self.model.latent_dim))

    def sample(self, num: int, limit: int, *, stream: int = 0) -> np.ndarray:
        """Choose `limit` random rows of 0 .. num - 1 by the job's seed, or all if there are fewer; ascending."""
        return sample(num, limit, seed=self.seed, stream=stream)


def sample(num: int, limit: int, *, seed: int, stream: int = 0) -> np.ndarray:
    """Choose `limit` random rows of 0 .. num - 1, or all if there are fewer; int64, ascending."""
    if num <= limit:
        return np.arange(num)
    return np.sort(np.random.default_rng([seed, stream]).choice(num, limit, replace=False))


def blocks(rows: np.ndarray, size: int) -> list[np.ndarray]:
    """Split `rows` into about equal parts of at most `size`; no parts if there are no rows."""
    return np.array_split(rows, -(-len(rows) // size)) if len(rows) else []


def select(posterior: DiagonalGaussian, rows: Tensor | np.ndarray, device: torch.device | str) -> DiagonalGaussian:
    """Select the posteriors of some rows, on `device`."""
    index = torch.as_tensor(rows).cpu()
    return DiagonalGaussian(posterior.mean[index].to(device), posterior.log_variance[index].to(device))


def log_prob_64(posterior: DiagonalGaussian, z: Tensor) -> Tensor:
    """Compute log q(z|x) in fp64 [B], for comparison with mixture densities."""
    return DiagonalGaussian(posterior.mean.double(), posterior.log_variance.double()).log_prob(z.double())


def split_of_ids(name: str, ids: Sequence[Sequence[int] | np.ndarray]) -> Split:
    """Make a split from sentences of token ids. `name` must be unique in the job."""
    lengths = pa.array([len(sentence) for sentence in ids], pa.int32())
    table = pa.table({"ids": pa.array(ids, pa.list_(pa.int32())), "length": lengths})
    return Split(name=name, table=table)


def split_of_rows(split: Split, rows: np.ndarray, *, name: str) -> Split:
    """Make a split from some rows of a split, in ascending order, numbered from 0."""
    chosen = np.zeros(len(split), bool)
    chosen[rows] = True
    # Filter chunk by chunk: a combined array would read the texts of all rows, which may exceed an array's 2 GiB.
    return Split(name=name, table=split.table.filter(pa.array(chosen)))
