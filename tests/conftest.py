"""What every test stands on: one thread a library, no surprise from hypothesis."""

import os
import shutil

# Before numba, lightgbm or OpenMP is loaded: two cores shared by many tests are slower with wide pools.
for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"):
    os.environ.setdefault(name, "1")

# A client of gRPC's leaves threads behind that have a say in every later fork, and abort where they lose a race. What is forked here calls
# another program at once, for which its makers recommend this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from sevenfold.testing.redis_server import RedisServer, redis_server

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
# Of a planted mistake it is enough that it is caught: to make the example small may take minutes.
settings.register_profile(
    "judge",
    settings.get_profile("usual"),
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
settings.load_profile("usual")


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def redis_program() -> str:
    """The program of a Redis server; without it the tests that speak to one are skipped, and say so."""
    found = shutil.which("redis-server")
    if found is None:
        pytest.skip("no redis-server on this machine: install Debian's redis-server")
    return found


@pytest.fixture(scope="session")
def redis(redis_program: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server for all tests of a session."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The tests of a module that is `in_order` stay so, where all others are shuffled: they are one story."""
    places = [at for at, item in enumerate(items) if item.get_closest_marker("in_order")]
    told = sorted((items[at] for at in places), key=lambda item: item.location[:2])
    for at, item in zip(places, told, strict=True):
        items[at] = item
