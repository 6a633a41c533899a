"""How well codes tell labelled classes apart, and whether a model samples each class as often as the data has it.

Shapes: M training vectors, N evaluated vectors, D latent dimensions, C classes.
"""

from dataclasses import dataclass

import numpy as np

from smim.evaluation.section import Definition, scalar

_MOST_FOR_LINEAR = 10_000  # training codes; more change the accuracy little
# With more classes, a few labelled codes or samples do not have most of them, and classifiers take minutes.
MOST_CLASSES = 100


@dataclass(frozen=True)
class Classes:
    """A label column of a training split and of an evaluated split: int64 [M] and [N], and C.

    A label that the training split lacks has the number C, so no classifier finds it.
    """

    train: np.ndarray
    evaluated: np.ndarray
    num: int


# The input, by name: whether each evaluated vector's class was found, bool [N]; class counts of data and samples.
OF_CLASSES = [
    Definition("svm_accuracy", "",
               "share of items whose {label} an SVM finds from the code, trained on a few labelled training codes",
               lambda c: c["svm"], title="SVM accuracy, {label}", better="higher", equation="InfoVAE, section 4.2.1"),
    Definition("linear_accuracy", "",
               "share of items whose {label} a linear classifier finds from the code",
               lambda c: c["linear"], title="linear accuracy, {label}", better="higher",
               equation="InfoMax-VAE, section 6.3"),
    Definition("class_divergence", "nats",
               "KL(c || c') of the shares c of each {label} in training from the shares c' in samples of the model, "
               "which neighbours among the training items classify",
               lambda c: scalar(class_divergence(c["counts"], c["sampled_counts"]), n=int(c["sampled_counts"].sum())),
               title="class divergence, {label}", better="lower", equation="InfoVAE, section 4.2.1"),
]  # fmt: skip


def read_by_classifiers(
    train: np.ndarray, codes: np.ndarray, classes: Classes, *, labelled: int, seed: int
) -> dict[str, np.ndarray]:
    """Train two classifiers on training codes [M, D], and say which evaluated codes [N, D] each classifies correctly.

    `svm` has a Gaussian kernel and learns from `labelled` random codes, as in InfoVAE. `linear` is a logistic
    regression on at most 10,000 random codes. Each dimension is divided by its standard deviation. The result is bool
    [N] by name. It is empty if a draw of training codes has fewer than two classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    order = np.random.default_rng(seed).permutation(len(train))
    found = {}
    for name, classifier, num in (
        ("svm", SVC(), labelled),
        ("linear", LogisticRegression(max_iter=1_000), _MOST_FOR_LINEAR),
    ):
        chosen = order[:num]
        if len(np.unique(classes.train[chosen])) < 2:
            return {}
        fitted = make_pipeline(StandardScaler(), classifier).fit(train[chosen], classes.train[chosen])
        found[name] = fitted.predict(codes) == classes.evaluated
    return found


def class_divergence(counts: np.ndarray, sampled_counts: np.ndarray) -> float:
    """Compute KL(c || c') in nats of the class shares c and c' of two lists of counts, int64 [C] each.

    InfoVAE writes -c^T (log c' - log c). Half a count is added to each class of the samples, so that a class without a
    sample costs much but not infinitely much. For S samples of the right distribution, about (C - 1) / 2S remains.
    """
    share = counts / counts.sum()
    sampled = (sampled_counts + 0.5) / (sampled_counts.sum() + 0.5 * len(sampled_counts))
    present = share > 0
    return float((share[present] * np.log(share[present] / sampled[present])).sum())
