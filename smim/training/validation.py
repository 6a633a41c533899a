"""The validation pass: mean terms over a whole split, and how many dimensions of the code are active."""

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
    """Count active dimensions, by the usual absolute threshold and relative to the posterior's own variance.

    The arguments are sums over sentences, fp64 [D] each. The absolute criterion is Var(mean) > 0.01. It gives 0 for a
    code that uses all dimensions at a small scale, as in sMIM. The relative one is Var(mean) > mean posterior variance.
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
    """Compute mean terms in nats per sentence over `split`, in fp32. The processes share the sentences.

    Sentences are cut after `max_length` tokens, if given. The result also has the numbers of active dimensions, and
    `code_deviation`: the root mean square of the codes' numbers (of their meaning part, if they have one). For an
    objective that trains the encoder first, `mutual_information` estimates I(x; z) within batches.

    The result does not depend on the number of processes: the noise depends only on (seed, sentence), an objective's
    other draws on (seed, batch), and batches do not depend on the processes. `done` is called with the number of
    sentences that this process has finished since the last call.
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
            terms = objective.terms_of(draw)
            if objective.most_encoder_steps:
                terms["mutual_information"] = draw.posterior.information(draw.z).float()
            meter.add(terms, batch)
        mean, variance = draw.posterior.mean.double(), draw.posterior.log_variance.exp().double()
        ones = torch.full_like(mean[0], len(batch))
        moments += torch.stack([ones, mean.sum(0), mean.square().sum(0), variance.sum(0)])
        if done:
            done(len(batch))
    model.train(was_training)
    means, moments = meter.read(accelerator), accelerator.reduce(moments, reduction="sum")
    count, _, squared_mean, _ = moments[:, : model.meaning_dim]
    return {**means, **active_units(*moments), "code_deviation": math.sqrt((squared_mean / count).mean())}
