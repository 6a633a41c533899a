"""Fit a prior to a trained model's codes, so that samples come from the region of real sentences.

Shapes: K components, N sentences, D latent dimensions.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smim.errors import UserError, check_size, check_whole
from smim.generation import SentenceModel
from smim.model.autoencoder import SentenceAutoencoder
from smim.model.directory import find, hash_of, load_model, save_model
from smim.model.priors import GaussianMixture
from smim.model.registry import make_model
from smim.search.filters import Where, condition, parse
from smim.text.corpus import Corpus

_SPREAD_OF = 10_000  # sentences for estimating the spread of all codes
_LEAST_DEVIATION = 1e-4


def fit_prior(
    model_dir: Path | str,
    corpus: Corpus,
    output: Path | str | None = None,
    *,
    components: int = 500,
    spread: float = 0.4,
    where: Where | None = None,
    seed: int = 0,
) -> None:
    """Give a model the prior p(z) = 1/K sum over k of N(z; mu_k, (spread * s)^2); write it to `output`, or in place.

        fit_prior("runs/mine/model", Corpus.open("data/mine"))

    mu_k are the codes of K = `components` sentences of the corpus's train split, drawn among those that pass the filter
    `where`. s [D] is the standard deviation of such codes. `sample` then draws from this prior by default. This is
    density estimation after training (Ghosh et al. 2020, "From Variational to Deterministic Autoencoders") with
    Gaussian kernels: an estimate of the aggregate posterior. It also allows sampling from an autoencoder.

    Raises `UserError` for a corpus of another tokenizer, for a filter that too few sentences pass, and for numbers out
    of range.
    """
    check_whole("components", components, least=1)
    check_size("spread", spread, above=True)
    old, tokenizer, config = load_model(model_dir)
    if corpus.tokenizer.hash != tokenizer.hash:
        raise UserError(f"corpus {corpus.directory} was prepared with another tokenizer than the model's")
    split = corpus.split("train")
    rows = np.arange(len(split))
    if where:
        passes = condition(parse(where), split.table.schema)
        rows = np.flatnonzero(np.concatenate([passes(batch) for batch in split.table.to_batches()]))
    if len(rows) < components:
        raise UserError(
            f"{len(rows):,} sentences of {corpus.directory} can be used, but {components:,} are needed; "
            "lower `components`"
        )
    rows = np.random.default_rng(seed).permutation(rows)[: max(components, _SPREAD_OF)]
    codes_ND = SentenceModel(old, tokenizer, config, hash=hash_of(model_dir)).posterior_of_ids(split.ids(rows)).mean
    model = with_prior_of(old, codes_ND, components=components, spread=spread)
    about = {"components": components, "spread": spread, "seed": seed, "corpus": corpus.name}
    training = config["training"] | {"fitted_prior": about | ({"where": where} if where else {})}
    save_model(
        find(model_dir) if output is None else output,
        model,
        tokenizer,
        training=training,
        use=_sampled_by_prior(config.get("use") or {}),
    )


def with_prior_of(old: SentenceAutoencoder, codes_ND: Tensor, *, components: int, spread: float) -> SentenceAutoencoder:
    """The same model with the prior of `fit_prior`, around the first `components` of its codes."""
    deviation_D = spread * codes_ND.std(0, correction=0).clamp_min(_LEAST_DEVIATION)
    return _with_mixture(old, codes_ND[:components], deviation_D)


@torch.no_grad()
def _with_mixture(old: SentenceAutoencoder, means_KD: Tensor, deviation_D: Tensor) -> SentenceAutoencoder:
    """The same model with a mixture of Gaussians of equal weight and variance as its prior."""
    args = replace(old.args, prior="gaussian_mixture", num_prior_components=len(means_KD))
    model = make_model(args, input_size=old.input_size)
    prior = model.prior
    assert isinstance(model, SentenceAutoencoder) and isinstance(prior, GaussianMixture)
    kept = {name: weight for name, weight in old.state_dict().items() if not name.startswith("prior.")}
    model.load_state_dict({**model.state_dict(), **kept})
    prior.logits.zero_()
    prior.means.copy_(means_KD)
    prior.log_variances.copy_(2 * deviation_D.log().expand(len(means_KD), -1))
    return model.eval()


def _sampled_by_prior(use: Mapping[str, Any]) -> dict[str, Any]:
    return {**use, "sample": {**use.get("sample", {}), "prior": True, "chain_steps": 0}}
