"""A world through the whole loop: ingest, serve, label, watch, learn, promote, report."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sevenfold.clock import SystemClock, elapsed_s
from sevenfold.engines.online import OnlineEngine
from sevenfold.errors import RunError
from sevenfold.hashing import hash128
from sevenfold.loop.client import Client, admin_client
from sevenfold.loop.digest import Digest
from sevenfold.loop.improve import Improver
from sevenfold.loop.logged import Logged
from sevenfold.loop.replay import Cursor, Replay
from sevenfold.loop.scenario import Scenario
from sevenfold.loop.server_process import ServerProcess
from sevenfold.loop.state import RunState, load_state, save_state
from sevenfold.loop.steps import Steps
from sevenfold.loop.world import World
from sevenfold.registry.registry import Registry
from sevenfold.serving.ingest import Ingest
from sevenfold.spec.units import parse_duration
from sevenfold.stores.open import open_store
from sevenfold.types import Instant

__all__ = ["Progress", "Run"]

Progress = Callable[[str, int, int], None]
_HISTORY_ROWS = 20_000


@dataclass(eq=False)
class Run:
    """One run of a scenario in a home folder; running it again goes on where it stopped.

    `progress` is told the phase, how much of it is done and how much there is.
    """

    scenario: Scenario
    home: Path
    settings: str
    progress: Progress

    def __post_init__(self) -> None:
        """Lay out the home and look how far an earlier attempt came."""
        self.home.mkdir(parents=True, exist_ok=True)
        self.system = self.scenario.system
        scenario = self.scenario
        self.logged = Logged(
            self.system,
            self.home,
            scenario.known,
            scenario.repeat,
            scenario.negatives,
            scenario.seed,
        )
        self.registry = Registry(self.home / "registry")
        self.steps = Steps(self.home / "steps")
        self.state: RunState = load_state(self._state_path, self.settings)
        self.store_url = f"lmdb:{self.home / 'store'}"
        self._began_s = elapsed_s()

    @property
    def edges(self) -> list[Instant]:
        """The ends of the steps of live time."""
        begin, step, end = self.scenario.live_us, self.scenario.step_us, self.scenario.end_us
        return [*range(begin + step, end, step), end]

    def go(self) -> None:
        """Do all that is not done yet."""
        with _compiling(self.scenario.reference):
            world = self.prepare()
        if self.state.steps_done < len(self.edges):
            arguments = ["--clock", "replay"]
            with ServerProcess(self.scenario.reference, self.home, arguments) as server:
                client = Client(server.port, self.token())
                try:
                    self._live(world, client)
                finally:
                    client.close()
        self.save()

    def prepare(self) -> World:
        """Take the history in and let the baseline serve; returns the world that is still to come."""
        world = self._cast(self.scenario.world())
        self._take_history(world)
        self._promote_baseline()
        return world

    def token(self) -> str:
        """The token that the server of this home accepts."""
        path = self.home / "token"
        if not path.exists():
            raise RunError(f"{path} is missing: the server writes it when it starts")
        return path.read_text().strip()

    def save(self) -> None:
        """Keep how far the run has come."""
        now_s = elapsed_s()
        self.state.took_s += now_s - self._began_s
        self._began_s = now_s
        save_state(self._state_path, self.state)

    @property
    def _state_path(self) -> Path:
        return self.home / "run.json"

    def _cast(self, world: World) -> World:
        """The world with the requests of the share of customers that ask."""
        if self.scenario.share >= 1:
            return world
        lot = hash128(world.requests.fields[self.scenario.customer])[:, 0].astype(np.float64)
        asks = np.flatnonzero(lot / 2.0**64 < self.scenario.share)
        return replace(world, requests=world.requests.take(asks))

    def _take_history(self, world: World) -> None:
        end = int(np.searchsorted(world.arrival_us, self.scenario.live_us))
        if self.state.history_rows >= end:
            return
        store = open_store(self.store_url)
        try:
            ingest = Ingest(
                store, self.system.streams, OnlineEngine(self.logged.plan), SystemClock()
            )
            while self.state.history_rows < end:
                begin = self.state.history_rows
                stop = min(begin + _HISTORY_ROWS, end)
                ingest.accept(world.stream, world.slice(begin, stop), history=True)
                self.state.history_rows = stop
                self.progress("history", stop, end)
                self.save()
        finally:
            store.close()
        first = int(np.searchsorted(world.requests.t_us, self.scenario.live_us))
        self.state.cursor = Cursor(end, first)
        self.save()

    def _promote_baseline(self) -> None:
        if self.registry.alias("champion") is not None:
            return
        self._improver().install_baseline(self.scenario.live_us)

    def _live(self, world: World, client: Client) -> None:
        total = len(world.requests)

        def saved(cursor: Cursor) -> None:
            self.state.cursor = cursor
            self.save()
            self.progress("live", cursor.request, total)

        replay = Replay(world, client, self.system.task.k, self.state.cursor, saved)
        replay.stages_ms = self.state.stages_ms
        edges = self.edges
        for number in range(self.state.steps_done, len(edges)):
            replay.advance(edges[number])
            if not self.steps.has(number):
                self.steps.save(number, self._digest(number))
            self.progress("steps", number + 1, len(edges))
            if self._improver().improve(number, edges[number], self.logged.digest):
                self._reload()
            self.state.steps_done = number + 1
            self.save()

    def _reload(self) -> None:
        admin = admin_client(self.home)
        try:
            admin.post("/v1/reload", {})
        finally:
            admin.close()

    def _digest(self, number: int) -> Digest:
        """The digest of what matured in a step."""
        within_us = parse_duration(self.system.task.label.within)
        edges = self.edges
        begin = (edges[number - 1] if number else self.scenario.live_us) - within_us
        end = edges[number] - (within_us if number + 1 < len(edges) else 0)
        return self.logged.digest(begin, end, self._improver().shadows())

    def _improver(self) -> Improver:
        hashes, folder = self.logged.hashes, self.home / "training"
        return Improver(self.scenario, self.state, self.steps, self.registry, hashes, folder)


@contextmanager
def _compiling(reference: str) -> Iterator[None]:
    """Have what the system runs compiled on another core meanwhile; without it all would wait for that later.

    It is only a head start: what it does not get done, or fails at, is compiled, or fails, where it is needed.
    """
    command = [sys.executable, "-m", "sevenfold", "compile", reference]
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet)
    try:
        yield
    except BaseException:
        process.kill()
        raise
    finally:
        process.wait()
