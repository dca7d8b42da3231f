"""What a process and all that it started have taken of the processor, read from `/proc`."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["family", "processor_s"]


def family(pid: int) -> list[int]:
    """The process, all that descend from it, and all of the session that it began."""
    parents, sessions = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        fields = _fields(int(path.name))
        if fields:
            parents[int(path.name)], sessions[int(path.name)] = int(fields[1]), int(fields[3])
    found = {pid, *(one for one, session in sessions.items() if session == pid)}
    while more := {one for one, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found)


def processor_s(pid: int) -> float:
    """Processor seconds that the family has taken so far; a member that has ended counts if its parent has waited for it."""
    ticks = 0
    for one in family(pid):
        ticks += sum(map(int, _fields(one)[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _fields(pid: int) -> list[str]:
    """The fields of `stat` after the name; none when the process is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
