import math

import pytest

from smim.training.console import Console, duration, fitting_line, step_line, time_left, validation_line


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-1, "0 s"), (29.4, "29 s"), (59.6, "1 min"), (3570, "1 h 00 min"), (7500, "2 h 05 min"), (math.inf, "?")],
)
def test_a_duration_is_in_seconds_or_in_hours_and_minutes(seconds, shown):
    assert duration(seconds) == shown


def test_a_line_of_steps_has_every_term_the_speed_and_the_time_left():
    speed = {"tokens_per_second": 1234.5, "model_flops_utilisation": 0.126}
    line = step_line({"loss": 3.456, "kl": 1.0}, speed, step=7, epoch=2, left="2 min left")
    assert line.startswith("step 7  epoch 2  loss 3.46  kl 1.00  1,234 tokens/s  13% of the machine's matrix rate")
    assert line.endswith("rate  2 min left")


def test_the_time_left_is_of_the_run_or_of_an_epoch_where_the_run_may_end_at_any():
    of = {"max_epochs": 100}
    assert time_left(120, epoch=None, at_most=False, **of) == "2 min left"
    assert time_left(120, epoch=None, at_most=True, **of) == "at most 2 min left"
    assert time_left(120, epoch=3, at_most=True, **of) == "2 min left in epoch 3 of at most 100"


def test_what_fits_into_a_time_is_said_with_a_warning_where_it_is_too_little():
    of = {"epoch_steps": 1300, "minutes": 6.0, "most_steps": 39_000, "enough_steps": 100}
    assert fitting_line(4168.0, step=0, **of) == "about 4,100 steps, 3.2 epochs, fit into 6 min"
    assert fitting_line(4168.0, step=500, **of) == "about 4,100 more steps, 3.2 epochs, fit into 6 min"
    assert fitting_line(39_000.0, step=500, **of) == "all 38,500 steps fit into 6 min"
    assert fitting_line(9.0, step=0, **of).startswith("warning: only about 9 steps, 0.0 epochs, fit into 6 min, ")


def test_a_line_of_a_validation_says_whether_it_is_the_best():
    found = {"loss": 2.0, "reconstruction": 1.0, "kl": 3.0, "clamped": 0.5}
    found |= {"active_units": 4, "active_units_relative": 5}
    place = {"step": 7, "unit": "a vector", "latent_dim": 8, "learning_rate": 0.001}
    best, other = (validation_line(found, is_best=is_best, **place) for is_best in (True, False))
    assert "loss 2.000 (best)  reconstruction 1.000 nats a vector  KL 3.0  on the clamp 50%" in best
    assert "active units 4 (5 relative) of 8  learning rate 0.001" in best and "(best)" not in other


def test_only_the_process_that_is_visible_speaks(capsys):
    for visible in (True, False):
        Console(visible=visible).say(f"visible: {visible}")
    assert capsys.readouterr().err == "visible: True\n"


def test_what_is_counted_has_a_line_of_the_bar_while_it_lasts():
    console = Console(visible=True)
    with console.counting("validation", total=5) as done:
        done(3)
        [line] = console.bar.tasks
        assert (line.description, line.completed, line.total) == ("validation", 3, 5)
    assert not console.bar.tasks
