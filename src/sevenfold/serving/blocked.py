"""Whether the log can be written: after a failure nobody's answer is made in vain, and it is tried again now and then."""

from __future__ import annotations

import math
from collections.abc import Callable

from sevenfold.clock import elapsed_s
from sevenfold.errors import StoreError, StoreFullError
from sevenfold.stores.kv import Store
from sevenfold.stores.tables import META

__all__ = ["Blocked", "LogFailedError"]

_TRY_AGAIN_S = 0.5
_PROBE = b"room"
_PROBE_BYTES = 1 << 16


class LogFailedError(StoreError):
    """What could not be written, though there is room for it."""


class Blocked:
    """What became of the last write of the log; `error` is None while it can be written.

    Some failures of a write are one answer's own fault, and block nobody: who writes says which do.
    """

    def __init__(self, now_s: Callable[[], float] = elapsed_s) -> None:
        self.error: StoreError | None = None
        self._now_s = now_s
        self._until_s = -math.inf

    def failed(self, error: StoreError) -> StoreError:
        """Note that nothing could be written, and why; the error for whoever waits for it."""
        known = isinstance(error, StoreFullError | LogFailedError)
        self.error = error if known else LogFailedError(str(error))
        self._until_s = self._now_s() + _TRY_AGAIN_S
        return self.error

    def wrote(self) -> None:
        """Note that something was written."""
        self.error = None

    def require_open(self) -> None:
        """Raise why nothing can be written; not half a second after it was last tried, when one may try again."""
        if self.error is not None and self._now_s() < self._until_s:
            raise type(self.error)(str(self.error))

    def probe(self, store: Store) -> str | None:
        """Why nothing can be written, tried anew by writing something of some size; None when it can."""
        if self.error is None or self._now_s() < self._until_s:
            return None if self.error is None else str(self.error)
        try:
            with store.write() as txn:
                txn.put(META, _PROBE, bytes(_PROBE_BYTES))
            with store.write() as txn:
                txn.delete(META, _PROBE)
        except StoreError as error:
            return str(self.failed(error))
        self.wrote()
        return None
