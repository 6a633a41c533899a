"""A knowledge type: whether a label holds for a code, and the distribution of codes with it (section 8.3.1).

Shapes: B codes, T their dimensions, C dimensions of the knowledge's own code, K draws of it.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from smim.model.distributions import DiagonalGaussian
from smim.tzk.args import KnowledgeArgs
from smim.tzk.flows import Flow, bounded, regressor
from smim.tzk.glow import ImageFlow, image_decoder, image_regressor
from smim.tzk.prior import Point, Shapes

# Numbers of draws of c: for a density (half of them from p(c|e, t)), for p(e), and per round of rejection sampling.
_NUM_DRAWS, _DRAWS_OF_PRIOR, _DRAWN_AT_ONCE = 32, 4096, 1024


@dataclass(frozen=True)
class Networks:
    """Makes the networks of a knowledge type: for codes of `dim` dimensions, or convolutions for images of `shapes`."""

    dim: int
    args: KnowledgeArgs
    shapes: Shapes | None

    def of_t(self, output_dim: int) -> nn.Module:
        if self.shapes is None:
            return regressor(self.dim, self.args.hidden_dim, output_dim)
        return image_regressor(self.shapes.t, self.args.hidden_dim, output_dim)

    def decoder(self) -> nn.Module:
        if self.shapes is None:
            return regressor(self.args.code_dim, self.args.hidden_dim, 2 * self.dim)
        return image_decoder(self.args.code_dim, self.args.hidden_dim, self.shapes.z)

    def z_flow(self) -> Flow | ImageFlow:
        sizes = {"num_layers": self.args.num_coupling_layers, "hidden_dim": self.args.hidden_dim}
        return Flow(self.dim, **sizes) if self.shapes is None else ImageFlow(self.shapes.z, **sizes)

    def code_flow(self) -> Flow:
        """A flow of c, whose networks have 10 C units (section G.1)."""
        return Flow(self.args.code_dim, num_layers=self.args.num_code_layers, hidden_dim=10 * self.args.code_dim)


@dataclass(frozen=True)
class Flowed:
    """Gaussians of u [..., C], mapped by a flow to c [..., C]."""

    base: DiagonalGaussian
    flow: Flow

    def sample(self, noise: Tensor) -> Tensor:
        """Draw c, reparameterised, with `noise` ~ N(0, I) [..., C]."""
        return self.flow.from_base(self.base.sample(noise))

    def log_prob(self, c: Tensor) -> Tensor:
        """The log density of c in nats [...]."""
        u, log_det = self.flow.to_base(c)
        return self.base.log_prob(u) + log_det


class Conditional(nn.Module):
    """The densities p(z|e, c) and p(c|e, t) for one value of e: Gaussians predicted by networks, the first in a z-flow.

    Initially p(z|e, c) is the prior N(0, I), so the conditional p(t|e, c) is p(t).
    """

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.flow = networks.z_flow()
        self.decoder = networks.decoder()
        self.encoder = networks.of_t(2 * networks.args.code_dim)
        self.code_flow = networks.code_flow()

    def base(self, c: Tensor) -> DiagonalGaussian:
        """The distribution that the z-flow maps to z, for c [..., C]."""
        return _gaussian(self.decoder(c))

    def posterior(self, t_BT: Tensor) -> Flowed:
        """Compute p(c|e, t), of c [B, C]."""
        return Flowed(_gaussian(self.encoder(t_BT)), self.code_flow)

    def sample(self, c_BC: Tensor, noise_BT: Tensor) -> Tensor:
        """Draw z ~ p(z|e, c) [B, T], reparameterised, with `noise_BT` ~ N(0, I)."""
        return self.flow.from_base(self.base(c_BC).sample(noise_BT))

    def log_prob(self, point: Point, c_BC: Tensor) -> Tensor:
        """Compute log p(t|e, c) in nats [B], as a density of codes: eq. 8.6."""
        u_BT, log_det_B = self.flow.to_base(point.z)
        return self.base(c_BC).log_prob(u_BT) + log_det_B + point.log_det


class Knowledge(nn.Module):
    """The knowledge k = (e, c) of one label: e is whether it holds, and c in R^C is a code of its appearance.

    The encoder is p(e|t) p(c|e, t) (eq. 8.5). The decoder is p(t|e, c) (eq. 8.6) with p(e|c) p(c) (eq. 8.7) and
    p(c) is N(0, I) or a flow. Training uses as many codes with the label as without, so p(e = 1) is 1/2. Only
    `log_odds` uses `frequency`, the label's share of the corpus. `shapes`: those of images.
    """

    def __init__(self, dim: int, args: KnowledgeArgs, *, frequency: float, shapes: Shapes | None = None) -> None:
        super().__init__()
        self.dim, self.args, self.frequency = dim, args, frequency
        networks = Networks(dim, args, shapes)
        self.of_t = networks.of_t(1)
        self.of_c = regressor(args.code_dim, args.hidden_dim, 1)
        self.conditionals = nn.ModuleList(Conditional(networks) for _ in range(2))
        self.code_flow = networks.code_flow()

    @property
    def code_prior(self) -> Flowed:
        """The density p(c)."""
        zeros_C = next(self.of_c.parameters()).new_zeros(self.args.code_dim)
        return Flowed(DiagonalGaussian(zeros_C, zeros_C), self.code_flow)

    def conditional(self, exists: bool) -> Conditional:
        conditional = self.conditionals[int(exists)]
        assert isinstance(conditional, Conditional)
        return conditional

    def loss(self, point: Point, *, exists: bool, noise_BC: Tensor, encoding: bool) -> Tensor:
        """Compute the bound of MIM learning (eq. 8.10) for codes with known e, in nats [B], with c as in section 8.4.

        `encoding`: draw c from p(c|e, t), reparameterised; otherwise from p(c). The noise is ~ N(0, I).
        """
        conditional = self.conditional(exists)
        posterior = conditional.posterior(point.t)
        c_BC = (posterior if encoding else self.code_prior).sample(noise_BC)
        log_q = point.log_prior + _log_existence(self.of_t(point.t), exists) + posterior.log_prob(c_BC)
        log_p = conditional.log_prob(point, c_BC) + _log_existence(self.of_c(c_BC), exists)
        return -0.5 * (log_q + log_p + self.code_prior.log_prob(c_BC))

    def log_odds(self, t_BT: Tensor) -> Tensor:
        """Compute log p(e = 1|t) / p(e = 0|t) [B], with the label's frequency in the corpus."""
        return self.of_t(t_BT).squeeze(-1) + math.log(self.frequency / (1 - self.frequency))

    @torch.no_grad()
    def log_prob(self, point: Point, *, generator: torch.Generator) -> Tensor:
        """Estimate log p(t|e = 1) in nats [B] from 32 draws of c.

        The density is the mean of p(t|1, c) over p(c|e = 1), which is p(1|c) p(c) / p(e = 1). Half of the c are drawn
        from p(c|1, t), half from p(c). The weights use the density of this mixture, so that none is large. The only
        bias of the density's estimate is that of p(e = 1). The estimate of the logarithm is too low in expectation.
        """
        conditional = self.conditional(True)
        posterior = conditional.posterior(point.t)
        noise_KBC = torch.randn(_NUM_DRAWS, len(point.t), self.args.code_dim, dtype=torch.float32, generator=generator)
        c_KBC = torch.cat([posterior.sample(noise_KBC[::2]), self.code_prior.sample(noise_KBC[1::2])])
        u_BT, log_det_B = conditional.flow.to_base(point.z)
        log_prior_KB = self.code_prior.log_prob(c_KBC)
        log_proposal_KB = torch.logaddexp(log_prior_KB, posterior.log_prob(c_KBC)) - math.log(2)
        log_joint_KB = conditional.base(c_KBC).log_prob(u_BT) + self._log_exists(c_KBC) + log_prior_KB
        log_mean_B = torch.logsumexp(log_joint_KB - log_proposal_KB, 0) - math.log(_NUM_DRAWS)
        # p(e = 1), the mean of p(e = 1|c) over p(c), is always estimated from the same draws.
        prior_draws = torch.Generator().manual_seed(0)
        noise_NC = torch.randn(_DRAWS_OF_PRIOR, self.args.code_dim, dtype=torch.float32, generator=prior_draws)
        c_NC = self.code_prior.sample(noise_NC)
        log_share = torch.logsumexp(self._log_exists(c_NC), 0) - math.log(_DRAWS_OF_PRIOR)
        return log_mean_B + log_det_B + point.log_det - log_share

    @torch.no_grad()
    def log_prob_of_code(self, point: Point, *, generator: torch.Generator) -> Tensor:
        """Compute log p(t|e = 1, c) in nats [B] at one draw c ~ p(c|e = 1, t): the thesis's NLL of a label (G.2.3).

        It is no density of t, because c is drawn from t. It can exceed log p(t|e = 1) by log p(c|1, t) - log p(c|1).
        """
        conditional = self.conditional(True)
        noise_BC = torch.randn(len(point.t), self.args.code_dim, dtype=torch.float32, generator=generator)
        return conditional.log_prob(point, conditional.posterior(point.t).sample(noise_BC))

    @torch.no_grad()
    def sample(self, num: int, *, generator: torch.Generator) -> Tensor:
        """Draw z ~ p(z|e = 1), fp32 [num, T]: c from p(c|e = 1) by exact rejection from p(c), then the z-flow."""
        conditional = self.conditional(True)
        accepted: list[Tensor] = []
        while sum(map(len, accepted)) < num:
            noise_BC = torch.randn(_DRAWN_AT_ONCE, self.args.code_dim, dtype=torch.float32, generator=generator)
            c_BC = self.code_prior.sample(noise_BC)
            uniform_B = torch.rand(_DRAWN_AT_ONCE, dtype=torch.float32, generator=generator)
            accepted.append(c_BC[uniform_B.log() < self._log_exists(c_BC)])
        noise_BT = torch.randn(num, self.dim, dtype=torch.float32, generator=generator)
        return conditional.sample(torch.cat(accepted)[:num], noise_BT)

    def _log_exists(self, c: Tensor) -> Tensor:
        return _log_existence(self.of_c(c), True)


def _gaussian(regressed: Tensor) -> DiagonalGaussian:
    mean, log_scale = regressed.chunk(2, -1)
    return DiagonalGaussian(mean=mean, log_variance=2 * bounded(log_scale))


def _log_existence(logit: Tensor, exists: bool) -> Tensor:
    """Compute log p(e) from a discriminator's output [..., 1]."""
    return F.logsigmoid(logit if exists else -logit).squeeze(-1)
