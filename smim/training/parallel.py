"""The distribution of weights over processes: whole on each (one process, DDP), or sharded (DeepSpeed ZeRO, FSDP2).

All ways train the same step, and save and load the same tensors: whole, fp32, by the parameters' names. So a checkpoint
does not depend on the way or on the number of processes.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)

from smim.deepspeed_internals import base_optimizer, make_optimizer_state
from smim.errors import UserError
from smim.objectives import Critic

_WHOLE = StateDictOptions(full_state_dict=True)


class Replicated:
    """Training in which each process has all weights: one process, or DDP.

    The forward pass of `module` is the training step. `model` is the part of it that is saved. `critic` is the other
    part, with its own optimizer, if the objective has one.
    """

    name = "whole weights"
    sharded = False

    def __init__(
        self,
        module: nn.Module,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        accelerator: Accelerator,
        grad_clip: float,
        critic: Critic | None = None,
    ) -> None:
        self.accelerator, self.model, self.grad_clip, self.critic = accelerator, model, grad_clip, critic
        self.module, self.optimizer = self._prepare(module, optimizer)

    def _prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        # The optimizer stays unwrapped, because Accelerate's wrapper only matters for fp16 and TPUs.
        return self.accelerator.prepare(module), optimizer

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        """The context for forward and backward of a part of a step. Only the `last` part averages the gradients."""
        return nullcontext() if last else self.accelerator.no_sync(self.module)

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of a part to those of the earlier parts."""
        self.accelerator.backward(loss)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self) -> float:
        """Clip and apply the model's gradients, apply a critic's unclipped, and return the norm of the model's.

        Adam is invariant to the scale of a critic's gradients. With clipping, the rare large ones would no longer
        outweigh the many small ones. Then the estimate of mutual information, which they keep low, would diverge.
        If a norm is not finite, nothing is applied, and that norm is returned.
        """
        trained = [(self.model, self.optimizer, self.grad_clip)]
        if self.critic:
            trained.append((self.critic.network, self.critic.optimizer, math.inf))
        norms = [
            float(_whole(self.accelerator.clip_grad_norm_(network.parameters(), largest)))
            for network, _, largest in trained
        ]
        broken = [norm for norm in norms if not math.isfinite(norm)]
        for _, optimizer, _ in trained:
            if not broken:
                optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return broken[0] if broken else norms[0]

    def weights(self) -> dict[str, Tensor]:
        """Return the model's whole weights. All processes must call it together."""
        return get_model_state_dict(self.model, options=_WHOLE)  # type: ignore[return-value]

    def optimizer_state(self) -> dict[str, Tensor]:
        """Return the optimizer's whole tensors as `PARAMETER.KEY`. All processes must call it together."""
        return _state_of(self.optimizer, self.model)

    def critic_state(self) -> dict[str, Tensor]:
        """Return the critic's weights and its optimizer's tensors; empty without a critic."""
        if not self.critic:
            return {}
        weights = {f"weights.{name}": tensor for name, tensor in self.critic.network.state_dict().items()}
        state = _state_of(self.critic.optimizer, self.critic.network)
        return {**weights, **{f"optimizer.{name}": tensor for name, tensor in state.items()}}

    def load_optimizer_state(self, optimizer_state: dict[str, Tensor]) -> None:
        """Restore the result of `optimizer_state`, on any number of processes.

        Weights, in contrast, are loaded into the model before this class prepares it.
        """
        _load_state(self.optimizer, self.model, optimizer_state)

    def load_critic_state(self, critic_state: dict[str, Tensor]) -> None:
        """Restore the result of `critic_state`."""
        assert self.critic
        weights, state = (
            {key.removeprefix(part): tensor for key, tensor in critic_state.items() if key.startswith(part)}
            for part in ("weights.", "optimizer.")
        )
        self.critic.network.load_state_dict(weights)
        _load_state(self.critic.optimizer, self.critic.network, state)


class FullyShardedData(Replicated):
    """Training with FSDP2 through Accelerate. Weights, gradients and optimizer state are DTensors."""

    name = "FSDP2"
    sharded = True

    def _prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        module, prepared = self.accelerator.prepare(module, optimizer)
        return module, prepared.optimizer


class ZeRO(Replicated):
    """Training with DeepSpeed ZeRO 1, 2 and 3. DeepSpeed averages, clips and applies the gradients itself."""

    sharded = True

    def _prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        config = self.accelerator.state.deepspeed_plugin.deepspeed_config
        config["gradient_clipping"] = self.grad_clip
        # DeepSpeed must not scale by the batch size, because the loss is already scaled.
        config["train_micro_batch_size_per_gpu"] = config["gradient_accumulation_steps"] = 1
        for name in ("bf16", "fp16"):
            if config.get(name, {}).get("enabled") is True:
                raise UserError(f"the DeepSpeed file turns on {name}; leave it out, and set train.precision instead")
        engine, _ = self.accelerator.prepare(module, optimizer)
        asked, stage = self.accelerator.state.deepspeed_plugin.zero_stage, engine.zero_optimization_stage()
        if stage != asked:
            raise UserError(
                f"ZeRO {asked} was requested, but DeepSpeed runs stage {stage}; use a config of launch/accelerate/"
            )
        self.name = f"ZeRO {stage}"
        return engine, base_optimizer(engine)

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        self.module.set_gradient_accumulation_boundary(is_boundary=last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.module.backward(loss)

    def step(self) -> float:
        self.module.step()
        return float(self.module.get_global_grad_norm())

    def weights(self) -> dict[str, Tensor]:
        import deepspeed
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, parameter in self.model.named_parameters():
            with deepspeed.zero.GatheredParameters([parameter], enabled=not parameter.requires_grad):
                whole = safe_get_full_fp32_param(parameter) if parameter.requires_grad else parameter
                weights[name] = whole.detach().float().clone()
        return weights

    def optimizer_state(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        # All parts of this process have the same keys as the first.
        state: dict[str, Any] = next(iter(self.optimizer.state.values()), {})
        return {
            f"{name}.{key}": (safe_get_full_optimizer_state(parameter, key) if value.ndim else value).detach().clone()
            for name, parameter in self.model.named_parameters()
            for key, value in state.items()
            if parameter.requires_grad and torch.is_tensor(value)
        }

    def load_optimizer_state(self, optimizer_state: dict[str, Tensor]) -> None:
        kinds = {key.rpartition(".")[2]: value for key, value in optimizer_state.items()}
        make_optimizer_state(self.module, kinds)
        for name, parameter in self.model.named_parameters():
            for key in [key for key, value in kinds.items() if value.ndim and parameter.requires_grad]:
                self._set(parameter, optimizer_state[f"{name}.{key}"].to(self.accelerator.device), key)

    def _set(self, parameter: nn.Parameter, value: Tensor, key: str) -> None:
        from deepspeed import utils

        if self.module.zero_optimization_stage() < 3:
            utils.safe_set_full_optimizer_state(parameter, value, key)
            return
        # DeepSpeed's setter of whole values refuses sizes that do not divide by the processes. So pad the shares.
        size = utils.safe_get_local_optimizer_state(parameter, key).numel()
        start = size * self.accelerator.process_index
        share = nn.functional.pad(value.flatten(), (0, start + size))[start : start + size]
        utils.safe_set_local_optimizer_state(parameter, share, key)


# The class for each kind of launch; for all others it is `Replicated`.
WAYS: dict[DistributedType, type[Replicated]] = {
    DistributedType.DEEPSPEED: ZeRO,
    DistributedType.FSDP: FullyShardedData,
}


def _state_of(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    if not optimizer.state:  # torch would do a step to create a state
        return {}
    return _named(get_optimizer_state_dict(network, optimizer, options=_WHOLE))


def _load_state(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    if not tensors:
        return
    state: Any = get_optimizer_state_dict(network, optimizer, options=_WHOLE)
    loaded = {key.rpartition(".")[0] for key in tensors}
    shapes = {key: tensor.shape for key, tensor in _named(state).items() if key.rpartition(".")[0] in loaded}
    if shapes != {key: tensor.shape for key, tensor in tensors.items()}:
        raise RuntimeError("the optimizer's state is incomplete, or belongs to other weights")
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition(".")
        state["state"][name][kind] = tensor
    set_optimizer_state_dict(network, optimizer, state, options=_WHOLE)
    for name, parameter in network.named_parameters():
        if name not in loaded:  # weights that never had a gradient have no state in the checkpoint
            optimizer.state.pop(parameter, None)


def _named(state: Any) -> dict[str, Tensor]:
    """Return the tensors of an optimizer's state as `PARAMETER.KEY`."""
    return {
        f"{name}.{key}": value
        for name, values in state["state"].items()
        for key, value in values.items()
        if torch.is_tensor(value)
    }


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor
