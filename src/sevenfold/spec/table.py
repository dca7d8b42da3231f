"""A table as the stream of its changes: rows keyed by an entity, and deletes among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sevenfold.spec.entity import Entity
from sevenfold.spec.expect import Expectation
from sevenfold.spec.field import CONTENT, Field, Flag
from sevenfold.spec.stream import Lookup, RowFunction, Stream

__all__ = ["Table"]


@dataclass(frozen=True, slots=True, eq=False, init=False)
class Table(Stream):
    """A stream of rows that each say what is true of `entity` from their time on, until the next one.

    `entity` is one entity or a list, whose keys together name a row. `delete` says which rows are deletes:
    the name of a flag in the rows (declared here unless `fields` has it), or a row-level function of fields.
    From a delete on the attributes of its key read as MISSING; for an earlier instant the old value is still
    there, and a later row brings the key back. Of two rows the one with the later time holds, whichever
    arrived first; of two with one time, the one known later.
    """

    keys: Sequence[Entity] = field(init=False)
    optional_keys: Sequence[Entity] = field(init=False)
    enrich: Mapping[str, Lookup] = field(init=False)
    entity: Entity | Sequence[Entity] = field(kw_only=True)
    delete: str | RowFunction | None = field(kw_only=True, default=None)

    def __init__(  # noqa: PLR0913  a declaration names its parts
        self,
        name: str,
        entity: Entity | Sequence[Entity],
        fields: Mapping[str, Field],
        *,
        time: str,
        delete: str | RowFunction | None = None,
        id: str = CONTENT,  # noqa: A002  as of a stream
        key_fields: Mapping[str, str] | None = None,
        known: str | None = None,
        delay: str = "0 s",
        horizon: str = "7 d",
        skew: str = "5 s",
        timezone: str | None = None,
        description: str = "",
        expect: Sequence[Expectation] = (),
        retention: str | None = None,
        owner: str = "",
    ) -> None:
        given: dict[str, Any] = {
            "name": name,
            "time": time,
            "keys": tuple(entity) if isinstance(entity, list | tuple) else (entity,),
            "fields": fields,
            "id": id,
            "optional_keys": (),
            "key_fields": {} if key_fields is None else key_fields,
            "known": known,
            "delay": delay,
            "horizon": horizon,
            "skew": skew,
            "timezone": timezone,
            "description": description,
            "expect": expect,
            "retention": retention,
            "owner": owner,
            "enrich": {},
            "entity": entity,
            "delete": delete,
        }
        if isinstance(delete, str) and isinstance(fields, Mapping):
            given["fields"] = {delete: Flag(), **fields}
        for field_name, value in given.items():
            object.__setattr__(self, field_name, value)
