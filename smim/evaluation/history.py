"""The history of a model's training, from the files of its run: whether it finished, and its losses."""

import json
from pathlib import Path
from typing import Any

from smim import storage
from smim.text.corpus import Corpus
from smim.vectors.corpus import VectorCorpus


def history_of(model_dir: Path, training: dict[str, Any]) -> dict[str, Any]:
    """Read the history of the model in `RUN/model` from `RUN/status.json` and `RUN/metrics.jsonl`.

    `unfinished`: the training was stopped, or still runs; None if unknown. `fall`: the relative decrease of -log p(x|z)
    of the validation set from the best earlier validation to the last one; negative for an increase. `train_to_valid`:
    -log p(x|z) of training sentences in the last log line, divided by that of the last validation. Both are None
    without such lines. Outside its run's directory, at most `unfinished` is known.
    """
    run = model_dir.absolute().parent
    known: dict[str, Any] = {"unfinished": training.get("unfinished"), "fall": None, "train_to_valid": None}
    if model_dir.name != "model" or not (run / "status.json").is_file() or not (run / "metrics.jsonl").is_file():
        return known
    if known["unfinished"] is None:
        known["unfinished"] = storage.read_json(run / "status.json").get("status") != "finished"
    losses = _reconstruction(run / "metrics.jsonl")
    if len(losses["valid"]) > 1:
        before, last = min(losses["valid"][:-1]), losses["valid"][-1]
        known["fall"] = (before - last) / before if before > 0 else None
    if losses["valid"] and losses["train"] and losses["valid"][-1] > 0:
        known["train_to_valid"] = losses["train"][-1] / losses["valid"][-1]
    return known


def train_sentences(training: dict[str, Any], corpus: Corpus | VectorCorpus) -> int | None:
    """The number of sentences or vectors that a model was trained on.

    Older models do not store it. Then it is the size of `corpus`'s train split, if they were trained on this corpus.
    """
    if "sentences" in training:
        return int(training["sentences"])
    splits = corpus.card["splits"]
    return splits["train"]["sentences"] if is_trained_on(training, corpus) and "train" in splits else None


def is_trained_on(training: dict[str, Any], corpus: Corpus | VectorCorpus) -> bool:
    """Whether the corpus has the name of the one that the model was trained on."""
    return bool(training.get("corpus") == corpus.name)


def _reconstruction(log: Path) -> dict[str, list[float]]:
    """Read -log p(x|z) of each line of a run's log, by split. An incomplete last line is left out."""
    found: dict[str, list[float]] = {"train": [], "valid": []}
    for text in log.read_text(encoding="utf-8").splitlines():
        try:
            line = json.loads(text)
        except json.JSONDecodeError:
            continue
        if "reconstruction" in line and line.get("split") in found:
            found[line["split"]].append(float(line["reconstruction"]))
    return found
