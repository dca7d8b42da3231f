"""One Redis server for the laws of a session."""

import pytest

from sevenfold.testing.redis_server import redis_server


@pytest.fixture(scope="session")
def redis(tmp_path_factory):
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server
