"""How the weights lie over processes: whole on each (one process, DDP), or sharded (DeepSpeed ZeRO, FSDP2).

Each way trains the same step and gives and takes the same tensors: whole, fp32, by the parameter's name.
So a checkpoint does not depend on the way or on the number of processes, and any of them goes on from it.
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType
from torch import Tensor, nn

from smim.errors import UserError
from smim.objectives import Critic


class Replicated:
    """Every process holds all weights: one process, or DDP.

    `model` is the part of `module` (whose forward is the training step) that is saved; `critic` the other part,
    with its own optimizer, where the objective has one.
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
        # The optimizer as it is: Accelerate's wrapper only matters to fp16 and TPUs.
        return self.accelerator.prepare(module), optimizer

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        """What forward and backward of a part of a step run in: the `last` one averages gradients over processes."""
        return nullcontext() if last else self.accelerator.no_sync(self.module)

    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def backward(self, loss: Tensor) -> None:
        """Adds a part's gradients to those of the parts before."""
        self.accelerator.backward(loss)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = rate

    def step(self) -> float:
        """Clips and applies the model's gradients, and a critic's as they are; returns the norm of the model's.

        Adam takes no notice of the scale of a critic's gradients. Cut to one size, the rare large ones would no longer
        outweigh the many small ones, and an estimate of mutual information that they hold down would run away.
        Where either norm is not finite, nothing is applied and that norm returned.
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
        """The model's weights, whole; all processes must ask together."""
        return {name: _whole(tensor.detach()) for name, tensor in self.model.state_dict().items()}

    def optimizer_state(self) -> dict[str, Tensor]:
        """The optimizer's tensors, whole, as `PARAMETER.KEY`; all processes must ask together."""
        return _state_of(self.optimizer, self.model)

    def critic_state(self) -> dict[str, Tensor]:
        """The critic's weights and its optimizer's tensors; empty without a critic."""
        if not self.critic:
            return {}
        weights = {f"weights.{name}": tensor.detach() for name, tensor in self.critic.network.state_dict().items()}
        state = _state_of(self.critic.optimizer, self.critic.network)
        return {**weights, **{f"optimizer.{name}": tensor for name, tensor in state.items()}}

    def load_optimizer_state(self, optimizer_state: dict[str, Tensor]) -> None:
        """Puts back what `optimizer_state` gave, on any number of processes.

        Weights are loaded into the model before it is prepared.
        """
        _load_state(self.optimizer, self.model, optimizer_state)

    def load_critic_state(self, critic_state: dict[str, Tensor]) -> None:
        """Puts back what `critic_state` gave."""
        assert self.critic
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "optimizer": {}}
        for key, tensor in critic_state.items():
            part, _, name = key.partition(".")
            parts[part][name] = tensor
        self.critic.network.load_state_dict(parts["weights"])
        _load_state(self.critic.optimizer, self.critic.network, parts["optimizer"])


class FullyShardedData(Replicated):
    """FSDP2 through Accelerate: weights, gradients and optimizer state are DTensors."""

    name = "FSDP2"
    sharded = True

    def _prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        module, prepared = self.accelerator.prepare(module, optimizer)
        return module, prepared.optimizer


class ZeRO(Replicated):
    """DeepSpeed ZeRO 1, 2 and 3. DeepSpeed averages, clips and applies the gradients itself."""

    sharded = True

    def _prepare(self, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[Any, Any]:
        config = self.accelerator.state.deepspeed_plugin.deepspeed_config
        config["gradient_clipping"] = self.grad_clip
        # DeepSpeed never sees a batch's size: the loss is scaled before it arrives.
        config["train_micro_batch_size_per_gpu"] = config["gradient_accumulation_steps"] = 1
        for name in ("bf16", "fp16"):
            if config.get(name, {}).get("enabled") is True:
                raise UserError(
                    f"the DeepSpeed file turns {name} on; leave it out: train.precision decides, as elsewhere"
                )
        engine, _ = self.accelerator.prepare(module, optimizer)
        asked = self.accelerator.state.deepspeed_plugin.zero_stage
        if engine.zero_optimization_stage() != asked:
            raise UserError(f"ZeRO {asked} was asked for, DeepSpeed runs stage {engine.zero_optimization_stage()}")
        return engine, engine.optimizer.optimizer

    def part(self, *, last: bool) -> AbstractContextManager[Any]:
        self.module.set_gradient_accumulation_boundary(is_boundary=last)
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        self.module.backward(loss)

    def step(self) -> float:
        self.module.step()
        return float(self.module.get_global_grad_norm())

    def weights(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_fp32_param

        weights = {}
        for name, parameter in self.model.named_parameters():
            trained = safe_get_full_fp32_param(parameter) if parameter.requires_grad else self._frozen(parameter)
            weights[name] = trained.detach().clone()
        return weights

    def _frozen(self, parameter: nn.Parameter) -> Tensor:
        import deepspeed

        with deepspeed.zero.GatheredParameters([parameter]):
            return parameter.detach().float().clone()

    def optimizer_state(self) -> dict[str, Tensor]:
        from deepspeed.utils import safe_get_full_optimizer_state

        sharded, counted = self._state_keys()
        tensors = {}
        for name, parameter in self._trained():
            for key in sharded:
                tensors[f"{name}.{key}"] = safe_get_full_optimizer_state(parameter, key).detach().clone()
            for key, value in counted.items():
                tensors[f"{name}.{key}"] = value.clone()
        return tensors

    def load_optimizer_state(self, optimizer_state: dict[str, Tensor]) -> None:
        keys = {name.rpartition(".")[2]: tensor for name, tensor in optimizer_state.items()}
        for flat in self._partitions() if keys else []:
            # What the first step would make: DeepSpeed makes no optimizer state before it.
            self.optimizer.state[flat] = {
                key: tensor.clone() if tensor.ndim == 0 else torch.zeros_like(flat) for key, tensor in keys.items()
            }
        if keys and self.stage < 3:
            self.module.optimizer._lazy_init_hp_params_optimizer_state()
        for name, parameter in self._trained():
            for key, tensor in keys.items():
                if tensor.ndim:
                    self._set(parameter, optimizer_state[f"{name}.{key}"], key)

    @property
    def name(self) -> str:  # type: ignore[override]
        return f"ZeRO {self.stage}"

    @property
    def stage(self) -> int:
        return self.module.zero_optimization_stage()

    def _trained(self) -> list[tuple[str, nn.Parameter]]:
        return [(name, p) for name, p in self.model.named_parameters() if p.requires_grad]

    def _partitions(self) -> list[Tensor]:
        """This process's flat parts of the fp32 weights, which the optimizer's state belongs to."""
        if self.stage == 3:
            return self.module.optimizer.fp32_partitioned_groups_flat
        return [flat for group in self.optimizer.param_groups for flat in group["params"]]

    def _state_keys(self) -> tuple[list[str], dict[str, Tensor]]:
        """Keys of the optimizer's state that lie in partitions, and those of one number with their value."""
        flat = self._partitions()[0]
        state = {key: value for key, value in self.optimizer.state.get(flat, {}).items() if torch.is_tensor(value)}
        counted = {key: value for key, value in state.items() if value.ndim == 0}
        return [key for key in state if key not in counted], counted

    def _set(self, parameter: Any, value: Tensor, key: str) -> None:
        from deepspeed.utils import safe_set_full_optimizer_state

        value = value.to(self.accelerator.device)
        if self.stage < 3:
            safe_set_full_optimizer_state(parameter, value, key)
            return
        # DeepSpeed's own setter of whole values refuses sizes that the processes do not divide.
        zero, size = parameter._z3_optimizer, parameter.ds_tensor.numel()
        start = size * zero._get_param_partition_rank(parameter)
        share = nn.functional.pad(value.flatten(), (0, start + size))[start : start + size]
        zero.set_local_hp_param(share, parameter, key)


def prepare(
    module: nn.Module,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    accelerator: Accelerator,
    grad_clip: float,
    critic: Critic | None = None,
) -> Replicated:
    """The way that this launch asked for."""
    ways: dict[DistributedType, Callable[..., Replicated]] = {
        DistributedType.DEEPSPEED: ZeRO,
        DistributedType.FSDP: FullyShardedData,
    }
    way = ways.get(accelerator.distributed_type, Replicated)
    return way(module, model, optimizer, accelerator=accelerator, grad_clip=grad_clip, critic=critic)


def _state_of(optimizer: torch.optim.Optimizer, network: nn.Module) -> dict[str, Tensor]:
    return {
        f"{name}.{key}": _whole(value)
        for name, parameter in network.named_parameters()
        for key, value in optimizer.state.get(parameter, {}).items()
        if torch.is_tensor(value)
    }


def _load_state(optimizer: torch.optim.Optimizer, network: nn.Module, tensors: dict[str, Tensor]) -> None:
    parameters = dict(network.named_parameters())
    by_parameter: dict[Tensor, dict[str, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, kind = key.rpartition(".")
        parameter = parameters[name]
        if tensor.ndim and tensor.shape != parameter.shape:
            raise RuntimeError(f"the optimizer's {key} is of shape {tuple(tensor.shape)}")
        by_parameter.setdefault(parameter, {})[kind] = _like(tensor, parameter)
    if len({frozenset(kinds) for kinds in by_parameter.values()}) > 1:
        raise RuntimeError("the optimizer's state of some weights lacks a part")
    state = optimizer.state_dict()
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state["state"] = {i: by_parameter[p] for i, p in enumerate(ordered) if p in by_parameter}
    optimizer.load_state_dict(state)


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def _like(tensor: Tensor, parameter: Any) -> Tensor:
    """A whole tensor, sharded as the parameter is; a number stays as it is."""
    if tensor.ndim == 0 or not hasattr(parameter, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(parameter.device), parameter.device_mesh, parameter.placements)
