"""What a model learns of meaning alone, before the training begins."""

import pytest
import torch
import torch.nn.functional as F
from accelerate import Accelerator

from smim.corpora import open_corpus
from smim.errors import UserError
from smim.model.registry import make_args, make_model
from smim.objectives import objective_class
from smim.objectives.second_view import SecondView
from smim.text.corpus import Corpus
from smim.training.args import TrainArgs
from smim.training.meaning import learn_meaning
from smim.training.run import Run
from smim.training.trainer import Trainer

MEANING = {
    "encoder": {"name": "superposition", "meaning": {"dim": 6, "table_dim": 6}},
    "decoder": "superposition",
    **{"latent_dim": 24, "embedding_dim": 12, "hidden_dim": 16, "num_layers": 1, "num_heads": 2, "tied_output": True},
}
GRU = {"latent_dim": 8, "hidden_dim": 16, "embedding_dim": 12}
VIEW = SecondView(weight=1.0, epochs_alone=300)


@pytest.fixture
def viewed(viewed_corpus: list[str]) -> Corpus:
    directory, teacher = (setting.partition("=")[2] for setting in viewed_corpus)
    return open_corpus(directory, teacher=teacher)


def made(settings: dict, corpus: Corpus):
    torch.manual_seed(0)
    return make_model(make_args(settings), input_size=corpus.input_size)


def error(model, corpus: Corpus) -> float:
    """Between the cosines of meanings and those of the teacher's vectors."""
    split = corpus.split("valid")
    batch = split.batch(range(len(split)))
    with torch.no_grad():
        ours, theirs = (F.normalize(each, dim=-1) for each in (model.eval().meaning_of(batch), batch.view))
    return float((ours @ ours.T - theirs @ theirs.T).abs().mean())


def learn(model, corpus: Corpus, view: SecondView = VIEW) -> None:
    learn_meaning(model, corpus.split("train"), view, max_length=None, seed=0, visible=False)


@pytest.mark.parametrize("settings", [MEANING, GRU], ids=["meaning part", "whole code"])
def test_codes_come_to_be_as_alike_as_the_teachers_vectors(viewed, settings):
    model = made(settings, viewed)
    before = error(model, viewed)
    learn(model, viewed)
    assert error(model, viewed) < 0.5 * before


def test_the_order_part_and_the_decoder_stay_as_they_are(viewed):
    model = made(MEANING, viewed)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    learn(model, viewed)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"embedding.weight", "encoder.meaning.from_table.weight"}
    assert torch.equal(model.embedding.weight[:, :12], before["embedding.weight"][:, :12])


def test_the_same_seed_learns_the_same(viewed):
    models = [made(MEANING, viewed) for _ in range(2)]
    for model in models:
        learn(model, viewed, SecondView(weight=1.0, epochs_alone=2))
    assert torch.equal(*(model.embedding.weight for model in models))


def test_a_run_learns_it_before_its_first_step_and_not_again_when_it_goes_on(viewed, tmp_path):
    def run(epochs: int, resume: str = "never") -> Run:
        objective = objective_class("amim")(second_view=SecondView(weight=1.0, epochs_alone=epochs))
        args = TrainArgs(batch_size=8, precision="fp32", trackers=[], resume=resume)
        accelerator = Accelerator(cpu=True)
        return Run(viewed, make_args(MEANING), objective, args, accelerator=accelerator, run_dir=tmp_path)

    begun = run(300)
    assert error(begun.model, viewed) < 0.5 * error(run(0).model, viewed)
    begun.save()
    assert torch.equal(run(300, "auto").model.embedding.weight, begun.model.embedding.weight)


def test_a_meaning_part_that_is_held_stays_as_it_is(viewed, tmp_path):
    view = SecondView(weight=1.0, epochs_alone=2, hold=True)
    args = TrainArgs(batch_size=8, max_steps=5, precision="fp32", trackers=[], optimizer="adamw", weight_decay=0.1)
    settings = (objective_class("amim")(second_view=view), args)
    trainer = Trainer(viewed, make_args(MEANING), *settings, accelerator=Accelerator(cpu=True), run_dir=tmp_path)
    begun = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.fit()
    ended = trainer.model.state_dict()
    assert torch.equal(ended["encoder.meaning.from_table.weight"], begun["encoder.meaning.from_table.weight"])
    said, table = (ended["embedding.weight"] != begun["embedding.weight"]).split([12, 6], dim=1)
    assert said.any() and not table.any()
    with pytest.raises(UserError, match=r"needs a meaning part, but this model's codes have none"):
        Run(viewed, make_args(GRU), *settings, accelerator=Accelerator(cpu=True), run_dir=tmp_path / "gru")


@pytest.mark.parametrize("view", [SecondView(epochs_alone=2), SecondView(weight=1.0, epochs_alone=2, loss="head")])
def test_epochs_alone_need_a_weight_and_no_head(view):
    with pytest.raises(UserError, match=r"epochs_alone is 2; it needs a weight above 0, and another loss than head"):
        objective_class("amim")(second_view=view)


def test_a_meaning_part_that_nothing_taught_is_not_held(viewed, tmp_path):
    settings = (objective_class("amim")(second_view=SecondView(weight=1.0, hold=True)), TrainArgs(trackers=[]))
    with pytest.raises(UserError, match=r"second_view\.hold=true needs a trained meaning part"):
        Run(viewed, make_args(MEANING), *settings, accelerator=Accelerator(cpu=True), run_dir=tmp_path)


def test_a_model_of_a_whole_code_has_the_meaning_that_it_encodes(viewed):
    model, batch = made(GRU, viewed).eval(), viewed.split("valid").batch([0, 1])
    torch.testing.assert_close(model.meaning_of(batch), model.posterior(batch).mean)
