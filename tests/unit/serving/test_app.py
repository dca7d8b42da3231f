"""Every route keeps its description, refuses what it must in one shape, and says nothing of its insides."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from sevenfold.errors import StoreError
from sevenfold.models.rule import RuleModel

ASK = {"request_id": "r1", "keys": {"customer": "ada"}}


def fits(value: Any, schema: dict[str, Any], root: dict[str, Any]) -> bool:
    """Whether a value is what a schema of OpenAPI says; of its words only those that we use."""
    if "$ref" in schema:
        name = schema["$ref"].removeprefix("#/components/schemas/")
        return fits(value, root["components"]["schemas"][name], root)
    if "anyOf" in schema:
        return any(fits(value, one, root) for one in schema["anyOf"])
    kind = schema.get("type")
    if kind == "object":
        known = schema.get("properties", {})
        other = schema.get("additionalProperties", not known)
        return (
            isinstance(value, dict)
            and set(schema.get("required", ())) <= set(value)
            and all(
                fits(inner, known[name], root)
                if name in known
                else other is True or (isinstance(other, dict) and fits(inner, other, root))
                for name, inner in value.items()
            )
        )
    if kind == "array":
        return isinstance(value, list) and all(
            fits(one, schema.get("items", {}), root) for one in value
        )
    kinds = {
        "string": str,
        "integer": int,
        "number": (int, float),
        "boolean": bool,
        "null": type(None),
        None: object,
    }
    return isinstance(value, kinds[kind]) and not (
        isinstance(value, bool) and kind in ("integer", "number")
    )


def refusal(response: Any, status: int, code: str) -> dict[str, Any]:
    """The error of an answer that must be one, of the one shape."""
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert list(error) == ["code", "message", "path", "request_id"]
    assert error["code"] == code
    return error


def test_every_answer_is_as_described(
    stall: Any, sale: Callable[..., Any], rule: RuleModel
) -> None:
    stall.promote(rule, ["item__sum_pieces"])
    other = stall.register(rule, ["item__sum_pieces"])
    row = {"name": "features", "shape": [1, 1], "datatype": "FP32", "data": [3.0]}
    infer = {"inputs": [row], "id": "mine"}
    described = stall.call("GET", "/openapi.json").json()
    bodies: dict[str, Any] = {
        "/v1/events": {"stream": "sales", "events": [sale("x", "a"), sale("y", "a", pieces=0), 7]},
        "/v1/recommend": ASK,
        "/v1/rank": {**ASK, "request_id": "r2", "items": ["c", "z", "a"]},
        "/v1/features": {
            "rows": [{"customer": "ada", "item": "a"}, {"customer": "bob", "item": "z"}]
        },
        "/v1/jobs": {"keys": [{"customer": "ada"}], "job_id": "x"},
        "/v1/reload": {},
        "/v1/change": {},
        "/v1/forget": {"entity": "customer", "key": "ada"},
        "/v1/canary": {"version": other, "share": 0.5},
        "/v1/shadow": {"version": other, "share": 0.5},
        "/v1/shadow/stop": {"reason": "enough"},
        "/v1/shadow/promote": {"reason": "it is good"},
        "/v1/canary/stop": {"reason": "enough"},
        "/v1/canary/promote": {"reason": "it is good"},
        "/v2/models/test/infer": infer,
        "/v2/models/test/versions/1/infer": infer,
    }
    asked = 0
    for pattern, operations in described["paths"].items():
        path = pattern.format(model="test", version=1, job="x", page=1)
        for method, operation in operations.items():
            token = {"Authorization": "Bearer the-token"}
            body = {"json": bodies[path]} if method == "post" else {}
            begun = path.removesuffix("/promote")
            if begun != path:
                assert stall.post(begun, bodies[begun]).status_code == 200
            response = stall.call(method.upper(), path, headers=token, **body)
            ((good, described_good), *_) = operation["responses"].items()
            assert response.status_code == int(good), response.text
            if begun != path:
                stall.registry.rollback("champion", "the others ask for the first", 9)
            while stall.service.scoring.step():  # a job that is done has pages
                pass
            (kind, content), *_ = described_good["content"].items()
            assert response.headers["content-type"].startswith(kind)
            if kind == "application/json":
                assert fits(response.json(), content["schema"], described), response.text
            refused = operation["responses"]["default"]["content"]["application/json"]["schema"]
            assert fits(stall.call("PUT", path).json(), refused, described)
            asked += 1
    assert asked == len(bodies) + 19


def test_bad_events_are_named_and_lose_no_good_one(stall: Any, sale: Callable[..., Any]) -> None:
    answer = stall.sell(
        sale("n1", "a"), sale("n2", "b", pieces=0), [1], sale("n1", "a"), sale("n3", "c")
    )
    assert (answer["events"], answer["duplicates"], answer["dead_letters"]) == (2, 1, 2)
    assert [one["index"] for one in answer["refused"]] == [1, 2]
    assert answer["position"] == 8
    assert "pieces" in answer["refused"][0]["message"]


def test_one_event_needs_no_list(stall: Any, sale: Callable[..., Any]) -> None:
    answer = stall.post("/v1/events", {"stream": "sales", "event": sale("n1", "a")}).json()
    assert answer["events"] == 1
    both = {"stream": "sales", "event": sale("n2", "a"), "events": []}
    refusal(stall.post("/v1/events", both), 400, "invalid_body")


def test_numbers_and_texts_that_no_store_holds_are_dead_letters(
    stall: Any, sale: Callable[..., Any]
) -> None:
    deep: Any = 1
    for _ in range(200):
        deep = [deep]
    answer = stall.sell(
        sale("n1", "a", pieces=10**40), sale("n2", "a", basket=deep), sale("n3", "a", x=1)
    )
    assert answer["events"] + answer["dead_letters"] == 3
    assert answer["dead_letters"] >= 2


@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"{", "not_json", "$"),
        (b"", "not_json", "$"),
        (b'{"request_id":"\xff"}', "not_json", "$"),
        (b'{"request_id":"\\ud800","keys":{"customer":"ada"}}', "not_json", "$"),
        (b'{"request_id":"r","keys":{"customer":7}}', "invalid_body", "$.keys[...]"),
        (b'{"request_id":"r","keys":{"customer":"ada"},"top":5}', "invalid_body", "$"),
        (b'{"request_id":"r","keys":{"customer":"ada"},"k":0}', "invalid_body", "$.k"),
        (b'{"request_id":"","keys":{"customer":"ada"}}', "invalid_body", "$.request_id"),
        (b'{"request_id":"r","keys":{}}', "invalid_input", "$.keys"),
        (
            b'{"request_id":"r","keys":{"customer":"ada","shop":"x"}}',
            "invalid_input",
            "$.keys.shop",
        ),
        (b'{"request_id":"r","keys":{"customer":"ada"},"t":5}', "invalid_input", "$.t"),
    ],
)
def test_a_body_that_is_not_understood_says_where(
    stall: Any, body: bytes, code: str, path: str
) -> None:
    error = refusal(stall.call("POST", "/v1/recommend", content=body), 400, code)
    assert error["path"] == path


def test_a_body_without_a_floor_is_refused(stall: Any) -> None:
    body = b'{"stream":"sales","event":{"line":' + b"[" * 1_000_000
    response = stall.call(
        "POST", "/v1/events", content=body, headers={"Authorization": "Bearer the-token"}
    )
    refusal(response, 400, "too_deep")


def test_a_live_server_stamps_events_itself(stall: Any, sale: Callable[..., Any]) -> None:
    body = {"stream": "sales", "events": [sale("n", "a")], "known_us": 5}
    error = refusal(stall.post("/v1/events", body), 400, "invalid_input")
    assert error["path"] == "$.known_us"


def test_what_nothing_declares_is_not_found(stall: Any) -> None:
    error = refusal(stall.post("/v1/events", {"stream": "sale", "events": []}), 404, "not_found")
    assert "sales" in error["message"]
    rows = [{"item": "a"}]
    refusal(stall.post("/v1/features", {"rows": rows, "features": ["item__sum"]}), 404, "not_found")
    refusal(stall.post("/v1/features", {"rows": [{"shop": "a"}]}), 404, "not_found")


@pytest.mark.parametrize(
    "given", [None, "", "Bearer", "Bearer the-toke", "bearer the-token", "Basic x"]
)
@pytest.mark.parametrize("path", ["/v1/events", "/v1/reload"])
def test_writes_need_the_token(stall: Any, path: str, given: str | None) -> None:
    headers = {} if given is None else {"Authorization": given}
    response = stall.call("POST", path, json={"stream": "sales", "events": []}, headers=headers)
    refusal(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == "Bearer"


def test_a_refused_writer_is_not_read(make_stall: Callable[..., Any]) -> None:
    response = make_stall(max_body_bytes=10).call("POST", "/v1/events", content=b"x" * 100)
    refusal(response, 401, "unauthorized")


@pytest.mark.parametrize("declared", [True, False])
def test_a_body_that_is_too_large_is_refused(
    make_stall: Callable[..., Any], declared: bool
) -> None:
    stall = make_stall(max_body_bytes=100)

    async def parts() -> Any:
        for _ in range(20):
            yield b"x" * 10

    body: Any = b"x" * 101 if declared else parts()
    refusal(stall.call("POST", "/v1/recommend", content=body), 413, "too_large")


def test_a_body_that_does_not_come_is_not_waited_for(make_stall: Callable[..., Any]) -> None:
    stall = make_stall(body_timeout_s=0.05)

    async def never() -> Any:
        return await asyncio.Event().wait()

    async def ask() -> list[Any]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {"type": "http", "path": "/v1/recommend", "method": "POST", "headers": []}
        await stall.app(scope, never, send)
        return sent

    start, body = asyncio.run(ask())
    assert start["status"] == 408
    assert (b"connection", b"close") in start["headers"]
    assert b"too_slow" in body["body"]


def test_wrong_ways_in_are_shown_the_right_one(stall: Any) -> None:
    response = stall.call("GET", "/v1/recommend")
    refusal(response, 405, "wrong_method")
    assert response.headers["allow"] == "POST"
    assert stall.call("DELETE", "/healthz").headers["allow"] == "GET, HEAD"
    refusal(stall.call("GET", "/v1/recommend/"), 404, "no_such_route")
    refusal(stall.call("POST", "/../store/data.mdb"), 404, "no_such_route")


def test_a_fault_inside_says_nothing_of_the_inside(
    stall: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for fault, status in ((StoreError("/secret/place"), 503), (ValueError("/secret/place"), 500)):

        def fail(request: Any, allowance: Any, *, fault: Exception = fault) -> Any:
            raise fault

        monkeypatch.setattr(stall.service, "draft_recommend", fail)
        response = stall.post("/v1/recommend", ASK)
        assert response.status_code == status
        assert "secret" not in response.text
        assert response.json()["error"]["request_id"] in caplog.text
        assert "/secret/place" in caplog.text


def test_the_stages_of_an_answer_are_timed(stall: Any) -> None:
    response = stall.post("/v1/recommend", ASK)
    stages = [one.split(";")[0] for one in response.headers["server-timing"].split(", ")]
    assert stages == ["wait", "retrieve", "features", "score", "log"]
    assert set(response.json()["timing_ms"]) >= {"wait", "retrieve", "features", "score"}


def test_what_was_done_is_counted(stall: Any, sale: Callable[..., Any]) -> None:
    stall.sell(sale("n1", "a"), sale("n1", "a"), sale("n2", "a", pieces=0))
    stall.post("/v1/recommend", ASK)
    stall.post("/v1/recommend", ASK)
    stall.call("GET", "/nowhere")
    lines = stall.call("GET", "/metrics").text.splitlines()
    assert 'sevenfold_rows_total{outcome="event"} 7.0' in lines
    assert 'sevenfold_rows_total{outcome="duplicate"} 1.0' in lines
    assert any(line.startswith("sevenfold_dead_letters_total{reason=") for line in lines)
    assert 'sevenfold_answers_total{rung="baseline"} 1.0' in lines
    assert 'sevenfold_requests_total{route="/v1/recommend",status="200"} 2.0' in lines
    assert 'sevenfold_requests_total{route="other",status="404"} 1.0' in lines
    assert "sevenfold_log_position 7.0" in lines
    assert "sevenfold_model_version 0.0" in lines
