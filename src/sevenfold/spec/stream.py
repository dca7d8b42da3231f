"""A stream of events as its source gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.expect import Expectation
from sevenfold.spec.field import CONTENT, Field
from sevenfold.spec.quantity import Delay, Duration, Name

__all__ = ["Lookup", "RowFunction", "Stream"]

RowFunction: TypeAlias = Callable[..., Any]
"""A pure function of numpy columns, whose parameter names are fields of the stream."""


@dataclass(frozen=True, slots=True, eq=False)
class Stream:
    """A stream of immutable events.

    `time` names the field with the event's time, `id` the field with its id (or `sf.CONTENT`, the hash of
    the whole row), `keys` the entities it touches, each by a field of the entity's name or, in `key_fields`,
    another one. `optional_keys` names the entities whose key may be null. `delay` is how long after it
    happened an event of the past became known (history has no arrival stamp of its own), `horizon` how
    long an id is remembered, `timezone` how a time without an offset is to be read, `skew` how far an
    event may lie ahead of the log's clock before it is refused. With `retention` an event leaves the log that
    long after it became known; without it, events are kept. `owner` answers for the stream, `expect` says what its rows are like.
    `enrich` maps further fields to what tables say of the event as it comes in; they lie in the log as all
    others do. Such a field may be a key.
    """

    name: Name
    time: str
    keys: Sequence[Entity]
    fields: Mapping[str, Field]
    id: str = CONTENT
    optional_keys: Sequence[Entity] = ()
    key_fields: Mapping[str, str] = field(default_factory=dict)
    known: str | None = None
    delay: Delay = "0 s"
    horizon: Duration = "7 d"
    skew: Delay = "5 s"
    timezone: str | None = None
    description: str = ""
    retention: Duration | None = None
    owner: str = ""
    expect: Sequence[Expectation] = ()
    enrich: Mapping[str, Lookup] = field(default_factory=dict)

    def key_field(self, entity: Entity) -> str:
        """The name of the field that carries the key of `entity`."""
        return self.key_fields.get(entity.name, entity.name)

    def names(self) -> tuple[str, ...]:
        """The names of all fields that a row of the stream has, each once: time, keys, fields, id, known."""
        names = [self.time, *(self.key_field(entity) for entity in self.given_keys), *self.fields]
        names += [] if self.id == CONTENT else [self.id]
        names += [] if self.known is None else [self.known]
        return tuple(dict.fromkeys(names))

    @property
    def given_keys(self) -> tuple[Entity, ...]:
        """The entities whose keys are in the rows: all but those that are looked up."""
        return tuple(entity for entity in self.keys if self.key_field(entity) not in self.enrich)

    @property
    def logged(self) -> dict[str, Field]:
        """The fields of the events in the log: those of the rows, and those looked up that are no key."""
        keys = {self.key_field(entity) for entity in self.keys}
        found = {
            name: lookup.table.fields[lookup.field]
            for name, lookup in self.enrich.items()
            if name not in keys and lookup.field in lookup.table.fields
        }
        return {**self.fields, **found}


@dataclass(frozen=True, slots=True, eq=False)
class Lookup:
    """What a row of `table` says in `field` to an event that comes in: null where there is no such row.

    The row is the one of the event's own keys that holds as of the event's `known_us`; one that is `ttl` old
    or deleted is none.
    """

    table: Stream
    field: str
    ttl: Duration | None = None
