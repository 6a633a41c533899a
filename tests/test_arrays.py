"""Codes come in whatever holds numbers, and torch's default type changes none of them."""

import numpy as np
import pytest
import torch

import smim
from smim import vector_model
from smim.arrays import as_matrix
from smim.errors import UserError
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import save_model
from smim.model.mlp import VectorAutoencoder
from smim.search import index_texts, open_index
from smim.tzk import FitArgs, KnowledgeArgs, PriorArgs, fit_tzk, open_tzk
from tests.models import sentence_args, vector_args

CODES = np.random.default_rng(0).standard_normal((3, 8)).astype(np.float32)
READ_ONLY = CODES.copy()
READ_ONLY.flags.writeable = False
HOLDERS = {
    "requires a gradient": torch.tensor(CODES, requires_grad=True),
    "parameter": torch.nn.Parameter(torch.tensor(CODES)),
    "float64": torch.tensor(CODES).double(),
    "not contiguous": torch.tensor(CODES.T.copy()).T,
    "read-only": READ_ONLY,
    "strided": np.repeat(CODES, 2, axis=1)[:, ::2],
    "other byte order": CODES.astype(CODES.dtype.newbyteorder()),
    "lists": CODES.tolist(),
}
ROUNDED = [torch.bfloat16, torch.float16, torch.float8_e4m3fn]


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.filterwarnings("error")
def test_the_numbers_are_those_of_the_holder(holder):
    taken = as_matrix(holder, 8, "codes")
    assert taken.dtype == np.float32 and taken.flags.c_contiguous and taken.flags.writeable
    np.testing.assert_array_equal(taken, CODES)


@pytest.mark.parametrize("dtype", ROUNDED, ids=str)
def test_types_that_numpy_lacks_are_taken_too(dtype):
    np.testing.assert_allclose(as_matrix(torch.tensor(CODES).to(dtype), 8, "codes"), CODES, rtol=0.07, atol=0.01)


def test_whole_numbers_are_numbers():
    np.testing.assert_array_equal(as_matrix(torch.arange(8)[None], 8, "codes"), [np.arange(8)])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (torch.ones(2, 7), r"codes have shape \(2, 7\), but this model's are \[N, 8\]"),
        (torch.ones(8), r"have shape \(8,\)"),
        (torch.ones(2, 8, dtype=torch.bool), "not bool"),
        (torch.ones(2, 8, dtype=torch.complex64), "not complex64"),
        (torch.full((2, 8), torch.nan), "NaN"),
        (np.full((2, 8), 1e300), "infinite"),
        ([[1.0] * 8, [1.0]], r"numbers of shape \[N, 8\]"),
        ([torch.ones(8, requires_grad=True)], r"numbers of shape \[N, 8\]"),
    ],
)
def test_what_is_no_code_is_refused(given, told):
    with pytest.raises(UserError, match=told):
        as_matrix(given, 8, "codes")


def test_tensors_of_a_training_are_decoded_and_searched_as_their_numbers_are(
    model: SentenceModel, tiny_model, tmp_path
):
    texts = ["a bank lost", "the company sold"]
    codes = torch.tensor(model.encode(texts), requires_grad=True)
    index = index_texts(model, texts, tmp_path / "index", model_dir=tiny_model)
    for given in (codes, codes.bfloat16()):
        assert model.decode(given) == model.decode(codes.tolist())
        assert len(model.markov_chain(given, steps=1)) == 2
        assert [hits[0].id for hits in index.search(given, k=1)] == [0, 1]


@pytest.fixture
def float64_is_default():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def outcomes(model: SentenceModel) -> dict[str, object]:
    texts = ["a bank lost", "the company sold shares"]
    codes = model.encode(texts)
    assert codes.dtype == np.float32
    return {
        "codes": codes.tobytes(),
        "decoded": model.decode(codes),
        "drawn": model.decode(codes, sample=True),
        "interpolated": model.interpolate(*texts),
        "perturbed": model.perturb(texts[0]),
        "of the prior": model.sample(3, prior=True),
        "chain": model.markov_chain(codes, steps=2),
        "nothing": model.encode([]).dtype,
    }


ARCHITECTURES = {
    "gru": {},
    "transformer": {"encoder": "transformer", "decoder": "transformer", "num_layers": 1, "num_heads": 2},
    "superposition": {"encoder": "superposition", "decoder": "superposition", "tied_output": True, "num_heads": 2},
    "gaussian mixture": {"prior": "gaussian_mixture", "num_prior_components": 3},
    "vamp": {"prior": "vamp", "num_prior_components": 3},
    "sampled variance": {"posterior": "sampled_variance"},
}


@pytest.mark.parametrize("settings", ARCHITECTURES.values(), ids=ARCHITECTURES)
def test_a_model_is_the_same_where_float64_is_torchs_default(settings, corpus, tmp_path, request):
    args = sentence_args(latent_dim=8, hidden_dim=16, embedding_dim=12, max_length=20, **settings)
    made = SentenceAutoencoder(args, vocabulary_size=corpus.tokenizer.vocabulary_size)
    save_model(tmp_path / "model", made, corpus.tokenizer, training={"objective": "amim"})
    before = smim.load(tmp_path / "model", device="cpu")
    expected = outcomes(before)
    request.getfixturevalue("float64_is_default")
    for model in (before, smim.load(tmp_path / "model", device="cpu")):
        assert {parameter.dtype for parameter in model.autoencoder.state_dict().values()} == {torch.float32}
        assert outcomes(model) == expected


def test_a_model_of_vectors_is_the_same_where_float64_is_torchs_default(tmp_path, request):
    made = VectorAutoencoder(vector_args(latent_dim=2, hidden_dim=8), dimension=3)
    save_model(tmp_path / "model", made, None, training={"objective": "mim"})
    vectors = np.random.default_rng(0).standard_normal((4, 3))

    def found(model):
        codes = model.encode(vectors)
        return [array.tobytes() for array in (codes, model.decode(codes), model.sample(3), model.markov_chain(codes))]

    before = vector_model.load(tmp_path / "model")
    expected = found(before)
    request.getfixturevalue("float64_is_default")
    assert found(before) == found(vector_model.load(tmp_path / "model")) == expected


def test_an_index_and_labels_are_the_same_where_float64_is_torchs_default(model, corpus, tiny_model, tmp_path, request):
    fit = FitArgs(num_optimizer_steps=10)
    fit_tzk(
        model,
        corpus,
        tmp_path / "tzk",
        model_dir=tiny_model,
        args=PriorArgs(num_coupling_layers=2, hidden_dim=8),
        fit=fit,
    )
    few = KnowledgeArgs(code_dim=2, num_coupling_layers=2, hidden_dim=8)
    open_tzk(tmp_path / "tzk", model=model).add(corpus, "topic=money", args=few, fit=fit)
    index_texts(model, ["a bank lost", "the company sold"], tmp_path / "index", model_dir=tiny_model)
    label = "topic=money"

    def found():
        tzk, index = open_tzk(tmp_path / "tzk"), open_index(tmp_path / "index")
        codes = model.encode(["a bank lost"])
        hits = index.search(["a bank lost", "her brother sold"], k=2, score=True, reconstruct=True)
        return (
            [[(hit.id, hit.distance, hit.score, hit.reconstruction) for hit in row] for row in hits],
            [tzk.log_prob(codes, name).tolist() for name in (None, label)],
            tzk.classify(["a bank lost"]).tolist(),
            tzk.sample_codes(3).tolist(),
            tzk.sample_codes(3, [label]).tolist(),
        )

    expected = found()
    request.getfixturevalue("float64_is_default")
    assert found() == expected


def test_labels_take_tensors_of_a_training(model, corpus, tiny_model, tmp_path):
    fit = FitArgs(num_optimizer_steps=10)
    args = PriorArgs(num_coupling_layers=2, hidden_dim=8)
    tzk = fit_tzk(model, corpus, tmp_path / "tzk", model_dir=tiny_model, args=args, fit=fit)
    codes = torch.tensor(model.encode(["a bank lost"]), requires_grad=True)
    assert torch.equal(tzk.log_prob(codes.double()), tzk.log_prob(codes.tolist()))
    with pytest.raises(UserError, match=r"codes have shape \(1, 7\)"):
        tzk.log_prob(codes[:, 1:])
