"""Trains a model whose codes mean what a sentence means and come back word for word, on plain English with a teacher.

    python launch/english_small.py --teacher MODEL --tatoeba FILE --wikitext PATH... --wordnet FOLDER --without FILE...

Prepares, teaches, trains and evaluates as `make demo` does, and goes on where it was ended. `MODEL` is one of
sentence-transformers, a directory or a name of the hub. No sentence of the files `--without`, such as those of
`--sets`, is learned from. `--sets` is the folder of the sets of meaning that `eval=codes` reads. Where a judge is to
read what the model writes (docs/evaluation.md), `--tatoeba` is the file that `smim judge split` made for models.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

from smim.teaching import teach

CORPUS, TEACHER, RUN = Path("data/english"), Path("data/english-teacher"), Path("runs/english_small")
# Distinct sentences of the corpus that the teacher reads.
_TAUGHT = 150_000
_DEFAULT_TEACHER = "sentence-transformers/all-MiniLM-L6-v2"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", default=_DEFAULT_TEACHER, help=f"by default {_DEFAULT_TEACHER}")
    parser.add_argument("--tatoeba", help="its sentences; else an archive is downloaded")
    parser.add_argument("--wikitext", nargs="*", help="folders and files of WikiText; else WikiText-2 of the hub")
    parser.add_argument("--wordnet", help="the folder of WordNet's data files; else where Debian installs them")
    parser.add_argument("--without", nargs="*", help="files of sentences that are not to be learned from")
    parser.add_argument("--sets", help="the folder of the sets of meaning; else they are not evaluated")
    args, settings = parser.parse_known_args()
    paths = {
        "corpus.parts.tatoeba.path": args.tatoeba,
        "corpus.parts.wikitext.path": args.wikitext and f"[{','.join(args.wikitext)}]",
        "corpus.parts.wordnet.path": args.wordnet,
        "corpus.without": args.without and f"[{','.join(args.without)}]",
    }
    if not (CORPUS / "corpus.json").exists():
        given = [f"{key}={value}" for key, value in paths.items() if value]
        run("data_prep/build.py", "corpus=english", f"output={CORPUS}", *given)
    teach(CORPUS, teacher=args.teacher, output=TEACHER, sentences=_TAUGHT)
    data = [f"corpus.dir={CORPUS}", f"corpus.teacher={TEACHER}", f"run.dir={RUN}", "train.resume=auto"]
    run("smim/train.py", "experiment=english_small", *data, *settings)
    if args.sets:
        sets = ["eval=codes", f"eval.semantics.sets={args.sets}", f"output={RUN}/codes"]
        run("eval/run.py", f"model.dir={RUN}/model", f"corpus.dir={CORPUS}", *sets)


def run(*arguments: str) -> None:
    print(f"$ python {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main()
