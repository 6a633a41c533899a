"""What a GPU computes is what the CPU does, and each way of launching trains on one. Skipped where there is none.

python -m pytest tests/test_gpu.py -n 8
"""

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import smim
from eval import compare
from smim.arrays import as_matrix
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.decoding import decode_ids
from smim.model.latent_variable_model import LatentVariableModel, Observations
from smim.model.mlp import VectorAutoencoder
from smim.objectives import Objective, Terms, objective_class
from smim.objectives.registry import OBJECTIVES
from smim.search import Index, build_index
from smim.search.encode import EncodeArgs, encode_corpus
from smim.search.latents import Latents
from smim.text.batch import Batch, collate
from smim.text.corpus import Corpus
from smim.training.graphs import GraphedTrainingStep
from smim.training.step import TrainingStep
from smim.vectors.batch import VectorBatch
from tests.evaluation.test_run import overrides
from tests.models import sentence_args, vector_args
from tests.scripts import ROOT, run_script
from tests.training.conftest import BIN, Train, command, read_metrics, start, train  # noqa: F401

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")

VOCABULARY = 300
SMALL = {"latent_dim": 64, "hidden_dim": 64, "embedding_dim": 48, "max_length": 60}
MODELS = {
    "gru": {},
    "transformer": {"encoder": "transformer", "decoder": "transformer", "num_layers": 2, "num_heads": 4},
    "superposition": {
        **{"encoder": "superposition", "decoder": "superposition", "tied_output": True, "num_layers": 1},
        **{"num_heads": 4, "posterior": "sampled_variance"},
    },
}
LAUNCHES = ["ddp", "fsdp2", "zero1", "zero2", "zero3"]
STEPS = ["train.max_steps=12", "train.max_epochs=100"]


def make_model(architecture: str) -> SentenceAutoencoder:
    args = sentence_args(**(SMALL | MODELS[architecture]))
    return SentenceAutoencoder(args, vocabulary_size=VOCABULARY).eval()


@pytest.fixture
def batch() -> Batch:
    random = np.random.default_rng(0)
    return collate([random.integers(5, VOCABULARY, length) for length in (1, 7, 20, 33)], range(4))


def gradients(model: SentenceAutoencoder, batch: Batch, *, bf16: bool) -> tuple[Terms, dict[str, torch.Tensor]]:
    noise = torch.randn(4, 64, generator=torch.Generator().manual_seed(1)).to(batch.rows.device)
    with torch.autocast(batch.rows.device.type, torch.bfloat16, enabled=bf16):
        terms = objective_class("amim")().terms(model, batch, step=0, noise=noise)
    terms["loss"].mean().backward()
    named = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return {name: value.detach().cpu() for name, value in terms.items()}, named


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).norm() / one.norm().clamp(min=1e-6))


@pytest.mark.parametrize("architecture", MODELS)
def test_codes_and_likelihoods_are_those_of_the_cpu(architecture: str, batch: Batch) -> None:
    model = make_model(architecture)
    z = torch.randn(4, 64)
    with torch.no_grad():
        mean, words = model.posterior(batch).mean, model.log_prob(batch, z).words
        model.cuda()
        on_gpu = batch.to(torch.device("cuda"))
        torch.testing.assert_close(model.posterior(on_gpu).mean.cpu(), mean, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(model.log_prob(on_gpu, z.cuda()).words.cpu(), words, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("architecture", MODELS)
@pytest.mark.parametrize(("bf16", "tolerance"), [(False, 5e-3), (True, 5e-2)])
def test_gradients_are_those_of_the_cpu(architecture: str, bf16: bool, tolerance: float, batch: Batch) -> None:
    """In fp32 too cuDNN's GRU may round to TF32 in training."""
    model = make_model(architecture)
    assert not model.training
    terms, expected = gradients(copy.deepcopy(model), batch, bf16=False)
    on_gpu, found = gradients(model.cuda(), batch.to(torch.device("cuda")), bf16=bf16)
    assert found.keys() == expected.keys()
    torch.testing.assert_close(on_gpu["reconstruction"], terms["reconstruction"], rtol=tolerance, atol=0.05)
    assert {name: off for name in expected if (off := distance(expected[name], found[name])) > tolerance} == {}


@pytest.mark.parametrize("architecture", MODELS)
def test_decoded_words_are_those_of_the_cpu(architecture: str) -> None:
    model = make_model(architecture)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 1.5
    z = torch.randn(200, 64)
    expected = decode_ids(model, z, 30)
    found = decode_ids(model.cuda(), z, 30)
    assert sum(one == other for one, other in zip(expected, found, strict=True)) >= 195
    assert all(len(ids) <= 30 for ids in decode_ids(model, z, 30, uniform=torch.rand(200, 30)))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_sentences(name: str, batch: Batch) -> None:
    objective = objective_class(name)()
    model = make_model("gru").cuda().train()
    objective.prepare(model)
    check_descends(objective, model, batch.to(torch.device("cuda")))


@pytest.mark.parametrize("prior", ["standard_normal", "gaussian_mixture", "vamp"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_trains_vectors(name: str, prior: str) -> None:
    objective = objective_class(name)()
    args = vector_args(latent_dim=2, hidden_dim=6, prior=prior, num_prior_components=4)
    model = VectorAutoencoder(args, dimension=3).cuda().train()
    objective.prepare(model)
    check_descends(objective, model, VectorBatch(torch.arange(16), torch.randn(16, 3)).to(torch.device("cuda")))


def check_descends(objective: Objective, model: LatentVariableModel, batch: Observations) -> None:
    critic = objective.make_critic(model)
    network = critic.network.cuda() if critic else None
    terms = objective.terms(model, batch, step=0, critic=network)
    assert all(value.device.type == "cuda" and value.isfinite().all() for value in terms.values())
    (terms["loss"] + terms.get("critic_loss", 0.0)).mean().backward()
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


GRAPHED = [name for name, kind in OBJECTIVES.items() if kind.can_be_graphed]


@pytest.mark.parametrize("name", GRAPHED)
@pytest.mark.parametrize("prior", ["standard_normal", "vamp"])
def test_a_graphed_step_has_the_losses_and_gradients_of_one_that_is_not(name: str, prior: str, batch: Batch) -> None:
    objective = objective_class(name)()
    args = sentence_args(**SMALL, prior=prior, num_prior_components=4, embedding_dropout=0.0)
    model = SentenceAutoencoder(args, vocabulary_size=VOCABULARY).cuda()
    objective.prepare(model)
    assert model.graphable and objective.can_be_graphed
    plain = TrainingStep(model, objective, precision="fp32")
    graphed = GraphedTrainingStep(model, objective, precision="fp32", batch_size=4)
    short = collate([[7, 8], [9], [10, 11, 12], [13]], range(4))
    for each in (batch, short, batch, short, collate([[7, 8]], [0])):
        on_gpu, found = each.to(torch.device("cuda")), []
        for step in (plain, graphed):
            torch.manual_seed(0)
            terms = step(on_gpu, 5)
            terms["loss"].sum().backward()
            found.append(({name: value.detach().clone() for name, value in terms.items()}, flat_gradients(model)))
            model.zero_grad()
        torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-3, atol=1e-3)
        assert distance(found[0][1], found[1][1]) < 5e-3
    assert sorted(graphed.graphs) == [8, 40]


def flat_gradients(model: SentenceAutoencoder) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def test_a_graph_draws_other_noise_each_time_and_none_when_it_is_captured(batch: Batch) -> None:
    model = make_model("gru").cuda().train()
    step = GraphedTrainingStep(model, objective_class("amim")(), precision="bf16", batch_size=4)
    on_gpu = batch.to(torch.device("cuda"))
    before = torch.cuda.get_rng_state()
    losses = [step(on_gpu, 0)["loss"].detach().clone() for _ in range(3)]
    assert not torch.equal(losses[0], losses[1]) and not torch.equal(losses[1], losses[2])
    torch.cuda.set_rng_state(before)
    torch.testing.assert_close([step(on_gpu, 0)["loss"].detach().clone() for _ in range(3)], losses)


@pytest.mark.parametrize("model", ["gru", "transformer", "superposition"])
def test_a_training_on_a_gpu_goes_on_where_it_was_stopped(train: Train, tmp_path: Path, model: str) -> None:  # noqa: F811
    settings = [
        f"model={model}",
        "model.num_layers=1",
        "model.num_heads=4",
        "train.precision=bf16",
        "train.cuda_graphs=true",
    ]
    whole, parts = f"run.dir={tmp_path / 'whole'}", f"run.dir={tmp_path / 'parts'}"
    first = train(*settings, *STEPS, whole)
    assert first.returncode == 0 and "1 process(es) on cuda, whole weights, bf16" in first.stderr, first.stderr
    assert train(*settings, *STEPS, "train.max_steps=7", parts).returncode == 0
    assert train(*settings, *STEPS, "train.resume=auto", parts).returncode == 0
    assert trained(tmp_path / "parts") == pytest.approx(trained(tmp_path / "whole"), rel=1e-3)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("launch", LAUNCHES)
def test_every_launch_has_the_losses_of_one_process_and_goes_on_from_it(
    train: Train,  # noqa: F811
    tmp_path: Path,
    launch: str,
) -> None:
    launcher = [
        *(str(BIN / "accelerate"), "launch", "--config_file", f"launch/accelerate/{launch}.yaml"),
        *("--num_processes", "1", "--main_process_port", "0", "smim/train.py"),
    ]
    noiseless = ["objective=autoencoder", "model.embedding_dropout=0", *STEPS]
    one, other = f"run.dir={tmp_path / 'one'}", f"run.dir={tmp_path / 'other'}"
    assert train(*noiseless, one).returncode == 0
    first = train(*noiseless, "train.max_steps=7", other, launcher=launcher)
    assert first.returncode == 0 and "1 process(es) on cuda" in first.stderr, first.stderr
    second = train(*noiseless, "train.max_steps=10", "train.resume=auto", other, launcher=launcher)
    assert second.returncode == 0, second.stderr
    assert train(*noiseless, "train.resume=auto", other).returncode == 0
    assert trained(tmp_path / "other") == pytest.approx(trained(tmp_path / "one"), rel=1e-3)


@pytest.mark.parametrize("model", ["transformer", "superposition"])
def test_compiled_models_have_the_losses_of_others(train: Train, tmp_path: Path, model: str) -> None:  # noqa: F811
    settings = [f"model={model}", "model.num_layers=1", "model.num_heads=4", "model.dropout=0"]
    settings += ["objective=autoencoder", "model.embedding_dropout=0", "model.word_dropout=0", *STEPS]
    assert train(*settings, f"run.dir={tmp_path / 'plain'}").returncode == 0
    compiled = train(*settings, "train.compile=true", f"run.dir={tmp_path / 'compiled'}")
    assert compiled.returncode == 0, compiled.stderr
    assert trained(tmp_path / "compiled") == pytest.approx(trained(tmp_path / "plain"), rel=1e-3)


def trained(run_dir: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run_dir) if line["split"] == "train"]


def test_a_report_is_that_of_the_cpu(odd_corpus: Path, long_model: Path, tmp_path: Path) -> None:
    figures = []
    for visible in (os.environ.get("CUDA_VISIBLE_DEVICES", "0"), ""):
        output = tmp_path / f"report{visible}"
        evaluation = [sys.executable, "eval/run.py", *overrides(long_model, odd_corpus, output, "eval=thesis")]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": visible}
        finished = subprocess.run(evaluation, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
        assert finished.returncode == 0, finished.stderr
        report = compare.read_report(output)["metrics"]
        figures.append({name: figure["value"] for name, figure in report.items()})
    on_gpu, expected = figures
    assert on_gpu == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_encoded_latents_are_those_of_the_cpu(
    tiny_model: Path, tiny_corpus: Path, model: SentenceModel, corpus: Corpus, tmp_path: Path
) -> None:
    finished = run_script(
        "smim/search/encode.py",
        [f"model.dir={tiny_model}", f"corpus.dir={tiny_corpus}", f"output={tmp_path / 'latents'}"],
    )
    assert finished.returncode == 0, finished.stderr
    expected = model.encode(corpus.split("train").texts())
    np.testing.assert_allclose(Latents.open(tmp_path / "latents").mean(range(40)), expected, atol=1e-4)
    encode_corpus(tiny_model, tiny_corpus, tmp_path / "here", args=EncodeArgs(rows_per_shard=7))
    np.testing.assert_allclose(Latents.open(tmp_path / "here").mean(range(40)), expected, atol=1e-4)


def test_an_index_is_searched_and_decoded_with_a_model_on_the_gpu(
    tiny_model: Path, corpus: Corpus, model: SentenceModel, index: Index, tmp_path: Path
) -> None:
    on_gpu = smim.load(tiny_model)
    assert on_gpu.autoencoder.device.type == "cuda"
    built = build_index(on_gpu, corpus, tmp_path / "gpu", model_dir=tiny_model)
    texts = corpus.split("test").texts()
    for query in texts:
        [one], [other] = index.search([query], k=3), built.search([query], k=3)
        assert [hit.id for hit in one] == [hit.id for hit in other]
    assert on_gpu.reconstruct(texts) == model.reconstruct(texts)
    assert on_gpu.interpolate(*texts[:2], steps=5) == model.interpolate(*texts[:2], steps=5)


def test_codes_on_the_gpu_are_taken() -> None:
    codes = torch.randn(2, 8, device="cuda", requires_grad=True)
    np.testing.assert_array_equal(as_matrix(codes, 8, "codes"), codes.detach().cpu().numpy())
    np.testing.assert_array_equal(as_matrix(codes.bfloat16(), 8, "codes"), codes.bfloat16().float().tolist())
