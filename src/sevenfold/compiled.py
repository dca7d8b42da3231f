"""The one way a function becomes machine code: numba, strict floating point, cached on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec, TypeVar, cast

import numba

__all__ = ["kernel"]

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled on first use and cached; no fast-math, so every machine rounds alike."""
    return cast(Callable[P, R], numba.njit(cache=True, fastmath=False)(function))
