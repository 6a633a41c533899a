"""A verdict in words on a model of sentences, with advice, from a report's metrics.

It depends on R, `bleu1_mean`: BLEU-1 of sentences that are decoded greedily from their posterior means. R of short and
long sentences, R of training sentences, and the training losses show the reason for a low R. The first rule in `_RULES`
that holds gives the verdict. docs/evaluation.md explains the rules.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GOOD = 0.8  # smallest R for which the codes represent their sentences
POOR = 0.6  # below this R, a sentence cannot be recognised
GAP = 0.1  # memorized: R of training sentences exceeds R by at least this, and by at least two standard errors
MEMORIZED = 0.7  # memorized: -log p(x|z) of training sentences is below this share of the validation set's
FALLING = 0.02  # still improving: -log p(x|z) of the validation set fell by at least this share at the last validation
FEW_EPOCHS = 5
UNKNOWN = 0.1  # from this share of `<unk>` among the tokens on, R is too high
LEAST_SENTENCES = 20  # with fewer evaluated sentences there is no verdict
SMALL = 10_000  # with fewer training sentences, a user's own model seldom learns to write new sentences

_SUPERPOSITION = "`model=superposition train=adamw`, whose codes are sums of the words' codes"
_WITHOUT_CODE = "language_model"
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
            f"{_percent(self.exact)} of the sentences come back word for word"
            if self.exact
            else "no sentence comes back word for word"
        )
        return f"{words}; {whole}."


def judge(report: dict[str, Any]) -> Verdict | None:
    """Judge a report's model. None for vectors, a language model, too few sentences, or without `bleu1_mean`.

    `report`: the content of `report.json`. Only `metrics`, `model` and `corpus` are used.
    """
    measured = report["metrics"].get("bleu1_mean")
    if measured is None or measured["n"] < LEAST_SENTENCES or report["model"]["objective"] == _WITHOUT_CODE:
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
        advice = f"You can use the model as it is. More training may still improve it: {_go_on(f)}."
    return f"Good: the codes represent their sentences. {f.back}", advice


def _long_sentences(f: _Facts) -> tuple[str, str]:
    assert f.short is not None and f.long is not None
    return (
        f"Good for short sentences, not for long ones. {f.back} In sentences with at most 20 tokens, "
        f"{_percent(f.short)} of the words come back; in longer ones {_percent(f.long)}.",
        "Prepare shorter sentences: `corpus.split_sentences=true` splits texts into sentences; `corpus.max_words=N` "
        f"leaves out longer ones. Or {_more_room(f)}. The table by sentence length shows which lengths fail.",
    )


def _collapsed(f: _Facts) -> tuple[str, str]:
    told = ""
    if f.information is not None and f.cap:
        told = f" The mutual information of code and sentence is {f.information:.1f} of at most {f.cap:.1f} nats."
    if f.objective not in _SELDOM_COLLAPSE:
        cure = f"Train again with `objective=amim` instead of `objective={f.objective}`: its codes seldom collapse"
    elif f.hardly_trained:
        cure = f"The training was too short: {_go_on(f)}, and evaluate again"
    elif f.superposition:
        cure = f"Train longer: {_go_on(f)}"
    else:
        cure = f"Train again with {_SUPERPOSITION}"
    return (
        f"Collapsed: the codes contain almost no information about their sentences.{told} {f.back}",
        f"{cure}.{_if_small(f)}",
    )


def _overfitted(f: _Facts) -> tuple[str, str]:
    size = "" if f.num_train is None else f" ({f.num_train:,} sentences)"
    if f.gap:
        assert f.train is not None
        found = (
            f"Overfitted: the model reconstructs its training sentences better than others. {f.back} "
            f"In sentences of the training set{size}, {_percent(f.train)} of the words come back."
        )
    else:
        assert f.train_to_valid is not None
        found = (
            f"Overfitted: the model memorized the training set{size} before it could reconstruct others. {f.back} "
            f"At the end, -log p(x|z) of training sentences was {_percent(f.train_to_valid)} of the validation set's, "
            "which no longer fell. The model is the one with the best validation loss."
        )
    other = "" if f.superposition else f", or with {_SUPERPOSITION}"
    advice = f"Train on more sentences{other}. For a small English corpus, use {_PACKAGED}, instead of your own model."
    return found, advice


def _undertrained(f: _Facts) -> tuple[str, str]:
    if f.unfinished:
        why = "The training was stopped before its end"
    elif f.fall is not None and f.falling:
        why = f"The validation set's -log p(x|z) was still falling, by {_percent(f.fall)} at the last validation"
    else:
        why = "It saw its training set only once" if f.epoch <= 1 else f"It saw its training set only {f.epoch} times"
    return f"Not trained enough. {f.back} {why}.", f"Continue the training: {_go_on(f)}.{_if_small(f)}"


def _other_text(f: _Facts) -> tuple[str, str]:
    return (
        f"Not good on these sentences, which come from another corpus than the training set. {f.back} "
        f"The model was trained on `{f.trained_on}`; these sentences are from `{f.evaluated_on}`.",
        f"Train a model on text like these sentences, or evaluate this one on `{f.trained_on}`.",
    )


def _partial(f: _Facts) -> tuple[str, str]:
    word = (
        "Fair: much of a sentence comes back, but seldom all of it"
        if f.mean >= POOR
        else "Not good: many words of a sentence are lost"
    )
    return (
        f"{word}. {f.back}",
        f"Train longer: {_go_on(f)}. Or {_more_room(f)}.{_if_small(f)}",
    )


def _more_room(f: _Facts) -> str:
    other = "" if f.superposition else f" or with {_SUPERPOSITION}"
    return f"train a model with a larger code, `model.latent_dim={2 * f.latent_dim}`{other}"


def _go_on(f: _Facts) -> str:
    if f.unfinished:
        return "repeat the training command with `train.resume=auto`"
    limit = " and without `train.max_steps`" if f.epoch < FEW_EPOCHS else ""
    return f"repeat the training command with `train.resume=auto train.max_epochs={max(10, 2 * f.epoch)}`{limit}"


def _if_unknown(f: _Facts) -> str:
    if f.unknown < UNKNOWN:
        return ""
    return (
        f" {_percent(f.unknown)} of the tokens are unknown to the model. An `<unk>` that is decoded as `<unk>` counts "
        "as a correct word. Prepare the corpus with `corpus.tokenizer.kind=unigram`: it splits words into known pieces."
    )


def _percent(share: float) -> str:
    """Format a share in percent, rounded down, so that only 1 gives 100 %."""
    return f"{math.floor(100 * share + 1e-9)} %"


def _if_small(f: _Facts) -> str:
    if f.num_train is None or f.num_train >= SMALL:
        return ""
    return f" {f.num_train:,} training sentences are few. For a small English corpus, try {_PACKAGED}."


_RULES: dict[str, tuple[Callable[[_Facts], bool], Callable[[_Facts], tuple[str, str]]]] = {
    "long_sentences": (lambda f: f.long_are_lost and (f.mean >= GOOD or not f.hardly_trained), _long_sentences),
    "reconstructs": (lambda f: f.mean >= GOOD, _reconstructs),
    "collapsed": (lambda f: f.collapsed, _collapsed),
    "overfitted": (lambda f: (f.gap or f.memorized) and not (f.stopped_early or f.elsewhere), _overfitted),
    "undertrained": (lambda f: f.hardly_trained and not f.elsewhere, _undertrained),
    "other_text": (lambda f: f.elsewhere, _other_text),
    "partial": (lambda f: True, _partial),
}
