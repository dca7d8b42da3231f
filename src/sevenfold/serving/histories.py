"""The job that has the histories by key kept while the server answers.

A process of its own does the work: sorting and merging in the server's would have answers wait. The job looks what
is due, starts that process, and tells how far it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError
from sevenfold.features.plan import Plan
from sevenfold.stores.companion import Companion
from sevenfold.stores.history import History, Kept
from sevenfold.stores.keeper import Orders
from sevenfold.stores.kv import Store
from sevenfold.stores.log import generation, position

__all__ = ["Keeping", "wanted_keys"]

_LOOK_S = 0.5
_SURVEY_S = 5.0
_VERIFY_S = 86_400.0
_ASIDE_S = 60.0
_MOST_HEADS = 10
_IN_VAIN_S = 60.0


def wanted_keys(plan: Plan) -> dict[str, list[tuple[str, ...]]]:
    """The keys by stream that the plan's views are read by."""
    wanted: dict[str, list[tuple[str, ...]]] = {}
    for view in plan.views:
        wanted.setdefault(view.stream, []).append(view.entities)
    return wanted


class Keeping:
    """Has the histories in `folder` kept, of the store at `url`, so that at most about `head_events` are behind.

    With `head_events` 0 nothing is kept. `hold` says when not to begin: while the log is being rewritten. The process is at leisure, unless
    one that was has come to nothing for a minute; while the server is `pressed`, none is at work until ten times as many are behind.
    """

    name = "history"

    def __init__(
        self, store: Store, url: str, folder: Path, head_events: int, hold: Callable[[], bool]
    ) -> None:
        self._store, self._url = store, url
        self.folder = folder
        self._head_events = head_events
        self._hold = hold
        self._wanted: dict[str, list[tuple[str, ...]]] = {}
        self._history = History(folder, {})
        self._keeper = Companion("sevenfold.stores.keeper")
        self._next_s = self._survey_s = self._verify_s = 0.0
        self._stop = 0
        self._generation = ""
        self._is_new = False
        self._kept = Kept()
        self._is_at_leisure = self._was_in_vain = False
        self._came_s = 0.0  # to something
        self.pressed: Callable[[], bool] = lambda: False

    @property
    def pid(self) -> int:
        """The process that is at work; 0 when there is none."""
        return self._keeper.pid

    def running(self) -> bool:
        """Whether the process is still at work."""
        return self.pid > 0 and self._keeper.code is None

    def use(self, plan: Plan) -> None:
        """Keep what `plan` reads from now on; histories by other keys are deleted."""
        self._wanted = wanted_keys(plan)
        # One for all looks: it remembers which segments it has compared with the log, block by block.
        self._history = History(self.folder, self._wanted)
        self._is_new = self.folder.is_dir()
        self._verify_s = 0.0
        self.close()
        self.look_again()

    def look_again(self) -> None:
        """Look at the next step what is due, and not only after a while."""
        self._next_s = self._survey_s = 0.0

    def step(self) -> bool:
        """Look what is due, and have it done."""
        now_s = elapsed_s()
        if not self._head_events or now_s < self._next_s:
            return False
        self._next_s = now_s + _LOOK_S
        if self.pid:
            self.look_after()
            return False
        behind = self._behind()
        with self._store.read() as txn:
            is_same = generation(txn) == self._generation
        if now_s >= self._survey_s or not is_same or behind >= self._head_events:
            self._survey()
        to_verify = self._kept.segments > 0 and now_s >= self._verify_s
        is_due = self._is_new or self._kept.is_void or self._kept.behind >= self._head_events
        is_pressed = self.pressed()
        rests = self._hold() or (is_pressed and behind < _MOST_HEADS * self._head_events)
        if rests or not (is_due or to_verify):
            return False
        self._start(to_verify, not (is_pressed or self._was_in_vain))
        return True

    def look_after(self) -> None:
        """Note what the process has done; StoreError when it failed."""
        if not self.pid:
            return
        # What is at leisure may have nothing of the processor for long, and the store keeps all for it that it reads.
        has_none = self._is_at_leisure and (self.pressed() or self._is_in_vain())
        if self._hold() or has_none:
            self.close()
            return
        code = self._keeper.code
        if code is None:
            if elapsed_s() >= self._survey_s:
                self._survey()
            return
        self.close()
        self._was_in_vain = False
        self._survey()
        if code:
            raise StoreError(
                f"the process that keeps histories ended with {code}: what it said is in the server's log"
            )

    def failed(self, error: Exception) -> None:
        """Nothing is lost: it is begun again after a while, on what is on disk."""
        self._next_s = elapsed_s() + _ASIDE_S

    def kept(self) -> Kept:
        """What is kept, as last looked at; all of the log is behind when it has been rewritten since."""
        with self._store.read() as txn:
            stop = self._stop if generation(txn) == self._generation else 0
            return replace(self._kept, behind=max(position(txn) - stop, 0))

    def close(self) -> None:
        """End the process, at once: what it has half-done is swept by the next."""
        self._keeper.close()

    def _behind(self) -> int:
        """Events that no segment has, as far as was looked."""
        with self._store.read() as txn:
            return position(txn) - self._stop

    def _is_in_vain(self) -> bool:
        is_due = self._behind() >= self._head_events
        self._was_in_vain = is_due and elapsed_s() - self._came_s > _IN_VAIN_S
        return self._was_in_vain

    def _start(self, verify: bool, at_leisure: bool) -> None:
        orders = Orders(self._url, str(self.folder), self._wanted, self._head_events, verify=verify)
        self._keeper.start(orders, at_leisure)
        self._is_at_leisure, self._came_s = at_leisure, elapsed_s()
        self._is_new = False
        if verify or not self._kept.segments:  # what it is about to write needs no second look
            self._verify_s = elapsed_s() + _VERIFY_S

    def _survey(self) -> None:
        with self._store.read() as txn:
            self._kept = self._history.kept(txn)
            stop = position(txn) - self._kept.behind
            self._generation = generation(txn)
        if stop != self._stop:
            self._stop, self._came_s = stop, elapsed_s()
        self._survey_s = elapsed_s() + _SURVEY_S
