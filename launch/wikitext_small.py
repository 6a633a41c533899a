"""Makes the model that comes with the package, `smim/pretrained/wikitext-small`, from WikiText's sentences.

    python launch/wikitext_small.py --path FOLDER_OF_WIKITEXT_2 FILE_OF_WIKITEXT_103   # else WikiText-2 of the hub

Prepares, trains (about an hour and a half on one core) and evaluates as `make demo` does, and goes on where it was
ended. Weights are kept in fp16; the card has the figures of the test sentences.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from eval.compare import read_report
from smim import storage
from smim.model.directory import PRETRAINED, load_model, save_model

NAME = "wikitext-small"
CORPUS, RUN = Path("data/wikitext"), Path("runs/wikitext_small")
_METRICS = ("nll", "bleu1_greedy", "exact_match_greedy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--path", nargs="*", help="folders and files of WikiText")
    args = parser.parse_args()
    path = [f"corpus.path=[{','.join(args.path)}]"] if args.path else []
    if not (CORPUS / "corpus.json").exists():
        run("data_prep/build.py", "corpus=wikitext", f"output={CORPUS}", *path)
    settings = ["experiment=wikitext_small", f"corpus.dir={CORPUS}", f"run.dir={RUN}", "train.resume=auto"]
    run("-m", "accelerate.commands.launch", "smim/train.py", *settings)
    if not (RUN / "report").exists():
        run("-m", "accelerate.commands.launch", "eval/run.py", f"model.dir={RUN}/model", f"corpus.dir={CORPUS}")
    ship(RUN, PRETRAINED / NAME)


def ship(run_dir: Path, output: Path) -> None:
    """Writes the packaged model of a training that was evaluated: fp16 weights, and its card."""
    model, tokenizer, config = load_model(run_dir / "model")
    save_model(output, model, tokenizer, training=config["training"], use=config.get("use"), half=True)
    report = read_report(run_dir / "report")
    storage.write_text(output / "README.md", card(report, model.num_parameters, tokenizer.vocabulary_size))


def card(report: dict, num_parameters: int, vocabulary_size: int) -> str:
    metrics = report["metrics"]
    rows = "\n".join(
        f"| {name} | {metrics[name]['value']:.4g} ± {metrics[name]['standard_error']:.2g} |" for name in _METRICS
    )
    return _CARD.format(
        rows=rows,
        parameters=f"{num_parameters / 1e6:.2f}M",
        vocabulary=f"{vocabulary_size:,}",
        sentences=f"{report['corpus']['sentences']:,}",
    )


_CARD = """# wikitext-small

A sentenceMIM model of English sentences: one code of 512 numbers for a sentence, and back.

```python
import smim

model = smim.load("wikitext-small")
codes = model.encode(["The old bridge was destroyed by a flood in 1910."])
print(model.decode(codes))
```

- **What it is.** A superposition (`smim/model/superposition.py`): a holographic bag of words with positions, a code
  that is the sum of its words' codes, once as they are and once rotated by their places. It was learned by A-MIM:
  {parameters} parameters, in fp16; a vocabulary of {vocabulary} SentencePiece pieces, so that any text can be encoded.
  Letters are as they were.
- **What it learned from.** Sentences of 3 to 60 words of WikiText-2 and of the first 2.7 MB of WikiText-103 (Merity
  et al. 2016): articles of the English Wikipedia, by its authors, under CC BY-SA 3.0. So are these weights. Rare words
  are `<unk>` in that text; what is decoded holds it only with `allow_unknown=True`.
- **What it is for.** A first search, a first reconstruction, a start for your own. It encodes little of what a sentence
  means beyond its words and their contexts: for that, train on text of your own, and more of it.
- **Around sentences, not around zero.** Zero is the code of no words: `smim sample` writes a few words of no meaning.
  Ask for what is near a sentence, `smim perturb wikitext-small "..." --scale 20` to 30, or between two,
  `smim interpolate`.
- **How it was made.** `python launch/wikitext_small.py --path ...`

Of {sentences} sentences that training never saw:

| metric | value |
|---|---|
{rows}

`nll`: nats a sentence, MELBO (docs/evaluation.md); its floor is the logarithm of the number of sentences.
"""


def run(*arguments: str) -> None:
    print(f"$ python {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()
