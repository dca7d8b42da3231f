"""Where the machine code of a kernel lies on disk: a file for each list of types that it was compiled for, and an index of them."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from glob import escape
from pathlib import Path
from typing import Any

from numba.core.caching import IndexDataCacheFile

__all__ = ["CodeFiles"]

_UNTOLD_S = 60.0  # within which a file that was written is in the index


_library: Any = IndexDataCacheFile  # it has no types


class CodeFiles:
    """The files of one kernel, each named for what it holds: its types, its processor, its sources.

    Numba gives them numbers. Two processes that compile a kernel for different types at the same time take the same number, and from
    then on the code for one is run over the arrays of the other, with no error: a sum of a hundred ones became
    4156822456062967809. With a name of its own a file is what its index says, or is missing and compiled again.
    """

    def __init__(self, folder: str, kernel: str, stamp: str) -> None:
        self._files = _library(folder, kernel, stamp)
        self._folder, self._kernel, self._stamp = Path(folder), kernel, stamp

    def load(self, key: Any) -> Any:
        """The code for `key`; None where there is none of these sources."""
        return self._files.load(key)

    def save(self, key: Any, data: Any) -> None:
        """Keep the code `data` for `key`: itself before the index that tells of it."""
        name = self._name(key)
        self._files._save_data(name, data)
        others = self._files._load_index()
        if not others:
            self._drop_stale(name)
        self._files._save_index({**others, key: name})

    def flush(self) -> None:
        """Forget all of it."""
        self._files.flush()

    def _name(self, key: Any) -> str:
        held = hashlib.blake2b(self._files._dump((self._stamp, key)), digest_size=16).hexdigest()
        return f"{self._kernel}.{held}.nbc"

    def _drop_stale(self, name: str) -> None:
        """Delete what is left of other sources; not what was written at about the time of `name`: it may not be told of yet."""
        with suppress(OSError):  # it has gone, or may not be deleted
            until_s = (self._folder / name).stat().st_mtime - _UNTOLD_S
            for path in self._folder.glob(f"{escape(self._kernel)}.*.nbc"):
                if path.stat().st_mtime < until_s:
                    path.unlink()
