"""Segments of which little lives are emptied, a piece with each commit, so that their files can be used again."""

from __future__ import annotations

import numpy as np

from sevenfold.stores.state_commit import Commit
from sevenfold.stores.state_files import MEMORY
from sevenfold.stores.state_records import RING
from sevenfold.stores.state_upkeep import move

__all__ = ["clean"]

_LOOKED = 4
"""Words looked at for each that is written."""


def clean(commit: Commit, words: int) -> None:
    """Append copies of what lives in the segment with least of it, when more is dead than lives in all of them.

    `words` are those that the commit writes besides.
    """
    budget = _LOOKED * words
    while budget > 0 and commit.view.layout.closed:
        victim, looked = commit.cleaning
        if not victim:
            victim, looked = _victim(commit), 0
            if not victim:
                return
        used = dict(commit.layout.closed)[victim]
        end = min(looked + budget, used)
        budget -= end - looked + 1
        oldest = victim == commit.layout.first
        for begin, stop in commit.layout.stretches(victim, looked, end):
            came = commit.append(
                begin,
                stop,
                lambda bounds, oldest=oldest: move(  # type: ignore[misc]
                    MEMORY, commit.table, commit.out(), bounds, oldest
                ),
            )
            end = max(end, came - (victim << commit.bits))
        commit.cleaning = victim, end
        if end >= used:
            _leave(commit, victim)


def _victim(commit: Commit) -> int:
    """The segment with the smallest part that lives; 0 when enough lives."""
    layout = commit.layout
    # What was closed by this commit has records that no slot points to yet.
    closed = [one for one in layout.closed if one[0] < commit.view.layout.open]
    numbers, used = np.array(closed, dtype=np.int64).reshape(-1, 2).T
    lives = commit.shared.live[numbers & (RING - 1)]
    here = commit.end - (commit.open << commit.bits)
    all_live = int(lives.sum()) + int(commit.shared.live[commit.open & (RING - 1)])
    if not len(numbers) or int(used.sum()) + here <= 2 * all_live:
        return 0
    if commit.open - int(numbers[0]) > RING // 2:  # the ring of counts has an end
        return int(numbers[0])
    return int(numbers[np.argmin(lives / np.maximum(used, 1))])


def _leave(commit: Commit, victim: int) -> None:
    closed = commit.changed("closed")
    commit.changes["closed"] = [one for one in closed if one[0] != victim]
    commit.changes["gaps"] = [g for g in commit.changed("gaps") if g[0] >> commit.bits != victim]
    commit.changed("waiting").append((victim, commit.txn.id()))
    commit.cleaning = 0, 0
