"""What a recipe may ask for."""

from pathlib import Path

import pytest

from smim.errors import UserError
from smim.preparation.cleaning import Cleaning
from smim.preparation.readers import Lines
from smim.preparation.recipe import Amount, Input, Recipe


def recipe(draws: dict[str, dict[str, Amount]], *pools: str) -> Recipe:
    pools = pools or tuple(draws)
    inputs = tuple(Input(pool, Path(f"{pool}.txt"), Lines()) for pool in pools)
    return Recipe(inputs=inputs, draws=draws, cleaning=dict.fromkeys(pools, Cleaning()))


@pytest.mark.parametrize(
    "draws",
    [
        {"train": 10, "valid": 5},
        {"train": 0.5, "valid": 0.5},
        {"train": None, "valid": 0.25, "test": 0.25},
        {"train": 0.1},
        {"train": None},
    ],
)
def test_numbers_shares_and_the_rest_can_be_drawn(draws):
    assert recipe({"all": draws}).splits[0] == "train"


@pytest.mark.parametrize(
    ("draws", "message"),
    [
        ({"train": None, "valid": 5}, "pool 'all': .* shares and the rest, not {'train': None, 'valid': 5}"),
        ({"train": 5, "valid": 0.1}, "all be numbers of sentences, or all be shares"),
        ({"train": None, "valid": None}, "only one split can get the rest"),
        ({"train": 0.7, "valid": 0.4}, "shares must be above 0 and leave something"),
        ({"train": None, "valid": 1.0}, "leave something for the rest"),
        ({"train": None, "valid": 1.5}, "leave something for the rest"),
        ({"train": None, "valid": -0.1}, "shares must be above 0"),
        ({"train": 5, "valid": 0}, "numbers must be at least 1"),
        ({"valid": None}, "no split train among valid"),
    ],
)
def test_what_cannot_be_drawn_is_refused(draws, message):
    with pytest.raises(UserError, match=message):
        recipe({"all": draws})


def test_draws_are_of_the_pools_that_there_are():
    with pytest.raises(UserError, match=r"draws has the pools extra, train, but the files have train$"):
        recipe({"train": {"train": None}, "extra": {"valid": 0.1}}, "train")
    with pytest.raises(UserError, match=r"draws has the pools train, but the files have train, valid$"):
        recipe({"train": {"train": None}}, "train", "valid")
