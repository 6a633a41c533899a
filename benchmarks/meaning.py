r"""Compare what makes codes represent meaning.

    python benchmarks/meaning.py ablation data/english --teacher data/english-teacher --sets SETS --judge DIR \
        --reader MODEL --heldout FILE
    python benchmarks/meaning.py table
    python benchmarks/meaning.py encoder data/english --teacher data/english-teacher --sets SETS --layers 2

`ablation` trains A-MIM, VAE and AE: alone, with cMIM's contrast, and with a teacher's second view. Each is trained as
superposition and as GRU, with two seeds. Trainings without the second view read no teacher, and are the controls. Each
result is saved as `results/meaning/NAME.json`; a training whose file exists is skipped. `table` prints the results as
rows of Markdown: the mean of the seeds, and half of their range.

`encoder` trains the meaning part alone, without a decoder. It is the static sum of words (0 layers), or has layers of
attention over their order. The command prints the agreement with the judged sets, and the speed of encoding.
"""

import itertools
import json
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from benchmarks.common import main
from smim import config
from smim.evaluation.semantic_sets import read_sets
from smim.evaluation.semantics import measure
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.registry import make_args, make_model
from smim.objectives.second_view import SecondView
from smim.text.batch import collate
from smim.text.batches import evaluation_order
from smim.text.corpus import Corpus
from smim.training.meaning import learn_meaning

RUNS, RESULTS = Path("runs/meaning"), Path("results/meaning")
ARCHITECTURES = {
    "superposition": [
        *("experiment=superposition", "model.encoder.meaning.dim=128", "model.encoder.meaning.table_dim=128"),
        *("model.encoder.order_weight=0.25", "train.max_length=80"),
    ],
    "gru": [
        *("model=gru", "train=adamw", "model.latent_dim=512", "model.hidden_dim=256", "model.embedding_dim=128"),
        *("model.tied_output=true", "train.learning_rate=2e-3", "train.warmup_steps=100", "train.max_length=80"),
    ],
}
OBJECTIVES = {"amim": "amim", "vae": "vae", "ae": "autoencoder"}
ADDITIONS = {
    "alone": [],
    "contrast": ["objective.contrast.weight=1"],
    "second_view": ["objective.second_view.weight=20"],
}

CorpusDir = Annotated[Path, typer.Argument(metavar="CORPUS", help="A prepared corpus, such as data/english.")]
TeacherDir = Annotated[Path, typer.Option(help="Its teacher's vectors (`smim teach`).")]
Sets = Annotated[list[Path], typer.Option(help="A judged set of meaning, whose dev part is used; may be repeated.")]


def ablation(
    corpus: CorpusDir,
    teacher: TeacherDir,
    sets: Sets,
    judge: Annotated[Path, typer.Option(help="A language model made by `smim judge make`.")],
    reader: Annotated[str, typer.Option(help="The sentence-transformers model that compares decoded sentences.")],
    heldout: Annotated[list[Path], typer.Option(help="A file of sentences that no model has seen; may be repeated.")],
    steps: Annotated[int, typer.Option(help="Number of optimizer steps with 2,048 tokens.")] = 300,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 2,
    only: Annotated[str, typer.Option(help="Run only trainings whose name contains this.")] = "",
) -> None:
    """Train and evaluate each objective, addition and architecture, and save each result when it ends."""
    read = [
        *("eval.metrics=[semantics,generativity,information]", f"eval.semantics.sets={_listed(sets)}"),
        *(f"eval.generativity.judge={judge}", f"eval.generativity.teacher={reader}"),
        *(f"eval.generativity.files={_listed(heldout)}", "eval.generativity.train_sentences=2000"),
        *("eval.generativity.num_sentences=100", "eval.max_sentences=2000", "eval.semantics.max_decoded=200"),
    ]
    for seed, (shape, settings), (objective, name), (addition, more) in itertools.product(
        range(seeds), ARCHITECTURES.items(), OBJECTIVES.items(), ADDITIONS.items()
    ):
        called = f"{shape}_{objective}_{addition}_{seed}"
        kept, run_dir = RESULTS / f"{called}.json", RUNS / called
        if kept.exists() or only not in called:
            continue
        training = [
            *("smim/train.py", *settings, f"objective={name}", *more, f"corpus.dir={corpus}"),
            *([f"corpus.teacher={teacher}"] if addition == "second_view" else []),
            *(f"train.seed={seed}", "train.tokens_per_batch=2048", f"train.max_steps={steps}"),
        ]
        _run(*training, f"run.dir={run_dir}", "train.resume=auto")
        _run("eval/run.py", f"model.dir={run_dir}/model", f"corpus.dir={corpus}", *read, f"output={run_dir}/report")
        _run("eval/record.py", str(run_dir), "--command", f"python {shlex.join(training)}", "-o", str(kept))


def table(on: Annotated[str, typer.Option(help="The similarity set of the first columns.")] = "stsb-dev") -> None:
    """Print the finished trainings of `ablation`."""
    columns = {
        "STS": f"spearman:{on}",
        "its meaning part": f"spearman_by:{on}/meaning",
        "SICK": "spearman:sick-dev",
        "paraphrases": "hit_at_1:tatoeba.paraphrases-dev",
        "word for word": f"word_for_word:{on}",
        "midway: nats above real": "nats_above_real:between",
        "cosine": "cosine_to_source:between",
        "length": "length_ratio:between",
        "latent entropy": "latent_entropy",
    }
    print(f"| | {' | '.join(columns)} | seeds |\n|{'---|' * (len(columns) + 2)}")
    for shape, objective, addition in itertools.product(ARCHITECTURES, OBJECTIVES, ADDITIONS):
        paths = sorted(RESULTS.glob(f"{shape}_{objective}_{addition}_[0-9].json"))
        if not paths:
            continue
        reports = [json.loads(path.read_text())["reports"]["report"]["metrics"] for path in paths]
        cells = []
        for name in columns.values():
            values = [report[name]["value"] for report in reports if name in report]
            digits = 1 if name == "latent_entropy" else 3
            spread = (max(values) - min(values)) / 2 if values else 0.0
            cells.append(f"{np.mean(values):.{digits}f} ± {spread:.{digits}f}" if values else "")
        print(f"| {shape}, {objective}, {addition} | {' | '.join(cells)} | {len(paths)} |")


def encoder(
    corpus: CorpusDir,
    teacher: TeacherDir,
    sets: Sets,
    layers: Annotated[int, typer.Option(help="Number of attention layers; 0: the static sum of words.")] = 0,
    hidden: Annotated[int, typer.Option(help="Width of the layers; their feed-forward part has twice as much.")] = 128,
    dim: Annotated[int, typer.Option(help="Dimensions of the meaning part and of the table.")] = 128,
    epochs: Annotated[int, typer.Option(help="Epochs over the sentences with a teacher's vector.")] = 3,
    temperature: Annotated[float, typer.Option(help="Temperature of the second view.")] = 0.1,
    seed: int = 0,
) -> None:
    """Train the meaning part alone on the teacher's similarities, and measure it on judged sets."""
    torch.manual_seed(seed)
    data = Corpus.open(corpus, teacher=teacher)
    names = ("dim", "table_dim", "num_layers", "hidden_dim", "feedforward_dim")
    values = (dim, dim, layers, hidden, 2 * hidden)
    parts = [f"model.encoder.meaning.{name}={value}" for name, value in zip(names, values, strict=True)]
    composed = config.compose("train", ["experiment=english_small", *parts, f"model.latent_dim={384 + dim}"])
    model = make_model(make_args(composed.model), input_size=data.input_size)
    assert isinstance(model, SentenceAutoencoder) and data.teacher is not None and model.encoder.meaning is not None
    model.initialize_words(*(torch.tensor(each) for each in (data.teacher.pieces, data.teacher.counts)))
    view = SecondView(weight=1.0, temperature=temperature, epochs_alone=epochs)
    started = time.perf_counter()
    learn_meaning(model, data.split("train"), view, max_length=80, seed=seed, visible=True)
    print(f"  {time.perf_counter() - started:.0f} s")

    @torch.no_grad()
    def encode(texts: Sequence[str]) -> np.ndarray:
        ids, codes = [data.tokenizer.encode(text) for text in texts], torch.empty(len(texts), dim)
        for places in evaluation_order(np.fromiter(map(len, ids), np.int64, len(ids)), tokens_per_batch=8192):
            codes[places] = model.meaning_of(collate([ids[i] for i in places], places))
        return codes.numpy()

    model.eval()
    for name, metric in measure(encode, read_sets(sets, "dev")).items():
        print(f"{name}  {metric.value:.4f} ± {metric.standard_error or 0:.4f}")
    texts = data.split("valid").texts(range(5000))
    started = time.perf_counter()
    encode(texts)
    print(
        f"encoded  {len(texts) / (time.perf_counter() - started):,.0f} sentences/s, {torch.get_num_threads()} threads"
    )


def _listed(paths: list[Path]) -> str:
    return f"[{','.join(map(str, paths))}]"


def _run(*arguments: str) -> None:
    print(f"$ python {shlex.join(arguments)}", flush=True)
    subprocess.run([sys.executable, *arguments], check=True)


if __name__ == "__main__":
    main(__doc__, ablation, table, encoder)
