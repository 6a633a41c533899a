import torch
from torch.distributions import Independent, Normal, kl_divergence

from smim.model.distributions import DiagonalGaussian, standard_normal_log_prob

torch.manual_seed(0)
GAUSSIAN = DiagonalGaussian(mean=torch.randn(5, 7), log_variance=torch.randn(5, 7))
REFERENCE = Independent(Normal(GAUSSIAN.mean, (0.5 * GAUSSIAN.log_variance).exp()), 1)
STANDARD = Independent(Normal(torch.zeros(5, 7), torch.ones(5, 7)), 1)
Z = torch.randn(5, 7)


def test_log_prob_entropy_and_kl_agree_with_torch():
    torch.testing.assert_close(GAUSSIAN.log_prob(Z), REFERENCE.log_prob(Z))
    torch.testing.assert_close(GAUSSIAN.entropy(), REFERENCE.entropy())
    torch.testing.assert_close(GAUSSIAN.kl_to_standard_normal(), kl_divergence(REFERENCE, STANDARD))
    torch.testing.assert_close(standard_normal_log_prob(Z), STANDARD.log_prob(Z))


def test_samples_have_the_mean_and_variance_asked_for():
    ranks = torch.stack([REFERENCE.base_dist.cdf(GAUSSIAN.sample()) for _ in range(20_000)])
    # Uniform on [0, 1]: a mean of 1/2 and a variance of 1/12, each within five of its standard errors.
    assert ((ranks.mean(0) - 1 / 2) / (1 / 12 / len(ranks)) ** 0.5).abs().max() < 5
    assert ((ranks.var(0) - 1 / 12) / (1 / 180 / len(ranks)) ** 0.5).abs().max() < 5


def test_sample_is_reparameterised():
    mean = torch.zeros(1, 2, requires_grad=True)
    DiagonalGaussian(mean=mean, log_variance=torch.zeros(1, 2)).sample().sum().backward()
    assert mean.grad is not None and mean.grad.tolist() == [[1, 1]]
