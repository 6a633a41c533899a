"""Commands that decode: reconstruct, interpolate, perturb, sample, answer."""

from typing import Annotated, Any

import typer

import smim
from smim.cli.shared import AllowUnknown, Model, Seed, print_lines

_LITERAL = "How literally: 1 word for word, to 0 by the meaning alone, of models that can"
Literal = Annotated[float | None, typer.Option(help=f"{_LITERAL}; the model's own.")]


def reconstruct(
    model: Model,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences, each in quotation marks.")],
    literal: Annotated[float, typer.Option(help=f"{_LITERAL}.")] = 1.0,
    candidates: Annotated[
        int | None, typer.Option(help="Sentences that are drawn, of which the nearest in meaning is kept.")
    ] = None,
    sample: Annotated[bool, typer.Option("--sample", help="Draw code and words instead of the likeliest.")] = False,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Encode sentences and decode their codes, one line each.

    Example: smim reconstruct runs/ptb_smim_512/model "the company said profit rose"
    """
    loaded = smim.load(model)
    how: dict[str, Any] = {"literal": literal, "candidates": candidates, "sample": sample, "seed": seed}
    print_lines(loaded.reconstruct(texts, **how, allow_unknown=allow_unknown))


def interpolate(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The sentence to start from.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The sentence to end at.")],
    steps: Annotated[int, typer.Option(help="How many sentences, both ends included.")] = 5,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode sentences between two sentences.

    They are decoded at even steps on the straight line from the one's code to the other's.

    Example: smim interpolate runs/ptb_smim_512/model "profit rose" "he left the company" --steps 7
    """
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).interpolate(first, second, steps=steps, **how))


def perturb(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The sentence to vary.")],
    num: Annotated[int, typer.Option(help="How many variants.")] = 5,
    scale: Annotated[
        float | None, typer.Option(help="How far away, in standard deviations of the code; the model's own.")
    ] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode codes near a sentence's.

    Example: smim perturb runs/ptb_smim_512/model "the company said profit rose" --scale 20
    """
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).perturb(text, num=num, scale=scale, **how))


def sample(
    model: Model,
    num: Annotated[int, typer.Option(help="How many sentences.")] = 5,
    standard_deviation: Annotated[
        float | None, typer.Option(help="Of the codes around zero; the model's own way to draw.")
    ] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Draw from the model's own prior instead.")] = False,
    markov_chain: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="Print the last of so many sentences of a chain that each code begins."),
    ] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode codes drawn around zero, or from the model's prior.

    A probabilistic autoencoder is sampled by a Markov chain: a sentence of a code, a code of that sentence, and so on.

    Example: smim sample runs/ptb_smim_512/model --num 10 --seed 1
    """
    codes: dict[str, Any] = {"standard_deviation": standard_deviation, "prior": prior, "chain_steps": markov_chain}
    how: dict[str, Any] = {"literal": literal, "seed": seed, "allow_unknown": allow_unknown}
    print_lines(smim.load(model).sample(num, **codes, **how))


def answer(
    model: Model,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    num_words: Annotated[int, typer.Option(help="How many unknown words stand for the answer.")] = 10,
) -> None:
    """Answer a question, where the model can.

    It can where it was trained on questions with answers behind them.

    Example: smim answer runs/yahoocqa/model "what is a good name for a cat"
    """
    print_lines([smim.load(model).answer(question, num_words=num_words)])


def arithmetic(
    model: Model,
    plus: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences whose codes are added.")],
    minus: Annotated[list[str] | None, typer.Option("--minus", help="A sentence whose code is taken away.")] = None,
    literal: Literal = None,
    seed: Seed = 0,
    allow_unknown: AllowUnknown = False,
) -> None:
    """Decode the sum of sentences' codes, less those of others.

    Example: smim arithmetic runs/ptb_smim_512/model "profit rose" "he left" --minus "profit fell"
    """
    loaded = smim.load(model)
    literal = loaded.use.literal.arithmetic if literal is None else literal
    code = loaded.arithmetic(plus, minus or [])
    print_lines(loaded.decode(code[None], literal=literal, seed=seed, allow_unknown=allow_unknown))
