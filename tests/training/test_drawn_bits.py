"""Images whose bits are drawn in each step: training sees other bits each time, and a resumed run the same ones."""

import signal
from pathlib import Path

import numpy as np
import pytest
from accelerate import Accelerator

from data_prep import build
from smim import config
from smim.objectives.vae import VAE
from smim.training.args import TrainArgs
from smim.training.run import Interrupted
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from tests.models import vector_args
from tests.preparation.image_files import write_npz
from tests.training.test_resume import outcome

STEPS = 12  # an epoch has 5


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> VectorCorpus:
    folder = tmp_path_factory.mktemp("images")
    write_npz(folder / "raw", train=60, test=5)
    overrides = ["corpus=mnist", f"corpus.path={folder / 'raw'}", "corpus.binarisation=dynamic"]
    build.main(config.compose("build", [*overrides, f"output={folder / 'corpus'}"]))
    return VectorCorpus.open(folder / "corpus")


class Seen(Trainer):
    """A trainer that keeps what each step is trained on, by step and row, and that can get a stop signal at a step."""

    stop_at: int | None = None

    def train_step(self, rows: np.ndarray) -> bool:
        if self.step == self.stop_at:
            self.on_signal(signal.SIGTERM, None)
        return super().train_step(rows)


def make(corpus: VectorCorpus, run_dir: Path, seen: dict[tuple[int, int], np.ndarray], **settings) -> Seen:
    trainer = Seen(
        corpus,
        vector_args(latent_dim=2, hidden_dim=8, likelihood="bernoulli"),
        VAE(),
        TrainArgs(max_steps=STEPS, batch_size=10, precision="fp32", log_every=1, trackers=[], **settings),
        accelerator=Accelerator(cpu=True),
        run_dir=run_dir,
    )
    forward = trainer.parallel.forward

    def kept(batch, step):
        seen.update({(step, int(row)): vector.numpy() for row, vector in zip(batch.rows, batch.vectors, strict=True)})
        return forward(batch, step)

    trainer.parallel.forward = kept  # type: ignore[method-assign]
    return trainer


def test_each_step_draws_new_bits_with_the_grey_values_as_their_means(corpus, tmp_path):
    seen: dict[tuple[int, int], np.ndarray] = {}
    make(corpus, tmp_path, seen).fit()
    assert len(seen) == STEPS * 10
    drawn, grey = np.stack(list(seen.values())), corpus.split("train").grey[[row for _, row in seen]]
    assert set(np.unique(drawn)) == {0, 1}
    assert abs((drawn - grey).sum() / np.sqrt((grey * (1 - grey)).sum())) < 4.5
    by_row = {row: [vector for (_, other), vector in seen.items() if other == row] for _, row in seen}
    assert all((first != second).any() for first, second, *_ in by_row.values())


def test_a_stopped_run_continues_with_the_same_bits(corpus, tmp_path):
    whole: dict[tuple[int, int], np.ndarray] = {}
    parts: dict[tuple[int, int], np.ndarray] = {}
    make(corpus, tmp_path / "whole", whole).fit()
    stopped = make(corpus, tmp_path / "parts", parts)
    stopped.stop_at = 7  # within the second epoch
    with pytest.raises(Interrupted):
        stopped.fit()
    assert max(step for step, _ in parts) == 7
    make(corpus, tmp_path / "parts", parts, resume="auto").fit()
    assert whole.keys() == parts.keys()
    assert all((whole[key] == parts[key]).all() for key in whole)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "parts")


def test_the_parts_of_a_step_that_are_computed_apart_see_the_same_bits(corpus, tmp_path):
    together: dict[tuple[int, int], np.ndarray] = {}
    apart: dict[tuple[int, int], np.ndarray] = {}
    make(corpus, tmp_path / "together", together).fit()
    make(corpus, tmp_path / "apart", apart, accumulation_steps=3).fit()
    assert together.keys() == apart.keys() and all((together[key] == apart[key]).all() for key in together)
