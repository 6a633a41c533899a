"""Facts about what the training loop asks of a model, whatever its kind."""

import pytest
import torch

from smim.errors import UserError
from smim.model.latent_variable_model import LatentVariableModel
from smim.model.registry import make_args, make_model
from smim.text.batch import collate
from smim.text.corpus import Corpus
from smim.training.checks import check_kind
from smim.vectors.batch import VectorBatch

SMALL = {"latent_dim": 8, "hidden_dim": 16}
SENTENCES = {**SMALL, "embedding_dim": 8, "num_layers": 1, "num_heads": 2}


def make(encoder: str, decoder: str, **settings) -> LatentVariableModel:
    sizes = SMALL if encoder == "mlp" else {**SENTENCES, "tied_output": decoder == "superposition"}
    return make_model(make_args({"encoder": encoder, "decoder": decoder, **sizes, **settings}), input_size=20)


@pytest.mark.parametrize(
    ("encoder", "decoder", "compiled", "graphable"),
    [
        ("gru", "gru", [], True),
        ("transformer", "transformer", ["encoder", "decoder"], False),
        ("transformer", "gru", ["encoder"], False),
        ("superposition", "superposition", ["decoder"], False),
        ("mlp", "mlp", [], False),
    ],
)
def test_a_model_says_what_is_worth_compiling_and_whether_its_step_can_be_captured(
    encoder, decoder, compiled, graphable
):
    model = make(encoder, decoder)
    parts = dict(model.named_children())
    assert model.compile_parts() == [parts[name] for name in compiled]
    assert model.graphable is graphable


def test_weight_decay_leaves_embedding_and_prior_alone():
    assert make("gru", "gru").undecayed == ("embedding", "prior")
    assert make("mlp", "mlp").undecayed == ("prior",)


@pytest.mark.parametrize("kind", ["gru", "mlp"])
def test_a_vamp_prior_asks_for_as_many_observations_as_it_has_pseudo_inputs(kind):
    assert make(kind, kind).num_initial_observations == 0
    model = make(kind, kind, prior="vamp", num_prior_components=3)
    assert model.num_initial_observations == 3
    before = model.prior.sample(1).shape, model.state_dict()["prior.pseudo_inputs"].clone()
    model.initialize(
        VectorBatch(torch.arange(3), torch.rand(3, 20)) if kind == "mlp" else collate([[5], [6, 7], [8]], [0, 1, 2])
    )
    assert model.prior.sample(1).shape == before[0]
    assert not torch.equal(model.state_dict()["prior.pseudo_inputs"], before[1])


def test_a_corpus_and_a_model_are_of_one_unit(tiny_corpus):
    corpus = Corpus.open(tiny_corpus)
    assert corpus.unit == make("gru", "gru").unit == "sentence"
    check_kind(corpus, make_args({}))
    with pytest.raises(UserError, match="holds sentences, which model=mlp does not support; use model=gru or model=tr"):
        check_kind(corpus, make_args({"encoder": "mlp", "decoder": "mlp"}))
