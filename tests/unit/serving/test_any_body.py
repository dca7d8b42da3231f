"""Whatever is sent, the answer is one of the described ones and the server can go on."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ("line", "sold_at", "customer", "item", "pieces", "basket")
TIMES = st.sampled_from(
    ["2023-11-14T22:13:20", "9999-12-31T23:59:59.999999Z", "0001-01-01", 0, 1e300]
)
ROW = st.fixed_dictionaries({}, optional={name: JSON | TIMES | st.just("1") for name in FIELDS})
EVENTS = st.fixed_dictionaries(
    {"stream": st.just("sales") | JSON},
    optional={"event": ROW | JSON, "events": st.lists(ROW | JSON, max_size=4) | JSON},
)
KEYS = st.dictionaries(
    st.just("customer") | st.text(max_size=4), st.text(max_size=4) | JSON, max_size=2
)
ASKED = st.fixed_dictionaries(
    {"request_id": st.text(max_size=4) | JSON, "keys": KEYS},
    optional={
        "k": st.integers() | JSON,
        "timeout_ms": JSON,
        "items": st.lists(st.text(max_size=3)) | JSON,
    },
)
WANTED = st.fixed_dictionaries(
    {
        "rows": st.lists(
            st.dictionaries(st.sampled_from(["item", "customer"]), st.text(max_size=3)) | JSON
        )
    },
    optional={"features": st.lists(st.sampled_from(["item__count_7d", "x"])) | JSON, "t": JSON},
)
usual = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)


def sent(stall: Any, path: str, content: bytes) -> int:
    """The status of the answer to a body."""
    response = stall.call(
        "POST", path, content=content, headers={"Authorization": "Bearer the-token"}
    )
    if response.status_code != 200:
        assert list(response.json()) == ["error"]
    return response.status_code


@usual
@given(body=EVENTS | JSON)
def test_any_events(stall: Any, body: Any) -> None:
    assert sent(stall, "/v1/events", json.dumps(body).encode()) in (200, 400, 404)
    assert stall.service.ready() is None


@usual
@given(body=ASKED | JSON, path=st.sampled_from(["/v1/recommend", "/v1/rank"]))
def test_any_request(stall: Any, body: Any, path: str) -> None:
    assert sent(stall, path, json.dumps(body).encode()) in (200, 400, 409)


@usual
@given(body=WANTED | JSON)
def test_any_reading(stall: Any, body: Any) -> None:
    assert sent(stall, "/v1/features", json.dumps(body).encode()) in (200, 400, 404)


@usual
@given(body=st.binary(max_size=100), path=st.sampled_from(["/v1/events", "/v1/rank", "/v1/reload"]))
def test_any_bytes(stall: Any, body: bytes, path: str) -> None:
    assert sent(stall, path, body) in (200, 400)
