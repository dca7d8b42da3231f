"""The reference says what the code does: written from it where it can be, held against it where it cannot."""

import re
from pathlib import Path

import pytest

import write_reference
from sevenfold import errors
from sevenfold.serving.openapi import openapi

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", write_reference.PAGES)
def test_a_written_page_is_up_to_date(name: str) -> None:
    committed = (ROOT / "docs" / "reference" / name).read_text("utf-8")
    assert committed == write_reference.PAGES[name](), "run: python tools/write_reference.py"


def test_the_description_names_every_route_that_is_answered() -> None:
    folder = ROOT / "src" / "sevenfold" / "serving"
    declared = re.compile(r'"(GET|POST|DELETE)",\s+"(/[a-z0-9_/.{}]+)"')
    answered = {
        (method.lower(), path)
        for source in folder.rglob("*.py")
        for method, path in declared.findall(source.read_text("utf-8"))
    }
    described = {
        (method, path)
        for path, operations in openapi("", "")["paths"].items()
        for method in operations
    }
    assert answered == described
    assert len(described) > 10


def test_every_error_is_in_the_tree_of_its_module() -> None:
    tree = errors.__doc__ or ""
    kinds = [name for name in errors.__all__ if isinstance(getattr(errors, name), type)]
    raised = [name for name in kinds if issubclass(getattr(errors, name), Exception)]
    assert [name for name in raised if name not in tree] == []
    assert len(raised) <= 25


def test_every_module_of_the_library_has_a_layer_on_the_page() -> None:
    page = (ROOT / "docs" / "explanation" / "layers.md").read_text("utf-8")
    rooms = {
        path.stem
        for path in (ROOT / "src" / "sevenfold").iterdir()
        if not path.name.startswith("_")
        and (path.suffix == ".py" or any(path.glob("*.py")) or any(path.glob("*/*.py")))
    }
    assert {room for room in rooms if not re.search(rf"`{room}`", page)} == set()
