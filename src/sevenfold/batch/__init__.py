"""Features as of then, for whole tables: what `sevenfold features` does, from Python.

    from sevenfold.batch import Reader

A layer of its own above `serving`: events that are given go through the one door of an ingest.
"""

from __future__ import annotations

from sevenfold.batch.backfill import Filled
from sevenfold.batch.explanation import Explanation
from sevenfold.batch.options import SpineOptions
from sevenfold.batch.reader import Reader

__all__ = ["Explanation", "Filled", "Reader", "SpineOptions"]
