import math

from smim.training.schedule import PlateauSchedule


def test_rate_decays_on_the_third_validation_without_improvement_in_all():
    schedule = PlateauSchedule(learning_rate=1.0, decay=0.25, patience=2)
    rates = []
    for loss in [10, 11, 9, 10, 8, 9, 7, 8, 8, 8]:
        schedule.update(loss)
        rates.append(schedule.learning_rate)
    # Bad ones are the 2nd, 4th, 6th; improvements between them do not start the count anew, a decay does.
    assert rates == [1, 1, 1, 1, 1, 0.25, 0.25, 0.25, 0.25, 0.0625]


def test_state_survives_a_checkpoint():
    schedule = PlateauSchedule(learning_rate=1.0, decay=0.25, patience=2)
    fresh = schedule.state()
    schedule.update(3.0), schedule.update(4.0)
    other = PlateauSchedule(learning_rate=9.0, decay=0.25, patience=2)
    other.load(schedule.state())
    assert other == schedule
    other.load(fresh)
    assert other.best == math.inf
