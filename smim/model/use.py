"""How a trained model is used where nothing else is asked for: the section `use` of its `config.json`.

Each default of Python, the command line, HTTP and its page comes from here. The model's hash leaves the section out, so
that it may be edited: an index of the model stays one. Imports no torch: a client does not wait for it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from smim.errors import UserError, check_size, check_whole, refuse
from smim.schema import bounded, out_of_bounds

METRICS = ("l2", "inner_product", "cosine")
MOST_CANDIDATES = 256
# Corpora whose sentences are questions with answers behind them, by name.
_ANSWERING = ("demo", "everything", "yahoo", "yahoocqa")
# The objective's terms by which cosines come to say what is alike.
_TERMS_OF_COSINES = ("contrast", "second_view", "pairs")
T = TypeVar("T")


@dataclass(frozen=True)
class Drawing:
    """How words are drawn: from p at a `temperature`, of the likeliest words that together have the share `top_p`.

    That is the nucleus (Holtzman et al. 2020).
    """

    temperature: float = 1.0
    top_p: float = 1.0


@dataclass(frozen=True)
class Writing:
    """How codes become sentences: as the arguments of `SentenceModel.decode`, with defaults filled in.

    `distinct`: of several candidates none is taken that an earlier code of the same call has, if there is another.
    """

    literal: float
    candidates: int
    sample: bool
    drawing: Drawing
    allow_unknown: bool = False
    distinct: bool = False

    @property
    def options(self) -> dict[str, Any]:
        """Those of `smim.model.decoding.decode_ids`."""
        return {"drawing": self.drawing, "literal": self.literal, "allow_unknown": self.allow_unknown}


@dataclass(frozen=True)
class Sampling:
    """How `sample` draws codes: from N(0, `standard_deviation`^2 I), or from the model's own `prior`.

    `chain_steps`: each begins a Markov chain of so many sentences, whose last one is the sample; 0: it is the sample.
    """

    prior: bool = False
    standard_deviation: float = bounded(0.1, least=0)
    chain_steps: int = bounded(0, least=0, most=1000)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "use.sample"))

    def spread(self, standard_deviation: float | None = None, *, prior: bool = False) -> float | None:
        """The standard deviation of codes drawn by these arguments of `sample`; None: they are the prior's."""
        if standard_deviation is None:
            return None if prior or self.prior else self.standard_deviation
        check_size("standard_deviation", standard_deviation)
        if prior:
            raise UserError("the prior has a spread of its own: leave out the standard deviation, or the prior")
        return standard_deviation


@dataclass(frozen=True)
class Literal:
    """How literally codes are decoded, 1 word for word to 0 of their meaning alone, by the operation that made them.

    Below 1, `candidates` sentences are drawn for each code, from p at a `temperature` and of the share `top_p` of the
    likeliest words, and the one that means most nearly what the code says is kept.
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
    ) -> Writing:
        """What these arguments of `decode` come to; raises `UserError` for numbers that are none of theirs."""
        check_size("literal", literal, most=1)
        own = self if literal < 1 else Literal()
        candidates = own.candidates if candidates is None else candidates
        temperature = own.temperature if temperature is None else temperature
        top_p = own.top_p if top_p is None else top_p
        check_whole("candidates", candidates, most=MOST_CANDIDATES)
        check_size("temperature", temperature, above=True)
        check_size("top_p", top_p, most=1, above=True)
        return Writing(literal, candidates, sample, Drawing(temperature, top_p), allow_unknown, distinct)


@dataclass(frozen=True)
class Use:
    """`metric`: by which codes are compared. `perturb_scale`: of `perturb`, in posterior standard deviations.

    `answers`: whether the model was trained on questions with answers behind them, so that `answer` is offered.
    """

    metric: str = bounded("l2", among=METRICS)
    perturb_scale: float = bounded(10.0, least=0)
    answers: bool = False
    sample: Sampling = field(default_factory=Sampling)
    literal: Literal = field(default_factory=Literal)

    def __post_init__(self) -> None:
        refuse(out_of_bounds(self, "use"))


def suited(training: Mapping[str, Any], *, has_meaning_part: bool = False) -> Use:
    """What suits a model that was trained so: `training` is that of its `config.json`.

    Of a model that says nothing of it, without a meaning part, it is what all models once had.
    """
    settings = training.get("settings", {})
    of_cosines = has_meaning_part or any(settings.get(f"{term}.weight") for term in _TERMS_OF_COSINES)
    use = Use(metric="cosine" if of_cosines else "l2", answers=training.get("corpus") in _ANSWERING)
    if has_meaning_part:
        literal = Literal(0.0, 0.0, 0.0, 0.0, candidates=8, temperature=0.7, top_p=0.9)
        # The longer a meaning part, the more words are written of it: drawn ones are as long as those of sentences.
        sample = Sampling(standard_deviation=training.get("code_deviation", 0.1))
        use = replace(use, literal=literal, sample=sample)
    return use


def overlaid(settings: T, given: Mapping[str, Any]) -> T:
    """Settings with those that are given, which may nest, in the place of their own."""
    values = {
        name: overlaid(getattr(settings, name), value) if isinstance(value, Mapping) else value
        for name, value in given.items()
    }
    return replace(settings, **values)  # type: ignore[type-var]
