"""Mistakes on the command line: one message that says what, where and what would be right."""

import re

import pytest

from data_prep import build
from smim import config, train
from smim.errors import UserError
from smim.evaluation import run
from smim.model.registry import make_args
from smim.training.args import TrainArgs
from tests.scripts import ROOT, run_script


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latnt_dim=3", r"unknown key model\.latnt_dim; did you mean 'model\.latent_dim'"),
        ("objctive=amim", r"unknown key objctive; did you mean 'objective'"),
        ("objective=amin", r"objective=amin: there is no such objective; did you mean 'amim'"),
        ("corpus=ptbb", r"corpus=ptbb: there is no such corpus; did you mean 'ptb'"),
        ("experiment=ptb_smin_512", r"did you mean 'ptb_smim_512'"),
        ("+train.warmup=3", r"unknown key train\.warmup: keys cannot be added"),
        ("run=r1", r"run=r1: run is a section; set its keys dir"),
        ("train=3", r"train=3: there is no such train; valid: adam"),
        ("model.latent_dim", r"cannot read 'model\.latent_dim' as KEY=VALUE"),
    ],
)
def test_a_wrong_override_is_named_with_the_nearest_right_one(override, message):
    with pytest.raises(UserError, match=message):
        config.compose("train", [override])


def test_every_wrong_override_is_listed():
    with pytest.raises(UserError, match=r"latnt_dim.*batchsize"):
        config.compose("train", ["model.latnt_dim=3", "train.batchsize=3"])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.latent_dim=0", r"model\.latent_dim is 0, but it must be at least 1"),
        ("model.latent_dim=many", r"model\.latent_dim: Value 'many' .* could not be converted to Integer"),
        ("train.optimizer=adm", r"train\.optimizer is 'adm'; did you mean 'adam'"),
        ("train.learning_rate=-1", r"train\.learning_rate is -1\.0, but it must be above 0"),
        ("train.precision=fp8", r"train\.precision is 'fp8'"),
    ],
)
def test_a_wrong_value_is_named(override, message):
    cfg = config.compose("train", [override])
    with pytest.raises(UserError, match=message):
        config.make_all(
            cfg,
            model=make_args,
            train=lambda section: config.make(TrainArgs, section, "train"),
        )


def test_mistakes_of_several_sections_are_listed_together():
    cfg = config.compose("train", ["model.latent_dim=0", "train.batch_size=0"])
    with pytest.raises(UserError, match=r"latent_dim is 0.*batch_size is 0"):
        config.make_all(
            cfg,
            model=make_args,
            train=lambda section: config.make(TrainArgs, section, "train"),
        )


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiment").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_composes_to_valid_settings(path):
    cfg = config.compose("train", [f"experiment={path.stem}"])
    make_args(cfg.model)
    config.make(TrainArgs, cfg.train, "train")


@pytest.mark.parametrize(
    ("name", "objective", "latent_dim"),
    [("ptb_smim_512", "amim", 512), ("ptb_svae_16", "vae", 16), ("ptb_ae_128", "autoencoder", 128)],
)
def test_ptb_experiments_have_the_settings_of_the_thesis(name, objective, latent_dim):
    cfg = config.compose("train", [f"experiment={name}"])
    train = config.make(TrainArgs, cfg.train, "train")
    assert (cfg.objective.name, cfg.model.latent_dim, cfg.model.hidden_dim) == (objective, latent_dim, 512)
    assert (cfg.model.embedding_dim, cfg.model.embedding_dropout, cfg.model.min_log_variance) == (300, 0.5, -10)
    assert (train.optimizer, train.learning_rate, train.batch_size, train.grad_clip) == ("adam", 1e-3, 20, 0.25)
    assert (train.learning_rate_decay, train.patience, train.min_learning_rate, train.max_length) == (
        *(0.25, 2, 1e-8),
        100,
    )
    assert cfg.objective.get("kl_annealing", "none") == "none"
    assert cfg.run.dir == f"runs/{name}" and cfg.corpus.dir == "data/ptb"


@pytest.mark.parametrize(
    ("name", "objective", "latent_dim"),
    [
        ("yelp15_svae_512", "vae", 512),
        ("yahoo_ae_32", "autoencoder", 32),
        ("wt103_svae_1024", "vae", 1024),
        ("everything_smim_1024", "amim", 1024),
    ],
)
def test_experiments_of_the_large_corpora_have_the_settings_of_the_thesis(name, objective, latent_dim):
    cfg = config.compose("train", [f"experiment={name}"])
    train = config.make(TrainArgs, cfg.train, "train")
    assert (cfg.objective.name, cfg.model.latent_dim, cfg.model.hidden_dim) == (objective, latent_dim, 1024)
    assert (cfg.model.embedding_dim, cfg.model.embedding_dropout, cfg.model.min_log_variance) == (512, 0.5, -10)
    assert (train.optimizer, train.learning_rate, train.batch_size, train.grad_clip) == ("sgd", 5.0, 20, 0.25)
    assert (train.learning_rate_decay, train.patience, train.max_length, train.length_window) == (0.25, 1, None, 1)
    assert cfg.run.dir == f"runs/{name}" and cfg.corpus.dir == f"data/{name.split('_')[0]}"


def test_svae_experiments_anneal_the_kl_except_on_ptb():
    annealing = {}
    for path in (ROOT / "configs" / "experiment").glob("*_svae_*.yaml"):
        objective = config.compose("train", [f"experiment={path.stem}"]).objective
        annealing.setdefault(path.stem.split("_")[0], set()).add((objective.kl_annealing, objective.annealing_steps))
    assert annealing.pop("ptb") == {("none", 10_000)}
    assert annealing == {corpus: {("linear", 10_000)} for corpus in ("yelp15", "yahoo", "wt103")}


@pytest.mark.parametrize(
    ("main", "name", "arguments", "message"),
    [
        (train.main, "train", [], "no corpus was given"),
        (train.main, "train", ["model.latent_dim=0"], "model.latent_dim is 0"),
        (build.main, "build", ["corpus=ptb", "corpus.path=nowhere"], "corpus.path=nowhere is not a folder"),
        (build.main, "build", ["corpus=demo", "corpus.path=mine.txt"], "for your own text, give corpus=text"),
        (build.main, "build", ["corpus=text", "corpus.label_columns=stars"], "'corpus.label_columns=[ONE,TWO]'"),
        (
            build.main,
            "build",
            ["corpus=text", "corpus.tokenizer=bpe"],
            "corpus.tokenizer is a section; set its keys dir, kind",
        ),
        (run.main, "evaluate", ["model.dir=nowhere", "corpus.dir=nowhere"], "nowhere is not a model directory"),
    ],
)
def test_a_mistake_is_named(main, name, arguments, message):
    with pytest.raises(UserError, match=re.escape(message)):
        main(config.compose(name, arguments))


def test_a_mistake_ends_with_one_line_and_status_2():
    finished = run_script("smim/train.py", ["corpus.dir=nowhere"])
    assert finished.returncode == 2
    [line] = finished.stderr.splitlines()
    assert line.startswith("error: ") and "nowhere is not a prepared corpus" in line


def test_the_dry_run_says_what_would_run():
    finished = run_script("smim/train.py", ["experiment=ptb_smim_16", "--cfg", "job"])
    assert finished.returncode == 0 and "latent_dim: 16" in finished.stdout


def test_a_mistake_beside_a_flag_is_named_too():
    shown = run_script("smim/train.py", ["corpus=demo", "model.latent_dims=3", "--cfg", "job"])
    assert shown.returncode == 2 and "did you mean 'model.latent_dim'?" in shown.stderr
