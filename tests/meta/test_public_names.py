"""The public names: exact, sorted, few, each with a sentence; and `__all__` true in every module that has one."""

import importlib
import pkgutil
from types import ModuleType

import pytest

import sevenfold

MOST_NAMES = 60  # docs/decisions/0012-one-import.md


def modules() -> list[str]:
    """Every module of the library, by name."""
    return sorted(found.name for found in pkgutil.walk_packages(sevenfold.__path__, "sevenfold."))


def test_all_is_sorted_and_exact() -> None:
    assert sevenfold.__all__ == sorted(sevenfold.__all__, key=str.casefold)
    assert set(sevenfold.__all__) <= set(dir(sevenfold))
    assert len(sevenfold.__all__) == len(set(sevenfold.__all__)) <= MOST_NAMES


def test_nothing_public_is_left_out_of_all() -> None:
    public = {
        name
        for name, value in vars(sevenfold).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "annotations"
    }
    assert public - set(sevenfold.__all__) <= {"TYPE_CHECKING", "Any", "import_module"}


@pytest.mark.parametrize("name", sevenfold.__all__)
def test_a_public_name_is_there_and_says_what_it_is(name: str) -> None:
    value = getattr(sevenfold, name)
    if name.startswith("__") or not callable(value):
        return
    assert (value.__doc__ or "").strip(), f"sevenfold.{name} has no docstring"


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        sevenfold.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", modules())
def test_all_of_a_module_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    listed = vars(module).get("__all__")
    if listed is None:
        return
    # A lazy package answers for names that are not in its dictionary yet.
    assert [wanted for wanted in listed if getattr(module, wanted, None) is None] == []
    assert len(listed) == len(set(listed))
