import numpy as np
import torch

from smim.model import noise


def test_noise_of_a_sentence_does_not_depend_on_its_batch():
    together = noise.normal(0, [3, 4, 5], 1, 6)
    assert torch.equal(together[1:2], noise.normal(0, [4], 1, 6))


def test_noise_differs_by_seed_sentence_draw_and_purpose():
    base = noise.normal(0, [3], 0, 6)
    for other in (noise.normal(1, [3], 0, 6), noise.normal(0, [4], 0, 6), noise.normal(0, [3], 1, 6)):
        assert not torch.equal(base, other)
    base = noise.uniform(0, [3], 0, 6)
    for other in (noise.uniform(1, [3], 0, 6), noise.uniform(0, [4], 0, 6), noise.uniform(0, [3], 1, 6)):
        assert not torch.equal(base, other)
    # Made of the same bits, the size of the one would tell the other.
    latent, decoding = noise.normal(0, range(2000), 0, 1), noise.uniform(0, range(2000), 0, 1)
    assert abs(np.corrcoef(latent.abs().T, decoding.T)[0, 1]) < 0.1


def test_of_no_sentence_there_is_no_noise():
    assert noise.normal(0, [], 0, 6).shape == noise.uniform(0, [], 0, 6).shape == (0, 6)


def test_noise_is_standard_normal_and_uniform():
    normal = noise.normal(0, range(2000), 0, 50)
    uniform = noise.uniform(0, range(2000), 0, 50)
    assert abs(normal.mean()) < 0.02 and abs(normal.std() - 1) < 0.02
    assert uniform.min() >= 0 and uniform.max() < 1 and abs(uniform.mean() - 0.5) < 0.01
