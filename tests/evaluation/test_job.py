"""What families are given: shares, gathered values, posteriors, and draws that are a function of the sentence."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
import torch

from smim.errors import UserError
from smim.evaluation import likelihood, overlap, reconstruction
from smim.evaluation.job import select, split_of_ids, split_of_rows
from smim.evaluation.run import EvalArgs
from tests.evaluation.conftest import make_job


@pytest.fixture
def job(tiny_model, tiny_corpus, tmp_path):
    return make_job(tiny_model, tiny_corpus, tmp_path)


def test_gathered_values_are_in_the_order_of_the_rows(job):
    gathered = job.gather(
        [np.array([2, 0]), np.array([1])], [torch.tensor([[5.0], [6.0]]), torch.tensor([[7.0]])], total=3
    )
    assert gathered.tolist() == [[6], [7], [5]]


@pytest.mark.parametrize("rows", [[0, 1], [0, 1, 1], [0, 1, 3]])
def test_a_row_that_is_missing_or_came_twice_is_an_error(job, rows):
    with pytest.raises(RuntimeError, match="for 3 sentences"):
        job.gather([np.array(rows)], [np.zeros(len(rows))], total=3)


def test_posteriors_are_those_of_the_model_in_the_order_of_the_rows(job):
    expected = job.model.posterior(job.split.texts())
    torch.testing.assert_close(job.posterior().mean, expected.mean)
    torch.testing.assert_close(job.posterior().log_variance, expected.log_variance)


def test_a_draw_does_not_depend_on_the_batch(job):
    posterior = job.posterior()
    together = job.draw(posterior, range(10), number=3)
    torch.testing.assert_close(job.draw(select(posterior, np.array([7]), "cpu"), [7], number=3), together[7:8])
    assert not torch.allclose(job.draw(posterior, range(10), number=4), together)


def test_codes_are_the_first_draws(job):
    torch.testing.assert_close(torch.tensor(job.codes()), job.draw(job.posterior(), range(10), number=0))


def test_a_split_of_some_rows_is_numbered_from_zero(job):
    part = split_of_rows(job.split, np.array([3, 8]), name="part")
    assert part.texts() == job.split.texts([3, 8])
    torch.testing.assert_close(job.posterior(part).mean, job.posterior().mean[[3, 8]])


def test_rows_are_taken_from_each_batch_of_a_split(job):
    batches = [batch for start in (0, 4, 7) for batch in job.split.table.slice(start, 3 if start else 4).to_batches()]
    split = replace(job.split, table=pa.Table.from_batches(batches))
    assert split_of_rows(split, np.array([0, 3, 4, 9]), name="part").texts() == job.split.texts([0, 3, 4, 9])
    assert split_of_rows(split, np.array([5]), name="part").texts() == job.split.texts([5])


def test_a_split_of_ids_is_encoded_like_any_other(job):
    ids = [job.split.ids([4])[0], [5, 6]]
    torch.testing.assert_close(job.posterior(split_of_ids("own", ids)).mean[0], job.posterior().mean[4])


def test_a_sample_is_a_function_of_the_seed_and_all_where_there_are_no_more(job):
    assert job.sample(5, 9).tolist() == [0, 1, 2, 3, 4]
    assert job.sample(1000, 9).tolist() == job.sample(1000, 9).tolist() == sorted(set(job.sample(1000, 9)))
    assert job.sample(1000, 9).tolist() != replace(job, seed=1).sample(1000, 9).tolist()


def test_products_in_bf16_change_log_probabilities_and_words_only_by_rounding(tiny_model, tiny_corpus, tmp_path):
    fp32, bf16 = (make_job(tiny_model, tiny_corpus, tmp_path, precision=name) for name in ("fp32", "bf16"))
    for compute in (
        lambda job: likelihood.sentence_reconstruction(job, num_samples=1)[0].words,
        lambda job: likelihood.importance_log_weights(job, np.arange(5), num_samples=20),
        lambda job: overlap.pair_log_probs(job)[:, :2],
        lambda job: reconstruction.reconstruct(job).greedy,
    ):
        expected, found = compute(fp32), compute(bf16)
        np.testing.assert_allclose(found.mean(), expected.mean(), rtol=5e-3)
    assert (overlap.pair_log_probs(bf16)[:, 0] != overlap.pair_log_probs(fp32)[:, 0]).all()
    # The codes and their densities do not change.
    assert (overlap.pair_log_probs(bf16)[:, 2:] == overlap.pair_log_probs(fp32)[:, 2:]).all()


def test_an_unknown_precision_is_refused():
    with pytest.raises(UserError, match=r"eval\.precision is 'fp16'.*bf16"):
        EvalArgs(precision="fp16")
