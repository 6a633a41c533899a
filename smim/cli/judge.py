"""`smim judge ...`: the language model that judges generated sentences."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make the language model that judges sentences.")

Texts = Annotated[list[Path], typer.Argument(metavar="TEXT...", help="Files with one sentence per line, or .jsonl.")]


@app.command("make")
def judge_make(
    texts: Texts,
    output: Annotated[Path, typer.Option("--output", "-o", help="The judge's directory, such as judges/everyday.")],
    without: Annotated[
        list[Path] | None, typer.Option(help="Files of sentences to leave out, such as the evaluation set.")
    ] = None,
    vocabulary_size: Annotated[int, typer.Option(help="Number of subwords, including bytes.")] = 4000,
) -> None:
    """Make a judge from text that no judged model was trained on.

    Example: smim judge make everyday.txt reviews.txt --without evaluated.txt -o judges/everyday
    """
    from smim.evaluation.judge import make

    judge = make(texts, output, without=without or [], vocabulary_size=vocabulary_size)
    card = judge.card
    print(f"{card.sentences:,} sentences, {card.words:,} words; hash {judge.hash[:12]}; written to {output}")


@app.command("split")
def judge_split(
    texts: Texts,
    judge: Annotated[Path, typer.Option(help="The file for the judge's sentences.")],
    model: Annotated[Path, typer.Option(help="The file for the models' sentences.")],
    share: Annotated[float, typer.Option(min=0, max=1, help="The judge's share of the sentences.")] = 0.3,
) -> None:
    """Split text into a judge's part and a model's part.

    A hash of a sentence's words chooses its side.

    The same sentence is always on the same side, whatever its capitals and its file.

    Example: smim judge split tatoeba.txt --judge judge.txt --model model.txt
    """
    from smim import storage
    from smim.evaluation.judge import for_judge
    from smim.search.sentences import read_sentences

    sentences = read_sentences(texts, columns=None).texts
    chosen = for_judge(sentences, share)
    for path, side in ((judge, True), (model, False)):
        own = [text for text, of_judge in zip(sentences, chosen, strict=True) if of_judge == side]
        storage.write_text(path, "".join(f"{text}\n" for text in own))
        print(f"{len(own):,} sentences in {path}")
