"""What a model learns of meaning before anything else: the second view of the sentences that a teacher has read.

Without a decoder a step takes a tenth of the time, so that the words see each sentence more than once, in batches in
which each has many others to be compared with. Then the decoder learns from codes that have a meaning already.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.second_view import SecondView
from smim.progress import track
from smim.text.corpus import Split

# Of the tables of words, each of which has a gradient seldom, and of all else.
_LEARNING_RATES = [6e-3, 3e-3]
_SHARE_OF_WARMUP = 0.05
_SENTENCES_A_BATCH = 512
# Sentences of so many batches are sorted by length, for less padding.
_BATCHES_A_WINDOW = 50
_ROWS_AT_ONCE = 65_536


def learn_meaning(
    model: LatentVariableModel, split: Split, view: SecondView, *, max_length: int | None, seed: int, visible: bool
) -> None:
    """Trains what the meaning of a sentence depends on by `view` alone, for its `epochs_alone`, by Adam.

    The learning rate warms up, and goes down to 0 as a cosine. `visible`: whether a progress bar is shown.
    """
    batches = list(_batches(split, epochs=view.epochs_alone, seed=seed))
    tables = [module.weight for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    others = [each for each in model.parameters() if not any(each is table for table in tables)]
    groups: list[dict[str, Any]] = [{"params": tables}, {"params": others}]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, _LEARNING_RATES, max(1, len(batches)), pct_start=_SHARE_OF_WARMUP, cycle_momentum=False
    )
    model.train()
    for rows in track(batches, "meaning", total=len(batches), visible=visible):
        batch = split.batch(rows, max_length=max_length).to(model.device)
        assert batch.view is not None
        optimizer.zero_grad()
        view.of(model.meaning_of(batch), batch.view).mean().backward()
        optimizer.step()
        schedule.step()
    optimizer.zero_grad()


def _batches(split: Split, *, epochs: int, seed: int) -> Iterator[np.ndarray]:
    """Rows that the teacher has read, each once an epoch, those of like length together, as a function of the seed."""
    assert split.view is not None
    starts = range(0, len(split), _ROWS_AT_ONCE)
    ranges = [np.arange(start, min(start + _ROWS_AT_ONCE, len(split))) for start in starts]
    taught = np.concatenate([rows[split.view(rows).any(axis=1)] for rows in ranges])
    lengths, window = split.lengths, _BATCHES_A_WINDOW * _SENTENCES_A_BATCH
    for epoch in range(epochs):
        random = np.random.default_rng([seed, epoch, 1])
        order = random.permutation(taught)
        for start in range(0, len(order), window):
            order[start:][:window] = sorted(order[start:][:window], key=lengths.__getitem__)
        batches = [order[start:][:_SENTENCES_A_BATCH] for start in range(0, len(order), _SENTENCES_A_BATCH)]
        yield from (batches[i] for i in random.permutation(len(batches)))
