"""Training of the meaning part alone, before the main training, with a teacher's vectors as second view.

A step without the decoder takes a tenth of the time. So training can use several epochs, and large batches in which
each sentence has many others for comparison. The decoder then starts from codes that already represent meaning.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives.second_view import SecondView
from smim.progress import track
from smim.text.corpus import Split

# For tables of words, whose rows rarely have a gradient, and for all other parameters.
_LEARNING_RATES = [6e-3, 3e-3]
_SHARE_OF_WARMUP = 0.05
_SENTENCES_A_BATCH = 512
# The number of batches within which sentences are sorted by length, to reduce padding.
_BATCHES_A_WINDOW = 50
_ROWS_AT_ONCE = 65_536


def learn_meaning(
    model: LatentVariableModel, split: Split, view: SecondView, *, max_length: int | None, seed: int, visible: bool
) -> None:
    """Train the meaning part with only the loss of `view`, for `view.epochs_alone` epochs, by Adam.

    The learning rate warms up, then decays almost to 0 as a cosine. `visible`: show a progress bar.
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
    """Yield batches of rows with a teacher's vector: each row once per epoch, similar lengths together, by the seed."""
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
