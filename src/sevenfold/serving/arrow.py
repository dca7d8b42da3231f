"""Columns as one Arrow stream, by pyarrow: what an answer is when it is asked for so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sevenfold.errors import InputError

__all__ = ["stream"]

_TYPES = ("float64", "int32", "string", "list<string>", "dictionary")


def stream(
    columns: Sequence[tuple[str, str, Sequence[Any]]], metadata: Mapping[str, bytes]
) -> bytes:
    """The columns (name, type, values; None is null) as one record batch in the Arrow streaming format.

    Types are float64, int32, string, list<string>, and dictionary for texts of few values. Raises InputError where
    pyarrow is not installed.
    """
    try:
        import pyarrow as pa
    except ImportError:
        raise InputError(
            "this server gives no Arrow: install `sevenfold[arrow]` where it runs, or ask for JSON"
        ) from None
    kinds = {
        "float64": pa.float64(),
        "int32": pa.int32(),
        "string": pa.string(),
        "list<string>": pa.list_(pa.string()),
        "dictionary": pa.dictionary(pa.int32(), pa.string()),
    }
    assert kinds.keys() == set(_TYPES)
    fields = [pa.field(name, kinds[kind]) for name, kind, _ in columns]
    arrays = [pa.array(values, kinds[kind]) for _, kind, values in columns]
    schema = pa.schema(fields, metadata=dict(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.record_batch(arrays, schema=schema))
    raw: bytes = sink.getvalue().to_pybytes()
    return raw
