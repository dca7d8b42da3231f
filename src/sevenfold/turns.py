"""How long a thread's turns on the processor are to be, where Linux lets it say so."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

__all__ = ["BRIEF_S", "LONG_S", "SHORT_S", "ask_for_turns", "go_first", "take_leisure"]

BRIEF_S = 0.000_1
"""For a thread that only waits: a hundred microseconds, the least there is."""
SHORT_S = 0.001
"""For the thread that answers."""
LONG_S = 0.1
"""For work that nobody waits for: the most there is. Of two that want the processor it is the one whose turn ends first, so it is short by little where one has begun its own."""

_CALLS = {"x86_64": 314, "aarch64": 274}  # sched_setattr, which the C library does not have
_ATTRIBUTES = struct.Struct("<IIQiIQQQ")  # struct sched_attr, its first version


def ask_for_turns(seconds: float, pid: int = 0) -> bool:
    """Have a thread, the calling one or the first of a process, and what it starts from now on, take turns of so many seconds; whether the system does that.

    Linux from 6.12 on lets a thread of shorter turns have the processor as soon as it wakes. Otherwise it waits for the turn of
    the other to end: some milliseconds each time, on a processor that they share. It needs no privilege and
    gives no greater share.
    """
    call = _CALLS.get(platform.machine())
    if call is None or not sys.platform.startswith("linux"):
        return False
    try:
        if os.sched_getscheduler(pid) != os.SCHED_OTHER:  # somebody has chosen another way for it
            return False
        niceness = os.getpriority(os.PRIO_PROCESS, pid)
        turn_ns = round(seconds * 1e9)
        wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, niceness, 0, turn_ns, 0, 0)
        return int(ctypes.CDLL(None).syscall(call, pid, wanted, 0)) == 0
    except (AttributeError, OSError):  # no such call, or the process has ended
        return False


def go_first() -> bool:
    """Have the calling thread run as soon as it wakes, before all that take turns; whether the system lets it.

    For one that only waits: what it computes, all others wait for. Linux asks a privilege for it (CAP_SYS_NICE). Brief turns are nearly as good, but
    where the turn of another is about to end it waits for the next tick. Measured of a thread that waits for the disk beside a busy loop: 0.1 ms each time it wakes and up to 4,
    by this 0.001.
    """
    if not sys.platform.startswith("linux"):
        return False
    if os.sched_getscheduler(0) != os.SCHED_OTHER:  # somebody has chosen another way for it
        return False
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        return False
    return True


def take_leisure(pid: int = 0) -> bool:
    """Have a thread, the calling one or the first of a process, and what it starts from now on, run only while nobody else wants the processor; whether the system does that.

    A lower priority does not do: what has it and is at work keeps the processor for the rest of a tick, some milliseconds, when another wakes that has had its share.
    There is no way back without a privilege. So it is for what holds nothing that others wait for.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        os.sched_setscheduler(pid, os.SCHED_IDLE, os.sched_param(0))
    except OSError:  # not allowed here, or it has ended
        return False
    return True
