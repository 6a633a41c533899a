"""The optimizers Adam, AdamW and SGD, with weight decay for matrices only."""

from typing import Any

import torch

from smim.model.latent_variable_model import LatentVariableModel
from smim.training.args import TrainArgs


def make_optimizer(model: LatentVariableModel, args: TrainArgs) -> torch.optim.Optimizer:
    """Make the optimizer of all parameters that require gradients.

    Weight decay acts only on matrices. As usual it excludes biases and scales of norms, and also the parts that the
    model names in `undecayed`.
    """
    parameters = _parameter_groups(model, args.weight_decay)
    if args.optimizer == "sgd":
        # On the CPU, the fused step is faster only with momentum.
        return torch.optim.SGD(
            parameters, lr=args.learning_rate, momentum=args.momentum, fused=True if args.momentum else None
        )
    kind = torch.optim.AdamW if args.optimizer == "adamw" else torch.optim.Adam
    beta1, beta2 = args.adam_betas
    return kind(parameters, lr=args.learning_rate, betas=(beta1, beta2), weight_decay=0.0, fused=True)


def _parameter_groups(model: LatentVariableModel, weight_decay: float) -> list[dict[str, Any]]:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if weight_decay == 0:
        return [{"params": trained}]
    spared = {parameter for name in model.undecayed for parameter in model.get_submodule(name).parameters()}
    decayed = [parameter for parameter in trained if parameter.ndim >= 2 and parameter not in spared]
    others = [parameter for parameter in trained if parameter.ndim < 2 or parameter in spared]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]
