"""Sampling of codes that have several labels: the joint of independent knowledge types (section 8.3.1).

Shapes: B candidates, T dimensions of a code.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from smim.errors import UserError
from smim.tzk.knowledge import Knowledge
from smim.tzk.prior import CodePrior, at_once

# The most candidates per label and round, and the limit of all candidates per requested code.
_CANDIDATES, _MOST_CANDIDATES = 1024, 20_000


@torch.no_grad()
def sample_product(prior: CodePrior, knowledge: Sequence[Knowledge], num: int, *, generator: torch.Generator) -> Tensor:
    """Draw `num` codes with all labels, fp32 [num, T], by rejection with the discriminators.

    With one label, its own draws are returned. By eq. 8.3 and 8.4, p(t|e^1 = 1, ..., e^n = 1) is p(t) times the
    p(e^i = 1|t) of all labels, up to a constant. Each label i in turn proposes candidates from p(t|e^i = 1). They are
    accepted with the product of the other labels' p(e^j = 1|t).

    If a label's generator and discriminator agree, which is the aim of MIM learning (eq. 8.11), p(t|e^i = 1) is
    p(t) p(e^i = 1|t) up to a constant. Then the accepted codes follow the product exactly.

    Limits: If they disagree, the codes are biased towards those of the labels' generators. The method assumes that
    labels are independent given the code. For labels that rarely or never occur together, few candidates are accepted.
    Raises `UserError` if a code would need more than 20,000 candidates.
    """
    if len(knowledge) == 1:
        return prior.standardization.restore(prior.flow.from_base(knowledge[0].sample(num, generator=generator)))
    accepted: list[Tensor] = []
    num_accepted = candidates = 0
    num_proposed = at_once(_CANDIDATES, prior.dim)
    while num_accepted < num:
        for proposing in knowledge:
            t_BT = prior.flow.from_base(proposing.sample(num_proposed, generator=generator))
            others = [F.logsigmoid(other.log_odds(t_BT)) for other in knowledge if other is not proposing]
            log_uniform_B = torch.rand(len(t_BT), dtype=torch.float32, generator=generator).log()
            accepted.append(t_BT[log_uniform_B < torch.stack(others).sum(0)])
            num_accepted += len(accepted[-1])
            candidates += len(t_BT)
        if num_accepted < num and candidates > _MOST_CANDIDATES * (num_accepted + 1):
            raise UserError(
                f"{num_accepted:,} of {candidates:,} candidates have all of the labels; they hardly ever occur "
                f"together, so give fewer labels"
            )
    taken_BT = torch.cat(accepted)
    order = torch.randperm(len(taken_BT), generator=generator)[:num]
    return prior.standardization.restore(taken_BT[order])


@torch.no_grad()
def sample_gibbs(
    prior: CodePrior, knowledge: Sequence[Knowledge], num: int, *, num_steps: int, generator: torch.Generator
) -> Tensor:
    """Draw `num` codes with all labels, fp32 [num, T], by `num_steps` steps of block Gibbs sampling (section G.2.2).

    The first codes are the labels' own draws, in turn. A step draws c from p(c|e = 1, t) of one label, then t from its
    p(t|e = 1, c); the labels take turns. For a single label this is the thesis's procedure.

    The thesis does not say how the other labels take part. Here the new t replaces the old one with the probability of
    Metropolis and Hastings, the ratio of the product of the other labels' p(e = 1|t). If each label's encoder and
    decoder agree, the steps keep the product of `sample_product`. Labels that rarely occur together need more steps,
    but no number of candidates.
    """

    def log_others(t_BT: Tensor, proposing: Knowledge) -> Tensor:
        others = [F.logsigmoid(other.log_odds(t_BT)) for other in knowledge if other is not proposing]
        return torch.stack(others).sum(0) if others else torch.zeros(len(t_BT))

    shares = [len(range(start, num, len(knowledge))) for start in range(len(knowledge))]
    first = [each.sample(share, generator=generator) for each, share in zip(knowledge, shares, strict=True) if share]
    t_BT = prior.flow.from_base(torch.cat(first))
    for step in range(num_steps):
        proposing = knowledge[step % len(knowledge)]
        conditional = proposing.conditional(True)
        noise_BC, noise_BT = (
            torch.randn(num, size, dtype=torch.float32, generator=generator)
            for size in (proposing.args.code_dim, proposing.dim)
        )
        c_BC = conditional.posterior(t_BT).sample(noise_BC)
        new_BT = prior.flow.from_base(conditional.sample(c_BC, noise_BT))
        log_ratio_B = log_others(new_BT, proposing) - log_others(t_BT, proposing)
        accepted_B = torch.rand(num, dtype=torch.float32, generator=generator).log() < log_ratio_B
        t_BT = torch.where(accepted_B[:, None], new_BT, t_BT)
    return prior.standardization.restore(t_BT[torch.randperm(num, generator=generator)])
