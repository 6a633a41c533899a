"""Write the tables and figures of the thesis's appendices E and D for several models, on one page.

    python eval/appendix.py sMIM=runs/yelp_smim/model AE=runs/yelp_ae/model --corpus data/yelp15 \
        -o docs/results/appendix_yelp.md

All models decode the same sentences. A long cell ends with "…" after 40 words. The tables and figures replace what is
between `<!-- appendix -->` and `<!-- end of appendix -->` of the page. A new page has only a title before them. The
figures are beside the page.

- Tables E.1 to E.3 and 7.11: reconstructions from the mean, from a draw, and from a perturbed draw.
- Tables E.4 to E.6 and 7.10: interpolations.
- Tables E.7 to E.9: samples.
- Tables E.10 and 7.9: answers, by models that were trained on questions with answers.
- Figures D.1 to D.5: lengths, MELBO by the size of the set, and the bounds of single sentences.
"""

import re
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from eval.compare import run_command
from smim import generation, storage
from smim.errors import UserError, refuse
from smim.evaluation import examples, likelihood, plots
from smim.evaluation.examples import ExamplesArgs
from smim.evaluation.job import sample
from smim.evaluation.markup import literal, prose, table
from smim.evaluation.run import EvalArgs, make_job
from smim.evaluation.section import Table
from smim.processes import make_accelerator
from smim.text.corpus import HISTOGRAM, Corpus, Split

_BEGIN, _END = "<!-- appendix -->", "<!-- end of appendix -->"
_BLOCK = re.compile(f"{_BEGIN}\n.*?{_END}", re.DOTALL)
_DATA = "(D)"
_LONGEST_CELL = 40  # words of a decoded sentence that are shown
# The thesis's numbers by corpus: of the tables of reconstructions, interpolations and samples, and of the histograms.
_NUMBERS = {"ptb": ("E.1", "E.4", "E.7", "D.3"), "yelp15": ("E.2", "E.5", "E.8", "D.4"),
            "yahoo": ("E.3", "E.6", "E.9", "D.5")}  # fmt: skip
_OTHERS = ("E.1", "E.4", "E.7", "D.3")


@dataclass(frozen=True)
class Shown:
    """What a model decodes, and its bounds in nats for each of N sentences.

    `tables`: those of the metric group `examples`. `reconstruction`: -log p(x|z), fp64 [N]. `bound`: MELBO, or the ELBO
    of a VAE, fp64 [N], as in Figures D.3 to D.5, and `bound_name`.
    """

    tables: list[Table]
    reconstruction: np.ndarray
    bound: np.ndarray
    bound_name: str


def main(
    models: Annotated[list[str], typer.Argument(metavar="LABEL=MODEL...", help="Model directories with their names.")],
    corpus: Annotated[Path, typer.Option(help="A prepared corpus.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The page.")],
    sentence: Annotated[list[str], typer.Option(help="A sentence to decode; may be repeated.")] = [],  # noqa: B006
    question: Annotated[list[str], typer.Option(help="A question to answer; may be repeated.")] = [],  # noqa: B006
    num: Annotated[int, typer.Option(min=2, help="Number of random sentences, and of samples.")] = 4,
    longest: Annotated[int, typer.Option(min=1, help="Words of the longest random sentence.")] = 25,
    steps: Annotated[int, typer.Option(min=2, help="Codes of an interpolation, both ends included.")] = 5,
    split: Annotated[str, typer.Option(help="The split of the sentences.")] = "test",
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
) -> None:
    """Write the tables and figures of appendices E and D for several models, on one page."""
    refuse(f"{each} has no name; give LABEL=MODEL" for each in models if not all(each.partition("=")))
    named = {name: place for name, _, place in (each.partition("=") for each in models)}
    opened = Corpus.open(corpus)
    empty = f"# Examples of {opened.name}\n\n{_BEGIN}\n{_END}\n"
    before = output.read_text(encoding="utf-8") if output.exists() else empty
    if not _BLOCK.search(before):
        raise UserError(f"{output} has no {_BEGIN} with {_END} after it; add these two lines where the tables belong")
    chosen = sentence or short_sentences(opened.split(split), num, longest, seed)
    args = ExamplesArgs(num=num, interpolation_steps=steps, sentences=chosen, questions=question)
    shown = {name: show(place, opened, split, args, seed) for name, place in named.items()}
    block = "\n\n".join([_BEGIN, *tables(shown, chosen, opened.name), *draw(shown, opened, output), _END])
    storage.write_text(output, _BLOCK.sub(lambda _: block, before))


def short_sentences(split: Split, num: int, longest: int, seed: int) -> list[str]:
    """Choose `num` random sentences with at most `longest` words. Raises `UserError` if there are fewer than two."""
    short = [text for text in split.texts() if 1 <= len(text.split()) <= longest]
    if len(short) < 2:
        raise UserError(f"split {split.name} has {len(short)} sentences of at most {longest} words; raise --longest")
    return [short[i] for i in sample(len(short), num, seed=seed)]


def show(place: str, corpus: Corpus, split: str, args: ExamplesArgs, seed: int) -> Shown:
    """Decode the examples, and compute the bounds of a split. Texts are tokenized again if the tokenizers differ."""
    with tempfile.TemporaryDirectory() as work:
        settings, accelerator = EvalArgs(split=split, num_runs=1, seed=seed), make_accelerator()
        model = generation.load(place, device=str(accelerator.device))
        job = make_job(model, corpus, corpus.split(split), settings, accelerator, Path(work))
        section = examples.evaluate(job, args, Path(work))
        error, kl = likelihood.sentence_reconstruction(job, num_samples=1)
        reconstruction = error.words[:, 0]
        of_mim = model.deterministic or "mim" in model.config["training"]["objective"]
        cost, name = (np.log(len(kl)), "MELBO") if of_mim else (kl, "ELBO")
        return Shown(section.tables, reconstruction, reconstruction + cost, name)


def draw(shown: dict[str, Shown], corpus: Corpus, page: Path) -> list[str]:
    """Draw Figures D.1 to D.5 beside the page. Returns their part of it."""
    drawn = {
        "lengths": "Figure D.1: lengths of the sentences. Dashed lines are means",
        "set_size": "Figure D.2: MELBO of K sentences, by K",
        "bounds": f"Figure {_numbers(corpus.name)[3]}: bounds of single sentences. Dashed lines are means",
    }
    files = {name: page.with_name(f"{page.stem}_{name}.png") for name in drawn}
    shutil.copyfile(corpus.directory / HISTOGRAM, files["lengths"])
    plots.melbo_by_set_size({name: each.reconstruction for name, each in shown.items()}, files["set_size"])
    plots.histograms(
        {f"{name}, {each.bound_name}": {"": each.bound} for name, each in shown.items()},
        files["bounds"],
        xlabel="nats per sentence",
    )
    return ["## Figures", *(f"![{caption}]({files[name].name})" for name, caption in drawn.items())]


def tables(shown: dict[str, Shown], sentences: Sequence[str], corpus: str) -> list[str]:
    """Make the tables of appendix E, each with the rows of all models."""
    reconstruction, interpolation, samples, _ = _numbers(corpus)
    decoded = {name: _groups(_rows(each, "Reconstruction")) for name, each in shown.items()}
    rows = []
    for i, sentence in enumerate(sentences):
        rows += [["data", _DATA, sentence]]
        rows += [[name, *row] for name, groups in decoded.items() for row in groups[i]]
    parts = [f"## Reconstructions (Table {reconstruction})", _table(["model", "code", "sentence"], rows)]
    parts += [f"## Interpolations (Table {interpolation})"]
    for pair in range(len(sentences) // 2):
        first, last = sentences[2 * pair : 2 * pair + 2]
        steps = [[name, *row] for name, each in shown.items() for row in _rows(each, f"Interpolation {pair + 1} of")]
        steps = [["data", "0", first], *(row for row in steps if row[1] != _DATA), ["data", "1", last]]
        parts += [_table(["model", "t", "sentence"], steps)]
    drawn = [
        [name, found.title.removeprefix("Samples from ").removesuffix(" (E.3)"), row[-1]]
        for name, each in shown.items()
        for found in each.tables
        if found.title.startswith("Samples from ")
        for row in found.rows
    ]
    if drawn:
        parts += [f"## Samples (Table {samples})", _table(["model", "codes from", "sample"], drawn)]
    answers = [[name, *row] for name, each in shown.items() for row in _rows(each, "Answers")]
    if answers:
        parts += ["## Answers (Table E.10)", _table(["model", "", "text"], answers)]
    return parts


def _numbers(corpus: str) -> tuple[str, str, str, str]:
    return _NUMBERS.get(corpus, _OTHERS)


def _rows(shown: Shown, title: str) -> list[list[str]]:
    return [row for found in shown.tables if found.title.startswith(title) for row in found.rows]


def _groups(rows: Sequence[list[str]]) -> list[list[list[str]]]:
    """Split the rows of a table of reconstructions at each sentence of the data, which is left out."""
    groups: list[list[list[str]]] = []
    for row in rows:
        if row[0] == _DATA:
            groups.append([])
        else:
            groups[-1].append(row)
    return groups


def _table(header: list[str], rows: list[list[str]]) -> str:
    return table([prose(name) for name in header], [[literal(_cut(cell)) for cell in row] for row in rows])


def _cut(text: str) -> str:
    words = text.split(" ")
    return text if len(words) <= _LONGEST_CELL else " ".join([*words[:_LONGEST_CELL], "…"])


if __name__ == "__main__":
    run_command(main)
