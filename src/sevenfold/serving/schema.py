"""What the numbers in the log mean: a category is kept as its place in the declared list."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from sevenfold.errors import Problem, SpecError
from sevenfold.spec.field import Category, Field, Vector
from sevenfold.spec.stream import Stream
from sevenfold.stores.kv import Store
from sevenfold.stores.tables import META

__all__ = ["clash", "describe_field", "keep_schemas"]


def keep_schemas(store: Store, streams: Mapping[str, Stream]) -> None:
    """Note what the fields of `streams` are; raise SpecError where events of the log would change meaning.

    A field may be added (it is null in older events) or left out (and come back as it was). It may not
    become of another kind, and the values of a category may only grow at the end, because events hold the
    place of a value in that list.
    """
    problems: list[Problem] = []
    with store.read() as txn:
        before = {name: _read(txn.get(META, _key(name))) for name in streams}
    after: dict[str, dict[str, Any]] = {}
    for name, stream in streams.items():
        after[name] = before[name] | {
            n: describe_field(field) for n, field in stream.logged.items()
        }
        for field in before[name].keys() & stream.logged.keys():
            reason = clash(before[name][field], after[name][field])
            if reason:
                path = f"$.data.{name}.fields.{field}"
                remedy = "declare the changed field under another name"
                problems.append(Problem(path, reason, remedy))
    if problems:
        raise SpecError(sorted(problems, key=str))
    if after != before:
        with store.write() as txn:
            for name, fields in after.items():
                txn.put(META, _key(name), msgspec.json.encode(fields))


def describe_field(field: Field) -> list[Any]:
    """What of a field decides what its values in the log mean: its kind, a category's list, a vector's width."""
    if isinstance(field, Category):
        return ["Category", list(field.values), field.other]
    if isinstance(field, Vector):
        return ["Vector", field.width]
    return [type(field).__name__]


def clash(before: list[Any], after: list[Any]) -> str | None:
    """Why a field cannot become another; None when it can."""
    if before[0] != after[0]:
        return f"the log holds it as {before[0]}, now it is {after[0]}"
    if before[0] == "Vector" and before != after:
        return f"events hold {before[1]} numbers, now a vector has {after[1]}"
    if before[0] != "Category" or before == after:
        return None
    known, values = before[1], after[1]
    if values[: len(known)] != known:
        return f"events hold places in the list {known}; {values} gives them other values"
    if before[2]:
        return f"events hold place {len(known)} for any other value; a longer list names it anew"
    return None


def _key(stream: str) -> bytes:
    return b"schema/" + stream.encode()


def _read(raw: bytes | None) -> dict[str, Any]:
    return msgspec.json.decode(raw) if raw else {}
