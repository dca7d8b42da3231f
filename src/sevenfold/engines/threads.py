"""Parts of the keys, one thread each: kernels let go of the interpreter's lock while they walk."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

__all__ = ["each_part"]


def each_part(
    work: Callable[[int, int], None], parts: Iterable[tuple[int, int]], threads: int
) -> None:
    """Do `work` on each part (low, high), on at most so many at a time; the first error is raised.

    No more parts are under way than there are threads, so what they hold is bounded.
    """
    if threads <= 1:
        for low, high in parts:
            work(low, high)
        return
    with ThreadPoolExecutor(threads, thread_name_prefix="sevenfold-offline") as pool:
        for _ in pool.map(lambda part: work(*part), parts):
            pass
