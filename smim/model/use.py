"""The defaults for using a trained model: the section `use` of its `config.json`.

Python, the command line, HTTP and the page take their defaults from here. The model's hash excludes this section, so
users may edit it, and an index of the model stays valid. This module does not import torch, to keep clients fast.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from smim.errors import UserError, check_size, check_whole, refuse
from smim.schema import bounded, out_of_bounds

METRICS = ("l2", "inner_product", "cosine")
MOST_CANDIDATES = 256
# The names of corpora whose sentences are questions followed by answers.
_ANSWERING = ("demo", "everything", "yahoo", "yahoocqa")
# The terms of an objective that make cosines measure similarity.
_TERMS_OF_COSINES = ("contrast", "second_view", "pairs")
T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """How words are sampled: at a `temperature`, from the likeliest words with a total probability of `top_p`.

    The latter is nucleus sampling (Holtzman et al. 2020).
    """

    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Writing:
    """How codes become sentences: the arguments of `SentenceModel.decode`, including defaults.

    `distinct`: if possible, choose a candidate that no earlier code of the same call has got. `beam`: the hypotheses
    per code of beam search, which draws nothing; 1 means no beam search.
    """

    literal: float
    candidates: int
    sample: bool
    drawing: Drawing
    allow_unknown: bool = False
    distinct: bool = False
    beam: int = 1

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of `smim.model.decoding.decode_ids`."""
        return {"drawing": self.drawing, "literal": self.literal, "allow_unknown": self.allow_unknown}

    @property
    def sentences(self) -> int:
        """The number of sentences that are decoded together for each code."""
        return max(self.candidates, self.beam)


@dataclass(frozen=True)
class Sampling:
    """How `sample` draws codes: from N(0, `standard_deviation`^2 I), or from the model's own `prior`.

    `chain_steps`: the length of a Markov chain of sentences from each draw; its last one is the sample. 0: none.
    """

    prior: bool = False
    standard_deviation: float = bounded(0.1, least=0)
    chain_steps: int = bounded(0, least=0, most=1000)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "use.sample"))

    def spread(self, standard_deviation: float | None = None, *, prior: bool = False) -> float | None:
        """The standard deviation of codes for these arguments of `sample`; None means draws from the prior."""
        if standard_deviation is None:
            return None if prior or self.prior else self.standard_deviation
        check_size("standard_deviation", standard_deviation)
        if prior:
            raise UserError("the prior has its own spread; leave out the standard deviation, or the prior")
        return standard_deviation


@dataclass(frozen=True)
class Literal:
    """How literally codes are decoded, per operation: from 1 (word for word) to 0 (only the meaning).

    Below 1, the decoder samples `candidates` sentences per code, at `temperature` and with `top_p`. It keeps the one
    whose meaning is nearest to the code's.
    """

    interpolate: float = bounded(1.0, least=0, most=1)
    arithmetic: float = bounded(1.0, least=0, most=1)
    perturb: float = bounded(1.0, least=0, most=1)
    sample: float = bounded(1.0, least=0, most=1)
    candidates: int = bounded(1, least=1, most=MOST_CANDIDATES)
    temperature: float = bounded(1.0, above=0)
    top_p: float = bounded(1.0, above=0, most=1)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "use.literal"))

    def writing(
        self,
        literal: float = 1.0,
        candidates: int | None = None,
        *,
        sample: bool = False,
        temperature: float | None = None,
        top_p: float | None = None,
        allow_unknown: bool = False,
        distinct: bool = False,
        beam: int = 1,
    ) -> Writing:
        """Fill the defaults into these arguments of `decode`.

        Raises `UserError` for numbers outside their ranges, and for a beam with options of draws.
        """
        check_size("literal", literal, most=1)
        check_whole("beam", beam, most=MOST_CANDIDATES)
        own = self if literal < 1 and beam == 1 else Literal()
        candidates = own.candidates if candidates is None else candidates
        temperature = own.temperature if temperature is None else temperature
        top_p = own.top_p if top_p is None else top_p
        check_whole("candidates", candidates, most=MOST_CANDIDATES)
        check_size("temperature", temperature, above=True)
        check_size("top_p", top_p, most=1, above=True)
        if beam > 1 and (sample or candidates > 1):
            raise UserError(f"beam is {beam}, but beam search draws nothing; leave out sample and candidates, or beam")
        return Writing(literal, candidates, sample, Drawing(temperature, top_p), allow_unknown, distinct, beam)


@dataclass(frozen=True)
class Use:
    """The section `use`. `metric`: compares codes. `perturb_scale`: of `perturb`, in posterior standard deviations.

    `answers`: the model was trained on questions followed by answers, so the operation `answer` is available.
    """

    metric: str = bounded("l2", among=METRICS)
    perturb_scale: float = bounded(10.0, least=0)
    answers: bool = False
    sample: Sampling = field(default_factory=Sampling)
    literal: Literal = field(default_factory=Literal)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "use"))


def suited(training: Mapping[str, Any], *, has_meaning_part: bool = False) -> Use:
    """Choose the defaults for a model by its `training`, the section of its `config.json`.

    If the section is empty and there is no meaning part, the result is the default of earlier versions.
    """
    settings = training.get("settings", {})
    of_cosines = has_meaning_part or any(settings.get(f"{term}.weight") for term in _TERMS_OF_COSINES)
    use = Use(metric="cosine" if of_cosines else "l2", answers=training.get("corpus") in _ANSWERING)
    if training.get("objective") == "language_model":  # its code is 0
        use = replace(use, sample=Sampling(standard_deviation=0.0))
    if has_meaning_part:
        literal = Literal(0.0, 0.0, 0.0, 0.0, candidates=8, temperature=0.7, top_p=0.9)
        # Longer meaning parts give longer sentences, so draws must be as long as those of real sentences.
        sample = Sampling(standard_deviation=training.get("code_deviation", 0.1))
        use = replace(use, literal=literal, sample=sample)
    return use


def overlaid(settings: T, given: Mapping[str, Any]) -> T:
    """Return settings in which the given values, which may nest, replace the old ones."""
    values = {
        name: overlaid(getattr(settings, name), value) if isinstance(value, Mapping) else value
        for name, value in given.items()
    }
    return replace(settings, **values)  # type: ignore[type-var]
