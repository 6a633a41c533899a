"""Facts about a model's settings: nested, by their short names, and as they were stored."""

from dataclasses import asdict
from pathlib import Path

import pytest

from smim import config, storage
from smim.errors import UserError
from smim.model.autoencoder import SentenceArgs
from smim.model.directory import PRETRAINED
from smim.model.gru import GRUDecoderArgs, GRUEncoderArgs
from smim.model.mlp import MLPArgs, MLPDecoderArgs, VectorArgs
from smim.model.registry import DECODERS, ENCODERS, make_args, read_args
from smim.model.superposition import SuperpositionEncoderArgs
from smim.model.transformer import TransformerDecoderArgs, TransformerEncoderArgs
from smim.schema import changed
from tests.scripts import ROOT

PATH = Path("config.json")
# As format 2 of `config.json` and older checkpoints have it.
FLAT_SENTENCES = {
    **{"latent_dim": 16, "posterior": "gaussian", "min_log_variance": -6.0, "max_log_variance": 0.0},
    **{"prior": "standard_normal", "num_prior_components": 100, "encoder": "transformer", "decoder": "gru"},
    **{"hidden_dim": 32, "embedding_dim": 8, "embedding_dropout": 0.2, "tied_output": True, "word_dropout": 0.1},
    **{"encoder_word_dropout": 0.0, "pseudo_input_length": 10, "max_length": 50, "num_layers": 2, "num_heads": 4},
    **{"feedforward_dim": None, "norm": "layer", "dropout": 0.0, "num_pooling_queries": 3, "num_memory_tokens": 4},
    "order_weight": 0.5,
}
SENTENCES = SentenceArgs(
    encoder=TransformerEncoderArgs(
        hidden_dim=32, num_layers=2, num_heads=4, norm="layer", dropout=0.0, num_pooling_queries=3
    ),
    decoder=GRUDecoderArgs(hidden_dim=32, embedding_dropout=0.2),
    **{"latent_dim": 16, "min_log_variance": -6.0, "embedding_dim": 8, "tied_output": True},
    **{"word_dropout": 0.1, "max_length": 50},
)
FLAT_VECTORS = {
    **{"latent_dim": 3, "posterior": "gaussian", "min_log_variance": -10.0, "max_log_variance": 0.0, "prior": "vamp"},
    **{"num_prior_components": 5, "encoder": "mlp", "decoder": "mlp", "hidden_dim": 7, "num_layers": 1},
    **{"activation": "relu", "likelihood": "bernoulli", "min_decoder_log_variance": -3.0},
}
VECTORS = VectorArgs(
    encoder=MLPArgs(hidden_dim=7, num_layers=1, activation="relu"),
    decoder=MLPDecoderArgs(
        hidden_dim=7, num_layers=1, activation="relu", likelihood="bernoulli", min_decoder_log_variance=-3.0
    ),
    **{"latent_dim": 3, "prior": "vamp", "num_prior_components": 5},
)


def composed(*overrides: str):
    return make_args(config.compose("train", list(overrides)).model)


@pytest.mark.parametrize(("flat", "args"), [(FLAT_SENTENCES, SENTENCES), (FLAT_VECTORS, VECTORS)])
def test_settings_are_read_flat_as_they_were_stored_and_nested_as_they_are(flat, args):
    assert read_args(flat, PATH) == args
    assert read_args(asdict(args), PATH) == args


def test_the_packaged_models_settings_are_read():
    stored = storage.read_json(PRETRAINED / "english-small" / "config.json")
    args = read_args(stored["model"], PATH)
    assert asdict(args) == stored["model"]
    assert (args.latent_dim, args.encoder.name, args.encoder.meaning.dim) == (512, "superposition", 128)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({**FLAT_SENTENCES, "hiden_dim": 3}, "config.json: unknown key model.hiden_dim; did you mean 'hidden_dim'"),
        ({**asdict(SENTENCES), "hidden_dim": 3}, "config.json: model.hidden_dim is not known"),
        (
            {**FLAT_SENTENCES, "decoder": "mlp"},
            "config.json: model.encoder=transformer is for sentences; model.decoder",
        ),
        ({**FLAT_SENTENCES, "hidden_dim": 33}, "config.json: model.encoder.hidden_dim is 33"),
        ({"encoder": {"name": ["gru"]}, "decoder": "gru"}, r"config.json: model.encoder is \"\['gru'\]\""),
        ([], "config.json: model is "),
    ],
)
def test_stored_settings_that_do_not_fit_are_told_with_the_file(stored, message):
    with pytest.raises(UserError, match=message):
        read_args(stored, PATH)


def test_what_is_said_beside_the_parts_is_of_both_where_they_say_none_of_their_own():
    args = composed("model=gru", "model.latent_dim=8", "model.hidden_dim=32", "model.encoder.hidden_dim=64")
    assert args.encoder == GRUEncoderArgs(hidden_dim=64) and args.decoder == GRUDecoderArgs(hidden_dim=32)
    assert changed(args) == {"encoder.hidden_dim": 64, "decoder.hidden_dim": 32, "latent_dim": 8}


def test_either_part_may_be_of_another_kind():
    short = composed("model=gru", "model.hidden_dim=32", "model.decoder=transformer")
    assert short.kind == "gru and transformer" and short.decoder == TransformerDecoderArgs(hidden_dim=32)
    assert composed("model=gru", "model.hidden_dim=32", "model.decoder.name=transformer") == short
    assert composed("model.encoder.name=superposition").encoder == SuperpositionEncoderArgs()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.hiden_dim=3"], "unknown key model.hiden_dim; did you mean 'model.hidden_dim'"),
        (["model.encoder.hiden_dim=3"], "unknown key model.encoder.hiden_dim; did you mean 'model.encoder.hidden_dim'"),
        (["model.encoder=grru"], "model.encoder is 'grru'; did you mean 'gru'"),
        (["model.encoder=mlp"], "model.encoder=mlp is for vectors; model.decoder=gru is for sentences"),
        (["model.decoder=superposition"], "it needs model.encoder=superposition and model.tied_output=true"),
        (["model=transformer", "model.encoder.num_heads=3"], "model.encoder.hidden_dim is 256.*multiple of 6"),
    ],
)
def test_a_wrong_setting_is_named_with_its_place(overrides, message):
    with pytest.raises(UserError, match=message):
        composed(*overrides)


def test_a_setting_that_no_part_has_is_named_without_the_command_line_too():
    with pytest.raises(UserError, match=r"unknown key model\.hiden_dim; did you mean 'hidden_dim'"):
        make_args({"hiden_dim": 3})
    with pytest.raises(UserError, match=r"unknown key model\.encoder\.num_heads; valid: hidden_dim, name"):
        make_args({"encoder": {"name": "gru", "num_heads": 4}})


def test_each_kind_is_in_the_tables_by_its_own_name():
    for kinds in (ENCODERS, DECODERS):
        assert {name: kind().name for name, kind in kinds.items()} == {name: name for name in kinds}


@pytest.mark.parametrize("name", sorted(path.stem for path in (ROOT / "configs" / "model").glob("[!_]*.yaml")))
def test_a_configuration_names_every_setting_of_its_parts(name):
    section = config.compose("train", [f"model={name}"]).model
    args = make_args(section)
    for part in ("encoder", "decoder"):
        assert set(section[part]) == set(asdict(getattr(args, part)))
