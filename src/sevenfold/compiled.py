"""The one way a function becomes machine code: numba, strict floating point, cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import numba

__all__ = ["kernel", "sources_stamp"]

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled on first use and cached; no fast-math, so every machine rounds alike."""
    dispatcher: Any = numba.njit(cache=True, fastmath=False)(function)
    if not isinstance(dispatcher, FunctionType):  # plain when compilation is switched off
        # Numba renews a cached kernel when its own file gets another time, not when a kernel it calls does.
        own = function.__code__.co_filename
        dispatcher._cache._cache_file._source_stamp = sources_stamp() + _digest(own)
    return cast(Callable[P, R], dispatcher)


@cache
def sources_stamp() -> str:
    """The digest of every source file whose kernels are called from other files."""
    root = Path(__file__).parent
    files = [Path(__file__), root / "hashing.py", *sorted((root / "algebra").glob("*.py"))]
    return _digest(*map(str, files))


@cache
def _digest(*files: str) -> str:
    return hashlib.blake2b(
        b"".join(Path(file).read_bytes() for file in files), digest_size=16
    ).hexdigest()
