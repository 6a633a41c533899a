"""Every figure that a report can hold: its unit, and what it means. `docs/evaluation.md` has the equations."""

from typing import NamedTuple


class Definition(NamedTuple):
    unit: str
    meaning: str


BOUNDS = {
    "": "MELBO bound (eq. 6.17)",
    "_elbo": "ELBO bound under the model's own prior",
    "_iw": "importance-weighted bound under the model's own prior, at the largest K, of a sample of sentences",
    "_train_prior": "bound under the aggregate posterior of training sentences",
}
_OF_A_BOUND = [
    ("nll", "nats/sentence", "{bound}, `<eos>` left out"),
    ("ppl", "", "perplexity from `nll{suffix}`, over the words"),
    (
        "ppl_thesis",
        "",
        "perplexity from `nll{suffix}`, over the words and one `<eos>` a sentence, as in the thesis's tables",
    ),
    ("nll_with_eos", "nats/sentence", "`nll{suffix}` with `<eos>`, so that the length is not given"),
    ("nats_per_token", "nats/token", "`nll{suffix}` over the words"),
    ("bits_per_byte", "bits/byte", "`nll_with_eos{suffix}` over the UTF-8 bytes of the text and a line end a sentence"),
]

FIGURES = {
    name + suffix: Definition(unit, meaning.format(bound=bound, suffix=suffix))
    for suffix, bound in BOUNDS.items()
    for name, unit, meaning in _OF_A_BOUND
} | {
    name: Definition(unit, meaning)
    for name, unit, meaning in [
        # likelihood
        ("reconstruction", "nats", "-log p(x|z), z ~ q(z|x); of sentences, `nll` without its log N"),
        # reconstruction
        ("bleu1_sampled", "", "sentence BLEU-1 of the reconstruction from a draw of z, words drawn at temperature 1"),
        ("bleu1_greedy", "", "sentence BLEU-1 of the greedy reconstruction from a draw of z"),
        ("bleu1_mean", "", "sentence BLEU-1 of the greedy reconstruction from the mean of q(z|x)"),
        ("bleu4_corpus_greedy", "", "corpus BLEU-4 (sacrebleu) of the greedy reconstruction"),
        ("exact_match_greedy", "", "share of sentences whose greedy reconstruction is exact"),
        ("word_accuracy_greedy", "", "share of words that the greedy reconstruction has in their place"),
        # information
        ("latent_entropy", "nats", "entropy of the codes, by nearest neighbours (Kozachenko-Leonenko)"),
        ("latent_entropy_normal", "nats", "entropy of N(0, I) in as many dimensions"),
        ("latent_entropy_normal_knn", "nats", "the estimate of `latent_entropy` for as many draws from N(0, I)"),
        ("posterior_entropy", "nats", "mean entropy of q(z|x)"),
        ("mutual_information", "nats", "E[log q(z|x) - log mean_j q(z|x_j)] over the whole split"),
        ("mutual_information_cap", "nats", "log M: what `mutual_information` cannot exceed"),
        ("mutual_information_knn", "nats", "`latent_entropy` of draws less `posterior_entropy`"),
        ("kl", "nats", "KL(q(z|x) || p(z)), of the model's own prior"),
        ("active_units", "dimensions", "Var(mean) > 0.01"),
        ("active_units_relative", "dimensions", "Var(mean) > mean posterior variance"),
        ("collapsed", "", "1 where the information says that the code has collapsed, else 0"),
        ("clamped", "", "share of posterior dimensions on the variance clamp"),
        (
            "log_det_covariance",
            "nats/dimension",
            "log determinant of the aggregate posterior's covariance, by dimension",
        ),
        ("mmd", "", "squared MMD between the aggregate posterior and N(0, I), unbiased"),
        # vectors, which have many of the figures above too
        ("mutual_information_ksg", "nats", "I(x; z), z ~ q(z|x), by nearest neighbours (Kraskov et al. 2004)"),
        ("marginal_nll", "nats", "-log E p(x|z), z from the model's prior, by importance sampling"),
        (
            "data_nll",
            "nats",
            "-log P(x) under the density that the vectors were drawn from: the floor of `marginal_nll`",
        ),
        ("rmse", "", "root mean square difference, over dimensions too, between x and a draw from p(x|z), z ~ q(z|x)"),
        ("rmse_mean", "", "`rmse` with E[x|z] in place of the draw"),
        # overlap
        ("overlap_log_p_own", "nats", "mean log p(x_i|z_i)"),
        ("overlap_log_p_other", "nats", "mean log p(x_i|z_j), i != j"),
        ("overlap_auc_p", "", "share of pairs with log p(x_i|z_i) > log p(x_i|z_j)"),
        ("overlap_log_q_own", "nats", "mean log q(z_i|x_i)"),
        ("overlap_log_q_other", "nats", "mean log q(z_i|x_j), i != j"),
        ("overlap_auc_q", "", "share of pairs with log q(z_i|x_i) > log q(z_i|x_j)"),
        # answering
        ("p_at_1", "", "share of questions whose right answer ranks first, by the distance of section 7.6"),
        ("mrr", "", "mean reciprocal rank of the right answer"),
        ("p_at_1_mean", "", "`p_at_1` with posterior means in place of draws"),
        ("mrr_mean", "", "`mrr` with posterior means in place of draws"),
        ("p_at_1_log_posterior", "", "`p_at_1` by log q(z_qa|q_unk) in place of the distance"),
        ("mrr_log_posterior", "", "`mrr` by log q(z_qa|q_unk) in place of the distance"),
        ("p_at_1_bm25", "", "`p_at_1` by word overlap (BM25)"),
        ("mrr_bm25", "", "`mrr` by word overlap (BM25)"),
        ("p_at_1_random", "", "`p_at_1` of a random order, expected"),
        ("mrr_random", "", "`mrr` of a random order, expected"),
    ]
}
# representation: one pair of figures for each label column, named in smim/evaluation/representation.py


def definition(name: str) -> Definition:
    """The unit and meaning of a figure; those of a label column are made from their name."""
    if name in FIGURES:
        return FIGURES[name]
    kind, _, label = name.partition(":")
    if kind == "knn_accuracy":
        return Definition("", f"share of items whose k nearest training codes vote for the right {label}")
    if kind == "majority_accuracy":
        return Definition("", f"the same for always answering the most frequent {label}")
    raise KeyError(name)
