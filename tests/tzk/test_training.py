"""What is learned of four clusters in the plane, labelled `right` and `upper`."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from smim.errors import SmimError, UserError
from smim.model.distributions import DiagonalGaussian
from smim.tzk import training
from smim.tzk.args import FitArgs, KnowledgeArgs, PriorArgs
from smim.tzk.knowledge import Knowledge
from smim.tzk.prior import CodePrior, at_once, nll_per_dimension
from smim.tzk.product import sample_gibbs, sample_product
from smim.tzk.training import (
    LabelData,
    Labelled,
    draw,
    fit_jointly,
    fit_knowledge,
    fit_prior,
    hold_out,
    rows_of,
)
from tests.tzk.densities import randomize

FIT = FitArgs(num_optimizer_steps=150, learning_rate=1e-2)


@dataclass(frozen=True)
class Learned:
    prior: CodePrior
    right: Knowledge
    upper: Knowledge
    valid: DiagonalGaussian


def clusters(num: int) -> DiagonalGaussian:
    """A quarter of the codes around each of (+-2, +-2), within about 0.5."""
    center = 2.0 * torch.tensor([[1, 1], [1, -1], [-1, 1], [-1, -1]]).repeat(num // 4, 1)
    mean = center + 0.4 * torch.randn(center.shape, generator=torch.Generator().manual_seed(0))
    return DiagonalGaussian(mean, torch.full_like(mean, -3.0))


def labelled(codes: DiagonalGaussian, dimension: int) -> Labelled:
    present = codes.mean[:, dimension] > 0
    return rows_of(codes, ~present), rows_of(codes, present)


@pytest.fixture(scope="module")
def learned() -> Learned:
    train, valid = hold_out(clusters(2000), seed=0)
    prior = fit_prior(train, valid, args=PriorArgs(num_coupling_layers=6, hidden_dim=32), fit=FIT)
    args = KnowledgeArgs(code_dim=2, num_coupling_layers=4, hidden_dim=32)
    right, upper = (
        fit_knowledge(
            prior, labelled(train, i), labelled(valid, i), frequency=0.5, args=args, fit=FIT, name=f"label {i}"
        )
        for i in (0, 1)
    )
    return Learned(prior, right, upper, valid)


def draws(learned: Learned, *knowledge: Knowledge) -> Tensor:
    return sample_product(learned.prior, knowledge, 500, generator=torch.Generator().manual_seed(0))


def shares(codes: Tensor) -> tuple[float, float]:
    """Of the codes that are right, and upper."""
    right, upper = (codes > 0).double().mean(0).tolist()
    return right, upper


def test_draws_of_the_prior_are_of_all_clusters(learned: Learned) -> None:
    codes = learned.prior.sample(500, generator=torch.Generator().manual_seed(0))
    assert shares(codes) == pytest.approx((0.5, 0.5), abs=0.1)


def test_draws_of_a_label_land_in_its_clusters(learned: Learned) -> None:
    right, upper = shares(draws(learned, learned.right))
    assert right > 0.95 and upper == pytest.approx(0.5, abs=0.1)
    right, upper = shares(draws(learned, learned.upper))
    assert upper > 0.95 and right == pytest.approx(0.5, abs=0.1)


def test_draws_of_a_product_land_in_the_intersection(learned: Learned) -> None:
    codes = draws(learned, learned.right, learned.upper)
    assert (codes > 0).all(-1).double().mean() > 0.95


def test_block_gibbs_sampling_moves_draws_within_the_clusters_of_all_labels(learned: Learned) -> None:
    def chain(*knowledge: Knowledge, num_steps: int = 8) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        return sample_gibbs(learned.prior, knowledge, 400, num_steps=num_steps, generator=generator)

    right, upper = shares(chain(learned.right))
    assert right > 0.95 and upper == pytest.approx(0.5, abs=0.12)
    # The first codes are of one label each; the steps bring them to both.
    first, last = ((codes > 0).all(-1).double().mean() for codes in
                   (chain(learned.right, learned.upper, num_steps=1), chain(learned.right, learned.upper)))  # fmt: skip
    assert first < 0.9 and last > 0.95


def test_label_is_learned_with_t_of_its_own_decoder_and_a_learned_prior_of_c(learned: Learned) -> None:
    train, valid = hold_out(clusters(2000), seed=0)
    args = KnowledgeArgs(code_dim=2, num_coupling_layers=4, hidden_dim=32, num_code_layers=2)
    before = {name: value.clone() for name, value in learned.prior.state_dict().items()}
    right = fit_knowledge(
        learned.prior, labelled(train, 0), labelled(valid, 0), frequency=0.5, args=args,
        fit=replace(FIT, draw_t=True), name="right",
    )  # fmt: skip
    assert all(torch.equal(before[name], value) for name, value in learned.prior.state_dict().items())
    share, upper = shares(draws(learned, right))
    assert share > 0.95 and upper == pytest.approx(0.5, abs=0.15)
    noise = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    assert (right.code_prior.sample(noise) - noise).abs().max() > 0.1


def small() -> tuple[CodePrior, LabelData]:
    """An untrained prior of few codes, and the data of one label."""
    train, valid = hold_out(clusters(200), seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        prior = PriorArgs(num_coupling_layers=2, hidden_dim=8).make(train)
    randomize(prior.flow, 0.1)
    return prior, LabelData("right", 0.5, 100, labelled(train, 0), labelled(valid, 0))


SMALL = KnowledgeArgs(code_dim=2, num_coupling_layers=1, hidden_dim=8)


@pytest.mark.parametrize("jointly", [False, True])
def test_loss_of_a_label_trains_the_prior_only_jointly(jointly: bool) -> None:
    prior, data = small()
    _, loss, _ = training._knowledge_to_fit(prior, data, SMALL, FIT, jointly=jointly)
    loss(torch.Generator().manual_seed(0)).backward()
    gradients = [parameter.grad for parameter in prior.flow.parameters()]
    if jointly:
        assert all(each is not None and each.any() for each in gradients)
    else:
        assert gradients == [None] * len(gradients)


def test_loss_of_a_label_is_that_of_its_halves_and_jointly_leaves_out_the_prior() -> None:
    prior, data = small()
    generator = torch.Generator().manual_seed(3)
    encoding = bool(torch.rand((), generator=generator) < 0.5)
    halves = [draw(side, generator, num=FIT.batch_size // 2) for side in data.train]
    noise = [torch.randn(FIT.batch_size // 2, 2, generator=generator) for _ in halves]
    points = [prior.point(half) for half in halves]
    for jointly in (False, True):
        knowledge, loss, _ = training._knowledge_to_fit(prior, data, SMALL, FIT, jointly=jointly)
        expected = torch.cat(
            [
                knowledge.loss(point, exists=e, noise_BC=noise[e], encoding=encoding) + jointly * point.log_prior / 2
                for e, point in zip((False, True), points, strict=True)
            ]
        ).mean()
        torch.testing.assert_close(loss(torch.Generator().manual_seed(3)), expected)


def test_joint_training_adds_the_labels_gradients_to_those_of_the_prior(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = []
    monkeypatch.setattr(training, "_fit", lambda module, loss, *_, **__: losses.append((module, loss)))
    train, valid = hold_out(clusters(200), seed=0)
    args = PriorArgs(num_coupling_layers=2, hidden_dim=8)
    fit_prior(train, valid, args=args, fit=FIT)
    fit_jointly(train, valid, [small()[1]], args=args, knowledge_args=SMALL, fit=FIT)
    gradients = []
    for module, loss in losses:
        loss(torch.Generator().manual_seed(0)).backward()
        prior = module if isinstance(module, CodePrior) else module[0]
        gradients.append(torch.cat([each.grad.flatten() for each in prior.flow.parameters()]))
    assert (gradients[0] - gradients[1]).abs().max() > 0.01


def test_draws_of_t_decide_the_weights_but_not_the_validation() -> None:
    prior, data = small()
    fits = [replace(FIT, num_optimizer_steps=10, batch_size=16, draw_t=draw_t) for draw_t in (False, True)]
    alone, drawn = (
        fit_knowledge(prior, data.train, data.valid, frequency=0.5, args=SMALL, fit=fit, name="right").state_dict()
        for fit in fits
    )
    assert not all(torch.equal(alone[name], drawn[name]) for name in alone)
    # With draws of t, a decoder of a smaller deviation would be better.
    for fit in fits:
        knowledge, _, validation = training._knowledge_to_fit(prior, data, SMALL, fit, jointly=False)
        with torch.no_grad():
            wide = float(validation())
            for each in knowledge.conditionals:
                each.decoder[-1].bias[2:] = -0.4
            assert float(validation()) > wide + 0.05


def test_prior_and_labels_are_learned_together(learned: Learned) -> None:
    train, valid = hold_out(clusters(2000), seed=0)
    data = [LabelData(f"label {i}", 0.5, 1000, labelled(train, i), labelled(valid, i)) for i in (0, 1)]
    prior, [right, upper] = fit_jointly(
        train, valid, data,
        args=PriorArgs(num_coupling_layers=6, hidden_dim=32),
        knowledge_args=KnowledgeArgs(code_dim=2, num_coupling_layers=4, hidden_dim=32),
        fit=FIT,
    )  # fmt: skip
    together = Learned(prior, right, upper, valid)
    assert (draws(together, right, upper) > 0).all(-1).double().mean() > 0.95
    held_out = draw(valid, torch.Generator().manual_seed(0))
    with torch.no_grad():
        jointly, alone = (each.log_prob(held_out).mean() for each in (prior, learned.prior))
    assert jointly == pytest.approx(float(alone), abs=0.2)


def test_draws_of_one_label_compute_no_more_codes_than_requested(
    learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    from_base = learned.prior.flow.from_base
    monkeypatch.setattr(learned.prior.flow, "from_base", lambda z: computed.append(len(z)) or from_base(z))
    generator = torch.Generator().manual_seed(0)
    assert len(sample_product(learned.prior, [learned.right], 4, generator=generator)) == 4
    assert computed == [4]


def test_fewer_observations_are_computed_at_once_if_they_are_large(
    learned: Learned, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [at_once(512, dim) for dim in (32, 1024, 3072, 2**30)] == [512, 512, 170, 1]
    monkeypatch.setattr("smim.tzk.prior._NUMBERS_AT_ONCE", 14)
    proposed: list[int] = []
    sample = Knowledge.sample
    monkeypatch.setattr(
        Knowledge, "sample", lambda self, num, **options: proposed.append(num) or sample(self, num, **options)
    )
    sample_product(learned.prior, [learned.right, learned.upper], 3, generator=torch.Generator().manual_seed(0))
    assert set(proposed) == {7}


def test_labels_that_never_hold_together_are_refused(learned: Learned) -> None:
    never = [Knowledge(2, learned.right.args, frequency=0.5) for _ in range(2)]
    for knowledge in never:
        torch.nn.init.constant_(knowledge.of_t[-1].bias, -30)
    with pytest.raises(UserError, match="0 of 20,480 candidates have all of the labels; they hardly ever occur"):
        draws(learned, *never)


def test_discriminator_tells_the_clusters_apart(learned: Learned) -> None:
    codes = learned.valid.mean
    log_odds = learned.right.log_odds(learned.prior.standardization.standardize(codes))
    assert ((log_odds > 0) == (codes[:, 0] > 0)).double().mean() > 0.97


def test_codes_of_a_label_are_denser_under_it_and_under_the_prior_than_under_a_gaussian(learned: Learned) -> None:
    codes = draw(labelled(learned.valid, 0)[True], torch.Generator().manual_seed(0))
    with torch.no_grad():
        point = learned.prior.point(codes)
        densities = [
            learned.right.log_prob(point, generator=torch.Generator().manual_seed(0)),
            point.log_prior,
            learned.prior.standardization.log_prob(codes),
        ]
    (label, _), (prior, _), (gaussian, _) = (nll_per_dimension(log_prob, 2) for log_prob in densities)
    # Half of the clusters: log 2 nats of two dimensions.
    assert label < prior - 0.2 and prior < gaussian - 0.2


def test_training_a_label_leaves_the_prior_as_it_is_and_is_a_function_of_the_seed(learned: Learned) -> None:
    before = {name: value.clone() for name, value in learned.prior.state_dict().items()}
    train, valid = (labelled(part, 0) for part in hold_out(clusters(200), seed=0))

    def fitted(seed: int) -> dict[str, Tensor]:
        fit = FitArgs(num_optimizer_steps=10, batch_size=8, seed=seed)
        args = KnowledgeArgs(num_coupling_layers=1, hidden_dim=4)
        found = fit_knowledge(learned.prior, train, valid, frequency=0.5, args=args, fit=fit, name="right")
        return found.state_dict()

    first, again, other = fitted(0), fitted(0), fitted(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)
    assert all(torch.equal(before[name], value) for name, value in learned.prior.state_dict().items())


def test_held_out_sentences_are_a_tenth_and_none_is_in_both_parts() -> None:
    codes = clusters(200)
    train, valid = hold_out(codes, seed=0)
    assert (len(train.mean), len(valid.mean)) == (180, 20)
    together = torch.cat([train.mean, valid.mean])
    assert torch.equal(together.sort(0).values, codes.mean.sort(0).values)


def test_training_that_diverges_ends_in_an_error() -> None:
    codes = DiagonalGaussian(torch.randn(20, 2), torch.zeros(20, 2))
    with pytest.raises(SmimError, match=r"the t-flow diverged after \d+ steps; lower the learning rate"):
        fit_prior(
            codes,
            codes,
            args=PriorArgs(num_coupling_layers=2, hidden_dim=4),
            fit=FitArgs(num_optimizer_steps=40, learning_rate=1e30),
        )


def test_wrong_settings_are_refused_together() -> None:
    with pytest.raises(
        UserError, match=r"fit\.num_optimizer_steps is 1, .*; fit\.learning_rate is nan, but it must be above 0"
    ):
        FitArgs(num_optimizer_steps=1, learning_rate=float("nan"))
