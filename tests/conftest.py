"""What every test stands on: one thread a library, no surprise from hypothesis."""

import os

# Before numba, lightgbm or OpenMP is loaded: two cores shared by many tests are slower with wide pools.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the first example of a law may compile a kernel. `thorough` is for a night, by --hypothesis-profile.
settings.register_profile("usual", deadline=None, print_blob=True, max_examples=100)
settings.register_profile(
    "thorough",
    deadline=None,
    print_blob=True,
    max_examples=2000,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("ci", settings.get_profile("usual"))
settings.register_profile("deep", settings.get_profile("thorough"))
settings.load_profile("usual")


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent
