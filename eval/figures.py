"""Make the papers' figures and tables of vectors and images, including all trainings.

    python eval/figures.py                                      # those that take minutes each; `make figures`
    python eval/figures.py experiment=figure_5_2 figure.seeds=10 figures.workers=8

The script writes OUTPUT/NAME/ with NAME.md, figures.json, which has all numbers, and NAME.png, except for a table. A
figure of images needs the published corpora in the folder $SMIM_DATA. Trainings are stored in OUTPUT/runs by their
settings. Finished ones are not repeated, so an interrupted command can continue. For all options: `python
eval/figures.py experiment=figure_5_2 --cfg job`.
"""

import copy
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import hydra
import numpy as np
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from eval import figure_page
from eval.figure_page import REFERENCES, Entry, Points, orders, title_of
from eval.trainings import CRITIC, Training, perform
from smim import config, storage, vector_model
from smim.engine import EngineArgs, open_engine
from smim.errors import SmimError, UserError, nearest, not_among, refuse, too_low
from smim.evaluation import plots
from smim.evaluation.consistency import Pair, densities
from smim.evaluation.groups import definitions
from smim.evaluation.job import sample
from smim.evaluation.plots import Chains, Panel, Plane
from smim.evaluation.report import environment
from smim.evaluation.vectors import VectorsArgs, encode, images_of, log_density, plane, take
from smim.images import pictures
from smim.lock import own
from smim.model.registry import make_args
from smim.objectives import objective_class
from smim.preparation.build import build_vectors
from smim.progress import console, track
from smim.text.corpus import CARD
from smim.training.args import TrainArgs
from smim.vector_model import VectorModel
from smim.vectors.corpus import VectorCorpus, VectorSplit

FIGURES = (
    *("figure_5_2", "figure_5_1", "figure_5_4", "figure_5_3", "figure_4_1", "infomax_table_3"),
    *("figure_b_1", "figure_b_2", "figure_b_3", "infovae_figure_1", "infovae_figure_2"),
)
# These need the corpora of images. The second tuple takes hours, or needs Fashion-MNIST, so only its names make it.
OF_IMAGES = (
    *("figure_4_2", "table_4_1_mnist", "images_mnist", "codes_mnist", "table_4_1_omniglot", "images_omniglot"),
    *("infovae_table_1", "infovae_figure_3", "infovae_figure_3d", "infomax_table_1", "infomax_table_2"),
    *("infomax_table_4", "infomax_figure_2", "infomax_figure_3", "infomax_figure_7", "infomax_figure_8"),
)
BY_NAME = (
    *("table_4_1_fashion_mnist", "images_fashion_mnist", "codes_fashion_mnist"),
    *("table_5_1_mnist", "table_5_1_omniglot", "table_5_1_fashion_mnist"),
)
KINDS = ["curves", "bars", "planes", "table", "images", "codes", "densities", "chains"]
# What a picture of densities shows for each metric.
_DENSITIES = {
    "reconstruction_distance": "reconstruction",
    "anchor_distance": "from_anchor",
    "prior_distance": "from_prior",
}
_DRAWN, _CHAIN_STEPS = 1_000, 50  # samples in a picture, and steps of the Markov chain to each
_SHOWN, _MAPPED = 10, 1_000  # images of a picture's row, and codes of a map
_AXES = {"hidden_dim": "hidden units", "latent_dim": "latent dimensions", "num_layers": "hidden layers"}
_AXES |= {"decoder.num_layers": "hidden layers of the decoder", "train.max_steps": "steps of training"}


@dataclass(frozen=True)
class FigureEngineArgs(EngineArgs):
    """Where the trainings run: `figures.` on the command line."""

    section = "figures"
    task_size = "model.hidden_dim"


@dataclass(frozen=True)
class FigureArgs:
    """A comparison of methods over seeds, and over values of a model's setting: `figure.` on the command line.

    `kind`: `curves` or `bars` of `metrics`, a `table` without a picture, or a picture of the models of the first seed:
    `planes` for two dimensions, `images` with reconstructions and samples, `codes` by label (as a t-SNE map beyond two
    dimensions), `densities` of one dimension with a column for each metric of appendix B, `chains` of two dimensions
    with samples from the prior and from a Markov chain. `methods`: an objective's settings by the name in the legend;
    with `models`, the names of the models that it trains (by default all). `vary`: a setting of `model.`, or
    `train.NAME`, with its `values`; null for bars. `models`, in place of these two: such settings by the name of a
    model. `above`: methods in the published order of a metric's means, highest first, or a list of several such orders.
    `published`: metric, model, and method to the published number. `note`: text for the page.
    """

    name: str
    title: str
    kind: str
    methods: dict[str, dict[str, Any]]
    vary: str | None
    values: list[int]
    seeds: int
    metrics: list[str]
    above: dict[str, list[Any]]
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    published: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        problems = not_among(self, "figure", kind=KINDS) + too_low(self, "figure", seeds=1)
        if bool(self.vary) != bool(self.values):
            problems.append("only one of figure.vary and figure.values is set: give both, or neither")
        if self.vary and self.models:
            problems.append("figure.vary and figure.models are both set: give one of them")
        metrics = list(definitions())
        problems += [
            f"figure.metrics has {metric!r}; {nearest(metric.partition(':')[0], metrics)}"
            for metric in dict.fromkeys([*self.metrics, *self.above, *self.published])
            if metric.partition(":")[0] not in metrics
        ]
        problems += [
            f"{place} has {name!r}; {nearest(name, known)}" for place, name, known in self._names() if name not in known
        ]
        refuse(problems)

    def _names(self) -> Iterator[tuple[str, str, list[str]]]:
        """Yield each name of a method or model, the setting that has it, and the valid names."""
        methods, models = list(self.methods), list(self.models)
        for metric, given in self.above.items():
            yield from ((f"figure.above.{metric}", method, methods) for order in orders(given) for method in order)
        for method, settings in self.methods.items():
            yield from ((f"figure.methods.{method}.models", model, models) for model in settings.get("models", []))
        for metric, by_model in self.published.items():
            for model, by_method in by_model.items():
                yield f"figure.published.{metric}", model, models
                yield from ((f"figure.published.{metric}.{model}", method, methods) for method in by_method)

    @property
    def variants(self) -> dict[int | str | None, dict[str, Any]]:
        """The changed settings by the value of the varied setting, or by the name of the model."""
        varied: dict[int | str | None, dict[str, Any]] = {value: {str(self.vary): value} for value in self.values}
        return varied | self.models or {None: {}}


def main(cfg: DictConfig) -> None:
    """Make the figure of the chosen experiment, or all figures. Raises the errors of all figures at the end."""
    with own(Path(cfg.output)):
        if cfg.figure.name:
            make_figure(cfg)
            return
        given = HydraConfig.get().overrides.task
        if other := [override for override in given if override.startswith("experiment=")]:
            raise UserError(f"{other[-1]} is no figure; valid: {', '.join(sorted([*FIGURES, *OF_IMAGES, *BY_NAME]))}")
        if "SMIM_DATA" not in os.environ:
            console.print(f"without {', '.join(OF_IMAGES)}: SMIM_DATA, the folder of the published corpora, is not set")
        problems = []
        for name in (*FIGURES, *(OF_IMAGES if "SMIM_DATA" in os.environ else ())):
            try:
                make_figure(hydra.compose("figures", [f"experiment={name}", *given]))
            except SmimError as error:
                console.print(f"{name}: {error}")
                problems.append(f"{name}: {error}")
        refuse(problems)


def make_figure(cfg: DictConfig) -> None:
    """Do the missing trainings and measurements, then draw and write the figure."""
    args, engine = config.make_all(
        cfg,
        figure=lambda section: config.make(FigureArgs, section, "figure"),
        figures=lambda section: config.make(FigureEngineArgs, section, "figures"),
    )
    if args.vary and not _place(cfg, args.vary):
        raise UserError(
            f"figure.vary={args.vary} is no setting of model.; try hidden_dim, latent_dim or train.max_steps"
        )
    output, started = Path(cfg.output), time.monotonic()
    corpus = VectorCorpus.open(_prepared(cfg.corpus, output / "data"))
    if args.kind == "chains" and not (corpus.input_size == 2 and "density" in corpus.card):
        raise UserError("figure.kind=chains needs vectors in two dimensions with a density; give corpus=gmm")
    if args.kind == "planes" and not corpus.input_size == cfg.model.latent_dim == 2:
        raise UserError("figure.kind=planes needs two dimensions; give corpus.dimension=2 and model.latent_dim=2")
    if args.kind == "images" and "shape" not in corpus.card:
        raise UserError(
            f"figure.kind=images needs a corpus of images, which corpus={corpus.name} is not; give corpus=mnist"
        )
    if args.kind == "codes" and not corpus.split("test").label_columns:
        raise UserError(f"figure.kind=codes needs labels, but corpus={corpus.name} has none")
    runs = plan(cfg, args, corpus.directory, output / "runs")
    trainings: list[Entry] = [
        {**place, "run": training.directory.name, **result}
        for (place, training), result in zip(runs, _perform_all(args.name, runs, engine), strict=True)
    ]
    points = figure_page.points_of(trainings)
    content = {
        "figure": asdict(args),
        "corpus": {"name": corpus.name, "source": corpus.card["source"]},
        **{name: OmegaConf.to_container(cfg[name]) for name in ("model", "train")},
        "measure": OmegaConf.to_container(cfg.eval.vectors),
        "environment": environment(),
        "points": points,
        "trainings": trainings,
    }
    folder = output / args.name
    storage.write_json(folder / "figures.json", content)
    if not points:
        raise SmimError(f"all trainings failed; {folder}/figures.json has the reasons")
    if args.kind != "table":
        _draw(args, runs, corpus, points, folder / f"{args.name}.png")
    storage.write_text(folder / f"{args.name}.md", figure_page.as_markdown(content))
    console.print(f"{args.name}: written to {folder} in {time.monotonic() - started:.0f} s")


def plan(cfg: DictConfig, args: FigureArgs, corpus: Path, folder: Path) -> list[tuple[Entry, Training]]:
    """List the figure's trainings, each with its `method`, `value` (see `FigureArgs.variants`), and `seed`.

    Raises `UserError` for invalid settings.
    """
    measure = config.make(VectorsArgs, cfg.eval.vectors, "eval.vectors")
    runs = []
    for method, settings in args.methods.items():
        section = OmegaConf.create(settings)
        trained = section.pop("models", list(args.variants))
        objective = config.make(objective_class(section.name), section, f"figure.methods.{method}")
        for value in trained:
            changed = copy.deepcopy(cfg)
            for setting, given in args.variants[value].items():
                OmegaConf.update(changed, _place(cfg, setting) or f"model.{setting}", given, force_add=True)
            model, train = make_args(changed.model), config.make(TrainArgs, changed.train, "train")
            for seed in range(args.seeds):
                own = replace(train, seed=seed, resume="auto", trackers=[])
                training = Training(corpus, model, objective, own, measure, folder)
                runs.append(({"method": method, "value": value, "seed": seed}, training))
    return runs


def _place(cfg: DictConfig, setting: str) -> str:
    """Return the key of a setting of `model.`, or of `train.NAME`, in the configuration; "" if there is none."""
    key = setting if setting.startswith("train.") else f"model.{setting}"
    parent, _, name = key.rpartition(".")
    section = OmegaConf.select(cfg, parent)
    return key if isinstance(section, DictConfig) and name in section else ""


def _prepared(section: DictConfig, folder: Path) -> Path:
    """Return the corpus of these settings. It is built if it does not exist yet."""
    settings = OmegaConf.to_container(section, resolve=True)
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    directory = folder / f"{section.name}-{digest[:8]}"
    if not (directory / CARD).is_file():
        build_vectors(section, directory)
    return directory


def _perform_all(name: str, runs: list[tuple[Entry, Training]], engine_args: FigureEngineArgs) -> list[dict[str, Any]]:
    """Perform all runs and return their measurements, including those of finished runs."""
    results = {place: result for place, (_, training) in enumerate(runs) if (result := training.measured())}
    left = [place for place in range(len(runs)) if place not in results]
    console.print(f"{name}: {len(runs)} trainings, of which {len(results)} are finished already")
    with open_engine(engine_args) as engine:
        found = engine.map(perform, [runs[place][1] for place in left])
        try:
            results |= {left[number]: result for number, result in track(found, name, total=len(left))}
        except KeyboardInterrupt:
            console.print("stopping after the trainings in progress; the same command continues from there")
            raise
    return [results[place] for place in range(len(runs))]


def _draw(
    args: FigureArgs, runs: list[tuple[Entry, Training]], corpus: VectorCorpus, points: Points, output: Path
) -> None:
    panels = [_panel(points, metric) for metric in args.metrics if metric in points]
    if args.kind == "planes":
        planes = list(_planes(runs, corpus))
        plots.planes(planes, output, log_density=lambda vectors: log_density(corpus, vectors))
    elif args.kind == "images":
        pictures.strips(_images(runs, corpus), output, shape=corpus.card["shape"])
    elif args.kind == "chains":
        plots.chains(list(_chains(runs)), output, log_density=lambda vectors: log_density(corpus, vectors))
    elif args.kind == "densities":
        plots.densities(dict(_densities(args, runs, corpus)), output)
    elif args.kind == "codes":
        plots.latent_maps(dict(_codes(runs, corpus)), output, size=(4.5, 3))
    elif args.kind == "bars":
        plots.bars(panels, output)
    else:
        plots.curves(panels, output, xlabel=_AXES.get(str(args.vary), str(args.vary)))


def _panel(points: Points, metric: str) -> Panel:
    reference, name = REFERENCES.get(metric, ("", ""))
    line = (name, next(iter(points[reference].values()))[0]["mean"]) if reference in points else None
    return Panel(title_of(metric), points[metric], line)


def _images(runs: list[tuple[Entry, Training]], corpus: VectorCorpus) -> dict[str, dict[str, np.ndarray]]:
    """The rows of images of each model: some test images, each method's reconstructions of them, and its samples."""
    shown = _some(corpus, _SHOWN)
    strips: dict[str, dict[str, np.ndarray]] = {}
    for place, _, model in _first_models(runs):
        images, reconstructions, samples = images_of(model, shown, seed=0)
        rows = strips.setdefault(_title(place["value"]), {"test images": images})
        rows |= {f"{place['method']}: reconstructions": reconstructions, f"{place['method']}: samples": samples}
    # Reconstructions are above samples, as in Figure 4.3.
    return {
        title: dict(sorted(rows.items(), key=lambda row: row[0].endswith("samples"))) for title, rows in strips.items()
    }


def _codes(
    runs: list[tuple[Entry, Training]], corpus: VectorCorpus
) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
    """Yield the map of each model's codes of test vectors, with their first label, as `plots.latent_maps` needs it."""
    shown = _some(corpus, _MAPPED)
    labels = np.array(shown.labels(shown.label_columns[0]))
    for place, _, model in _first_models(runs):
        codes = encode(model, shown, seed=0)[1].numpy()
        points = codes if codes.shape[1] == 2 else plots.tsne(codes, seed=0)
        yield _title(place["value"], place["method"]), (points, labels)


def _chains(runs: list[tuple[Entry, Training]]) -> Iterator[Chains]:
    """Yield the row of each model of the first seed: samples, and how the training went."""
    trainings = {(place["method"], place["value"]): training for place, training in runs if place["seed"] == 0}
    for place, metrics, model in _first_models(runs):
        log = (trainings[place["method"], place["value"]].directory / "metrics.jsonl").read_text(encoding="utf-8")
        lines = [line for line in map(json.loads, log.splitlines()) if line["split"] == "valid"]
        start = np.random.default_rng(0).standard_normal((_DRAWN, model.latent_dim), dtype=np.float32)
        chain = model.markov_chain(start, steps=_CHAIN_STEPS, seed=0)[:, -1]
        information = round(metrics["mutual_information"], 2) + 0.0  # so that 0 is not shown as "-0.00"
        inset = f"mutual information {information:.2f} nats"
        title = _title(place["value"], place["method"])
        yield Chains(title, model.sample(_DRAWN, seed=0), chain, lines, inset)


def _densities(
    args: FigureArgs, runs: list[tuple[Entry, Training]], corpus: VectorCorpus
) -> Iterator[tuple[str, tuple[Pair, str]]]:
    """Yield the title of each column, with the densities of its model and the name of the one to show."""
    trainings = {(place["method"], place["value"]): training for place, training in runs if place["seed"] == 0}
    found = []
    for place, _, model in _first_models(runs):
        training = trainings[place["method"], place["value"]]
        pair = densities(model, training.objective, corpus.card.get("density"), training.directory / CRITIC)
        if pair is None:
            raise UserError(
                "figure.kind=densities needs corpus.dimension=1, model.latent_dim=1, and methods with "
                "name=mim and data_prior=gaussian_mixture or standard_normal"
            )
        found.append((_title(place["value"], place["method"]), pair))
    for metric in args.metrics:
        for title, pair in found:
            if shown := _DENSITIES.get(metric):
                yield f"{title}\n{shown.replace('_', ' ')}", (pair, shown)


def _some(corpus: VectorCorpus, num: int) -> VectorSplit:
    """Choose `num` random test vectors, always the same."""
    test = corpus.split("test")
    return take(test, sample(len(test), num, seed=0))


def _first_models(runs: list[tuple[Entry, Training]]) -> Iterator[tuple[Entry, dict[str, float], VectorModel]]:
    """Yield the finished trainings of the first seed with their metrics and models, by value and then by method."""
    first = [run for run in runs if run[0]["seed"] == 0]
    values = list(dict.fromkeys(place["value"] for place, _ in first))
    for place, training in sorted(first, key=lambda run: values.index(run[0]["value"])):
        if metrics := (training.measured() or {}).get("metrics"):
            yield place, metrics, vector_model.load(training.directory / "model")


def _title(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part is not None)


def _planes(runs: list[tuple[Entry, Training]], corpus: VectorCorpus) -> Iterator[Plane]:
    """Yield the models of the first seed, by value and then by method."""
    for place, metrics, model in _first_models(runs):
        title = _title(place["method"], place["value"])
        yield plane(model, corpus.split("test"), title=title, metrics=metrics, seed=0)


if __name__ == "__main__":
    config.run("figures", main)
