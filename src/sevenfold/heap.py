"""Memory that a process has freed and the C library keeps for it."""

from __future__ import annotations

import ctypes

__all__ = ["give_back"]


def give_back() -> bool:
    """Have the system get what was freed of the heap; whether the C library can do that (glibc does).

    It keeps what was freed between things that stay, for the next who asks. After work that is done once, as the states of a
    home that are computed anew at a start, that is more than all the rest needs.
    """
    try:
        return bool(ctypes.CDLL(None).malloc_trim(0))
    except (AttributeError, OSError, TypeError):  # no such function, or no such library
        return False
