"""The settings of `experiment=own_small`, which are chosen by the properties of a small corpus.

They depend only on the corpus and on the command line, so a resumed run gets the same settings.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from smim import config
from smim.corpora import open_corpus
from smim.errors import SmimError, UserError
from smim.model.directory import find, read_config, read_settings
from smim.progress import console
from smim.text.corpus import Corpus
from smim.text.sentences import SPLIT_ABOVE
from smim.training.initial import KEY, said_values

EXPERIMENT = "experiment=own_small"
PACKAGED = "english-small"
_SHORTEST, _LONGEST = 20, 60  # range of the length, in tokens, to which training sentences are cut
_LATENT_DIM = 512
_MINUTES = 8
_LEAST_EPOCHS = 30
_FEW_EPOCHS, _LOW_RATE = 3, "5e-4"  # for an initial model that is already trained
_STEPS = 1000  # epochs are chosen to allow at least so many steps
_TOKENS, _FEW_TOKENS = 2048, 512  # tokens per batch
_SMALL = 100_000  # a corpus with fewer tokens gets the smaller batches


@dataclass(frozen=True)
class Choice:
    """The printed explanation of one choice, and the overrides that make it."""

    name: str
    says: str
    overrides: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        return f"{self.name}: {self.says}"


def expand(arguments: Sequence[str]) -> list[str]:
    """Insert the choices for the corpus before the command-line arguments. The main process prints them.

    Without the experiment or without a corpus, the arguments do not change. Raises `UserError` for wrong arguments,
    and for a corpus of vectors.
    """
    arguments = list(arguments)
    if EXPERIMENT not in arguments:
        return arguments
    if not {"-m", "--multirun"}.isdisjoint(arguments):
        raise UserError(f"{EXPERIMENT} chooses settings for one run; leave out --multirun")
    rest = [argument for argument in arguments if argument != EXPERIMENT]
    said = said_values(rest)
    cfg = config.compose("train", [EXPERIMENT, *(each for each in rest if "=" in each and each[0] != "-")])
    if cfg.corpus.dir is None:
        return arguments
    corpus = open_corpus(cfg.corpus.dir)
    if not isinstance(corpus, Corpus):
        raise UserError(f"{EXPERIMENT} is for sentences, but {corpus.directory} holds {corpus.unit}s")
    choices = choose(corpus, said)
    if os.environ.get("RANK", "0") == "0":
        for choice in choices:
            console.print(choice.line, soft_wrap=True)
    return [EXPERIMENT, *(each for choice in choices for each in choice.overrides), *rest]


def choose(corpus: Corpus, said: Mapping[str, str]) -> list[Choice]:
    """Make the choices for a corpus, in the order of printing. They never override what the user has `said`."""
    lengths = corpus.split("train").lengths
    if not len(lengths):
        raise UserError(f"{corpus.directory} has no training sentences")
    cut = _cut(lengths, said)
    batch, epoch_steps = _batch(np.minimum(lengths, cut) + 1, said)
    initial = _initial(corpus, said)
    return [*_model(initial, said), _length(lengths, cut, said), batch, _time(epoch_steps, said, initial)]


def _initial(corpus: Corpus, said: Mapping[str, str]) -> str | None:
    """The initial model: the user's, or the packaged one if the corpus has its tokenizer; otherwise None."""
    if KEY in said:
        return None if said[KEY] == "null" else said[KEY]
    try:
        fits = read_config(find(PACKAGED))["tokenizer_hash"] == corpus.tokenizer.hash
    except SmimError:  # an installation may have no packaged models
        return None
    return PACKAGED if fits and not _of_model(said) else None


def _of_model(said: Mapping[str, str]) -> list[str]:
    """The model's settings that the user gave, except `model.init`."""
    return [key for key in said if key.partition(".")[0] == "model" and key != KEY]


def _model(initial: str | None, said: Mapping[str, str]) -> list[Choice]:
    """Choose the model and the size of its code."""
    if initial:
        chosen = {KEY: initial, "train.learning_rate": _LOW_RATE}
        if initial == PACKAGED:
            chosen["objective.second_view.hold"] = "true"
        why = f"you set {KEY}" if KEY in said else "the corpus has its tokenizer"
        kept = "; its meaning part does not change" if initial == PACKAGED else ""
        model = Choice("model", f"{initial}, trained further, because {why}{kept}", _unsaid(chosen, said))
        return [model, Choice("code", f"{read_settings(initial).latent_dim} numbers, because {initial} has this size")]
    own = _of_model(said)
    if "model" in said:
        model = Choice("model", f"{said['model']}, because you set model")
    else:
        why = f"{own[0]} is set" if own else f"you set {KEY}" if KEY in said else f"the tokenizer is not {PACKAGED}'s"
        model = Choice(
            "model", f"a superposition with random initial weights, because it needs few sentences, and {why}"
        )
    if "model.latent_dim" in said:
        return [model, Choice("code", f"{said['model.latent_dim']} numbers, because you set model.latent_dim")]
    says = f"{_LATENT_DIM} numbers, because sentences of up to {_LONGEST} tokens fit into them"
    return [model, Choice("code", says, (f"model.latent_dim={_LATENT_DIM}",))]


def _cut(lengths: np.ndarray, said: Mapping[str, str]) -> int:
    """The number of tokens after which training sentences are cut; few are longer."""
    if "train.max_length" in said:
        return _number(said, "train.max_length") or int(lengths.max())
    return int(np.clip(np.percentile(lengths, 99), _SHORTEST, _LONGEST))


def _length(lengths: np.ndarray, cut: int, said: Mapping[str, str]) -> Choice:
    overrides = () if "train.max_length" in said else (f"train.max_length={cut}",)
    median, high = (int(each) for each in np.percentile(lengths, [50, 99]))
    says = f"training sentences are cut after {cut} tokens, because "
    says += f"half have at most {median}, and 99 % at most {high}" if overrides else "you set train.max_length"
    if median > SPLIT_ABOVE:
        says = (
            f"warning: half of the texts have {median} tokens or more, but codes are for sentences; split the "
            f"texts with `smim prepare ... corpus.split_sentences=true`. For now, they are cut after {cut} tokens"
        )
    return Choice("length", says, overrides)


def _batch(tokens: np.ndarray, said: Mapping[str, str]) -> tuple[Choice, float]:
    """Choose the batch, and return the number of batches per epoch. `tokens`: the tokens of each sentence."""
    total = int(tokens.sum())
    if said.get("train.batch_size", "null") != "null":
        overrides = () if "train.tokens_per_batch" in said else ("train.tokens_per_batch=null",)
        choice = Choice("batch", f"{said['train.batch_size']} sentences, because you set train.batch_size", overrides)
        return choice, len(tokens) / (_number(said, "train.batch_size") or 1)
    if "train.tokens_per_batch" in said:
        says = f"{said['train.tokens_per_batch']} tokens, because you set train.tokens_per_batch"
        return Choice("batch", says), total / (_number(said, "train.tokens_per_batch") or _TOKENS)
    size = _FEW_TOKENS if total < _SMALL else _TOKENS
    steps = math.ceil(total / size)
    says = f"{size:,} tokens, because then an epoch of {total:,} tokens has {steps:,} step{'s' * (steps != 1)}"
    return Choice("batch", says, (f"train.tokens_per_batch={size}",)), steps


def _time(epoch_steps: float, said: Mapping[str, str], initial: str | None) -> Choice:
    epochs = _FEW_EPOCHS if initial else max(_LEAST_EPOCHS, math.ceil(_STEPS / epoch_steps))
    chosen = {"train.max_minutes": str(_MINUTES), "train.max_epochs": str(epochs)}
    overrides = _unsaid(chosen, said)
    minutes, most = (said.get(key, value) for key, value in chosen.items())
    ends = f"{most} epochs" if minutes == "null" else f"{minutes} minutes or {most} epochs, whichever ends first"
    why = "this is for a first try; train.max_minutes=30 gives more time" if overrides else "you set both"
    if initial and "train.max_epochs" not in said:
        why = "in more epochs it forgets words that a small corpus lacks"
    return Choice("time", f"{ends}, because {why}", overrides)


def _unsaid(chosen: Mapping[str, str], said: Mapping[str, str]) -> tuple[str, ...]:
    """The overrides of those settings that the user did not give."""
    return tuple(f"{key}={value}" for key, value in chosen.items() if key not in said)


def _number(said: Mapping[str, str], key: str) -> int | None:
    """A positive whole number that the user gave, or None. Other values are refused later."""
    value = said.get(key, "").replace("_", "")
    return int(value) if value.isdecimal() and int(value) else None
