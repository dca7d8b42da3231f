"""Stable hashes of definitions: order of fields, spelling of durations and comments do not matter."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from sevenfold.hashing import canonical_json, digest
from sevenfold.spec.aggregate import Source

__all__ = ["definition_hash", "function_identity", "source_identity"]


def definition_hash(value: Any) -> str:
    """The 16-byte hash of a JSON-able definition, as hexadecimal text."""
    return digest(canonical_json(value))


def source_identity(source: Source | None) -> Any:
    """What names a source in a definition: the field's name, or the function's identity."""
    return source if source is None or isinstance(source, str) else function_identity(source)


def function_identity(function: Callable[..., Any]) -> list[Any]:
    """What a function computes: its syntax tree, without comments and layout, and what it closes over."""
    closure = getattr(function, "__closure__", None) or ()
    captured = [repr(cell.cell_contents) for cell in closure if not callable(cell.cell_contents)]
    defaults = repr(getattr(function, "__defaults__", None))
    return [_tree(function), captured, defaults]


def _tree(function: Callable[..., Any]) -> str:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, SyntaxError):
        # A lambda in the middle of an expression, or a function made at a prompt, has no source of its own.
        code = getattr(function, "__code__", None)
        if code is None:
            return f"{getattr(function, '__module__', '')}.{getattr(function, '__qualname__', '')}"
        return f"{code.co_code.hex()} {code.co_consts!r} {code.co_names!r} {code.co_varnames!r}"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.dump(tree)
