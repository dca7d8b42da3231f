"""Every example in a docstring gives the answer that it shows."""

import doctest
import importlib
import pkgutil

import pytest

import sevenfold


def modules() -> list[str]:
    """Every module of the library that shows an example."""
    return sorted(found.name for found in pkgutil.walk_packages(sevenfold.__path__, "sevenfold."))


@pytest.mark.parametrize("name", modules())
def test_examples(name: str) -> None:
    failed, _ = doctest.testmod(
        importlib.import_module(name), optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    )
    assert failed == 0
