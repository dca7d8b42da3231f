"""The one way a function becomes machine code: numba, strict floating point, cached on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from numba.core import cgutils
from numba.extending import intrinsic

from sevenfold.compiled_files import CodeFiles

__all__ = [
    "COMPILES",
    "at_address",
    "borrowed",
    "called",
    "kernel",
    "nought",
    "released",
    "soon",
    "sources_stamp",
]

P = ParamSpec("P")
R = TypeVar("R")


def kernel(function: Callable[P, R]) -> Callable[P, R]:
    """`function` compiled on first use and cached; no fast-math, so every machine rounds alike.

    Kernels are inlined into those that call them: a call for each event costs more than its work.
    """
    return _compiled(function, inlined=True)


def released(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as a kernel that runs without the interpreter's lock, beside other threads.

    It is one that walks long: to take the lock back may have to wait for whoever has it, which would be
    noticed in a kernel of microseconds.
    """
    return _compiled(function, inlined=True, nogil=True)


def called(function: Callable[P, R]) -> Callable[P, R]:
    """`function` as a kernel that is called and not inlined.

    It is one that is long and seldom needed, which would be compiled again in each kernel that calls it.
    """
    return _compiled(function, inlined=False)


def _compiled(function: Callable[P, R], *, inlined: bool, nogil: bool = False) -> Callable[P, R]:
    dispatcher: Any = numba.njit(cache=True, fastmath=False, forceinline=inlined, nogil=nogil)(
        function
    )
    if not isinstance(dispatcher, FunctionType):  # plain when compilation is switched off
        # Numba renews a cached kernel when its own file gets another time, not when a kernel it calls does.
        own = function.__code__.co_filename
        kept = dispatcher._cache
        kept._cache_file = CodeFiles(
            kept.cache_path, kept._impl.filename_base, sources_stamp() + _digest(own)
        )
    return cast(Callable[P, R], dispatcher)


def _borrow(typing_context: Any, array: Any) -> Any:
    """The array without its reference count; one that may not be written to as one that may."""
    given = array.copy(readonly=False)

    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lent = context.make_array(given)(context, builder, arguments[0])
        lent.meminfo = lent.meminfo.type(None)
        lent.parent = lent.parent.type(None)
        return lent._getvalue()

    return given(array), lower


def _itself(array: Any) -> Any:
    return array


# Whatever reads a field of a tuple of arrays counts a reference, atomically: more than half of the time of a
# loop over events (measured with perf). The caller of a kernel holds its arrays, so nothing is to be counted.
COMPILES = not getattr(numba.config, "DISABLE_JIT", False)
"""False when kernels run as they are written, as functions of Python."""

borrowed: Any = intrinsic(_borrow) if COMPILES else _itself
"""For kernels: the same array, free of reference counts, good until the kernel returns.

Whether it may be written to is no part of its type any more, or each kernel that is called with both would be compiled twice.
"""


_code: Any = cgutils  # has the words for machine code, too


def _prefetch(typing_context: Any, array: Any, at: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lent = context.make_array(array)(context, builder, arguments[0])
        pointer = builder.bitcast(
            builder.gep(lent.data, [arguments[1]]), _code.ir.IntType(8).as_pointer()
        )
        word = _code.ir.IntType(32)
        kind = _code.ir.FunctionType(_code.ir.VoidType(), [pointer.type, word, word, word])
        ask = _code.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(ask, [pointer, word(0), word(3), word(1)])
        return context.get_dummy_value()

    return numba.types.none(array, numba.types.int64), lower


def _nothing(words: Any, at: int) -> None:
    pass


soon: Any = intrinsic(_prefetch) if COMPILES else _nothing
"""For kernels: have the words at a place brought from memory; a place that is not there does no harm."""


def _at(typing_context: Any, address: Any) -> Any:
    def lower(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return numba.types.voidptr(address), lower


at_address: Any = intrinsic(_at)
"""For kernels: the pointer to an address."""

array_at: Any = numba.carray  # type: ignore[attr-defined]  # it is, without saying so
"""For kernels: the array at a pointer, of a shape and a type."""


@cache
def sources_stamp() -> str:
    """The digest of every source file whose kernels are called from other files."""
    root = Path(__file__).parent
    files = [Path(__file__), root / "hashing.py"]
    files += [root / "stores" / "lmdb_pages.py", root / "stores" / "state_records.py"]
    files += sorted((root / "algebra").glob("*.py"))
    return _digest(*map(str, files))


@cache
def _digest(*files: str) -> str:
    return hashlib.blake2b(
        b"".join(Path(file).read_bytes() for file in files), digest_size=16
    ).hexdigest()


@kernel
def nought() -> int:
    """Zero, for kernels that give it to others: a literal is a type of its own, for which each of them is compiled once more."""
    return int(np.int64(0))
