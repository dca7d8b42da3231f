"""A declaration as plain values, for reports, for manifests and for comparing two of them."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from numbers import Integral, Real
from typing import Any

from sevenfold.spec.entity import Entity
from sevenfold.spec.stream import Stream

__all__ = ["outline", "source_text"]


def outline(value: Any, whole: bool = False) -> Any:
    """`value` as JSON has it: an object has its kind, a function its name and source.

    A stream is outlined where it is declared (`whole`) and named where it is used; an entity is named.
    """
    if isinstance(value, Entity) or (isinstance(value, Stream) and not whole):
        return value.name
    if is_dataclass(value) and not isinstance(value, type):
        parts = {found.name: outline(getattr(value, found.name)) for found in fields(value)}
        return {"kind": type(value).__name__} | parts
    if isinstance(value, Mapping):
        return {str(key): outline(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [outline(item, whole) for item in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    return {"function": value.__name__, "source": source_text(value)}


def source_text(function: Callable[..., Any]) -> str:
    """The source of a function without comments, docstring and layout; its name where it has none.

    Two functions with the same text may still differ in what they close over.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError, TypeError):
        # A lambda in the middle of an expression, or one typed into the interpreter.
        return f"{function.__module__}.{function.__qualname__}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.unparse(tree)
