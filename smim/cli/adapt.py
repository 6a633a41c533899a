"""`smim adapt`: adapt a model to your own texts, and compare the searches in them."""

from pathlib import Path
from typing import Annotated

import typer

import smim
from smim.cli.index import Sentences, TextColumn
from smim.cli.shared import Model, Seed
from smim.errors import UserError, refuse_if


def adapt(
    model: Model,
    files: Sentences,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new model's directory, such as models/reviews.")],
    text_column: TextColumn = "text",
    minutes: Annotated[float, typer.Option(help="The time limit; it may end earlier.")] = 8.0,
    seed: Seed = 0,
    force: Annotated[bool, typer.Option("--force", help="Replace an existing model.")] = False,
) -> None:
    """Adapt a model to your own texts, in minutes.

    For small collections of texts of several sentences, such as reviews. The model learns which sentences belong
    together, and to write them. A tenth of the texts is held out. With these, the command compares searches at the end:
    by keywords, by the codes of the old and of the new model, and by keywords and codes together.

    Example: smim adapt english-small reviews.csv --text-column review -o models/reviews
    """
    refuse_if({f"{output} exists; replace it with --force, or give another --output": output.exists() and not force})
    try:
        from smim.evaluation.halves import compare, share_that_comes_back
    except ModuleNotFoundError as error:
        raise UserError(f"smim adapt needs {error.name}; install it with `pip install 'smim[pipeline]'`") from None
    from smim.adapting import adapt as adapt_model
    from smim.progress import console
    from smim.search.sentences import Columns, read_sentences
    from smim.text.sentences import sentences_of

    texts = read_sentences(files, columns=Columns(text_column, labels=()), empty="skip").texts
    adapted = adapt_model(model, texts, output, minutes=minutes, seed=seed)
    print(f"{output}: {model}, adapted to {len(texts) - len(adapted.held_out):,} texts")
    models = {str(output): smim.load(output), str(model): smim.load(model)}
    with console.status("comparing it with the original model"):
        sentences = [each for text in adapted.held_out for each in sentences_of(text)]
        after, before = (share_that_comes_back(each, sentences) for each in models.values())
        print(
            f"Of held-out sentences, {after:.1%} come back word for word from their codes; before it was {before:.1%}"
        )
        for line in compare(adapted.held_out, models).lines():
            print(line)
    print(f"Next: smim index build {output} {files[0]} --text-column {text_column} -o indexes/{output.name}")
