"""Dead letters once more through the door they were refused at, after the declaration or the data were mended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from sevenfold.serving.ingest import Beside, Ingest, uncount_letters
from sevenfold.sources.lines import parse_object
from sevenfold.sources.protocol import Poison
from sevenfold.stores.dead_letters import letters, remove
from sevenfold.stores.kv import Store, Transaction
from sevenfold.types import DeadLetter, Instant

__all__ = ["Picked", "Redriven", "pick", "purge", "redrive"]

_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Picked:
    """Which letters are meant: of a stream, of a reason, buried before an instant; all without any."""

    stream: str | None = None
    reason: str | None = None
    before_us: Instant | None = None

    def fits(self, letter: DeadLetter) -> bool:
        """Whether a letter is meant."""
        return (
            self.stream in (None, letter.stream)
            and self.reason in (None, letter.reason)
            and (self.before_us is None or letter.buried_us < self.before_us)
        )


@dataclass(slots=True)
class Redriven:
    """What became of letters: events, duplicates, refused again (a new letter), or `kept`: no row to try."""

    letters: int = 0
    events: int = 0
    duplicates: int = 0
    refused: int = 0
    kept: int = 0


def pick(store: Store, picked: Picked) -> Iterator[list[tuple[bytes, DeadLetter]]]:
    """The letters that are meant and were there at the beginning, oldest first, some at a time."""
    with store.read() as txn:
        last = next(txn.scan("dead", reverse=True), (b"", b""))[0]
    start = b""
    while True:
        with store.read() as txn:
            found = letters(txn, start, _AT_ONCE)
        meant = [(key, one) for key, one in found if key <= last and picked.fits(one)]
        if meant:
            yield meant
        if not found or found[-1][0] >= last:
            return
        start = found[-1][0] + b"\0"


def redrive(ingest: Ingest, store: Store, streams: Sequence[str], picked: Picked) -> Redriven:
    """Take the rows of letters in again, known now; a letter goes in the transaction its row is taken in.

    A row that is refused again is a new letter, which keeps where the row came from. A letter of which no row
    can be made, or whose stream is not declared, stays.
    """
    total = Redriven()
    for found in pick(store, picked):
        total.letters += len(found)
        usable = [(key, one, row) for key, one in found if (row := _row(one)) is not None]
        usable = [each for each in usable if each[1].stream in streams]
        total.kept += len(found) - len(usable)
        for stream, group in groupby(usable, key=lambda each: each[1].stream):
            _take(ingest, stream, list(group), total)
    return total


def purge(store: Store, picked: Picked) -> int:
    """Remove letters for good; how many. What was ever counted stays counted."""
    count = 0
    for found in pick(store, picked):
        with store.write() as txn:
            count += remove(txn, [key for key, _ in found])
    return count


def _take(
    ingest: Ingest,
    stream: str,
    each: list[tuple[bytes, DeadLetter, Mapping[str, Any]]],
    total: Redriven,
) -> None:
    def write(txn: Transaction) -> None:
        remove(txn, [key for key, _, _ in each])
        uncount_letters(txn, stream, len(each))

    result = ingest.accept(
        stream,
        [row for _, _, row in each],
        beside=Beside(origin=lambda row: each[row][1].origin, write=write),
    )
    total.events += result.events
    total.duplicates += result.duplicates
    total.refused += len(result.refused)


def _row(letter: DeadLetter) -> Mapping[str, Any] | None:
    """The row of a letter; None when it never was one."""
    if letter.reason == "not_json":
        found = parse_object(str(letter.row.get("text", "")).encode("utf-8", "replace"), "")
        return None if isinstance(found, Poison) else found
    if letter.reason in ("not_a_record", "not_an_object"):
        return None
    return letter.row
