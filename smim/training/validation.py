"""The validation pass: mean terms over a whole split, and whether the code is in use."""

import math
from collections.abc import Callable

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from smim.model import noise
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives import Objective
from smim.text.batches import evaluation_batches
from smim.text.corpus import Split
from smim.training.metrics import Meter

_ACTIVE_UNIT_VARIANCE = 0.01


def active_units(count: Tensor, mean: Tensor, squared_mean: Tensor, variance: Tensor) -> dict[str, int]:
    """Dimensions in use: by the usual absolute threshold, and relative to the posterior's own variance.

    Of sums over sentences, fp64 [D] each. The absolute one (Var(mean) > 0.01) reads 0 for a code that uses every
    dimension at a small scale, as sMIM's does; the relative one asks for Var(mean) > mean posterior variance.
    """
    spread = squared_mean / count - (mean / count).square()
    return {
        "active_units": int((spread > _ACTIVE_UNIT_VARIANCE).sum()),
        "active_units_relative": int((spread > variance / count).sum()),
    }


@torch.no_grad()
def validate(
    model: LatentVariableModel,
    objective: Objective,
    split: Split,
    *,
    accelerator: Accelerator,
    seed: int,
    max_length: int | None = None,
    critic: nn.Module | None = None,
    done: Callable[[int], None] | None = None,
) -> dict[str, float]:
    """Terms in nats per sentence over all of `split`, in fp32, each sentence once over all processes.

    Sentences are cut after `max_length` tokens where that is given.

    Beside them, how many dimensions are in use, and the root mean square of the numbers of codes, of their meaning part
    where they have one.

    The noise is a function of (seed, sentence), what else an objective draws one of (seed, batch), and the batches
    do not depend on the processes: any number of them gives the same. `done` is told how many more sentences of this
    process's share are finished.
    """
    was_training = model.training
    model.eval()
    meter, latent_dim = Meter(), model.args.latent_dim
    moments = torch.zeros(4, latent_dim, dtype=torch.float64, device=accelerator.device)
    rank, world_size = accelerator.process_index, accelerator.num_processes
    for batch in evaluation_batches(split, rank=rank, world_size=world_size, max_length=max_length):
        batch_noise = noise.normal(seed, batch.rows, 0, latent_dim).to(accelerator.device)
        batch = batch.to(accelerator.device)
        with torch.random.fork_rng():
            torch.manual_seed(seed + int(batch.rows[0]))
            draw = objective.draw(model, batch, step=None, noise=batch_noise, critic=critic)
            meter.add(objective.terms_of(draw), batch)
        mean, variance = draw.posterior.mean.double(), draw.posterior.log_variance.exp().double()
        ones = torch.full_like(mean[0], len(batch))
        moments += torch.stack([ones, mean.sum(0), mean.square().sum(0), variance.sum(0)])
        if done:
            done(len(batch))
    model.train(was_training)
    means, moments = meter.read(accelerator), accelerator.reduce(moments, reduction="sum")
    count, _, squared_mean, _ = moments[:, : model.meaning_dim]
    return {**means, **active_units(*moments), "code_deviation": math.sqrt((squared_mean / count).mean())}
