"""A verdict in words on a model of sentences, with advice, from a report's metrics.

It depends on R, `bleu1_mean`: BLEU-1 of sentences that are decoded greedily from their posterior means. R of short and
long sentences, R of training sentences, and the training losses show the reason for a low R. The first rule in `_RULES`
that holds gives the verdict. docs/evaluation.md explains the rules.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GOOD = 0.8  # R from here on: the codes hold their sentences
POOR = 0.6  # R below: a sentence is not to be recognized
GAP = 0.1  # R of training sentences is so far above R, and by two standard errors, where they are learned by heart
MEMORIZED = 0.7  # -log p(x|z) of training sentences below so much of the validation set's: they are learned by heart
FALLING = 0.02  # by this share -log p(x|z) of the validation set fell in the last epoch: there is more to learn
FEW_EPOCHS = 5
UNKNOWN = 0.1  # share of the tokens that are `<unk>`; from here on R flatters
LEAST_SENTENCES = 20  # fewer evaluated ones decide nothing
SMALL = 10_000  # training sentences; below, a model of one's own seldom learns to write new sentences

_SUPERPOSITION = "`model=superposition train=adamw`, whose codes are sums of the words' codes"
_SELDOM_COLLAPSE = ("amim", "mim", "autoencoder")
_PACKAGED = '`smim.load("english-small")`, the English model that comes with this package'


@dataclass(frozen=True)
class Verdict:
    """A verdict. `kind`: a name in `_RULES`. `text`: the finding. `advice`: what to do. Code is between backticks."""

    kind: str
    text: str
    advice: str


class _Facts:
    """The input of the rules. Values that a report lacks are None."""

    def __init__(self, report: dict[str, Any]) -> None:
        metrics, of_gap = report["metrics"], ("bleu1_mean", "bleu1_mean_train")
        values = {name: metric["value"] for name, metric in metrics.items()}
        model, corpus = report["model"], report["corpus"]
        history = model.get("history") or {}
        self.mean: float = values["bleu1_mean"]
        self.exact: float | None = values.get("exact_match_mean")
        self.short, self.long = values.get("bleu1_mean_short"), values.get("bleu1_mean_long")
        self.train: float | None = values.get("bleu1_mean_train")
        self.error = math.hypot(*(metrics[name].get("standard_error") or 0.0 for name in of_gap if name in metrics))
        self.information, self.cap = values.get("mutual_information"), values.get("mutual_information_cap")
        self.collapsed = bool(values.get("collapsed"))
        self.objective, self.latent_dim, self.epoch = model["objective"], model["latent_dim"], model["epoch"]
        self.num_train: int | None = model.get("train_sentences")
        self.unknown: float = corpus.get("unknown_share") or 0.0
        self.superposition = str(model.get("architecture", "")).startswith("superposition")
        self.unfinished = bool(history.get("unfinished"))
        self.fall, self.train_to_valid = history.get("fall"), history.get("train_to_valid")
        self.trained_on, self.evaluated_on = model.get("trained_on"), corpus["name"]

    @property
    def falling(self) -> bool:
        return self.fall is not None and self.fall >= FALLING

    @property
    def gap(self) -> bool:
        """Whether training sentences are reconstructed much better than the evaluated ones."""
        return self.train is not None and self.train - self.mean >= max(GAP, 2 * self.error)

    @property
    def memorized(self) -> bool:
        """Whether the final loss was much lower on training sentences than on the validation set."""
        return self.train_to_valid is not None and self.train_to_valid < MEMORIZED

    @property
    def long_are_lost(self) -> bool:
        return self.short is not None and self.long is not None and self.short >= GOOD and self.long < POOR

    @property
    def elsewhere(self) -> bool:
        return self.trained_on is not None and self.trained_on != self.evaluated_on

    @property
    def stopped_early(self) -> bool:
        """Whether training ended before it converged."""
        return self.unfinished or self.falling

    @property
    def hardly_trained(self) -> bool:
        few = self.epoch < FEW_EPOCHS and self.train is not None and self.train < GOOD
        return self.stopped_early or few

    @property
    def back(self) -> str:
        words = f"On average {_percent(self.mean)} of a sentence's words come back from its code"
        if self.exact is None:
            return f"{words}."
        whole = (
            f"{_percent(self.exact)} of the sentences do so word for word" if self.exact else "no sentence does whole"
        )
        return f"{words}; {whole}."


def judge(report: dict[str, Any]) -> Verdict | None:
    """Judge a report's model. None for vectors, without `bleu1_mean`, or for too few sentences.

    `report`: the content of `report.json`. Only `metrics`, `model` and `corpus` are used.
    """
    measured = report["metrics"].get("bleu1_mean")
    if measured is None or measured["n"] < LEAST_SENTENCES:
        return None
    facts = _Facts(report)
    for kind, (holds, say) in _RULES.items():
        if holds(facts):
            text, advice = say(facts)
            return Verdict(kind, text, advice + _if_unknown(facts))
    raise AssertionError("the last rule always holds")


def _reconstructs(f: _Facts) -> tuple[str, str]:
    advice = "Use the codes as they are, for search, interpolation and comparison."
    if f.hardly_trained and not f.elsewhere:
        advice = f"It can be used as it is. More training may still improve it: {_go_on(f)}."
    return f"Good: the codes hold their sentences. {f.back}", advice


def _long_sentences(f: _Facts) -> tuple[str, str]:
    assert f.short is not None and f.long is not None
    return (
        f"Good for short sentences, not for long ones. {f.back} Of sentences of at most 20 tokens "
        f"{_percent(f.short)} of the words come back, of longer ones {_percent(f.long)}.",
        "Prepare shorter sentences: `corpus.split_sentences=true` parts texts into sentences, `corpus.max_words=N` "
        f"leaves out those of more words. Or {_more_room(f)}. The table by sentence length shows where it fails.",
    )


def _collapsed(f: _Facts) -> tuple[str, str]:
    told = ""
    if f.information is not None and f.cap:
        told = f" They tell {f.information:.1f} of {f.cap:.1f} nats of which sentence was encoded."
    if f.objective not in _SELDOM_COLLAPSE:
        cure = f"Train anew with `objective=amim` in place of `objective={f.objective}`: its codes seldom collapse"
    elif f.hardly_trained:
        cure = f"Training had hardly begun: {_go_on(f)}, and evaluate again"
    elif f.superposition:
        cure = f"Train longer: {_go_on(f)}"
    else:
        cure = f"Train anew with {_SUPERPOSITION}"
    return f"Collapsed: the codes say next to nothing of their sentences.{told} {f.back}", f"{cure}.{_if_small(f)}"


def _overfitted(f: _Facts) -> tuple[str, str]:
    size = "" if f.num_train is None else f", {f.num_train:,} sentences"
    if f.gap:
        assert f.train is not None
        found = (
            f"Overfitted: the model gives back its training sentences better than others. {f.back} "
            f"Of sentences from the training set{size}, {_percent(f.train)} of the words come back."
        )
    else:
        assert f.train_to_valid is not None
        found = (
            f"Overfitted: the training set{size}, is learned by heart before sentences come back. {f.back} At the end "
            f"-log p(x|z) of training sentences was {_percent(f.train_to_valid)} of that of the validation set, which "
            "no longer fell; the model is the one that was best on the latter."
        )
    other = "" if f.superposition else f", or with {_SUPERPOSITION}"
    advice = (
        f"Train on more sentences{other}. "
        f"For a small corpus of English use {_PACKAGED}, instead of a model of your own."
    )
    return found, advice


def _undertrained(f: _Facts) -> tuple[str, str]:
    if f.unfinished:
        why = "The training was stopped before its end"
    elif f.fall is not None and f.falling:
        why = f"The validation set's -log p(x|z) was still falling, by {_percent(f.fall)} at the last validation"
    else:
        why = "The model saw its training set once" if f.epoch <= 1 else f"It saw its training set {f.epoch} times"
    return f"Not trained enough. {f.back} {why}.", f"Continue the training: {_go_on(f)}.{_if_small(f)}"


def _other_text(f: _Facts) -> tuple[str, str]:
    return (
        f"Not good on these sentences, which are not of the corpus that the model was trained on. {f.back} "
        f"The model was trained on `{f.trained_on}`, these are of `{f.evaluated_on}`.",
        f"Train a model on text like these sentences, or evaluate this one on `{f.trained_on}`.",
    )


def _partial(f: _Facts) -> tuple[str, str]:
    word = "Fair: much of a sentence comes back, seldom all of it" if f.mean >= POOR else "Not good: much is lost"
    return (
        f"{word}. {f.back}",
        f"Train longer: {_go_on(f)}. Or {_more_room(f)}.{_if_small(f)}",
    )


def _more_room(f: _Facts) -> str:
    other = "" if f.superposition else f" or with {_SUPERPOSITION}"
    return f"train a model with a larger code, `model.latent_dim={2 * f.latent_dim}`{other}"


def _go_on(f: _Facts) -> str:
    if f.unfinished:
        return "repeat the command of the training with `train.resume=auto`"
    limit = " and without `train.max_steps`" if f.epoch < FEW_EPOCHS else ""
    return f"repeat the command of the training with `train.resume=auto train.max_epochs={max(10, 2 * f.epoch)}`{limit}"


def _if_unknown(f: _Facts) -> str:
    if f.unknown < UNKNOWN:
        return ""
    return (
        f" {_percent(f.unknown)} of the tokens are words that the model does not know; `<unk>` for `<unk>` counts as "
        "given back. Prepare the corpus with `corpus.tokenizer.kind=unigram`, which knows every word by its pieces."
    )


def _percent(share: float) -> str:
    """Format a share in percent, rounded down, so that only 1 gives 100 %."""
    return f"{math.floor(100 * share + 1e-9)} %"


def _if_small(f: _Facts) -> str:
    if f.num_train is None or f.num_train >= SMALL:
        return ""
    return f" {f.num_train:,} training sentences are few: of a small corpus of English, try {_PACKAGED}."


_RULES: dict[str, tuple[Callable[[_Facts], bool], Callable[[_Facts], tuple[str, str]]]] = {
    "long_sentences": (lambda f: f.long_are_lost and (f.mean >= GOOD or not f.hardly_trained), _long_sentences),
    "reconstructs": (lambda f: f.mean >= GOOD, _reconstructs),
    "collapsed": (lambda f: f.collapsed, _collapsed),
    "overfitted": (lambda f: (f.gap or f.memorized) and not (f.stopped_early or f.elsewhere), _overfitted),
    "undertrained": (lambda f: f.hardly_trained and not f.elsewhere, _undertrained),
    "other_text": (lambda f: f.elsewhere, _other_text),
    "partial": (lambda f: True, _partial),
}
