"""The trainings of figures: ordinary runs of `smim.train`, each measured once and stored by its settings.

    runs/NAME/    config.json  metrics.jsonl  model/  measured.json, and critic.safetensors with a critic

A finished training with the same settings is not repeated. An interrupted one continues from its checkpoint in
`runs/.NAME.work/` (`smim/work.py`).
"""

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from safetensors.torch import save_file

from smim import storage, vector_model
from smim.errors import SmimError, UserError
from smim.evaluation.consistency import OF_CONSISTENCY, densities
from smim.evaluation.section import measure
from smim.evaluation.vectors import VectorsArgs, measure_vectors
from smim.model.args import ModelArgs
from smim.model.latent_variable_model import LatentVariableModel
from smim.objectives import Objective
from smim.progress import console
from smim.text.corpus import CARD
from smim.training.args import TrainArgs
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from smim.work import WorkDirectory

CRITIC = "critic.safetensors"
_SETTINGS, _MEASURED = "config.json", "measured.json"


@dataclass(frozen=True)
class Training:
    """A training of one model of vectors, and its measurement on the corpus's test split.

    `runs`: the folder with the runs of all figures.
    """

    corpus: Path
    model: ModelArgs
    objective: Objective
    train: TrainArgs
    measure: VectorsArgs
    runs: Path

    def settings(self) -> dict[str, Any]:
        """All settings on which the measurements depend."""
        return {
            "corpus": storage.sha256(self.corpus / CARD),
            "model": asdict(self.model),
            "objective": asdict(self.objective),
            "train": asdict(self.train),
            "measure": asdict(self.measure),
        }

    @property
    def directory(self) -> Path:
        digest = hashlib.sha256(json.dumps(self.settings(), sort_keys=True).encode()).hexdigest()
        return self.runs / f"{self.corpus.name}-{self.objective.name}-{digest[:12]}"

    def measured(self) -> dict[str, Any] | None:
        """The `metrics` by name and the `seconds`, or why it `failed`; None if it is not finished."""
        path = self.directory / _MEASURED
        if not path.exists():
            return None
        content = storage.read_json(path)
        return {"metrics": content.pop("figures"), **content} if "figures" in content else content  # their older name


def perform(training: Training) -> dict[str, Any]:
    """Train and measure on one thread. Write the result, and return it like `measured`.

    If a training diverges, or its codes cannot be measured, the result is `failed`. Raises `UserError` for invalid
    settings.
    """
    started, settings = time.monotonic(), training.settings()
    work = WorkDirectory(training.directory, settings, card=_SETTINGS, kind="a training")
    content: dict[str, Any]
    with _quietly_on_one_thread(), work.owned():
        storage.write_json(work.result / _SETTINGS, settings)
        try:
            content = {"metrics": _train_and_measure(training, work.result)}
        except UserError:
            raise
        except (SmimError, ValueError) as error:  # ValueError comes from estimators
            content = {"failed": str(error).partition(";")[0]}  # what follows names files that are removed below
        content["seconds"] = round(time.monotonic() - started, 2)
        storage.write_json(work.result / _MEASURED, content)
        shutil.rmtree(work.result / "checkpoints", ignore_errors=True)
    return content


class _TrainerKeepingCritic(Trainer):
    """A trainer that writes the critic beside the model that it belongs to, such as MIM's density of the data."""

    def keep(self, model: LatentVariableModel, measured: dict[str, Any]) -> None:
        super().keep(model, measured)
        if self.parallel.critic:
            tensors = {name: each.detach() for name, each in self.parallel.critic.network.state_dict().items()}
            with storage.new_file(self.run_dir / CRITIC) as path:
                save_file(tensors, path)


def _train_and_measure(training: Training, directory: Path) -> dict[str, float]:
    corpus = VectorCorpus.open(training.corpus)
    _TrainerKeepingCritic(
        corpus,
        training.model,
        training.objective,
        training.train,
        accelerator=Accelerator(cpu=True),
        run_dir=directory,
    ).fit()
    model = vector_model.load(directory / "model")
    metrics = measure_vectors(model, corpus, corpus.split("test"), training.measure, seed=training.train.seed)
    if pair := densities(model, training.objective, corpus.card.get("density"), directory / CRITIC):
        metrics |= measure(OF_CONSISTENCY, pair)
    return {name: metric.value for name, metric in metrics.items()}


@contextmanager
def _quietly_on_one_thread() -> Iterator[None]:
    """Use one thread, because small products are slower on several, and hide the trainings' own output."""
    num_threads, quiet = torch.get_num_threads(), console.quiet
    torch.set_num_threads(1)
    console.quiet = True
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)
        console.quiet = quiet
