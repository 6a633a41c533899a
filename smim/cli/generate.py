"""Commands that decode: reconstruct, interpolate, perturb, sample, answer."""

from typing import Annotated

import typer

import smim
from smim.cli.shared import Model, Seed, print_lines


def reconstruct(
    model: Model,
    texts: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences, each in quotation marks.")],
    sample: Annotated[bool, typer.Option("--sample", help="Draw code and words instead of the likeliest.")] = False,
    seed: Seed = 0,
) -> None:
    """Encode sentences and decode their codes, one line each.

    Example: smim reconstruct runs/ptb_smim_512/model "the company said profit rose"
    """
    print_lines(smim.load(model).reconstruct(texts, sample=sample, seed=seed))


def interpolate(
    model: Model,
    first: Annotated[str, typer.Argument(metavar="FIRST", help="The sentence to start from.")],
    second: Annotated[str, typer.Argument(metavar="SECOND", help="The sentence to end at.")],
    steps: Annotated[int, typer.Option(help="How many sentences, both ends included.")] = 5,
) -> None:
    """Decode sentences on the straight line between two sentences' codes.

    Example: smim interpolate runs/ptb_smim_512/model "profit rose" "he left the company" --steps 7
    """
    print_lines(smim.load(model).interpolate(first, second, steps=steps))


def perturb(
    model: Model,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="The sentence to vary.")],
    num: Annotated[int, typer.Option(help="How many variants.")] = 5,
    scale: Annotated[
        float, typer.Option(help="How far away, in standard deviations of the code; of wikitext-small, 20 to 30.")
    ] = 10.0,
    seed: Seed = 0,
) -> None:
    """Decode codes near a sentence's.

    Example: smim perturb runs/ptb_smim_512/model "the company said profit rose" --scale 20
    """
    print_lines(smim.load(model).perturb(text, num=num, scale=scale, seed=seed))


def sample(
    model: Model,
    num: Annotated[int, typer.Option(help="How many sentences.")] = 5,
    standard_deviation: Annotated[float, typer.Option(help="Of the codes around zero.")] = 0.1,
    prior: Annotated[bool, typer.Option("--prior", help="Draw from the model's own prior instead.")] = False,
    markov_chain: Annotated[
        int | None,
        typer.Option(metavar="STEPS", help="Print the last of so many sentences of a chain that each code begins."),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Decode codes drawn around zero, or from the model's prior.

    A probabilistic autoencoder is sampled by a Markov chain: a sentence of a code, a code of that sentence, and so on.

    Example: smim sample runs/ptb_smim_512/model --num 10 --seed 1
    """
    spread = None if prior else standard_deviation
    print_lines(smim.load(model).sample(num, standard_deviation=spread, chain_steps=markov_chain, seed=seed))


def answer(
    model: Model,
    question: Annotated[str, typer.Argument(metavar="QUESTION", help="The question.")],
    num_words: Annotated[int, typer.Option(help="How many unknown words stand for the answer.")] = 10,
) -> None:
    """Answer a question, with a model that was trained on questions and answers.

    Example: smim answer runs/yahoocqa/model "what is a good name for a cat"
    """
    print_lines([smim.load(model).answer(question, num_words=num_words)])


def arithmetic(
    model: Model,
    plus: Annotated[list[str], typer.Argument(metavar="TEXT...", help="Sentences whose codes are added.")],
    minus: Annotated[list[str] | None, typer.Option("--minus", help="A sentence whose code is taken away.")] = None,
) -> None:
    """Decode the sum of sentences' codes, less those of others.

    Example: smim arithmetic runs/ptb_smim_512/model "profit rose" "he left" --minus "profit fell"
    """
    loaded = smim.load(model)
    print_lines(loaded.decode(loaded.arithmetic(plus, minus or [])[None]))
