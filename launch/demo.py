"""`make demo`: all steps from sentences to search on an embedded corpus, in minutes on two CPU cores.

It runs the commands that a user would run, and explains each. Finished steps are left out.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from smim.waiting import starting

    starting("starting the demo")

import json
import math
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from omegaconf import OmegaConf
from rich.console import Console
from rich.panel import Panel
from rich.table import Table

import smim
from eval import compare
from launch.beside import Job, run_beside
from launch.sentences import QUERIES, SENTENCES
from smim.evaluation import neighbours, plots
from smim.generation import SentenceModel
from smim.model.noise import normal
from smim.search import index_texts, open_index
from smim.storage import read_json, write_text
from smim.text.corpus import Corpus, Split
from smim.waiting import doing

DEMO = Path("demo")
CORPUS = DEMO / "corpus"
RUNS = {"sMIM": DEMO / "smim", "sVAE": DEMO / "svae"}
SHOWN_QUERIES = 5

console = Console(highlight=False, soft_wrap=True)


def main() -> None:
    started = time.monotonic()
    doing("")
    say(
        "sMIM turns a sentence into a code, a short list of numbers, and a code back into a sentence. Similar "
        "sentences get codes that are near each other. So you can search for a sentence, and also write new ones."
    )
    heading("1. Sentences to learn from: 25,000, written by a small grammar")
    if (CORPUS / "corpus.json").exists():
        console.print(f"{CORPUS} exists already")
    else:
        run(f"python data_prep/build.py corpus=demo output={CORPUS} prep.workers=1")
    train()
    rebuilt = evaluate()
    search_and_decode()
    english = search_english()
    minutes = (time.monotonic() - started) / 60
    heading(f"Done in {minutes:.1f} minutes")
    console.print(summary(rebuilt, english, minutes))
    console.print(
        f"pictures  {DEMO}/learning_curves.png, {DEMO}/latent_maps.png\n"
        f"reports   {RUNS['sMIM']}/report/report.html, {RUNS['sVAE']}/report/report.html, {DEMO}/comparison.md\n"
        f"search    .venv/bin/smim search {DEMO}/english 'A cat is playing outside.'\n"
        f"your data docs/own_text.md; Penn Treebank: docs/ptb.md"
    )


def train() -> None:
    """Train both models in parallel, unless they are trained already."""
    heading("2. Train two models in parallel")
    say(
        "Both have the same parts: an encoder that reads a sentence into a code of 32 numbers, and a decoder that "
        "writes a sentence from a code. They differ only in their training objective. sVAE is the usual variational "
        "autoencoder, and sMIM is the model of this project.\n"
    )
    jobs = []
    for name, run_dir in RUNS.items():
        if status(run_dir) == "finished":
            console.print(f"{run_dir} is trained already")
            continue
        experiment = f"experiment=demo_{name.lower()}"
        command = f"smim train {experiment} corpus.dir={CORPUS} run.dir={run_dir} train.resume=auto"
        log = run_dir.with_name(f"{run_dir.name}-training.log")
        jobs.append(job(name, command, log, partial(trained, run_dir)))
    run_beside(jobs)


def evaluate() -> list[float]:
    """Measure both models on the test sentences, explain the result, and return the BLEU-1 of each."""
    heading("3. Test both on 2,240 sentences that they have not seen")
    say("Each sentence is encoded, and its code is decoded again. The test counts the words that come back.\n")
    jobs = []
    for name, run_dir in RUNS.items():
        report, model = run_dir / "report" / "report.json", run_dir / "model" / "config.json"
        if report.exists() and report.stat().st_mtime > model.stat().st_mtime:
            console.print(f"{run_dir}/report exists already")
            continue
        command = f"python eval/run.py model.dir={run_dir}/model corpus.dir={CORPUS} output={run_dir}/report"
        log = run_dir.with_name(f"{run_dir.name}-evaluation.log")
        jobs.append(job(name, command, log, partial(evaluated, run_dir)))
    run_beside(jobs)
    reports = [compare.read_report(run_dir / "report") for run_dir in RUNS.values()]
    write_text(DEMO / "comparison.md", compare.as_markdown(reports) + "\n")
    found = [{name: each["value"] for name, each in report["metrics"].items()} for report in reports]
    table = Table("", *RUNS, box=None, pad_edge=False)
    for title, cell in (
        ("words that come back (BLEU-1 of greedy decoding)", lambda of: f"{of['bleu1_greedy']:.0%}"),
        (
            "-log p of a sentence, given its code (nats, lower is better)",
            lambda of: f"{of['reconstruction']:.1f}",
        ),
        ("dimensions that the code uses, of 32", lambda of: f"{of['active_units_relative']:.0f}"),
    ):
        table.add_row(title, *map(cell, found))
    console.print(table)
    say(
        "\nsVAE's code has collapsed: it contains almost no information about its sentence, and the decoder writes an "
        "arbitrary sentence. sMIM's code represents its sentence. The two differ only in their training objective."
        if [of["collapsed"] for of in found] == [0, 1]
        else "\nIn this run, sVAE did not collapse as it usually does."
    )
    return [of["bleu1_greedy"] for of in found]


def search_and_decode() -> None:
    """Index the test sentences, search them, and decode codes between two of them."""
    test = Corpus.open(CORPUS).split("test")
    heading("4. Search: the sentences whose codes are nearest")
    run(f"smim index build {RUNS['sMIM']}/model {CORPUS} --split test -o {DEMO}/index --force")
    doing("loading the models")
    models = {name: smim.load(run_dir / "model") for name, run_dir in RUNS.items()}
    model = models["sMIM"]
    index = open_index(DEMO / "index", model=model)
    statements = [i for i, kind in enumerate(test.labels("kind")) if kind == "statement"]
    queries = [test.texts([statements[i]])[0] for i in np.linspace(0, len(statements) - 1, 5).astype(int)[1:4]]
    for query, hits in zip(queries, index.search(queries, k=4), strict=True):
        console.print(f"\n  query     {query}", markup=False)
        for hit in hits:
            if hit.text != query:
                console.print(f"  {hit.distance:8.3f}  {hit.text}", markup=False)
    doing("comparing with search by keywords")
    texts, families = test.texts(), test.labels("family")
    by_code, by_keywords = neighbours.nearest_by_code(model.encode(texts)), neighbours.nearest_by_bm25(texts)
    code, keywords = (neighbours.share_of_same_label(each, families) for each in (by_code, by_keywords))
    say(
        "\nThe number before a hit is the distance of its code from the query's code. Smaller means more similar. The "
        f"nearest sentence is a paraphrase in {code:.0%} of the cases. A search by keywords finds a paraphrase "
        f"in {keywords:.0%} of the cases, because this grammar keeps most words in a paraphrase. "
        "English does not, as part 6 shows."
    )

    heading("5. Decode codes, which search libraries cannot do")
    first, second = queries[0], queries[2]
    console.print(f"  sentence        {first}", markup=False)
    for name, each in models.items():
        console.print(f"  {name} rebuilds   {each.reconstruct([first])[0]}", markup=False)
    console.print("\n  Codes between those of two sentences decode to other sentences:")
    for text in [first, *model.interpolate(first, second, steps=6), second]:
        console.print(f"    {text}", markup=False)
    draw(models, test)


def draw(models: dict[str, SentenceModel], test: Split) -> None:
    """Plot the learning curves, and maps of both models' codes."""
    doing("drawing the learning curves")
    plots.learning_curves(RUNS, DEMO / "learning_curves.png")
    texts, topics, maps = test.texts(), np.array(test.labels("topic")), {}
    for name, model in models.items():
        doing(f"drawing a map of {name}'s codes")
        # Plot samples of z, not means, because the variance of a collapsed code hides the information in its mean.
        codes = model.draw(model.posterior(texts), normal(0, range(len(texts)), 0, model.latent_dim)).numpy()
        maps[name] = plots.tsne(codes, seed=0), topics
    plots.latent_maps(maps, DEMO / "latent_maps.png")


def search_english() -> list[int]:
    """Search everyday sentences by meaning with the packaged English model, and decode their codes.

    Return the queries answered by meaning and by keywords, and the sentences that come back.
    """
    heading("6. English: a model that comes with the package, whose codes represent meaning")
    doing("encoding the sentences")
    model = smim.load("english-small")
    folder = DEMO / "english"
    shutil.rmtree(folder, ignore_errors=True)
    index = index_texts(model, SENTENCES, folder, model_dir="english-small")
    by_meaning, by_keywords = (index.search(list(QUERIES), k=1, mode=mode) for mode in ("dense", "sparse"))
    say(
        f"There are {len(SENTENCES)} everyday sentences, and {len(QUERIES)} queries that each paraphrase one of them. "
        "Search by keywords (BM25, as in most search engines) looks for the query's words. Search by "
        "meaning compares codes."
    )
    found = list(zip(QUERIES, by_meaning, by_keywords, strict=True))
    for query, *hits in found[:SHOWN_QUERIES]:
        console.print(f"\n  query     {query}", markup=False)
        for name, of_query in zip(("meaning", "keywords"), hits, strict=True):
            console.print(f"  {name:9} {of_query[0].text if of_query else '(nothing)'}", markup=False)
    meaning, keywords = (
        sum(bool(hits) and hits[0].text == QUERIES[query] for query, hits in zip(QUERIES, each, strict=True))
        for each in (by_meaning, by_keywords)
    )
    say(
        f"\nSearch by meaning finds the right sentence first in {meaning} of the {len(QUERIES)} queries, and search by "
        f"keywords in {keywords}. If a name or an exact word matters, keywords are good. `smim search --hybrid` "
        "uses both."
    )
    back = sum(a == b for a, b in zip(SENTENCES, model.reconstruct(SENTENCES), strict=True))
    say(f"Decoded from their codes, {back} of the {len(SENTENCES)} sentences come back word for word.")
    return [meaning, keywords, back]


def summary(rebuilt: list[float], english: list[int], minutes: float) -> Panel:
    """Make a panel with all results of the demo."""
    table = Table(box=None, show_header=False, padding=(0, 2))
    (ours, usual), (meaning, keywords, back) = rebuilt, english
    for what, first, second in (
        ("words that come back", f"sMIM {ours:.0%}", f"sVAE {usual:.0%}"),
        ("queries in other words", f"by meaning {meaning}/{len(QUERIES)}", f"by keywords {keywords}"),
        ("sentences back word for word", f"{back}/{len(SENTENCES)}", ""),
        ("trained, tested, searched", f"{minutes:.1f} minutes", "no GPU needed"),
    ):
        table.add_row(what, f"[bold green]{first}[/]", second)
    return Panel.fit(table, title="sMIM: sentences to vectors, and back", border_style="cyan", padding=(1, 1))


def status(run_dir: Path) -> str | None:
    """A training's status: running, finished, interrupted or failed; None before its first step."""
    path = run_dir / "status.json"
    return read_json(path)["status"] if path.exists() else None


def trained(run_dir: Path) -> tuple[float, float | None, str]:
    """The steps so far, the most steps, and the state of the training."""
    config, log = run_dir / "config.yaml", run_dir / "metrics.jsonl"
    lines = log.read_text().splitlines(keepends=True) if log.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith("\n")]
    if not rows or not config.exists():
        return 0, None, "starting"
    last, settings = rows[-1], OmegaConf.load(config).train
    sentences = Corpus.open(CORPUS).card["splits"]["train"]["sentences"]
    steps = settings.max_epochs * math.ceil(sentences / settings.batch_size)
    text = f"epoch {last['epoch']} of {settings.max_epochs}, {last['reconstruction']:.1f} nats from its sentences"
    return last["step"], steps, text


def evaluated(run_dir: Path) -> tuple[float, float | None, str]:
    """The number of finished metric groups; only the job knows the total."""
    done = sorted((run_dir / ".report.work").glob("*.json"), key=lambda path: path.stat().st_mtime)
    names = [path.stem for path in done if path.stem != "identity"]
    return len(names), None, f"done: {', '.join(names)}" if names else "starting"


def job(name: str, command: str, log: Path, progress: Callable[[], tuple[float, float | None, str]]) -> Job:
    """Print a command, and make it a job for `run_beside`."""
    console.print(f"$ {command}", style="bold")
    return Job(name, words(command), log, progress)


def say(text: str) -> None:
    console.print(text, markup=False, soft_wrap=False, width=min(console.width, 100))


def heading(text: str) -> None:
    console.print(f"\n[bold cyan]{text}[/]\n")


def words(command: str) -> list[str]:
    """The words of a command, with its program from this environment."""
    program, *arguments = shlex.split(command)
    return [shutil.which(program, path=str(Path(sys.executable).parent)) or program, *arguments]


def run(command: str) -> None:
    """Print and run a command; a failure ends the demo with its message."""
    console.print(f"$ {command}", style="bold")
    doing("")
    finished = subprocess.run(words(command))
    if finished.returncode:
        sys.exit(f"the demo stopped: `{command}` ended with status {finished.returncode}")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that running jobs are ended too
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues from here")
