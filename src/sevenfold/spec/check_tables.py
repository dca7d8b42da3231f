"""Rules about tables: deletes that can be read, rows that are asked for by their whole key."""

from __future__ import annotations

from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.check_features import source_problems
from sevenfold.spec.declaration import Declaration, views
from sevenfold.spec.stream import Stream
from sevenfold.spec.table import Table

__all__ = ["TABLE_RULES"]


def deletes_can_be_read(system: Declaration) -> Iterator[Problem]:
    """What says that a row of a table is a delete is a flag or a number of the row, or computed from such."""
    for i, table in _tables(system):
        if table.delete is not None:
            yield from source_problems(f"$.data[{i}].delete", table, table.delete, "sum")


def attributes_are_read_by_the_whole_key(system: Declaration) -> Iterator[Problem]:
    """The attributes of a table are keyed by all entities that together name its rows."""
    for path, view in views(system):
        if isinstance(view.stream, Table) and any(a.kind == "attribute" for a in view.aggregates):
            keys = [entity.name for entity in view.stream.keys]
            names = [entity.name for entity in view.entities]
            if set(keys) > set(names):
                yield Problem(
                    f"{path}.entities",
                    f"a row of {view.stream.name!r} is named by {', '.join(keys)}, "
                    f"these attributes are of {', '.join(names) or 'nothing'}",
                    f"give the entities {', '.join(keys)}",
                )


def _tables(system: Declaration) -> Iterator[tuple[int, Table]]:
    streams: list[Stream] = list(system.data)
    for i, stream in enumerate(streams):
        if isinstance(stream, Table):
            yield i, stream


TABLE_RULES = (
    deletes_can_be_read,
    attributes_are_read_by_the_whole_key,
)
