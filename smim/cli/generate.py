"""Commands that decode: reconstruct, interpolate, perturb, sample, answer."""

from typing import Annotated, Any

import typer

import smim
from smim.cli.shared import AllowUnknown, Model, Seed, print_lines

_LITERAL = "How literally to decode: 1 is word for word, 0 keeps only the meaning (needs a model with a meaning part)"
Literal = Annotated[float | None, typer.Option(help=f"{_LITERAL}; the model's own by default.")]


def reconstruct(
    model: Model,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences, each in quotation marks.")],
    literal: Annotated[float, typer.Option(help=f"{_LITERAL}.")] = 1.0,
    candidates: Annotated[
        int | None, typer.Option(help="Draw this many sentences, and keep the nearest in meaning.")
    ] = None,
    sample: Annotated[
        bool, typer.Option("--sample", help="Draw code and words, instead of the most likely ones.")
    ] = False,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
    beam: Annotated[int, typer.Option(help="Beam search with this many hypotheses finds likelier sentences.")] = 1,
) -> None:
    """Encode sentences and decode their codes, one line each.

    Example: smim reconstruct runs/ptb_smim_512/model "the company said profit rose"
    """
    loaded = smim.load(model)
    how: dict[str, Any] = {"literal": literal, "candidates": candidates, "sample": sample, "seed": seed}
    print_lines(loaded.reconstruct(texts, **how, allow_unknown=allow_unknown, beam=beam))


def interpolate(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The sentence to start from.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The sentence to end at.")],
    steps: Annotated[int, typer.Option(help="The number of sentences, both ends included.")] = 5,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode sentences between two sentences.

    They are decoded at evenly spaced codes on the straight line between the two sentences' codes.

    Example: smim interpolate runs/ptb_smim_512/model "profit rose" "he left the company" --steps 7
    """
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).interpolate(first, second, steps=steps, **how))


def perturb(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The sentence to vary.")],
    num: Annotated[int, typer.Option(help="The number of variants.")] = 5,
    scale: Annotated[
        float | None, typer.Option(help="The distance in posterior standard deviations; the model's own by default.")
    ] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode codes near a sentence's code.

    Example: smim perturb runs/ptb_smim_512/model "the company said profit rose" --scale 20
    """
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).perturb(text, num=num, scale=scale, **how))


def sample(
    model: Model,
    num: Annotated[int, typer.Option(help="The number of sentences.")] = 5,
    standard_deviation: Annotated[
        float | None, typer.Option(help="Standard deviation of codes around zero; the model's own way by default.")
    ] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Draw from the model's prior instead.")] = False,
    markov_chain: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="Start a Markov chain at each code; print its sentence after STEPS."),
    ] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode codes drawn around zero, or from the model's prior.

    To sample from a probabilistic autoencoder, use a Markov chain: decode a code, encode the sentence, and so on.

    Example: smim sample runs/ptb_smim_512/model --num 10 --seed 1
    """
    codes: dict[str, Any] = {"standard_deviation": standard_deviation, "prior": prior, "chain_steps": markov_chain}
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).sample(num, **codes, **how))


def answer(
    model: Model,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    num_words: Annotated[int, typer.Option(help="The number of unknown words in place of the answer.")] = 10,
) -> None:
    """Answer a question, if the model can.

    The model must be trained on questions with answers.

    Example: smim answer runs/yahoocqa/model "what is a good name for a cat"
    """
    print_lines([smim.load(model).answer(question, num_words=num_words)])


def arithmetic(
    model: Model,
    plus: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences whose codes are added.")],
    minus: Annotated[
        list[str] | None, typer.Option("--minus", help="A sentence whose code is subtracted; may be repeated.")
    ] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Add and subtract sentences' codes, and decode the result.

    Example: smim arithmetic runs/ptb_smim_512/model "profit rose" "he left" --minus "profit fell"
    """
    loaded = smim.load(model)
    literal = loaded.use.literal.arithmetic if literal is None else literal
    code = loaded.arithmetic(plus, minus or [])
    print_lines(loaded.decode(code[None], literal=literal, seed=seed, allow_unknown=allow_unknown))
