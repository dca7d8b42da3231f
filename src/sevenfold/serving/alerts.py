"""Breaches of what streams expect: counted for good, and the volume, which needs more than one batch."""

from __future__ import annotations

from collections.abc import Sequence

from sevenfold.sources.expectations import Alert
from sevenfold.spec.expect import Expectation
from sevenfold.spec.units import parse_duration
from sevenfold.stores.kv import Transaction
from sevenfold.stores.tables import META
from sevenfold.types import Instant

__all__ = ["count_alerts", "read_alerts", "volume_alerts"]

_COUNT = b"alerts/"
_VOLUME = b"volume/"


def count_alerts(txn: Transaction, stream: str, alerts: Sequence[Alert]) -> None:
    """Count the breaches of a batch."""
    for alert in alerts:
        key = _key(_COUNT, stream, alert.expectation)
        before = int.from_bytes(txn.get(META, key) or b"", "big")
        txn.put(META, key, (before + 1).to_bytes(8, "big"))


def read_alerts(txn: Transaction) -> dict[tuple[str, str], int]:
    """How many batches ever breached: by the stream's name and the expectation's."""
    found = {}
    for key, value in txn.scan(META, _COUNT, _COUNT + b"\xff"):
        stream, _, name = key[len(_COUNT) :].decode().partition("/")
        found[stream, name] = int.from_bytes(value, "big")
    return found


def volume_alerts(
    txn: Transaction, stream: str, expectations: Sequence[Expectation], n: int, now_us: Instant
) -> list[Alert]:
    """The breaches of the expected volume that `n` events arriving now show; their count is kept."""
    found = []
    for one in expectations:
        if one.kind != "volume" or not n:
            continue
        key = _key(_VOLUME, stream, one.name)
        stretch = now_us // parse_duration(one.per)
        raw = txn.get(META, key)
        begun, count = stretch, 0
        if raw is not None:
            begun = int.from_bytes(raw[:8], "big", signed=True)
            count = int.from_bytes(raw[8:], "big")
        if begun < stretch:
            found += _too_few(one, stream, count, stretch - begun - 1)
            count = 0
        total = count + n
        if one.high is not None and count <= one.high < total:
            detail = (
                f"{stream}: {total:,} events within {one.per}, at most {one.high:g} are expected"
            )
            found.append(Alert(one.name, total, total, detail))
        txn.put(META, key, stretch.to_bytes(8, "big", signed=True) + total.to_bytes(8, "big"))
    return found


def _too_few(one: Expectation, stream: str, count: int, empty: int) -> list[Alert]:
    """The alert of a stretch that has ended with `count` events, and of the `empty` ones after it."""
    if one.low is None or (count >= one.low and not (empty and one.low > 0)):
        return []
    since = f", and none in the {empty:,} after it" if empty else ""
    detail = (
        f"{stream}: {count:,} events within {one.per}{since}, at least {one.low:g} are expected"
    )
    return [Alert(one.name, count, count, detail)]


def _key(head: bytes, stream: str, name: str) -> bytes:
    return head + f"{stream}/{name}".encode()
