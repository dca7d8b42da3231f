"""Stable hashes of definitions: order of fields, spelling of durations and comments do not matter."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import CodeType, FunctionType
from typing import Any

import numpy as np

from sevenfold.hashing import canonical_json, digest
from sevenfold.spec.aggregate import Source

__all__ = ["definition_hash", "function_identity", "source_identity"]

_PLAIN = (bool, int, float, str, bytes, tuple, frozenset, type(None), np.ndarray)


def definition_hash(value: Any) -> str:
    """The 16-byte hash of a JSON-able definition, as hexadecimal text."""
    return digest(canonical_json(value))


def source_identity(source: Source) -> Any:
    """What names a source in a definition: the field's name, or the function's identity."""
    return source if isinstance(source, str) else function_identity(source)


def function_identity(function: Callable[..., Any]) -> list[Any]:
    """What a function computes: its code, without comments and layout, and the values it takes from outside.

    Those are its defaults, what it closes over, and the constants and functions of its own module that it
    names; a function of another module counts by its name alone.
    """
    return _identity(function, ())


def _identity(function: Callable[..., Any], above: tuple[Any, ...]) -> list[Any]:
    if isinstance(function, partial):
        keywords = sorted(function.keywords.items())
        given = [_value(function.args, above), _value(keywords, above)]
        return [_identity(function.func, above), *given]
    if not isinstance(function, FunctionType) or function in above:
        named = function if isinstance(function, type) or inspect.isroutine(function) else None
        name = getattr(named or function, "__name__", type(function).__qualname__)
        return [str(getattr(function, "__module__", "")), name]
    above = (*above, function)
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    outside = {name: cell.cell_contents for name, cell in cells}
    for name in _names(function.__code__):
        value = function.__globals__.get(name)
        is_near = isinstance(value, FunctionType) and value.__module__ == function.__module__
        if name in function.__globals__ and (isinstance(value, _PLAIN) or is_near):
            outside[name] = value
    captured = [[name, _value(value, above)] for name, value in sorted(outside.items())]
    defaults = [_value(function.__defaults__, above), _value(function.__kwdefaults__, above)]
    return [_text(function), captured, defaults]


def _value(value: Any, above: tuple[Any, ...]) -> Any:
    if isinstance(value, np.ndarray):
        # The text of a long array leaves out its middle.
        return [value.dtype.str, list(value.shape), digest(np.ascontiguousarray(value).tobytes())]
    if isinstance(value, tuple | list):
        return [_value(part, above) for part in value]
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return _identity(value, above) if callable(value) else repr(value)


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _text(function: FunctionType) -> str:
    code = function.__code__
    found = _definition(function, code)
    if found is None:
        # A function typed into the interpreter has no source.
        return f"{code.co_code.hex()} {code.co_consts!r} {code.co_names!r} {code.co_varnames!r}"
    bare = copy.deepcopy(found)
    for node in ast.walk(bare):
        if isinstance(node, ast.FunctionDef):
            node.decorator_list = []
            if ast.get_docstring(node) is not None and len(node.body) > 1:
                node.body = node.body[1:]
    return ast.unparse(bare)


def _definition(function: FunctionType, code: CodeType) -> ast.AST | None:
    """The one definition in its file that `code` was compiled from; a line may hold several lambdas."""
    try:
        tree = _parsed("".join(inspect.findsource(function)[0]))
    except (OSError, SyntaxError):
        return None
    if code.co_name != "<lambda>":
        defined = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
        return next((n for n in defined if _is_of(n, code)), None)
    lambdas = [n for n in ast.walk(tree) if isinstance(n, ast.Lambda) and _holds(n.body, code)]
    # Of lambdas within lambdas, the innermost that holds the code.
    return max(lambdas, key=lambda n: (n.body.lineno, n.body.col_offset), default=None)


@lru_cache(maxsize=8)
def _parsed(source: str) -> ast.Module:
    return ast.parse(source)


def _is_of(node: ast.FunctionDef, code: CodeType) -> bool:
    first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
    return node.name == code.co_name and first == code.co_firstlineno


def _holds(body: ast.expr, code: CodeType) -> bool:
    begin, end = (body.lineno, body.col_offset), (body.end_lineno or 0, body.end_col_offset or 0)
    places = [
        ((line, column), (end_line, end_column))
        for line, end_line, column, end_column in code.co_positions()
        if line and end_line and column is not None and end_column is not None
    ]
    # What the compiler adds of its own has no width.
    wide = [(first, last) for first, last in places if first < last]
    return bool(wide) and all(begin <= first and last <= end for first, last in wide)
