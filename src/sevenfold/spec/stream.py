"""A stream of events as its source gives it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.expect import Expectation
from sevenfold.spec.field import CONTENT, Field
from sevenfold.spec.quantity import Delay, Duration, Name

__all__ = ["RowFunction", "Stream"]

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

    def key_field(self, entity: Entity) -> str:
        """The name of the field that carries the key of `entity`."""
        return self.key_fields.get(entity.name, entity.name)

    def names(self) -> tuple[str, ...]:
        """The names of all fields that a row of the stream has, each once: time, keys, fields, id, known."""
        names = [self.time, *(self.key_field(entity) for entity in self.keys), *self.fields]
        names += [] if self.id == CONTENT else [self.id]
        names += [] if self.known is None else [self.known]
        return tuple(dict.fromkeys(names))
