"""Make the thesis's figures of vectors, and InfoMax-VAE's comparison, including all trainings.

    python eval/figures.py                                      # all of them; `make figures`
    python eval/figures.py experiment=figure_5_2 figure.seeds=10 figures.workers=8

The script writes OUTPUT/NAME/ with NAME.png, NAME.md and figures.json, which has all numbers. Trainings are stored in
OUTPUT/runs by their settings. Finished ones are not repeated, so an interrupted command can continue. For all options:
`python eval/figures.py experiment=figure_5_2 --cfg job`.
"""

import copy
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from eval import figure_page
from eval.figure_page import REFERENCES, Entry, Points, title_of
from eval.trainings import Training, perform
from smim import config, storage, vector_model
from smim.engine import EngineArgs, open_engine
from smim.errors import SmimError, UserError, nearest, not_among, refuse, too_low
from smim.evaluation import plots
from smim.evaluation.plots import Panel, Plane
from smim.evaluation.report import environment
from smim.evaluation.vectors import VectorsArgs, log_density, plane
from smim.lock import own
from smim.model.registry import make_args
from smim.objectives import objective_class
from smim.preparation.build import build_vectors
from smim.progress import console, track
from smim.text.corpus import CARD
from smim.training.args import TrainArgs
from smim.vectors.corpus import VectorCorpus

FIGURES = ("figure_5_2", "figure_5_1", "figure_5_4", "figure_5_3", "figure_4_1", "infomax_table_3")
KINDS = ["curves", "bars", "planes"]
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

    `kind`: `curves` or `bars` of `metrics`, or `planes`, pictures of two-dimensional models with the first seed.
    `methods`: an objective's settings by the name in the legend. `vary`: a setting of `model.`, or `train.NAME`, with
    its `values`; null for bars. `above`: methods in the published order of a metric's means, highest first.
    """

    name: str
    title: str
    kind: str
    methods: dict[str, dict[str, Any]]
    vary: str | None
    values: list[int]
    seeds: int
    metrics: list[str]
    above: dict[str, list[str]]

    def __post_init__(self) -> None:
        problems = not_among(self, "figure", kind=KINDS) + too_low(self, "figure", seeds=1)
        if bool(self.vary) != bool(self.values):
            problems.append("only one of figure.vary and figure.values is set: give both, or neither")
        problems += [
            f"figure.above.{metric} has {method!r}; {nearest(method, list(self.methods))}"
            for metric, methods in self.above.items()
            for method in methods
            if method not in self.methods
        ]
        refuse(problems)


def main(cfg: DictConfig) -> None:
    """Make the figure of the chosen experiment, or all figures."""
    with own(Path(cfg.output)):
        if cfg.figure.name:
            make_figure(cfg)
            return
        given = HydraConfig.get().overrides.task
        if other := [override for override in given if override.startswith("experiment=")]:
            raise UserError(f"{other[-1]} is no figure; valid: {', '.join(sorted(FIGURES))}")
        for name in FIGURES:
            make_figure(hydra.compose("figures", [f"experiment={name}", *given]))


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
    if args.kind == "planes" and not corpus.input_size == cfg.model.latent_dim == 2:
        raise UserError("figure.kind=planes needs two dimensions; give corpus.dimension=2 and model.latent_dim=2")
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
        raise SmimError(f"{args.name}: all trainings failed; {folder}/figures.json has the reasons")
    _draw(args, runs, corpus, points, folder / f"{args.name}.png")
    storage.write_text(folder / f"{args.name}.md", figure_page.as_markdown(content))
    console.print(f"{args.name}: written to {folder} in {time.monotonic() - started:.0f} s", highlight=False)


def plan(cfg: DictConfig, args: FigureArgs, corpus: Path, folder: Path) -> list[tuple[Entry, Training]]:
    """List the figure's trainings, each with its `method`, `value` of the varied setting (None without), and `seed`.

    Raises `UserError` for invalid settings.
    """
    measure = config.make(VectorsArgs, cfg.eval.vectors, "eval.vectors")
    values: list[int | None] = [*args.values] if args.vary else [None]
    runs = []
    for method, settings in args.methods.items():
        section = OmegaConf.create(settings)
        objective = config.make(objective_class(section.name), section, f"figure.methods.{method}")
        for value in values:
            changed = copy.deepcopy(cfg)
            if args.vary:
                OmegaConf.update(changed, _place(cfg, args.vary), value)
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
    console.print(f"{name}: {len(runs)} trainings, of which {len(results)} are finished already", highlight=False)
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
        planes = list(_planes(args, runs, corpus))
        plots.planes(planes, output, log_density=lambda vectors: log_density(corpus, vectors))
    elif args.kind == "bars":
        plots.bars(panels, output)
    else:
        plots.curves(panels, output, xlabel=_AXES.get(str(args.vary), str(args.vary)))


def _panel(points: Points, metric: str) -> Panel:
    reference, name = REFERENCES.get(metric, ("", ""))
    line = (name, next(iter(points[reference].values()))[0]["mean"]) if reference in points else None
    return Panel(title_of(metric), points[metric], line)


def _planes(args: FigureArgs, runs: list[tuple[Entry, Training]], corpus: VectorCorpus) -> Iterator[Plane]:
    """Yield the models of the first seed, by value and then by method."""
    first = [(place, training) for place, training in runs if place["seed"] == 0]
    for place, training in sorted(first, key=lambda run: args.values.index(run[0]["value"]) if args.vary else 0):
        if metrics := (training.measured() or {}).get("metrics"):
            model = vector_model.load(training.directory / "model")
            title = f"{place['method']}, {place['value']}" if args.vary else place["method"]
            yield plane(model, corpus.split("test"), title=title, metrics=metrics, seed=0)


if __name__ == "__main__":
    config.run("figures", main)
