import inspect

import pytest

from sevenfold import errors
from sevenfold.errors import Problem, SevenfoldError, SpecError

ERRORS = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, Exception)]


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_has_one_root_a_sentence_and_a_place_in_the_tree(error) -> None:
    assert issubclass(error, SevenfoldError)
    assert error.__doc__.strip().endswith(".")
    assert error.__name__ in errors.__all__
    assert error.__name__ in errors.__doc__


def test_a_problem_is_one_line() -> None:
    problem = Problem("$.features[3].window", "is 0", "give a longer one", "C-07")
    assert str(problem) == "$.features[3].window: is 0 Remedy: give a longer one [C-07]"
    assert str(Problem("$", "is wrong")) == "$: is wrong [C-00]"


def test_a_spec_error_carries_every_problem() -> None:
    one = SpecError([Problem("$.a", "is wrong")])
    assert str(one).startswith("1 problem in the declaration:\n")
    two = SpecError([Problem("$.a", "is wrong"), Problem("$.b", "is missing")])
    assert [p.path for p in two.problems] == ["$.a", "$.b"]
    assert str(two).count("\n") == 2
    assert "2 problems" in str(two)
