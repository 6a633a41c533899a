"""Sums of per-sentence terms, and the log file with a JSON object per line."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor

from smim import storage
from smim.errors import UserError
from smim.model.latent_variable_model import Observations

_COUNTS = ("sentences", "tokens", "positions")
_RENAMED = {"log_anchor": "log_prior"}  # from older checkpoints


class Meter:
    """An accumulator of per-sentence terms, on the device in fp64. `read` returns their means over all processes.

    `seconds`: the time for these sentences, if the caller adds it. It is saved and reset together with the sums.
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.sums: Tensor | None = None
        self.sentences = self.positions = 0
        self.seconds = 0.0

    def add(self, terms: dict[str, Tensor], batch: Observations) -> None:
        """Add the terms [B] of a batch with B sentences. Raises `UserError` if a checkpoint had other terms."""
        self.names = self.names or list(terms)
        if not terms.keys() >= set(self.names):
            raise UserError(
                f"the checkpoint has sums of other terms than this run ({', '.join(self.names)}); "
                "it was edited or damaged"
            )
        # Few operations, because each of them is a kernel launch on a GPU.
        values = [terms[name].detach() for name in self.names]
        sums = torch.stack([*values, batch.lengths.to(values[0].dtype)]).double().sum(1)
        self.sums = sums if self.sums is None else self.sums + sums
        self.sentences += len(batch)
        # `<eos>` takes a position in the decoder, but is not counted as a token of the sentence.
        self.positions += batch.num_positions

    def totals(self) -> dict[str, float]:
        """The sums of the terms, then the three counts. Empty before the first batch."""
        if self.sums is None:
            return {}
        *terms, tokens = self.sums.tolist()
        counts = float(self.sentences), tokens, float(self.positions)
        return dict(zip([*self.names, *_COUNTS], [*terms, *counts], strict=True))

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """Return the means in nats per sentence over all processes, then reset the sums.

        The result also has the counts `sentences`, `tokens` (without `<eos>`) and `positions` (tokens, `<eos>` and
        padding). Processes without a sentence must call it too.
        """
        parts = gather_object([self.totals()])
        self.names, self.sums, self.sentences, self.positions, self.seconds = [], None, 0, 0, 0.0
        totals = {name: sum(part.get(name, 0.0) for part in parts) for name in max(parts, key=len)}
        counts = {name: totals.pop(name) for name in _COUNTS}
        return {**{name: total / counts["sentences"] for name, total in totals.items()}, **counts}

    def state(self) -> dict[str, Any]:
        return {"names": self.names, "sums": list(self.totals().values()) or None, "seconds": self.seconds}

    def load(self, state: dict[str, Any], device: torch.device) -> None:
        self.seconds = state.get("seconds", 0.0)  # which older checkpoints lack
        if state["sums"] is not None:
            self.names = [_RENAMED.get(name, name) for name in state["names"]]
            *terms, sentences, tokens, positions = state["sums"]
            self.sentences, self.positions = int(sentences), int(positions)
            self.sums = torch.tensor([*terms, tokens], dtype=torch.float64, device=device)


class MetricsLog:
    """The file `metrics.jsonl` with a JSON object per line. Only the main process writes it.

    A checkpoint stores `num_lines`, so that a resumed run keeps exactly the lines from before the checkpoint.
    """

    def __init__(self, path: Path, *, enabled: bool) -> None:
        self.path = path
        self.enabled = enabled
        self.num_lines = 0

    def rewind(self, num_lines: int) -> None:
        """Keep the first `num_lines` lines. Remove later ones, including incomplete ones."""
        if self.enabled:
            storage.check_regular(self.path)
            lines = self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []
            # There are fewer lines if the checkpoint comes from another run.
            self.num_lines = min(num_lines, len(lines))
            storage.write_text(self.path, "".join(f"{line}\n" for line in lines[:num_lines]))

    def write(self, values: dict[str, Any]) -> None:
        self.num_lines += 1
        if self.enabled:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
                file.flush()
                os.fsync(file.fileno())
