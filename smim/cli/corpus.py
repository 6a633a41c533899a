"""`smim corpus ...`: inspect prepared corpora."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import smim
from smim.cli.shared import show

if TYPE_CHECKING:
    from smim.text.corpus import Corpus
    from smim.vectors.corpus import VectorCorpus

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Inspect prepared corpora.")

_SAMPLE_SENTENCES = 3
_SHOWN_TOKENS = 20
_SHOWN_NUMBERS = 8
_MOST_LABELS = 20
_COUNTED_TOKENS = 10_000_000


@app.command("show")
def corpusshow(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A prepared corpus, such as data/ptb.")],
) -> None:
    """Show what a prepared corpus holds.

    For sentences: its source, splits, first sentences and most frequent words. For vectors: its source, splits and
    numbers.

    Example: smim corpus show data/ptb
    """
    from smim.corpora import open_corpus

    corpus: Any = open_corpus(directory)
    (_show_sentences if corpus.unit == "sentence" else _show_vectors)(corpus)


@app.command("table")
def corpus_table(
    directories: Annotated[list[Path], typer.Argument(metavar="DIR...", help="Prepared corpora.")],
) -> None:
    """Compare corpora with Table 7.1 of the thesis.

    Each cell shows our value | the thesis's value.

    Example: smim corpus table data/ptb data/wt103
    """
    from smim.text.corpus import Corpus

    published = json.loads((Path(smim.__file__).parent / "text" / "table_7_1.json").read_text(encoding="utf-8"))
    rows = []
    for directory in directories:
        card = Corpus.open(directory).card
        theirs = [str(value) for value in published.get(card["name"], ["-"] * 6)]
        splits = [str(card["splits"].get(name, {}).get("sentences", "-")) for name in ("train", "valid", "test")]
        mean, std = (card["splits"].get("train", {}).get(f"length_{name}", math.nan) for name in ("mean", "std"))
        ours = [*splits, str(card["vocabulary_size"]), f"{mean:.1f} ± {std:.1f}"]
        thesis = [*theirs[:4], f"{theirs[4]} ± {theirs[5]}"]
        rows.append([card["name"], *[f"{our} | {their}" for our, their in zip(ours, thesis, strict=True)]])
    show(rows, header=["corpus", "train", "valid", "test", "vocabulary", "tokens a sentence (train)"])


def _show_sentences(corpus: "Corpus") -> None:
    from smim.text.corpus import HISTOGRAM

    card = corpus.card
    facts: dict[str, Any] = {
        "name": corpus.name,
        **card["source"],
        "vocabulary": f"{card['vocabulary_size']:,}",
        "tokenizer": _brief(card.get("tokenizer", "")),
        **({"pairs": f"column {card['pair_column']}"} if "pair_column" in card else {}),
        "lengths": corpus.directory / HISTOGRAM,
        **{f"left out: {name}": f"{count:,}" for name, count in card.get("left_out", {}).items()},
    }
    splits = [corpus.split(name) for name in card["splits"]]
    for label in dict.fromkeys(label for split in splits for label in split.label_columns):
        missing = sum(split.table.column(label).null_count for split in splits if label in split.label_columns)
        facts[f"label {label}"] = f"{missing:,} sentences have no value"
    show([[name, _brief(fact)] for name, fact in facts.items()] + [["note", note] for note in card.get("notes", [])])
    columns = [
        "sentences",
        "tokens",
        "length_mean",
        "length_std",
        "length_min",
        "length_max",
        "unknown_tokens",
        "also_in_train",
    ]
    described = [[name, *[str(split.get(column, "")) for column in columns]] for name, split in card["splits"].items()]
    show([["split", *columns], *described])
    samples = []
    for name in card["splits"]:
        split = corpus.split(name)
        samples += [[name, text] for text in split.texts(range(min(_SAMPLE_SENTENCES, len(split))))]
    show(samples)
    show([["token", "count"], *_most_frequent(corpus)])


def _show_vectors(corpus: "VectorCorpus") -> None:
    """Show its source and shape, the vectors per split and label, and the first vectors or the mean pixel."""
    card = corpus.card
    facts = {"name": corpus.name, **card["source"], "dimension": corpus.input_size}
    if corpus.shape:
        facts |= {"shape": " x ".join(map(str, corpus.shape)), "binarisation": card.get("binarisation", "none")}
    facts |= {"principal components": card["pca"]} if "pca" in card else {}
    facts |= {f"left out: {name}": f"{count:,}" for name, count in card.get("left_out", {}).items()}
    show([[name, _brief(fact)] for name, fact in facts.items()])
    splits = {name: corpus.split(name) for name in card["splits"]}
    for label in splits["train"].label_columns:
        counts = {name: Counter(split.labels(label)) for name, split in splits.items()}
        values = sorted(set().union(*counts.values()), key=str)
        if len(values) <= _MOST_LABELS:
            heads = [f"{label} {value}" for value in values]
            cells = {name: [str(counts[name][value]) for value in values] for name in splits}
        else:
            heads, cells = [f"values of {label}"], {name: [f"{len(counts[name]):,}"] for name in splits}
        show([["split", "vectors", *heads], *[[name, str(len(splits[name])), *cells[name]] for name in splits]])
    if corpus.shape:
        means = [[name, f"{split.vectors.mean():.3f}"] for name, split in splits.items()]
        show([["split", "mean of the pixels"], *means])
        return
    samples = [[name, vector] for name, split in splits.items() for vector in split.vectors[:_SAMPLE_SENTENCES]]
    show([[name, " ".join(f"{number:.3f}" for number in vector[:_SHOWN_NUMBERS])] for name, vector in samples])


def _most_frequent(corpus: Any) -> list[list[str]]:
    """The most frequent tokens in train; stops reading once the counts are large enough."""
    import numpy as np

    counts = np.zeros(corpus.tokenizer.vocabulary_size, np.int64)
    split = corpus.split("train")
    for number in range(len(split.chunks)):
        offsets, tokens = split.chunk_ids(number)
        counts += np.bincount(tokens[offsets[0] : offsets[-1]], minlength=len(counts))
        if counts.sum() > _COUNTED_TOKENS:
            break
    most = [int(i) for i in np.argsort(-counts, kind="stable")[:_SHOWN_TOKENS] if counts[i]]
    return [[corpus.tokenizer.token(i), f"{counts[i]:,}"] for i in most]


def _brief(fact: Any) -> str:
    """A fact of a corpus's card on one line: files by name, without checksums."""
    if isinstance(fact, dict):
        return ", ".join(f"{name} {value}" for name, value in fact.items())
    if isinstance(fact, list):
        return ", ".join(str(item["file"]) if isinstance(item, dict) and "file" in item else str(item) for item in fact)
    return str(fact)
