"""What may be added to any loss: cMIM's contrast, a teacher's vector and pairs, against sums written out in numpy."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from smim.errors import UserError
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.mlp import VectorAutoencoder
from smim.objectives import OBJECTIVES, objective_class
from smim.objectives.contrast import Contrast, discrimination
from smim.objectives.pairs import Pairs
from smim.objectives.second_view import SecondView
from smim.text.batch import Batch, collate
from tests.models import sentence_args, vector_args
from tests.objectives.checks import vectors

SENTENCES = [[5, 6, 7, 8], [9, 10], [11, 12, 13], [6, 5], [14]]
OTHERS = [[5, 6, 8], [10, 9, 12], [13], [6, 6], [14, 15]]
VIEWS = torch.nn.functional.normalize(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), dim=-1)
ADDED = [
    {"contrast": Contrast(weight=0.5)},
    {"second_view": SecondView(weight=2.0)},
    {"second_view": SecondView(weight=2.0, loss="vector")},
    {"second_view": SecondView(weight=2.0, loss="head")},
    {"pairs": Pairs(weight=0.7, loss="both")},
]


@pytest.fixture
def model() -> SentenceAutoencoder:
    return SentenceAutoencoder(sentence_args(latent_dim=4, hidden_dim=16, embedding_dim=8), vocabulary_size=20).eval()


@pytest.fixture
def batch() -> Batch:
    rows = range(len(SENTENCES))
    return replace(collate(SENTENCES, rows), view=VIEWS, pair=collate(OTHERS, rows))


def cosine(one: Tensor, other: Tensor) -> float:
    one, other = one.detach().numpy().astype(float), other.detach().numpy().astype(float)
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def table(ones: Tensor, others: Tensor) -> np.ndarray:
    return np.array([[cosine(one, other) for other in others] for one in ones])


def terms_of(model, batch, noise=None, **added) -> dict[str, Tensor]:
    """The terms of the sum, and of the objective alone as `plain`."""
    objective = objective_class("amim")(**added)
    critic = objective.make_critic(model)
    noise = torch.randn(len(batch), 4, generator=torch.Generator().manual_seed(1))
    plain = objective_class("amim")().terms(model, batch, step=0, noise=noise)["loss"]
    terms = objective.terms(model, batch, step=0, noise=noise, critic=critic and critic.network)
    posterior = model.posterior(batch)
    return {**terms, "plain": plain, "z": posterior.mean + posterior.standard_deviation * noise}


def expected_discrimination(cosines: np.ndarray, temperature: float) -> list[float]:
    values = []
    for i, row in enumerate(np.exp(cosines / temperature)):
        negatives = [value for j, value in enumerate(row) if j != i]
        values.append(-np.log(row[i] / (row[i] + np.mean(negatives))))
    return values


def test_cmim_is_amim_and_the_nats_of_telling_a_sentence_from_the_mean_of_the_others(model, batch):
    terms = terms_of(model, batch, contrast=Contrast(weight=0.5, temperature=0.2))
    expected = torch.tensor(expected_discrimination(table(terms["z"], terms["z"]), 0.2)).float()
    torch.testing.assert_close(terms["contrast"], expected)
    torch.testing.assert_close(terms["loss"], terms["plain"] + 0.5 * expected)


def test_the_contrast_depends_little_on_the_number_of_negatives():
    z = torch.nn.functional.normalize(torch.randn(900, 16), dim=-1)
    many = discrimination(z @ z.T, 0.5).mean()
    few = torch.stack([discrimination(part @ part.T, 0.5).mean() for part in z.split(9)]).mean()
    torch.testing.assert_close(few, many, rtol=0.02, atol=0)  # a sum of them would differ by log 100


def test_the_contrast_drives_codes_apart_in_angle():
    z = torch.nn.Parameter(1 + 0.1 * torch.randn(4, 3))
    optimizer = torch.optim.SGD([z], lr=1.0)
    before = table(z, z).sum()
    for _ in range(50):
        cosines = torch.nn.functional.normalize(z, dim=-1) @ torch.nn.functional.normalize(z, dim=-1).T
        discrimination(cosines, 0.5).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    assert before > 15 and table(z, z).sum() < 0.1  # a tetrahedron, whose cosines sum to 0


def test_similarities_say_which_others_of_the_batch_are_near_and_how_near(model, batch):
    terms = terms_of(model, batch, second_view=SecondView(weight=2.0, temperature=0.3))
    expected = []
    for ours, theirs in zip(table(terms["z"], terms["z"]), table(batch.view, batch.view), strict=True):
        i = len(expected)
        q, p = (np.exp(np.delete(row, i) / 0.3) / np.exp(np.delete(row, i) / 0.3).sum() for row in (ours, theirs))
        how_near = (np.delete(ours - theirs, i) ** 2).mean() / (2 * 0.3**2)
        expected.append(float((p * np.log(p / q)).sum() + how_near))
    torch.testing.assert_close(terms["second_view"], torch.tensor(expected))
    torch.testing.assert_close(terms["loss"], terms["plain"] + 2 * torch.tensor(expected))


def test_a_vector_is_compared_with_the_meaning_part_by_the_first_of_its_axes(model, batch):
    terms = terms_of(model, batch, second_view=SecondView(weight=2.0, loss="vector", temperature=0.3))
    expected = [(1 - cosine(z, view[:4])) / 0.3 for z, view in zip(terms["z"], batch.view, strict=True)]
    torch.testing.assert_close(terms["second_view"], torch.tensor(expected))


def test_a_vector_of_fewer_numbers_than_the_meaning_part_is_zero_in_the_others(model, batch):
    narrow = replace(batch, view=batch.view[:, :3])
    terms = terms_of(model, narrow, second_view=SecondView(weight=2.0, loss="vector", temperature=0.3))
    expected = [
        (1 - cosine(z, torch.cat([view, torch.zeros(1)]))) / 0.3
        for z, view in zip(terms["z"], narrow.view, strict=True)
    ]
    torch.testing.assert_close(terms["second_view"], torch.tensor(expected))


@pytest.mark.parametrize("loss", ["similarities", "vector"])
def test_a_sentence_that_was_left_out_of_the_teaching_is_as_if_it_were_not_there(model, batch, loss):
    view = batch.view.clone()
    view[1] = 0
    kept = torch.tensor([0, 2, 3, 4])
    noise = torch.randn(len(batch), 4, generator=torch.Generator().manual_seed(2))
    objective = objective_class("amim")(second_view=SecondView(weight=1.0, loss=loss))
    given = objective.terms(model, replace(batch, view=view), step=0, noise=noise)["second_view"]
    rest = replace(collate([SENTENCES[i] for i in kept], range(4)), view=view[kept])
    expected = objective.terms(model, rest, step=0, noise=noise[kept])["second_view"]
    assert given[1] == 0
    torch.testing.assert_close(given[kept], expected)
    none = objective.terms(model, replace(batch, view=torch.zeros_like(view)), step=0, noise=noise)["second_view"]
    assert none.eq(0).all()


def test_a_head_leaves_the_geometry_of_codes_open(model, batch):
    """Codes that are the teacher's but for a linear map cost nothing with the head that undoes it."""
    z = torch.randn(5, 4)
    mixed = z @ torch.randn(4, 4)
    objective = objective_class("amim")(second_view=SecondView(weight=1.0, loss="head"))
    head = objective.make_critic(model).network
    with torch.no_grad():
        head.weight.copy_(torch.linalg.lstsq(mixed, z).solution.T)
        head.bias.zero_()
    draw = objective.draw(model, replace(batch, view=z), step=0, noise=None, critic=head)
    draw = replace(draw, z=mixed)
    assert objective.second_view.terms(draw)["second_view"].abs().max() < 1e-4
    assert replace(objective.second_view, loss="vector").terms(draw)["second_view"].mean() > 1


def test_model_and_head_are_trained_by_the_one_loss(model, batch):
    objective = objective_class("autoencoder")(second_view=SecondView(weight=1.0, loss="head"))
    head = objective.make_critic(model)
    objective.terms(model, batch, step=0, critic=head.network)["loss"].sum().backward()
    assert head.network.weight.grad.abs().sum() > 0
    assert {id(each) for each in head.network.parameters()} == {id(e) for e in head.optimizer.param_groups[0]["params"]}


def test_pairs_are_told_apart_in_both_directions_and_decoded(model, batch):
    terms = terms_of(model, batch, pairs=Pairs(weight=0.7, loss="both", temperature=0.4))
    across = table(terms["z"], model.posterior(batch.pair).mean)
    both = np.array([expected_discrimination(each, 0.4) for each in (across, across.T)])
    torch.testing.assert_close(terms["pair_contrast"], torch.tensor(both.mean(0)).float())
    decoded = model.log_prob(batch.pair, terms["z"]).with_eos
    torch.testing.assert_close(terms["pair_reconstruction"], -decoded)
    torch.testing.assert_close(
        terms["loss"], terms["plain"] + 0.7 * (terms["pair_contrast"] + terms["pair_reconstruction"])
    )


@pytest.mark.parametrize(("loss", "names"), [("contrast", {"pair_contrast"}), ("likelihood", {"pair_reconstruction"})])
def test_pairs_may_have_one_of_the_two_terms(model, batch, loss, names):
    assert {name for name in terms_of(model, batch, pairs=Pairs(weight=1.0, loss=loss)) if "pair" in name} == names


@pytest.mark.parametrize("added", ADDED, ids=str)
def test_a_sentence_alone_has_a_loss_and_a_gradient(model, batch, added):
    alone = replace(collate(SENTENCES[:1], [0]), view=batch.view[:1], pair=collate(OTHERS[:1], [0]))
    loss = terms_of(model, alone, **added)["loss"]
    loss.sum().backward()
    assert loss.isfinite().all() and all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_contrasts_are_in_fp32_under_autocast(model, batch):
    added = {"contrast": Contrast(1.0), "second_view": SecondView(1.0), "pairs": Pairs(1.0)}
    objective = objective_class("amim")(**added)
    draw = objective.draw(model, batch, step=0, noise=None, critic=None)
    for name, addition in added.items():
        expected = addition.terms(draw)
        with torch.autocast("cpu", torch.bfloat16):
            found = addition.terms(draw)
        for key in expected:
            # The other sentence is encoded under autocast too.
            tolerance = {"rtol": 2e-2, "atol": 1e-3} if name == "pairs" else {"rtol": 1e-6, "atol": 1e-7}
            assert found[key].dtype == torch.float32
            torch.testing.assert_close(found[key], expected[key], **tolerance)


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize("added", ADDED, ids=str)
def test_every_objective_of_sentences_takes_every_addition(model, batch, name, added):
    if objective_class(name).has_critic and added == ADDED[3]:
        with pytest.raises(UserError, match=f"loss=head .* objective={name}"):
            objective_class(name)(**added)
        return
    if name == "language_model":
        with pytest.raises(UserError, match="needs codes, but objective=language_model has none"):
            objective_class(name)(**added)
        return
    settings = {"max_sampled_length": 4} if name == "mim" else {}
    objective = objective_class(name)(**added, **settings)
    critic = objective.make_critic(model)
    terms = objective.terms(model.train(), batch, step=0, critic=critic and critic.network)
    terms["loss"].sum().backward()
    new = set(terms) & {"contrast", "second_view", "pair_contrast", "pair_reconstruction"}
    assert len(new) == (2 if "pairs" in added else 1) and all(terms[each].shape == (5,) for each in new)


def test_vectors_take_the_contrast(model):
    vectors_model = VectorAutoencoder(vector_args(latent_dim=2, hidden_dim=6), dimension=3)
    terms = objective_class("amim")(contrast=Contrast(1.0)).terms(vectors_model, vectors(6), step=0)
    assert (terms["contrast"] > 0).all()


def test_a_pair_is_decoded_from_the_meaning_part_alone_where_there_is_one(batch):
    encoder = {"encoder": {"name": "superposition", "meaning": {"dim": 6, "table_dim": 6}}}
    layers = {"decoder": "superposition", "tied_output": True, "num_layers": 1, "num_heads": 2}
    args = sentence_args(latent_dim=18, hidden_dim=16, embedding_dim=8, **encoder, **layers)
    model = SentenceAutoencoder(args, vocabulary_size=20)
    torch.manual_seed(0)
    z = torch.randn(5, 18)
    other_order = torch.cat([z[:, :6], torch.randn(5, 12)], dim=-1)
    for part in (model.train(), model.eval()):
        one, other = (part.log_likelihood_of_pair(batch.pair, each) for each in (z, other_order))
        torch.testing.assert_close(one, other)
    assert not torch.allclose(model.log_likelihood(batch.pair, z), model.log_likelihood(batch.pair, other_order))


def test_what_a_batch_lacks_is_left_out(model, batch):
    added = {"second_view": SecondView(weight=2.0), "pairs": Pairs(weight=1.0)}
    bare = terms_of(model, replace(batch, view=None, pair=None), **added)
    assert torch.equal(bare["loss"], bare["plain"]) and not {"second_view", "pair_contrast"} & set(bare)


def test_bounds_are_checked_and_named_together():
    with pytest.raises(UserError) as refused:
        objective_class("amim")(
            contrast=Contrast(weight=-1.0, temperature=0.0),
            second_view=SecondView(loss="vectors"),
            pairs=Pairs(temperature=-1.0, loss="decode"),
        )
    message = str(refused.value)
    assert "objective.contrast.weight is -1.0, but it must be at least 0" in message
    assert "objective.contrast.temperature is 0.0, but it must be above 0" in message
    assert "objective.second_view.loss is 'vectors'; did you mean 'vector'" in message
    assert "objective.pairs.temperature" in message and "objective.pairs.loss is 'decode'" in message
