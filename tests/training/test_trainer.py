"""Settings of the training loop, as a user turns them on."""

import json
import re
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import smim
from smim import config
from smim.model.directory import load_model
from smim.model.use import Sampling, Use
from smim.objectives import objective_class
from smim.processes import resolve_precision
from smim.text.batches import training_order
from smim.text.corpus import Corpus
from smim.training import checkpoint
from smim.training.args import TrainArgs
from tests.test_processes import NO_NOISE
from tests.training.conftest import read_metrics, read_status

STEPS = "train.max_steps=12"
OF_TOKENS = ["train.tokens_per_batch=70", "train.batch_size=null"]


def lines(run_dir, split="train") -> list[dict]:
    return [line for line in read_metrics(run_dir) if line["split"] == split]


def test_a_token_budget_trains_each_sentence_once_an_epoch_on_one_process_and_on_two(train, tmp_path, tiny_corpus):
    budget = [*NO_NOISE, *OF_TOKENS, "train.max_epochs=2", "train.max_steps=null"]
    assert train(*budget, f"run.dir={tmp_path / 'one'}").returncode == 0
    assert train(*budget, f"run.dir={tmp_path / 'two'}", processes=2).returncode == 0
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    assert [line["loss"] for line in two] == pytest.approx([line["loss"] for line in one], rel=1e-5)
    validated = lines(tmp_path / "one", "valid")
    assert [line["epoch"] for line in validated] == [1, 2] and validated[-1]["step"] == len(one)
    assert len({line["step"] for line in one}) == len(one)


def test_under_a_token_budget_each_sentence_weighs_alike_whatever_batch_it_is_in(train, tmp_path, corpus):
    still = ["train.optimizer=sgd", "train.learning_rate=1e-8", *OF_TOKENS, "train.max_epochs=1"]
    assert train(*NO_NOISE, *still, "train.max_steps=null").returncode == 0
    model, *_ = load_model(tmp_path / "run" / "model")
    split = corpus.split("train")
    batches = list(training_order(split, **TrainArgs(tokens_per_batch=70).batching(), seed=0, epoch=0))
    assert len({len(rows) for rows in batches}) > 1
    norms = []
    for rows in batches:
        model.zero_grad()
        objective_class("autoencoder")().terms(model, split.batch(rows), step=0)["loss"].sum().backward()
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        norms.append(float(gradient.norm()) * len(batches) / len(split))
    assert [line["grad_norm"] for line in lines(tmp_path / "run")] == pytest.approx(norms, rel=1e-3)


def test_how_the_model_is_used_is_what_is_said_of_it(train, tmp_path):
    said = ["use.metric=cosine", "use.perturb_scale=25", "use.answers=yes", "use.sample.prior=true"]
    assert train("train.max_steps=2", *said).returncode == 0
    use = Use(metric="cosine", perturb_scale=25.0, answers=True, sample=Sampling(prior=True))
    assert smim.load(tmp_path / "run" / "model").use == use
    refused = train("use.metrik=l2", "use.literal.candidates=0", f"run.dir={tmp_path / 'other'}")
    assert refused.returncode == 2 and "use.metrik; did you mean 'use.metric'" in refused.stderr


def test_samples_of_a_trained_meaning_part_are_as_far_from_zero_as_its_sentences(train, tmp_path):
    sizes = ["model.latent_dim=24", "model.hidden_dim=16", "model.encoder.meaning.dim=6"]
    ended = train("model=superposition", *sizes, "model.encoder.meaning.table_dim=8", "train.max_steps=2")
    assert ended.returncode == 0, ended.stderr
    model = smim.load(tmp_path / "run" / "model", device="cpu")
    assert model.use.metric == "cosine" and model.use.literal.sample == 0.0
    assert model.use.sample.standard_deviation == model.config["training"]["code_deviation"] > 0


def test_a_loss_that_is_not_finite_stops_the_run_saves_it_and_names_step_and_rows(train, tmp_path, tiny_corpus):
    run_dir = tmp_path / "run"
    exploding = ["train.optimizer=sgd", "train.learning_rate=1e38", STEPS]
    failed = train(*exploding)
    assert failed.returncode == 1 and "Traceback" not in failed.stderr
    message = read_status(run_dir)["message"]
    found = re.search(r"became (nan|inf) in step (\d+) \(epoch 1\) on rows ([\d, ]+)", message)
    assert found, message
    rows = [int(row) for row in found[3].split(",")]
    assert 0 < len(rows) <= 8 and max(rows) < len(Corpus.open(tiny_corpus).split("train"))
    assert message in failed.stderr.replace("\n", " ") or found[0] in failed.stderr
    newest = checkpoint.list_checkpoints(run_dir / "checkpoints")[-1]
    checkpoint.verify(newest)
    assert all(np.isfinite(tensor.numpy()).all() for tensor in load_file(newest / "model.safetensors").values())
    assert int(newest.name.removeprefix("step-")) == int(found[2]) - 1


def test_a_named_checkpoint_is_gone_on_from_with_other_settings_and_auto_refuses_them(train, tmp_path):
    assert train("train.max_steps=3").returncode == 0
    refused = train(STEPS, "train.resume=auto", "train.learning_rate=1e-4")
    assert refused.returncode == 2 and "train.learning_rate: 0.001 there, 0.0001 here" in refused.stderr
    newest = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    went_on = train(STEPS, f"train.resume={newest}", "train.learning_rate=1e-4")
    assert went_on.returncode == 0 and "with other settings: train.learning_rate" in went_on.stderr
    assert {line["learning_rate"] for line in lines(tmp_path / "run") if line["step"] > 3} == {1e-4}
    newest = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    other = train(STEPS, f"train.resume={newest}", "model.latent_dim=9")
    assert other.returncode == 2 and "belongs to another run" in other.stderr


def test_a_new_schedule_optimizer_average_or_batch_size_begins_at_a_named_checkpoint(train, tmp_path):
    base = ["train.schedule=constant", "train.optimizer=sgd", "train.momentum=0.9"]
    assert train(*base, "train.max_steps=3").returncode == 0
    [saved] = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")

    def go_on(name, *settings) -> list[dict]:
        run_dir = tmp_path / name
        went_on = train(*base, "train.max_steps=6", *settings, f"train.resume={saved}", f"run.dir={run_dir}")
        assert went_on.returncode == 0, went_on.stderr
        return lines(run_dir)

    def last(name, file) -> dict:
        return load_file(checkpoint.list_checkpoints(tmp_path / name / "checkpoints")[-1] / f"{file}.safetensors")

    assert [line["learning_rate"] for line in go_on("plateau", "train.schedule=plateau")] == [1e-3] * 3
    go_on("adam", "train.optimizer=adam", "train.momentum=0")
    assert {name.rpartition(".")[2] for name in last("adam", "optimizer")} == {"exp_avg", "exp_avg_sq", "step"}
    go_on("average", "train.ema_decay=0.9")
    assert last("average", "average")["num_updates"] == 4  # the saved weights and three steps
    # Batches of 20: two an epoch, of which three of eight sentences are no part.
    assert [line["epoch"] for line in go_on("batches", "train.batch_size=20")] == [1, 1, 2]


def test_what_is_saved_after_going_on_from_an_older_checkpoint_takes_the_place_of_later_ones(train, tmp_path):
    root = tmp_path / "run" / "checkpoints"
    assert train("train.max_steps=9").returncode == 0
    assert [path.name for path in checkpoint.list_checkpoints(root)] == ["step-00000006", "step-00000009"]
    (root / "step-best").mkdir()
    back = train("train.max_steps=8", f"train.resume={root / 'step-00000006'}")
    assert back.returncode == 0 and "will remove the later step-00000009 in" in back.stderr
    assert sorted(path.name for path in root.iterdir()) == ["step-00000006", "step-00000008", "step-best"]


def test_a_run_past_its_last_step_is_validated_and_trains_no_more(train, tmp_path):
    root = tmp_path / "run" / "checkpoints"
    assert train("train.max_steps=9").returncode == 0
    assert train("train.max_steps=4", f"train.resume={root / 'step-00000006'}").returncode == 0
    assert (lines(tmp_path / "run")[-1]["step"], lines(tmp_path / "run", "valid")[-1]["step"]) == (6, 6)
    assert read_status(tmp_path / "run")["status"] == "finished"
    assert train("train.max_steps=4", "train.resume=auto").returncode == 0
    assert len(lines(tmp_path / "run", "valid")) == 2  # the other one ended the first epoch


def test_a_run_from_another_ones_checkpoint_goes_on_with_its_own_lines(train, tmp_path):
    assert train("train.max_steps=3").returncode == 0
    [saved] = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")
    new = f"run.dir={tmp_path / 'new'}"
    assert train("train.max_steps=7", f"train.resume={saved}", new).returncode == 0
    (newest,) = (tmp_path / "new" / "checkpoints").glob("step-00000006")
    assert train("train.max_steps=7", f"train.resume={newest}", new).returncode == 0
    assert [line["step"] for line in lines(tmp_path / "new")] == [4, 5, 6, 7]


def test_overfitting_a_few_batches_sees_only_their_sentences(train, tmp_path):
    overfit = ["train.overfit_batches=2", "train.max_steps=60", "train.max_epochs=1000", "train.learning_rate=1e-2"]
    assert train(*NO_NOISE[:-1], *overfit, "train.checkpoint_every=60").returncode == 0
    trained = lines(tmp_path / "run")
    assert [line["epoch"] for line in trained[:4]] == [1, 1, 2, 2]
    assert trained[-1]["loss"] < 0.3 * trained[0]["loss"]
    # Validations without improvement do not lower it.
    assert trained[-1]["step"] == 60 and {line["learning_rate"] for line in trained} == {1e-2}


def test_the_averaged_weights_are_validated_and_kept_and_resumed(train, tmp_path):
    average = ["train.ema_decay=0.9", STEPS]
    assert train(*average).returncode == 0
    newest = checkpoint.list_checkpoints(tmp_path / "run" / "checkpoints")[-1]
    kept, trained = load_file(tmp_path / "run/model/model.safetensors"), load_file(newest / "model.safetensors")
    averaged = load_file(newest / "average.safetensors")
    assert averaged.pop("num_updates") == 12
    assert kept.keys() == averaged.keys()
    assert not any(np.array_equal(averaged[name], trained[name]) for name in averaged)
    losses = [line["loss"] for line in lines(tmp_path / "run", "valid")]
    assert losses[-1] == min(losses) and all(np.array_equal(kept[name], averaged[name]) for name in averaged)
    broken = f"run.dir={tmp_path / 'broken'}"
    assert train(*average, "train.max_steps=7", broken).returncode == 0
    assert train(*average, broken, "train.resume=auto").returncode == 0
    last = checkpoint.list_checkpoints(tmp_path / "broken" / "checkpoints")[-1]
    assert (last / "average.safetensors").read_bytes() == (newest / "average.safetensors").read_bytes()


def test_the_cosine_schedule_warms_up_and_falls(train, tmp_path):
    cosine = ["train=adamw", "train.schedule=cosine", "train.warmup_steps=4", "train.tokens_per_batch=null", STEPS]
    cosine += ["train.learning_rate=0.01", "train.max_epochs=100"]
    assert train(*cosine).returncode == 0
    rates = [line["learning_rate"] for line in lines(tmp_path / "run")]
    top = rates.index(max(rates))
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert max(rates) == pytest.approx(0.01, rel=0.05) and rates[-1] < 0.001


def test_a_profile_is_written_where_it_is_asked_for(train, tmp_path):
    assert train("train.profile_steps=2", "train.max_steps=14").returncode == 0
    table = (tmp_path / "run" / "profile" / "operators.txt").read_text()
    assert "aten::" in table and (tmp_path / "run" / "profile" / "trace.json").stat().st_size > 1000


def test_a_line_of_metrics_tells_throughput_utilisation_padding_and_gradient(train, tmp_path):
    assert train(STEPS).returncode == 0
    line = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[0])
    assert line["tokens_per_second"] > line["sentences_per_second"] > 0
    assert 0 < line["model_flops_utilisation"] < 1 and 0 <= line["padding"] < 1 and line["grad_norm"] > 0


def test_the_seconds_of_a_line_count_from_the_line_before_also_where_the_run_was_stopped_between(train, tmp_path):
    run_dir = tmp_path / "run"
    assert train("train.max_steps=11", "train.log_every=12").returncode == 0
    newest = checkpoint.list_checkpoints(run_dir / "checkpoints")[-1]
    before = json.loads((newest / "state.json").read_text())["meters"][0]["seconds"]
    assert train(STEPS, "train.log_every=12", "train.resume=auto").returncode == 0
    logged = map(json.loads, (run_dir / "metrics.jsonl").read_text().splitlines())
    (line,) = [line for line in logged if line["split"] == "train"]
    assert line["step"] == 12 and line["seconds"] > before > 0


def test_bf16_has_nearly_the_losses_of_fp32(train, tmp_path):
    for precision in ("fp32", "bf16"):
        finished = train(*NO_NOISE, f"train.precision={precision}", f"run.dir={tmp_path / precision}")
        assert finished.returncode == 0 and f"whole weights, {precision};" in finished.stderr
    fp32, bf16 = ([line["loss"] for line in read_metrics(tmp_path / precision)] for precision in ("fp32", "bf16"))
    assert bf16 == pytest.approx(fp32, rel=0.01) and bf16 != fp32


def test_as_it_is_set_up_a_run_takes_the_machines_precision_and_writes_its_losses_for_tensorboard(train, tmp_path):
    defaults = config.compose("train", []).train
    finished = train(f"train.precision={defaults.precision}", f"train.trackers={list(defaults.trackers)}", STEPS)
    assert finished.returncode == 0 and f"whole weights, {resolve_precision('auto')};" in finished.stderr
    events = EventAccumulator(str(tmp_path / "run" / "logs" / "smim")).Reload()
    for split in ("train", "valid"):
        logged = [(line["step"], line["loss"]) for line in lines(tmp_path / "run", split)]
        written = [(event.step, event.value) for event in events.Scalars(f"{split}/loss")]
        assert logged and written == [(step, pytest.approx(loss)) for step, loss in logged]


@pytest.mark.skipif(find_spec("wandb") is not None, reason="W&B is installed")
def test_a_tracker_that_is_not_installed_is_named(train):
    refused = train("train.trackers=[wandb]", "train.max_steps=1")
    assert refused.returncode == 2 and "pip install wandb" in refused.stderr


def test_sentences_longer_than_the_model_takes_are_cut_and_told_or_refused(train, tmp_path):
    whole = train("train.max_steps=2", "train.max_length=4", f"run.dir={tmp_path / 'cut'}")
    ended = train("train.max_steps=2", "model.max_length=4")
    assert (whole.returncode, ended.returncode) == (0, 0), ended.stderr
    assert "sentences of split train are cut after 4 tokens" in ended.stdout + ended.stderr
    assert [line["loss"] for line in lines(tmp_path / "run")] == [line["loss"] for line in lines(tmp_path / "cut")]
    assert lines(tmp_path / "run", "valid")[-1]["loss"] < lines(tmp_path / "cut", "valid")[-1]["loss"]
    refused = train("train.max_steps=2", "model.max_length=4", "train.too_long=error", f"run.dir={tmp_path / 'no'}")
    assert refused.returncode == 2 and "model.max_length is 4" in refused.stderr
