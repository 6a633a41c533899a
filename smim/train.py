"""Train a latent variable model of sentences or of vectors.

    accelerate launch smim/train.py corpus=ptb model=gru objective=amim model.latent_dim=512
    accelerate launch smim/train.py experiment=ptb_smim_512 train.resume=auto
    accelerate launch smim/train.py corpus=gmm model=mlp objective=mim
    accelerate launch smim/train.py experiment=own_small corpus.dir=data/mine
    accelerate launch smim/train.py model.init=english-small corpus.dir=data/mine
    accelerate launch --config_file launch/accelerate/cpu.yaml --num_processes 2 smim/train.py ...
    accelerate launch --config_file launch/accelerate/zero2.yaml --num_processes 8 smim/train.py ...

The run writes `config.yaml`, `metrics.jsonl`, `status.json`, `checkpoints/` and the best model so far, `model/`, into
`run.dir`. SIGTERM (or Ctrl-C) saves a checkpoint and exits with status 143 (130). The same command with
`train.resume=auto` continues from there. `python smim/train.py --cfg job` lists all options.
"""

if __name__ == "__main__":  # before the imports below, which take seconds
    from smim.waiting import starting

    starting("starting the training")

import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

import smim
from smim import config, storage
from smim.corpora import open_corpus
from smim.errors import UserError
from smim.lock import own
from smim.model.registry import make_args
from smim.model.use import Use
from smim.objectives import objective_class
from smim.processes import close, make_accelerator
from smim.text.corpus import Corpus
from smim.training import own_small
from smim.training.args import TrainArgs
from smim.training.initial import Initial, check_overrides
from smim.training.trainer import Trainer
from smim.vectors.corpus import VectorCorpus
from smim.waiting import doing

# The number of test texts for the comparison of models at the end of a run.
_COMPARED = 1000


def expand(arguments: list[str]) -> list[str]:
    """Return command-line arguments together with those that `experiment=own_small` chooses for the corpus."""
    check_overrides(arguments)
    return own_small.expand(arguments)


def main(cfg: DictConfig) -> None:
    """Check the configuration, then train."""
    started = time.monotonic()
    initial = Initial.open(cfg.model.init) if cfg.model.get("init") else None
    if initial:
        cfg.model = initial.section
    model_args, objective, args, use = config.make_all(
        cfg,
        model=make_args,
        objective=lambda section: config.make(objective_class(section.name), section, "objective"),
        train=lambda section: config.make(TrainArgs, section, "train"),
        use=_given_use,
    )
    if cfg.corpus.dir is None:
        raise UserError("no corpus was given; give corpus=NAME, or corpus.dir=DIR of a prepared corpus")
    if initial:
        use = OmegaConf.to_container(OmegaConf.merge(initial.use, use))
    run_dir = Path(cfg.run.dir or f"runs/{Path(cfg.corpus.dir).name}_{cfg.objective.name}_{cfg.model.latent_dim}")
    doing("opening the corpus")
    accelerator = make_accelerator(sharding=True, trackers=args.trackers, run_dir=run_dir, timeout=args.process_timeout)
    with own(run_dir, accelerator):
        corpus = open_corpus(cfg.corpus.dir, teacher=cfg.corpus.get("teacher"))
        doing("preparing the training")
        trainer = Trainer(
            *(corpus, model_args, objective, args),
            accelerator=accelerator,
            run_dir=run_dir,
            use=use,
            started=started,
            initial=initial,
        )
        if trainer.is_main:
            storage.write_text(run_dir / "config.yaml", OmegaConf.to_yaml(cfg, resolve=True))
        accelerator.init_trackers("smim")
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, trainer.on_signal)
        trainer.console.say(
            f"{trainer.num_parameters:,} parameters, {len(trainer.train_split):,} "
            f"{corpus.unit}s, {accelerator.num_processes} process(es) on "
            f"{accelerator.device.type}, {trainer.parallel.name}, {trainer.precision}; writing to {run_dir}"
        )
        with trainer.recorded():
            with trainer.console.bar:
                trainer.fit()
            doing("ending the training")
            close(accelerator)
        trainer.console.say(
            f"finished after {trainer.step} steps; best validation loss {trainer.schedule.best:.3f}; {run_dir}"
        )
        if cfg.run.compare is not None and trainer.is_main:
            doing("comparing the model")
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            for line in _compared(corpus, run_dir / "model", cfg.run.compare):
                trainer.console.say(line)


def _compared(corpus: Corpus | VectorCorpus, model_dir: Path, other: str) -> list[str]:
    """Compare the trained model with another one on test texts. Errors become a warning, since the run succeeded."""
    try:
        from smim.evaluation.halves import compare

        assert isinstance(corpus, Corpus)
        split = corpus.split("test" if "test" in corpus.card["splits"] else "valid")
        rows = np.random.default_rng(0).permutation(len(split))[:_COMPARED]
        models = {"this model": smim.load(model_dir), other: smim.load(other)}
        return compare(split.texts(np.sort(rows)), models, seed=0).lines()
    except Exception as error:  # of any kind
        return [f"warning: the model could not be compared with {other}: {error or type(error).__name__}"]


def _given_use(section: DictConfig) -> dict[str, Any]:
    """Return the given settings of `use`, after a check. The model determines the others when it is saved."""
    said = OmegaConf.to_container(section)
    made = config.make(Use, OmegaConf.create(_not_null(said, said)), "use")
    return _not_null(said, asdict(made))


def _not_null(said: Any, values: Any) -> dict[str, Any]:
    """Select those `values`, which may nest, that are not null in `said`."""
    return {
        name: _not_null(each, values[name]) if isinstance(each, dict) else values[name]
        for name, each in said.items()
        if each is not None
    }


if __name__ == "__main__":
    config.run("train", main, expand=expand)
