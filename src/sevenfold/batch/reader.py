"""Reads of features as of then, for tables of any kind and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from sevenfold.batch.arrow_rows import arrow_schema, arrow_table
from sevenfold.batch.backfill import Filled, Filling, fill_file
from sevenfold.batch.events import events_digest, load_events
from sevenfold.batch.explanation import Explanation, Look
from sevenfold.batch.given import is_stream, rows_of
from sevenfold.batch.histories import history_of, kept_events
from sevenfold.batch.opened import opened
from sevenfold.batch.options import Meant, SpineOptions
from sevenfold.batch.rows import Computed, Rows, require_column
from sevenfold.batch.spine import latest_us, readable, refuse_collisions, spine_of
from sevenfold.compiled import sources_stamp
from sevenfold.engines.offline import read_at
from sevenfold.engines.survey import survey
from sevenfold.errors import InputError, RunError
from sevenfold.features.meaning import meanings
from sevenfold.features.plan import compile_plan
from sevenfold.spec.system import System
from sevenfold.stores.history import HEAD_EVENTS, HISTORY, StreamHistory
from sevenfold.types import EventBatch, Instant

__all__ = ["Reader", "row_bytes"]

Progress = Callable[[str, int, int], None]
Events = Mapping[str, EventBatch | StreamHistory]


class Reader:
    """Fills tables with the features of a system, each as it was at the row's own instant.

    Events come from the store in `home` (`.sevenfold/NAME` when neither it nor events are given), as its log is
    when a read begins; or from `events`, tables or files by stream, which are checked, ordered and deduplicated
    as a store would, once. `memory_mib` bounds what is held of a store's events at a time, and with a quarter of
    it the rows of a spine that comes as a stream or a file; `threads` share the keys of each part. No answer
    depends on either. `progress` is told what is done, how far, and of how much.

    `refused` says how many rows of `events` were refused, by stream and reason.
    """

    def __init__(
        self,
        system: System,
        *,
        home: Path | str | None = None,
        events: Mapping[str, Any] | None = None,
        memory_mib: int = 1024,
        threads: int = 1,
        progress: Progress | None = None,
    ) -> None:
        if home is not None and events is not None:
            raise InputError("give a home, whose store has the events, or events, and not both")
        if memory_mib < 1:
            raise InputError(f"memory_mib={memory_mib}: give at least 1")
        if threads < 1:
            raise InputError(f"threads={threads}: give at least 1")
        self.system = system
        self.plan = compile_plan(system.features)
        self.memory_bytes = memory_mib << 20
        self.threads = threads
        self._progress = progress
        self._home = Path(home) if home is not None else Path(".sevenfold") / system.name
        self._history = history_of(self._home, self.plan)
        self.refused: Mapping[str, Mapping[str, int]] = {}
        self.refused_because: Mapping[str, str] = {}
        self._given: Mapping[str, EventBatch] | None = None
        if events is not None:
            found = load_events(system, self.plan, events, self._told("reading events"))
            self._given, self.refused, self.refused_because = (
                found.events,
                found.refused,
                found.told,
            )

    def features_at(
        self, spine: Any, features: Sequence[str] = (), **meant: Unpack[SpineOptions]
    ) -> Any:
        """The spine with a column for each feature, as it was at the row's instant, of the kind that was given.

        `spine` has a column `t` of instants, one of keys for each entity that the features need, and the request
        fields that they read: a pandas or Polars frame (lazy too), a pyarrow Table or RecordBatch, a DuckDB
        relation, or a dict of arrays. A RecordBatchReader is answered by another, which reads on as it is read:
        of one log, or of what is left of it where events are forgotten meanwhile. Its rows come back all, once, in
        order, with their own columns and index untouched. `features` are names or a FeatureSet; without any, all
        whose columns are there. A feature without a value is null, and NaN in pandas and numpy. Raises InputError
        for a column that is missing, of a wrong type, or named as a feature, and for the first cell that cannot be
        used.
        """
        how = Meant(**meant)
        if isinstance(spine, str | Path):
            raise InputError(
                f"the spine is the path {str(spine)!r}: give backfill(spine, out) a file to write, or give the "
                "rows themselves"
            )
        if is_stream(spine):
            return self._stream(spine, features, how)
        rows = rows_of(spine)
        names = self._names(rows.names, features, how)
        computed = self._history.mending(
            lambda: self._computed(names, rows, how, self._events()[0])
        )
        return rows.filled(computed)

    def backfill(
        self,
        spine: Path | str,
        out: Path | str,
        features: Sequence[str] = (),
        **meant: Unpack[SpineOptions],
    ) -> Filled:
        """Write the rows of a Parquet or CSV file, with a column for each feature, to the Parquet file `out`.

        As `features_at`, for files of any size. Nothing is under the name `out` until all is; killed at it, the
        next run goes on where this one was, and the file is the same to the byte. If the spine, a definition or
        the events have changed so that an answer could have, it begins anew. Raises RunError while another
        process fills `out`.
        """
        how = Meant(**meant)

        def prepare(columns: tuple[str, ...]) -> Filling:
            names = self._names(columns, features, how)
            left_out = () if features else tuple(self.left_out(columns))
            events, end_us, told = self._events()

            def compute(rows: Rows, first: int) -> Computed:
                return self._computed(names, rows, how, events, first)

            identity = {
                "definitions": [*self.plan.definition_hashes(names).items()],
                "events": told(),
                "kernels": sources_stamp(),
                "spine": [how.time, how.timezone, how.null_keys, how.dtype],
            }
            at_once = self.rows_at_once(names, len(columns))
            latest = partial(latest_us, meant=how)
            return Filling(names, left_out, at_once, compute, identity, end_us, latest)

        return self._history.mending(
            lambda: fill_file(Path(spine), Path(out), prepare, self._told("features"))
        )

    def explain(
        self, spine: Any, features: Sequence[str] = (), **meant: Unpack[SpineOptions]
    ) -> Explanation:
        """What `features_at` or `backfill` will do for this spine, without computing a feature.

        `spine` is a table or the path of a file; a RecordBatchReader could be read only once. The keys are read,
        to count the events that they have.
        """
        how, looks = Meant(**meant), []
        with opened(spine) as table:
            names = self._names(table.names, features, how)
            events = self._events()[0]
            at_once = self.rows_at_once(names, len(table.names))
            for first, rows in table.parts(at_once):
                one = spine_of(self.plan, names, rows, how, first)
                bounds = self.memory_bytes, self.threads
                looks.append(Look.at(one, survey(self.plan, names, one, events, bounds)))
        said = meanings(self.system.features)
        return Explanation(
            source=self._where(),
            looks=tuple(looks),
            rows_at_once=at_once,
            row_bytes=row_bytes(names, len(table.names)),
            memory_bytes=self.memory_bytes,
            threads=self.threads,
            features={name: said[name] for name in names},
            left_out={} if features else self.left_out(table.names),
        )

    def left_out(self, columns: Sequence[str]) -> dict[str, str]:
        """The features that a spine of these columns has not all for, each with what is missing."""
        return readable(self.plan, columns, ())[1]

    def rows_at_once(self, names: Sequence[str], columns: int) -> int:
        """How many rows of a spine are held at a time, when it has so many columns."""
        return max(self.memory_bytes // 4 // row_bytes(names, columns), 1)

    def _names(
        self, columns: Sequence[str], features: Sequence[str], how: Meant
    ) -> tuple[str, ...]:
        if isinstance(features, str):
            raise InputError(f"features={features!r}: give a list of names")
        require_column(how.time, columns)
        names, _ = readable(self.plan, columns, tuple(features))
        refuse_collisions(columns, names)
        return names

    def _events(self) -> tuple[Events, tuple[Instant, Instant] | None, Callable[[], Any]]:
        """The events of every stream as they are now, when the newest became known (see Kept), and what tells them apart.

        Of a log that is how often it was rewritten, of given events what they are.
        """
        given = self._given
        if given is not None:
            return given, None, lambda: events_digest(given)
        if not (self._home / "store" / "data.mdb").exists():
            raise RunError(
                f"no store in {self._home}: `sevenfold ingest` makes one; give another home, or events"
            )
        told = self._told("reading events")
        kept = kept_events(self.system, self.plan, self._home, HEAD_EVENTS, told)
        return kept.events, kept.end_us, lambda: [str(self._home.resolve()), *kept.rewrites]

    def _computed(
        self,
        names: Sequence[str],
        rows: Rows,
        how: Meant,
        events: Events,
        first: int = 0,
    ) -> Computed:
        spine = spine_of(self.plan, names, rows, how, first)
        frame = read_at(self.plan, names, spine, events, None, self.memory_bytes, self.threads)
        values, kind = frame.values, how.numpy_dtype
        return {
            name: np.ascontiguousarray(values[:, i].astype(kind)) for i, name in enumerate(names)
        }

    def _where(self) -> str:
        """Where the events come from, in words."""
        if self._given is not None:
            return "given: " + ", ".join(f"{len(e):,} of {name}" for name, e in self._given.items())
        return f"the log of {self._home}, by key in {self._home / HISTORY}"

    def _stream(self, spine: Any, features: Sequence[str], how: Meant) -> Any:
        """A reader of filled batches: one log, however long it is read.

        Where a history is void or damaged meanwhile (an entity was forgotten, events are past their retention), the rows that
        were not answered yet are answered from the log as it is by then.
        """
        schema = spine.schema
        names = self._names(tuple(schema.names), features, how)
        held = [self._events()[0]]
        nothing = dict.fromkeys(names, np.empty(0, how.numpy_dtype))

        def computed(rows: Rows, first: int) -> Computed:
            events = held.pop() if held else self._events()[0]
            found = self._computed(names, rows, how, events, first)
            held.append(events)  # not where that failed: then they are asked for anew
            return found

        def batches() -> Iterator[Any]:
            first = 0
            for table in _regrouped(spine, self.rows_at_once(names, len(schema.names))):
                rows = rows_of(table)
                values = self._history.mending(partial(computed, rows, first))
                yield from rows.filled(values).to_batches()
                first += len(rows)

        return type(spine).from_batches(arrow_schema(schema, nothing), batches())

    def _told(self, what: str) -> Callable[[int, int], None]:
        def advance(done: int, total: int) -> None:
            if self._progress is not None:
                self._progress(what, done, total)

        return advance


def _regrouped(reader: Any, rows: int) -> Iterator[Any]:
    """The batches of a reader as tables of `rows` rows; each costs a walk over the events of its keys."""
    held: list[Any] = []
    for batch in reader:
        begin = 0
        while begin < batch.num_rows:
            some = batch.slice(begin, rows - sum(one.num_rows for one in held))
            begin += some.num_rows
            held.append(some)
            if sum(one.num_rows for one in held) == rows:
                yield arrow_table(held)
                held = []
    if held:
        yield arrow_table(held)


def row_bytes(names: Sequence[str], columns: int) -> int:
    """About what a row of a spine takes while it is filled."""
    # Keys, their hashes and groups; values twice and their states; the spine's own cells.
    return 200 + 20 * len(names) + 32 * columns
