"""Make the packaged model `smim/pretrained/english-small`, whose codes represent the meaning of a sentence.

    python launch/english_small.py --teacher MODEL --tatoeba FILE --wikitext PATH... --wordnet FOLDER \\
        --without FILE... --sets PATH... --judge DIR --heldout FILE... --ship

The model is a superposition (smim/model/superposition.py), a holographic bag of words with positions. Its meaning part
learns from a teacher (docs/meaning.md). The script prepares, teaches, trains and evaluates; after an interruption it
continues. `MODEL` is a sentence-transformers model, a directory or a name on the hub. Training uses no sentence of the
files `--without`, such as those of `--sets`. `--sets` are the evaluation sets of `eval=codes`. `--judge` and
`--heldout` are the language model and the sentences of `eval=generativity`; if they are given, `--tatoeba` must be the
file that `smim judge split` made for models (docs/evaluation.md).

Without `--ship`, the script evaluates the dev sets. With it, it evaluates the test sets, once, and replaces the
packaged model: weights in fp16, and a card with these figures. It passes on settings such as `train.max_steps=9000`.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from eval.compare import read_report
from smim import storage
from smim.fitted_prior import fit_prior
from smim.model.directory import PRETRAINED, load_model, save_model
from smim.teaching import teach
from smim.text.corpus import Corpus

NAME = "english-small"
CORPUS, TEACHER, RUN = Path("data/english"), Path("data/english-teacher"), Path("runs/english_small")
# The number of distinct sentences of the corpus that the teacher reads.
_TAUGHT = 150_000
# Exclude the other forms of sentences in the corpus: tokenised, or without the final punctuation mark.
_WRITTEN = {"form": "written"}
_DEFAULT_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"
_KINDS = {
    "meaning": "from a sentence's meaning alone",
    "near": "near one",
    "between": "midway between two sentences",
    "drawn": "drawn from the prior",
}
# Sample everyday sentences, which the model writes best.
_DRAWN_AROUND = {"source": "tatoeba", "form": "written"}
_COLUMNS = ("nats_above_real", "cosine_to_source", "length_ratio", "copied", "distinct_2_ratio")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=_DEFAULT_TEACHER, help=f"by default {_DEFAULT_TEACHER}")
    parser.add_argument("--tatoeba", help="a file of its sentences; default: download an archive")
    parser.add_argument("--wikitext", nargs="*", help="folders and files of WikiText; default: WikiText-2 from the hub")
    parser.add_argument("--wordnet", help="the folder of WordNet's data files; default: Debian's")
    parser.add_argument("--without", nargs="*", help="files of sentences to exclude from training")
    parser.add_argument("--sets", nargs="*", help="evaluation sets of meaning, files or folders; default: none")
    parser.add_argument("--judge", help="a language model of `smim judge make`; default: no judging")
    parser.add_argument("--heldout", nargs="*", default=[], help="files of held-out sentences for --judge")
    parser.add_argument("--ship", action="store_true", help="evaluate the test sets, and replace the packaged model")
    args, settings = parser.parse_known_args()
    if args.ship and not (args.sets and args.judge):
        parser.error("--ship needs --sets and --judge, because the model card contains their metrics; give both")
    paths = {
        "corpus.parts.tatoeba.path": args.tatoeba,
        "corpus.parts.wikitext.path": args.wikitext and _listed(args.wikitext),
        "corpus.parts.wordnet.path": args.wordnet,
        "corpus.without": args.without and _listed(args.without),
    }
    if not (CORPUS / "corpus.json").exists():
        given = [f"{key}={value}" for key, value in paths.items() if value]
        run("data_prep/build.py", "corpus=english", f"output={CORPUS}", *given)
    teach(CORPUS, teacher=args.teacher, output=TEACHER, sentences=_TAUGHT, where=_WRITTEN)
    data = [f"corpus.dir={CORPUS}", f"corpus.teacher={TEACHER}", f"run.dir={RUN}", "train.resume=auto"]
    run("smim/train.py", "experiment=english_small", *data, *settings)
    model = RUN / "model_with_prior"
    if not model.exists():
        fit_prior(RUN / "model", Corpus.open(CORPUS), model, where=_DRAWN_AROUND)
    split = "test" if args.ship else "dev"
    reports = {"codes": RUN / f"report_codes_{split}", "generativity": RUN / "report_generativity"}
    more = {
        "codes": [f"sets={_listed(args.sets or [])}", f"split={split}", f"models=[{args.teacher}]"],
        "generativity": [f"judge={args.judge}", f"teacher={args.teacher}", f"files={_listed(args.heldout)}"],
    }
    wanted = {"codes": args.sets, "generativity": args.judge}
    for group in [name for name, given in wanted.items() if given and not reports[name].exists()]:
        section = {"codes": "semantics"}.get(group, group)
        given = [f"eval.{section}.{setting}" for setting in more[group]]
        run(
            "eval/run.py",
            f"eval={group}",
            f"model.dir={model}",
            f"corpus.dir={CORPUS}",
            *given,
            f"output={reports[group]}",
        )
    if args.ship:
        ship(model, PRETRAINED / NAME, *(read_report(report) for report in reports.values()))


def _listed(paths: Iterable[str]) -> str:
    return f"[{','.join(paths)}]"


def ship(model_dir: Path, output: Path, codes: dict[str, Any], generativity: dict[str, Any]) -> None:
    """Write the packaged model from a trained and evaluated one: fp16 weights, and its card."""
    model, tokenizer, config = load_model(model_dir)
    save_model(output, model, tokenizer, training=config["training"], use=config.get("use"), half=True)
    numbers = {
        "parameters": f"{model.num_parameters / 1e6:.1f}M",
        "vocabulary": f"{tokenizer.vocabulary_size:,}",
        "latent": model.args.latent_dim,
        "meaning": model.meaning_dim,
        "steps": f"{config['training']['step']:,}",
    }
    storage.write_text(
        output / "README.md", _CARD.format(**numbers, codes=of_codes(codes), written=of_written(generativity))
    )


def of_codes(report: dict[str, Any]) -> str:
    """Make a Markdown table of the metrics of `eval=codes`: for codes, their meaning part, TF-IDF and the teacher."""
    metrics = report["metrics"]
    ways = list(dict.fromkeys(name.rpartition("/")[2] for name in metrics if "_by:" in name))
    teachers = [way for way in ways if not way.startswith(("code", "meaning", "TF-IDF", "BM25", "random"))]
    shown = ["meaning", "TF-IDF", *teachers]
    rows = [_row(["", "code", "its meaning part", "TF-IDF", *teachers]), _row(["---"] * (2 + len(shown)))]
    for name, metric in metrics.items():
        kind, _, label = name.partition(":")
        if label and not kind.endswith("_by"):
            beside = [metrics.get(f"{kind}_by:{label}/{way}") for way in shown]
            rows.append(_row([f"`{name}`", _value(metric), *(_value(each) if each else "" for each in beside)]))
    return "\n".join(rows)


def of_written(report: dict[str, Any]) -> str:
    """Make a Markdown table of the metrics of `eval=generativity`, with one row per kind of sentences."""
    metrics = report["metrics"]
    rows = [_row(["", *(f"`{name}`" for name in _COLUMNS)]), _row(["---"] * (1 + len(_COLUMNS)))]
    for kind, words in _KINDS.items():
        found = [metrics.get(f"{name}:{kind}") for name in _COLUMNS]
        rows.append(_row([words, *(_value(each) if each else "" for each in found)]))
    return "\n".join(rows)


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _value(metric: dict[str, Any]) -> str:
    return f"{metric['value']:.3f}"


_CARD = """---
language: en
license: cc-by-sa-4.0
---
# english-small

This model gives each English sentence a code of {latent} numbers. Sentences with similar meanings have near codes,
and a code can be decoded back into its sentence.

```python
import smim

model = smim.load("english-small")
codes = model.encode(["The food was cold and the waiter was rude."])
print(model.decode(codes))  # the sentence itself
print(model.decode(codes, literal=0))  # another one that means the same
```

- **English only.** The model has read no other language, so the codes of other languages have little meaning. It is
  a small model. It does not know what a sentence implies, and the word "not" changes a code only a little.
- **What it is.** A superposition: a holographic bag of words with positions. {meaning} numbers of a code say what
  the sentence means. They come from a lookup table of words and an attention layer, which learned from a teacher.
  The other numbers say which words the sentence has, and where.
- **Size.** {parameters} parameters, stored in fp16.
- **Tokenizer.** {vocabulary} SentencePiece pieces, with a piece for each byte. So every text can be encoded, and
  can come back as it was written.
- **Training.** {steps} steps of A-MIM with a second view (docs/objectives.md).
- **Compare codes by cosine**, as `smim` does by default. The meaning part alone has a quarter of the size
  (`--part meaning`). The section `use` of `config.json` holds the other defaults for this model.
- **Samples** (`model.sample()`) are drawn around the codes of 500 sentences of Tatoeba (`smim fit-prior`).
- **Teacher.** [all-MiniLM-L6-v2](https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2), Apache-2.0.
- **Training text.** Sentences of Tatoeba (CC BY 2.0 FR, tatoeba.org); of the English Wikipedia, from WikiText
  (Merity et al. 2016; CC BY-SA); and WordNet's definitions and examples (Copyright 2006 by Princeton University,
  WordNet 3.0 license). It contains no sentence of STS-B, SICK and MRPC, but most of Tatoeba's paraphrases below.
- **License.** These weights are under CC BY-SA 4.0.
- **How it was made.** `python launch/english_small.py --ship ...`

The next table shows test sets, each evaluated once. Its metrics are Spearman's correlation, average precision,
accuracy, and the share of sentences that come back word for word. docs/evaluation.md defines each of them.

{codes}

The next table shows what the model writes. The inputs are sentences of Tatoeba and STS-B that it never saw. The
columns are the nats per word above those of real text, the teacher's cosine to the source, and the length relative
to the source. Then follow the share copied from the training text, and the distinct pairs of words relative to real
text.

{written}
"""


def run(*arguments: str) -> None:
    print(f"$ python {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()
