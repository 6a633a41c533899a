"""What is estimated of a training's time, by made-up readings of a clock."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smim.training.pace import UNSTEADY_STEPS, Budget, Pace


def pace(*, step=1.0, validation=None, epoch_steps=10, num_steps=50, save=0.0) -> Pace:
    made = Pace(epoch_steps, batches_to_validate=6.0, steps_a_save=100, save=save)
    for _ in range(num_steps):
        made.add_step(step)
    if validation is not None:
        made.validations.append(validation)
    return made


def test_the_first_steps_do_not_spoil_the_mean():
    slow_start = Pace(10, batches_to_validate=1.0, steps_a_save=100)
    seen = []
    for seconds in [60.0, 9.0, 5.0, 3.0, 2.0, 1.0, 3.0, 2.0]:
        slow_start.add_step(seconds)
        seen.append(slow_start.step)
    # Five unsteady ones, the last of which counts; then the mean of the steady ones.
    assert seen == pytest.approx([60, 9, 5, 3, 2, 1, 2, 2])


def test_the_mean_follows_a_machine_that_becomes_slower():
    changed = pace(step=1.0, num_steps=5000)
    for _ in range(1000):
        changed.add_step(2.0)
    assert changed.step == pytest.approx(2.0, rel=0.01)


def test_a_step_has_its_share_of_a_checkpoint():
    assert pace(save=5.0).step == pytest.approx(1.05)


def test_a_validation_takes_what_the_last_ones_took_and_before_a_share_of_as_many_steps():
    measured = pace()
    assert measured.validation == pytest.approx(3.0)
    for seconds, longest in [(7.0, 7.0), (2.0, 7.0), (4.0, 4.0)]:
        measured.validations.append(seconds)
        assert measured.validation == longest


@pytest.mark.parametrize(
    ("steps", "to_epoch_end", "validations"),
    [(0, 10, 0), (1, 10, 1), (10, 10, 1), (11, 10, 2), (20, 10, 2), (21, 10, 3), (4, 4, 1), (5, 4, 2), (14, 4, 2)],
)
def test_the_time_of_steps_has_the_validations_after_and_between_them(steps, to_epoch_end, validations):
    seconds = pace(validation=2.5).seconds_for(steps, to_epoch_end=to_epoch_end)
    assert seconds == pytest.approx(steps + 2.5 * validations)


@given(
    seconds=st.floats(0, 1000),
    step=st.floats(0.01, 5),
    validation=st.floats(0, 30),
    epoch_steps=st.integers(1, 50),
    data=st.data(),
)
def test_as_many_steps_fit_as_their_time_allows(seconds, step, validation, epoch_steps, data):
    to_epoch_end = data.draw(st.integers(1, epoch_steps))
    measured = pace(step=step, validation=validation, epoch_steps=epoch_steps, num_steps=1)
    steps = measured.steps_within(seconds, to_epoch_end=to_epoch_end)
    rounding = 1e-6 * (seconds + 1)
    assert measured.seconds_for(steps, to_epoch_end=to_epoch_end) <= seconds + rounding
    assert measured.seconds_for(steps + 1, to_epoch_end=to_epoch_end) > seconds - rounding


def test_what_is_not_measured_yet_ends_no_run_before_its_time():
    budget = Budget(100.0, started=1000.0)
    left = {"to_epoch_end": 10}
    assert budget.steps_left(pace(num_steps=UNSTEADY_STEPS), now=1005.0, **left) == math.inf
    assert budget.steps_left(pace(num_steps=1), now=1095.0, **left) == math.inf
    assert budget.steps_left(pace(num_steps=0), now=1100.0, **left) == 0
    # A tenth of the time is over, or there are steady steps.
    assert budget.steps_left(pace(num_steps=2, validation=0.0), now=1011.0, **left) == 89
    assert budget.steps_left(pace(validation=0.0), now=1005.0, **left) == 95


def test_a_run_ends_in_its_time_on_a_machine_that_changes():
    """A simulation: twice as slow in its middle, validations of 3 seconds at every 40th step and at the end."""
    now, step = 1007.0, 0
    budget, measured = Budget(120.0, started=1000.0), Pace(40, batches_to_validate=6.0, steps_a_save=100)
    last_step, estimates = math.inf, []
    while step < last_step:
        left = budget.steps_left(measured, to_epoch_end=40 - step % 40, now=now)
        last_step = step + left
        estimates.append(last_step)
        seconds = 5.0 if step == 0 else 0.4 if 40 <= step < 120 else 0.2
        now, step = now + seconds, step + 1
        measured.add_step(seconds)
        if step % 40 == 0 and step < last_step:
            now += 3.0
            measured.validations.append(3.0)
    now += 3.0
    assert 1118.0 < now <= 1120.5
    # What fits at the speed of the beginning, before a validation was measured.
    assert estimates[1] == math.inf and estimates[30] == pytest.approx(500, abs=20)


def test_without_a_budget_the_time_does_not_end():
    assert Budget(math.inf, started=0.0).steps_left(pace(), to_epoch_end=1, now=1e9) == math.inf
