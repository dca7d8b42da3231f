"""Libraries that would each keep as many threads as the machine has cores are told to keep none."""

from __future__ import annotations

import os

__all__ = ["VARIABLES", "keep_to_one_thread"]

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def keep_to_one_thread() -> None:
    """Have OpenMP and the libraries of linear algebra work on the thread that calls them.

    A server answers on one thread, and N servers on N cores would otherwise have N threads each: LightGBM begins a team to
    read a model, whatever it scores with, and teams wait by turning. What the environment says already stands. It
    is read when a library is loaded: call this first.
    """
    for name in VARIABLES:
        os.environ.setdefault(name, "1")
