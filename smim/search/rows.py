"""The rows that an index is built from, with their codes, and their segments, built here or in workers.

Shapes: R rows, D latent dimensions.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow as pa

from smim import storage
from smim.engine import Engine
from smim.generation import SentenceModel, load
from smim.progress import track
from smim.search import factory as factories
from smim.search.equals import are_new, number_distinct
from smim.search.files import open_vectors
from smim.search.index import comparable
from smim.search.labels import with_types
from smim.search.latents import Latents
from smim.search.manifest import SegmentInfo
from smim.search.segment import ROWS_PER_BATCH, Chunk, write_segment
from smim.text.corpus import Corpus, Split


@dataclass(frozen=True)
class Rows:
    """The input of an index: rows, their ascending `ids`, and their codes, of `dimension` numbers for `metric`.

    `typed`: keep the labels' types; in a corpus, text labels may stand for numbers. `gpu`: FAISS adds vectors on a GPU.
    """

    model: SentenceModel
    split: Split
    latents: Latents | None
    ids: range | np.ndarray
    typed: bool
    metric: str
    dimension: int
    gpu: bool = False

    @cached_property
    def answers(self) -> pa.Table:
        """The texts and labels."""
        return self.split.table.select(["text", *self.split.label_columns])

    @cached_property
    def schema(self) -> pa.Schema:
        return self.answers.schema if self.typed else with_types(self.answers)

    def codes(self, which: range | np.ndarray) -> np.ndarray:
        """The codes of the given rows, fp32 [len(which), D]."""
        if self.latents is None:
            found = self.model.posterior_of_ids(self.split.ids(which)).mean.numpy()
        else:
            found = self.latents.mean(which)
        return comparable(found, self.metric, self.dimension)

    def sampled(self, which: np.ndarray, description: str) -> Iterator[np.ndarray]:
        for start in track(range(0, len(which), ROWS_PER_BATCH), description):
            yield self.codes(which[start : start + ROWS_PER_BATCH])

    def chunks(self, stretch: range, new: np.ndarray, description: str) -> Iterator[Chunk]:
        """Rows with their ids, and the codes of those with a new vector."""
        for start in track(range(0, len(stretch), ROWS_PER_BATCH), description):
            part = stretch[start : start + ROWS_PER_BATCH]
            at, own = slice(part.start, part.stop), np.array(part)[new[start : start + len(part)]]
            yield np.asarray(self.ids[at]), self.codes(own), self.answers[at].cast(self.schema)

    def write(
        self, folder: Path, stretch: range, vectors: Any, factory: str, store: str, *, name: str, doing: str = ""
    ) -> SegmentInfo:
        """Write the segment of a range of rows into an empty folder.

        `vectors`: an empty, trained FAISS index. `doing`: the text of the progress bar.
        """
        texts = self.answers["text"].slice(stretch.start, len(stretch)).chunks
        exact = factories.is_exact(vectors)
        vector_of = np.arange(len(stretch)) if exact else number_distinct(texts, len(stretch))
        return write_segment(
            folder,
            name=name,
            factory=factory,
            vectors=vectors,
            vector_of=vector_of,
            chunks=self.chunks(stretch, are_new(vector_of), doing),
            store=store,
            gpu=self.gpu,
        )


@dataclass(frozen=True)
class Source:
    """What a fresh worker opens to get its `Rows`; all paths are absolute."""

    model: Path
    corpus: Path
    split: str
    latents: Path | None
    metric: str
    dimension: int
    gpu: bool


@dataclass(frozen=True)
class SegmentTask:
    """One segment of a corpus's index: write the rows of `stretch` to `folder`.

    `trained`: FAISS's empty index. `threads`: those of FAISS.
    """

    source: Source
    stretch: range
    folder: Path
    trained: Path
    factory: str
    store: str
    threads: int


def build_segment(task: SegmentTask) -> SegmentInfo:
    """Write a segment to a temporary folder, and rename it; a second run, also at the same time, writes the same."""
    faiss.omp_set_num_threads(task.threads)
    rows, vectors = _opened(task.source), faiss.clone_index(open_vectors(task.trained))
    with storage.new_directory(task.folder, only_writer=False) as partial:
        return rows.write(partial, task.stretch, vectors, task.factory, task.store, name=task.folder.name)


@lru_cache(maxsize=1)
def _opened(source: Source) -> Rows:
    split = Corpus.open(source.corpus).split(source.split)
    latents = None if source.latents is None else Latents.open(source.latents)
    ids, of_codes = range(len(split)), (source.metric, source.dimension, source.gpu)
    return Rows(load(source.model), split, latents, ids, False, *of_codes)


def build_beside(
    engine: Engine, source: Source, stretches: Mapping[Path, range], vectors: Any, factory: str, store: str
) -> list[SegmentInfo]:
    """Build the segments of ranges of rows in the engine's workers, from the index that was trained here."""
    trained = next(iter(stretches)).parent / "trained.faiss"
    faiss.write_index(vectors, str(trained))
    threads = max(1, faiss.omp_get_max_threads() // min(engine.workers, len(stretches)))
    tasks = [SegmentTask(source, stretch, folder.absolute(), trained.absolute(), factory, store, threads)
             for folder, stretch in stretches.items()]  # fmt: skip
    built = dict(track(engine.map(build_segment, tasks), "building segments", total=len(tasks)))
    trained.unlink()
    storage.remove_partials(trained.parent)  # those of workers on a lost machine
    return [built[number] for number in range(len(tasks))]
