import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smim.training.args import TrainArgs
from smim.training.schedule import make_schedule


def plateau(**settings):
    return make_schedule(TrainArgs(learning_rate=1.0, **settings), total_steps=None)


def test_rate_decays_on_the_third_validation_without_improvement_in_all():
    schedule = plateau()
    rates = []
    for loss in [10, 11, 9, 10, 8, 9, 7, 8, 8, 8]:
        schedule.update(loss)
        rates.append(schedule.rate(0))
    # Bad ones are the 2nd, 4th, 6th; improvements between them do not start the count anew, a decay does.
    assert rates == [1, 1, 1, 1, 1, 0.25, 0.25, 0.25, 0.25, 0.0625]


def test_a_plateau_is_finished_below_the_least_rate():
    schedule = plateau(patience=0, min_learning_rate=0.25)
    seen = []
    for loss in [1, 2, 2]:
        schedule.update(loss)
        seen.append(schedule.finished)
    # The rates are 1, 0.25, 0.0625.
    assert seen == [False, False, True]


@pytest.mark.parametrize("kind", ["plateau", "cosine", "constant"])
def test_the_best_loss_is_told(kind):
    schedule = make_schedule(TrainArgs(schedule=kind), total_steps=10)
    assert [schedule.update(loss) for loss in [3.0, 4.0, 3.0, 2.0]] == [True, False, False, True]
    assert schedule.best == 2.0


@pytest.mark.parametrize("kind", ["plateau", "cosine", "constant"])
def test_the_rate_grows_linearly_to_the_full_one(kind):
    args = TrainArgs(schedule=kind, learning_rate=1.0, warmup_steps=4)
    schedule = make_schedule(args, total_steps=1000)
    assert [schedule.rate(step) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1, 1], abs=1e-5)


def test_a_cosine_goes_from_the_full_rate_to_the_least_one():
    args = TrainArgs(schedule="cosine", learning_rate=1.0, min_learning_rate=0.2, warmup_steps=10)
    schedule = make_schedule(args, total_steps=110)
    # A half, a quarter and three quarters of the way from step 10 to step 110; then it stays.
    expected = [1.0, 0.6, 0.6 + 0.4 * math.sqrt(0.5), 0.6 - 0.4 * math.sqrt(0.5), 0.2, 0.2]
    assert [schedule.rate(step) for step in (10, 60, 35, 85, 110, 500)] == pytest.approx(expected)
    for loss in [1, 2, 2, 2, 2]:
        schedule.update(loss)
    assert schedule.rate(60) == pytest.approx(0.6) and not schedule.finished


def test_a_run_that_is_shorter_than_its_warm_up_ends_in_it():
    args = TrainArgs(schedule="cosine", learning_rate=1.0, warmup_steps=100)
    schedule = make_schedule(args, total_steps=10)
    assert [schedule.rate(step) for step in (0, 9)] == pytest.approx([0.01, 0.1])


def test_a_run_that_ends_by_the_clock_warms_up_in_a_twentieth_and_falls_to_the_end_that_is_estimated():
    args = TrainArgs(schedule="cosine", learning_rate=1.0, min_learning_rate=0.2, warmup_steps=1000, max_minutes=1.0)
    schedule = make_schedule(args, total_steps=1_000_000)
    schedule.total_steps = 200
    assert [schedule.rate(step) for step in (0, 4, 10, 105, 200)] == pytest.approx([0.1, 0.5, 1.0, 0.6, 0.2])
    schedule.total_steps = 105
    assert schedule.rate(105) == pytest.approx(0.2)
    assert make_schedule(args, total_steps=1_000_000).rate(0) == pytest.approx(1e-3)


def test_a_constant_rate_stays():
    schedule = make_schedule(TrainArgs(schedule="constant", learning_rate=0.5), total_steps=None)
    for loss in [1, 2, 2, 2, 2]:
        schedule.update(loss)
    assert {schedule.rate(step) for step in (0, 7, 10**6)} == {0.5} and not schedule.finished


@given(
    kind=st.sampled_from(["plateau", "cosine", "constant"]),
    losses=st.lists(st.floats(-100, 100), max_size=12),
    later=st.lists(st.floats(-100, 100), max_size=12),
)
def test_a_schedule_goes_on_from_a_checkpoint_as_if_it_had_not_stopped(kind, losses, later):
    args = TrainArgs(schedule=kind, learning_rate=1.0, patience=1, min_learning_rate=0.01, warmup_steps=3)
    whole, resumed = make_schedule(args, total_steps=20), make_schedule(args, total_steps=20)
    for loss in losses:
        whole.update(loss)
    resumed.load(json.loads(json.dumps(whole.state(), allow_nan=False)))
    for loss in later:
        assert whole.update(loss) == resumed.update(loss)
    assert (whole.best, whole.finished) == (resumed.best, resumed.finished)
    assert [whole.rate(step) for step in range(25)] == [resumed.rate(step) for step in range(25)]
