"""`make demo`: the whole way on an embedded corpus, from sentences to search, in minutes on two CPU cores.

It runs the commands that a user would, and says each one. What is there already is reused.
"""

import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console

import smim
from eval import compare, tables
from smim.evaluation import neighbours, plots
from smim.model.noise import normal
from smim.search import index_texts, open_index
from smim.storage import write_text
from smim.text.corpus import Corpus

DEMO = Path("demo")
CORPUS = DEMO / "corpus"
RUNS = {"sMIM": DEMO / "smim", "sVAE": DEMO / "svae"}
ENGLISH = (
    "My soup was lukewarm and our server was impolite.",
    "The food was good and the service was great.",
    "The weather was cold and the journey was long.",
    "The waiter brought us a second bottle of wine.",
    "A dog is running across a field of snow.",
    "A puppy plays in the snow.",
    "The bank raised its interest rates on Friday.",
    "The company said its profit rose last year.",
    "He could not sleep because of the noise.",
    "She is learning to play the violin.",
)
QUESTIONS = ("It was freezing and the trip took hours.", "She practises a musical instrument.")
LAUNCH = "accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no"

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    started = time.monotonic()
    if not (CORPUS / "corpus.json").exists():
        heading("1. Prepare a corpus: sentences of a seeded grammar, with topics, paraphrases and questions")
        run(f"python data_prep/build.py corpus=demo output={CORPUS}")
    heading("2. Train sMIM, then sVAE: the same model, two objectives")
    for name, run_dir in RUNS.items():
        experiment = f"experiment=demo_{name.lower()}"
        run(f"{LAUNCH} smim/train.py {experiment} corpus.dir={CORPUS} run.dir={run_dir} train.resume=auto")
    heading("3. Evaluate both on sentences that training never saw")
    for run_dir in RUNS.values():
        run(f"{LAUNCH} eval/run.py model.dir={run_dir}/model corpus.dir={CORPUS} output={run_dir}/report")
    reports = [compare.read_report(run_dir / "report") for run_dir in RUNS.values()]
    write_text(DEMO / "comparison.md", compare.as_markdown(reports) + "\n")
    heading("4. What the method is for")
    print(tables.language_modelling(reports))
    console.print(
        "\nThe two differ in the objective alone. sVAE's code has collapsed: it says next to nothing of the "
        "sentence,\nand a reconstruction is just some sentence. sMIM's code holds it."
        if [report["metrics"]["collapsed"]["value"] for report in reports] == [0, 1]
        else "\nIn this run the collapse of sVAE did not show as it usually does."
    )
    search_and_decode()
    search_english()
    minutes = (time.monotonic() - started) / 60
    heading(f"Done in {minutes:.1f} minutes")
    console.print(
        f"pictures  {DEMO}/learning_curves.png, {DEMO}/latent_maps.png\n"
        f"reports   {RUNS['sMIM']}/report/report.html, {RUNS['sVAE']}/report/report.html, {DEMO}/comparison.md\n"
        f"search    .venv/bin/smim search {DEMO}/english 'A cat is playing outside.'\n"
        f"your data README.md, 'Your own text'; Penn Treebank: docs/ptb.md"
    )


def search_and_decode() -> None:
    """Indexes the test sentences by code, searches them, and decodes codes between two of them."""
    test = Corpus.open(CORPUS).split("test")
    models = {name: smim.load(run_dir / "model") for name, run_dir in RUNS.items()}
    model = models["sMIM"]
    heading("5. Index the codes of the test sentences, and search")
    run(f"smim index build {RUNS['sMIM']}/model {CORPUS} --split test -o {DEMO}/index --force")
    index = open_index(DEMO / "index", model=model)
    families = test.labels("family")
    statements = [i for i, kind in enumerate(test.labels("kind")) if kind == "statement"]
    queries = [test.texts([statements[i]])[0] for i in np.linspace(0, len(statements) - 1, 5).astype(int)[1:4]]
    for query, hits in zip(queries, index.search(queries, k=4), strict=True):
        console.print(f"\n  query     {query}", markup=False)
        for hit in hits:
            if hit.text != query:
                console.print(f"  {hit.distance:8.3f}  {hit.text}", markup=False)
    texts = test.texts()
    relatives = {
        "sMIM's code": neighbours.nearest_by_code(model.encode(texts)),
        "sVAE's code": neighbours.nearest_by_code(models["sVAE"].encode(texts)),
        "BM25 (shared words)": neighbours.nearest_by_bm25(texts),
    }
    console.print("\nThe nearest of the other test sentences is a paraphrase (or the same fact asked otherwise):")
    for name, found in relatives.items():
        console.print(f"  {neighbours.share_of_same_label(found, families):6.1%}  {name}")
    console.print(f"  {neighbours.share_by_chance(families):6.1%}  random choice")

    heading("6. Decode: what search libraries cannot do")
    first, second = queries[0], queries[2]
    console.print(f"  sentence        {first}", markup=False)
    for name, each in models.items():
        console.print(f"  {name} rebuilds   {each.reconstruct([first])[0]}", markup=False)
    console.print("\n  interpolation between two codes")
    for text in [first, *model.interpolate(first, second, steps=6), second]:
        console.print(f"    {text}", markup=False)
    plots.learning_curves(RUNS, DEMO / "learning_curves.png")
    # Draws of z, not means: what a collapsed code says of its sentence is drowned in its own variance.
    codes = {
        name: each.draw(each.posterior(texts), normal(0, range(len(texts)), 0, each.latent_dim)).numpy()
        for name, each in models.items()
    }
    topics = np.array(test.labels("topic"))
    maps = {name: (plots.tsne(vectors, seed=0), topics) for name, vectors in codes.items()}
    plots.latent_maps(maps, DEMO / "latent_maps.png")


def search_english() -> None:
    """What the packaged model of English does with a few sentences: searches by meaning, and decodes what it found."""
    heading("7. English: a model that comes with the package, whose codes say what a sentence means")
    model = smim.load("english-small")
    folder = DEMO / "english"
    shutil.rmtree(folder, ignore_errors=True)
    index = index_texts(model, ENGLISH, folder, model_dir="english-small")
    for query, hits in zip(QUESTIONS, index.search(list(QUESTIONS), k=2, reconstruct=True), strict=True):
        console.print(f"\n  query     {query}", markup=False)
        for hit in hits:
            console.print(f"  {1 - hit.distance:8.3f}  {hit.text}", markup=False)
            console.print(f"            decoded from its code: {hit.reconstruction}", markup=False)
    console.print("\n  between two sentences, from their meaning alone")
    for text in model.interpolate(ENGLISH[4], ENGLISH[7], steps=5):
        console.print(f"    {text}", markup=False)


def heading(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]\n")


def run(command: str) -> None:
    """Prints and runs a command of this environment; a failure ends the demo with its message."""
    console.print(f"$ {command}", style="bold")
    program, *arguments = shlex.split(command)
    executable = shutil.which(program, path=str(Path(sys.executable).parent)) or program
    finished = subprocess.run([executable, *arguments])
    if finished.returncode:
        sys.exit(f"the demo stopped: `{command}` ended with status {finished.returncode}")


if __name__ == "__main__":
    main()
