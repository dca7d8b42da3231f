"""What definition a home was last served by, so that another can be compared with it."""

from __future__ import annotations

from typing import Any

import msgspec

from sevenfold.errors import RunError
from sevenfold.features.description import FeatureDescription, describe_features
from sevenfold.hashing import canonical_json, digest
from sevenfold.serving.definition import FIXED_STEPS, Definition
from sevenfold.serving.schema import describe_field
from sevenfold.spec.outline import outline
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.tables import META

__all__ = [
    "DefinitionRecord",
    "encoded_record",
    "keep_record",
    "raw_record",
    "read_record",
    "record_of",
]

_KEY = b"definition"


class DefinitionRecord(msgspec.Struct, frozen=True):
    """A definition without its code.

    `features` are in parts, `models` maps each to what it reads, `streams` to what its fields are, and
    `fixed` the steps that cannot change while serving to their hashes; `views` maps the ids of states to
    the names of their views, those of links and looked-up rows among them.
    """

    name: str
    features: dict[str, FeatureDescription]
    models: dict[str, list[str]]
    streams: dict[str, dict[str, Any]]
    fixed: dict[str, str]
    views: dict[str, str] = {}


def record_of(definition: Definition) -> DefinitionRecord:
    """The record of a definition."""
    system = definition.system
    return DefinitionRecord(
        definition.name,
        describe_features(definition.plan, system.features),
        {model.name: list(model.features) for model in system.models},
        {
            stream.name: {name: describe_field(field) for name, field in stream.logged.items()}
            for stream in system.data
        },
        {step: digest(canonical_json(outline(getattr(system, step)))) for step in FIXED_STEPS},
        {name.hex(): view.name for name, view in definition.views.items()},
    )


def encoded_record(definition: Definition) -> bytes:
    """The record of a definition as a store keeps it."""
    return msgspec.json.encode(record_of(definition))


def raw_record(txn: Transaction) -> bytes | None:
    """The record that a store keeps of what is served, as it is kept; None where none is."""
    return txn.get(META, _KEY)


def keep_record(store: Store, definition: Definition) -> None:
    """Note in the store that `definition` is served."""
    encoded = encoded_record(definition)
    with store.read() as txn:
        if raw_record(txn) == encoded:
            return
    with store.write() as txn:
        txn.put(META, _KEY, encoded)


def read_record(txn: Transaction) -> DefinitionRecord:
    """What was noted; raises RunError when nothing was."""
    raw = txn.get(META, _KEY)
    if raw is None:
        raise RunError(
            "this home keeps no definition yet: ingest or serve with one, or name two declarations"
        )
    try:
        return msgspec.json.decode(raw, type=DefinitionRecord)
    except msgspec.DecodeError as error:
        raise RunError(f"the definition that this home keeps cannot be read: {error}") from error
