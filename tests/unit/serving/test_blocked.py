"""After a write that failed nobody is answered in vain, and it is tried again."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sevenfold.errors import StoreError, StoreFullError
from sevenfold.serving.blocked import Blocked, LogFailedError
from sevenfold.serving.problem import http_error
from sevenfold.serving.request import RecommendRequest
from sevenfold.stores.tables import META


class Failing:
    """A store whose writes fail while it has an `error`; it counts them."""

    def __init__(self, store: Any) -> None:
        self.store = store
        self.error: StoreError | None = None
        self.tried = 0

    @contextmanager
    def write(self) -> Iterator[Any]:
        """A write, or what keeps it."""
        self.tried += 1
        if self.error is not None:
            raise self.error
        with self.store.write() as txn:
            yield txn


def test_it_is_tried_again_twice_a_second(stall: Any) -> None:
    now, store = [100.0], Failing(stall.store)
    blocked = Blocked(lambda: now[0])
    blocked.require_open()
    assert blocked.probe(store) is None  # type: ignore[arg-type]
    assert store.tried == 0
    store.error = StoreFullError("full")
    assert blocked.failed(store.error) is store.error
    with pytest.raises(StoreFullError):
        blocked.require_open()
    assert blocked.probe(store) == "full"  # type: ignore[arg-type]
    assert store.tried == 0
    now[0] += 0.6
    blocked.require_open()
    assert blocked.probe(store) == "full"  # type: ignore[arg-type]
    assert store.tried == 1
    now[0] += 0.6
    store.error = None
    assert blocked.probe(store) is None  # type: ignore[arg-type]
    assert blocked.error is None
    with stall.store.read() as txn:
        assert txn.get(META, b"room") is None


@pytest.mark.parametrize(
    ("error", "code"), [(StoreFullError("/a"), "log_full"), (StoreError("/a"), "log_failed")]
)
def test_an_answer_that_cannot_be_written_is_refused_until_it_can(
    stall: Any, error: StoreError, code: str
) -> None:
    service, failing = stall.service, Failing(stall.store)
    service.pending._store = failing
    given = service.recommend(RecommendRequest("r0", {"customer": "ada"}))[0]
    failing.error = error
    body = {"request_id": "r1", "keys": {"customer": "ada"}}
    for _ in range(5):
        answer = stall.post("/v1/recommend", body)
        said = answer.json()["error"]
        assert (answer.status_code, said["code"]) == (503, code)
        assert answer.headers["retry-after"] == "1"
        assert "/" not in said["message"]
    assert failing.tried < 6
    assert f'sevenfold_unlogged_total{{code="{code}"}} 5.0' in stall.get("/metrics").text
    assert stall.app.site.gate.ladder.level == 0, "no stage is at fault"
    again, repeated = service.recommend(RecommendRequest("r0", {"customer": "ada"}))
    assert (again.slate(), again.t_us, repeated) == (given.slate(), given.t_us, True)
    failing.error = None
    service.pending.blocked = Blocked(lambda: 0.0)
    assert stall.post("/v1/recommend", body).json()["repeated"] is False


def test_a_refusal_of_a_refusal_is_itself() -> None:
    refusal = http_error(LogFailedError("x"))
    assert http_error(refusal) is refusal
    assert not refusal.is_fault
    assert http_error(ValueError()).is_fault


def test_requests_that_are_not_understood_are_no_fault_of_a_stage(stall: Any) -> None:
    for n in range(9):
        assert stall.post("/v1/recommend", {"request_id": f"p{n}", "keys": n}).status_code == 400
    assert stall.app.site.gate.ladder.level == 0
