"""Rules about tables: deletes that can be read, rows that are asked for by their whole key."""

from __future__ import annotations

from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.check_features import source_problems
from sevenfold.spec.declaration import Declaration, duration_us, links, unknown, views
from sevenfold.spec.field import Id, Text, Vector
from sevenfold.spec.stream import Lookup, Stream
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through

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


def links_can_be_followed(system: Declaration) -> Iterator[Problem]:
    """A link is a field of a declared table that holds names, and it is known whose."""
    streams = {stream.name: stream for stream in system.data}
    for path, link in links(system):
        table = link.table
        if table.name not in streams:
            yield unknown(f"{path}.table", "table", table.name, list(streams))
        elif table is not streams[table.name]:
            message = f"this is another stream than the one in $.data named {table.name!r}"
            yield Problem(f"{path}.table", message, "declare it once and use that")
        if link.link not in table.fields:
            known = list(table.fields)
            yield unknown(f"{path}.link", f"field of {table.name!r}", link.link, known)
        elif not isinstance(table.fields[link.link], Id | Text):
            message = f"{link.link!r} holds no names, so it leads to no key"
            yield Problem(f"{path}.link", message, "declare it sf.Id()")
        if link.reached is None:
            wanted = _wanted(link)
            message = f"it is not said which of {', '.join(wanted) or 'no entity'} the link names"
            remedy = f"give entity={wanted[0]}" if wanted else "give the view an entity"
            yield Problem(f"{path}.entity", message, remedy)


def links_outlast_no_row(system: Declaration) -> Iterator[Problem]:
    """C-20: a link is not older than the rows that the log keeps.

    Else a replay of the log would not find the row that the state still knows.
    """
    for path, link in links(system):
        kept_us, ttl_us = duration_us(link.table.retention), duration_us(link.ttl)
        if kept_us is not None and (ttl_us is None or ttl_us > kept_us):
            table, retention = link.table.name, link.table.retention
            message = f"the link may be of any age, and {table!r} keeps rows for {retention}"
            yield Problem(f"{path}.ttl", message, f"give a ttl of at most {retention}", "C-20")


def lookups_can_be_made(system: Declaration) -> Iterator[Problem]:
    """An event is enriched from declared tables by keys of its own, under a name that is free."""
    streams = {stream.name: stream for stream in system.data}
    for i, stream in enumerate(system.data):
        given = [entity.name for entity in stream.given_keys]
        taken = [*stream.fields, stream.time, stream.id, stream.known]
        for name, lookup in stream.enrich.items():
            path, table = f"$.data[{i}].enrich.{name}", lookup.table
            if streams.get(table.name) is not table or table is stream:
                known = [known for known, one in streams.items() if one is not stream]
                yield unknown(f"{path}.table", "other stream of $.data", table.name, known)
            yield from _lookup_problems(path, stream, lookup, given)
            if name in taken:
                message = f"{name!r} is in the rows of {stream.name!r} already"
                yield Problem(path, message, "give the looked-up field another name")


def _lookup_problems(
    path: str, stream: Stream, lookup: Lookup, given: list[str]
) -> Iterator[Problem]:
    table = lookup.table
    if table.enrich:
        message = f"{table.name!r} is enriched itself"
        yield Problem(f"{path}.table", message, "look up in a table that is not")
    for entity in table.keys:
        if entity.name not in given:
            yield Problem(
                f"{path}.table",
                f"a row of {table.name!r} is named by {entity.name!r}, which rows of "
                f"{stream.name!r} do not name; they name {', '.join(given) or 'nothing'}",
                "add the key to the rows, or take another table",
            )
    if lookup.field not in table.fields:
        known = list(table.fields)
        yield unknown(f"{path}.field", f"field of {table.name!r}", lookup.field, known)
    elif isinstance(table.fields[lookup.field], Vector):
        message = f"{lookup.field!r} is a Vector, which an event is not enriched with"
        yield Problem(f"{path}.field", message, "read it as an attribute, with sf.attribute(...)")
    elif not isinstance(table.fields[lookup.field], Id) and path.rpartition(".")[2] in (
        stream.key_field(entity) for entity in stream.keys
    ):
        message = f"{lookup.field!r} becomes a key and holds no names"
        yield Problem(f"{path}.field", message, "declare it sf.Id()")


def _wanted(link: Through) -> list[str]:
    below = link.view
    return list(below.needs) if isinstance(below, Through) else [e.name for e in below.entities]


def _tables(system: Declaration) -> Iterator[tuple[int, Table]]:
    streams: list[Stream] = list(system.data)
    for i, stream in enumerate(streams):
        if isinstance(stream, Table):
            yield i, stream


TABLE_RULES = (
    deletes_can_be_read,
    attributes_are_read_by_the_whole_key,
    links_can_be_followed,
    links_outlast_no_row,
    lookups_can_be_made,
)
