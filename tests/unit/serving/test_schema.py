"""The log holds a category as a place in a list: the list may only grow at its end."""

from typing import Any

import pytest

import sevenfold as sf
from sevenfold.errors import SpecError
from sevenfold.serving.schema import keep_schemas
from sevenfold.stores.open import open_store


def stream(**fields: Any) -> dict[str, sf.Stream]:
    """A stream with these fields."""
    return {"visits": sf.Stream("visits", time="at", keys=[sf.Entity("user")], fields=fields)}


FIRST = stream(
    page=sf.Category(["home", "shop"]), device=sf.Category(["web"], other=True), n=sf.Number()
)


@pytest.mark.parametrize(
    "later",
    [
        FIRST,
        stream(page=sf.Category(["home", "shop", "cart"])),
        stream(device=sf.Category(["web"], other=True), extra=sf.Text()),
        stream(n=sf.Number(unit="s", low=0)),
    ],
)
def test_what_keeps_its_meaning_is_taken(later: dict[str, sf.Stream]) -> None:
    store = open_store("memory:")
    keep_schemas(store, FIRST)
    keep_schemas(store, later)
    keep_schemas(store, FIRST if "page" not in later["visits"].fields else later)


@pytest.mark.parametrize(
    ("later", "said"),
    [
        (stream(page=sf.Category(["shop", "home"])), "gives them other values"),
        (stream(page=sf.Category(["home"])), "gives them other values"),
        (stream(device=sf.Category(["web", "app"], other=True)), "place 1 for any other value"),
        (stream(device=sf.Category(["web"])), "place 1 for any other value"),
        (stream(n=sf.Integer()), "the log holds it as Number, now it is Integer"),
        (stream(page=sf.Id()), "the log holds it as Category, now it is Id"),
    ],
)
def test_what_would_change_meaning_is_refused(later: dict[str, sf.Stream], said: str) -> None:
    store = open_store("memory:")
    keep_schemas(store, FIRST)
    with pytest.raises(SpecError, match=said):
        keep_schemas(store, later)
    keep_schemas(store, FIRST)


def test_a_field_left_out_is_still_known_when_it_comes_back() -> None:
    store = open_store("memory:")
    keep_schemas(store, FIRST)
    keep_schemas(store, stream(n=sf.Number()))
    with pytest.raises(SpecError, match="gives them other values"):
        keep_schemas(store, stream(page=sf.Category(["shop"])))
