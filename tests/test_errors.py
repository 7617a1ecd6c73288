import pytest

from dd_jax import errors
from dd_jax.errors import unknown_name


def test_an_unknown_name_comes_with_the_nearest_all_and_what_else_there_is():
    said = str(unknown_name("colour", "bleu", ["red", "blue"], "Or mix your own."))
    assert said == "Unknown colour 'bleu'. Did you mean 'blue'? Known: blue, red. Or mix your own."
    assert str(unknown_name("colour", "bleu", [])) == "Unknown colour 'bleu'. There are none."


def test_of_many_names_the_nearest_are_said_and_not_all():
    known = [f"{one}-{two}" for one in ("red", "blue", "green") for two in range(20)]
    said = str(unknown_name("colour", "red-191", known, "A page lists them."))
    assert said == (
        "Unknown colour 'red-191'. Did you mean 'red-19'? Similar: red-11, red-9, red-1. There are 60. "
        "A page lists them."
    )


def test_the_first_value_that_is_too_small_is_named():
    errors.values_at_least(1, first=1, second=None)
    with pytest.raises(errors.OptionError, match="third must be at least 1, but is 0"):
        errors.values_at_least(1, first=1, second=None, third=0, fourth=-1)
