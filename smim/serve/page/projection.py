"""A map of an index: its sample's codes in the plane, and the place there of any other code.

Shapes: N sentences of the sample, M other codes, D latent dimensions.
"""

from dataclasses import dataclass

import numpy as np

from smim.serve.page.sample import Sample

_NEIGHBOURS = 5
_PERPLEXITY = 30.0


@dataclass(frozen=True)
class Map:
    """`places_N2`: where each sentence of the sample lies, 0 to 1 both; `method`: "t-SNE" or "PCA"."""

    sample: Sample
    places_N2: np.ndarray
    method: str

    def place(self, codes_MD: np.ndarray) -> np.ndarray:
        """The place [M, 2] of other codes: the mean of their 5 nearest of the sample, weighted by 1 / distance^2.

        A sentence of the sample lies at its own place.
        """
        squares = np.stack([((self.sample.codes_ND - code) ** 2).sum(1) for code in codes_MD])
        nearest = np.argsort(squares, axis=1)[:, :_NEIGHBOURS]
        weights = 1 / (np.take_along_axis(squares, nearest, 1) + 1e-9)
        weights /= weights.sum(1, keepdims=True)
        return (weights[..., None] * self.places_N2[nearest]).sum(1)


def draw(sample: Sample) -> Map:
    """Lays out the sample: by t-SNE where scikit-learn is installed, else on the first two principal components.

    Takes some 10 s for 1,500 codes.
    """
    codes = sample.codes_ND
    if len(codes) < 4:
        return Map(sample, np.tile(np.linspace(0.1, 0.9, len(codes))[:, None], 2), "PCA")
    centred = codes - codes.mean(0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    places, method = centred @ directions[:2].T, "PCA"
    try:
        from sklearn.manifold import TSNE
    except ImportError:
        pass
    else:
        perplexity = min(_PERPLEXITY, (len(codes) - 1) / 3)
        # Neighbours are what counts here, and 50 components keep them.
        reduced = centred @ directions[:50].T
        places = TSNE(init="pca", random_state=0, perplexity=perplexity, max_iter=500).fit_transform(reduced)
        method = "t-SNE"
    low, high = places.min(0), places.max(0)
    return Map(sample, (places - low) / np.maximum(high - low, 1e-9), method)
