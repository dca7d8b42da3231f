"""Rules about expectations: of fields that are there, of a kind that can be so, with room to be met."""

from __future__ import annotations

from collections.abc import Iterator

from sevenfold.errors import Problem
from sevenfold.spec.declaration import Declaration, twice, unknown
from sevenfold.spec.expect import Expectation
from sevenfold.spec.field import Category, Flag, Integer, Number, Vector
from sevenfold.spec.stream import Stream

__all__ = ["EXPECT_RULES"]


def expectations_are_of_fields(system: Declaration) -> Iterator[Problem]:
    """An expectation is of a field or a key of its stream."""
    for path, stream, one in _expectations(system):
        names = [*stream.fields, *(entity.name for entity in stream.keys)]
        if one.kind not in ("volume", "lateness") and one.field not in names:
            yield unknown(f"{path}.field", f"field of {stream.name!r}", one.field, names)


def expectations_fit_their_field(system: Declaration) -> Iterator[Problem]:
    """A range is of numbers; values to choose from are of what the field holds."""
    for path, stream, one in _expectations(system):
        field = stream.fields.get(one.field)
        number = isinstance(field, Number | Integer)
        if one.kind == "range" and (field or one.field) and not number:
            yield Problem(
                f"{path}.field",
                f"{one.field!r} of {stream.name!r} holds no numbers",
                "expect a range of an sf.Number or sf.Integer",
            )
        if one.kind == "one_of" and isinstance(field, Category | Flag):
            yield Problem(
                f"{path}.field",
                f"{one.field!r} of {stream.name!r} says itself which values it has",
                "declare the values in the field, or expect this of another kind of field",
            )
        elif one.kind in ("one_of", "unique") and isinstance(field, Vector):
            message = (
                f"{one.field!r} of {stream.name!r} is a Vector, which is not told from another"
            )
            yield Problem(
                f"{path}.field", message, "expect its null share, or this of another field"
            )
        elif one.kind == "one_of" and any(isinstance(v, str) == number for v in one.values):
            what = "numbers" if number else "texts"
            yield Problem(f"{path}.values", f"{one.field!r} holds {what}", f"list {what}")


def expectations_leave_room(system: Declaration) -> Iterator[Problem]:
    """An expectation says a bound, and something can meet it."""
    for path, _, one in _expectations(system):
        if one.kind in ("range", "volume"):
            if one.low is None and one.high is None:
                yield Problem(path, "no bound is given", "give a low or a high one")
            elif one.low is not None and one.high is not None and one.low > one.high:
                message = f"nothing is from {one.low:g} to {one.high:g}"
                yield Problem(f"{path}.low", message, "let low be at most high")
        if one.kind == "one_of" and not one.values:
            yield Problem(f"{path}.values", "no value is allowed", "list the values")


def expectations_can_breach_as_they_say(system: Declaration) -> Iterator[Problem]:
    """A dead letter is of one row: no share of a batch is let through with it."""
    for path, _, one in _expectations(system):
        if one.breach == "dead_letter" and one.share:
            yield Problem(
                f"{path}.share",
                f"each row is refused by itself, and {one.share:g} of them are let through",
                "give share=0 with breach='dead_letter', or breach='alert'",
            )


def expectations_differ(system: Declaration) -> Iterator[Problem]:
    """A stream expects one thing of a kind of a field: what is counted has one name."""
    for i, stream in enumerate(system.data):
        names = ((f"$.data[{i}].expect[{j}]", one.name) for j, one in enumerate(stream.expect))
        yield from twice(names, "expectation")


def _expectations(system: Declaration) -> Iterator[tuple[str, Stream, Expectation]]:
    for i, stream in enumerate(system.data):
        for j, one in enumerate(stream.expect):
            yield f"$.data[{i}].expect[{j}]", stream, one


EXPECT_RULES = (
    expectations_are_of_fields,
    expectations_fit_their_field,
    expectations_leave_room,
    expectations_can_breach_as_they_say,
    expectations_differ,
)
