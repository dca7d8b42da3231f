"""The Open Inference Protocol: the model that serves, asked with tensors in JSON and in bytes."""

import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError
from sevenfold.models.logistic import LogisticModel
from sevenfold.serving.oip.tensor import NUMBERS, from_raw, from_values, to_raw

NAMES = ["item__count_7d", "item__sum_pieces"]
PATH = "/v2/models/test"


@pytest.fixture
def ready(stall: Any) -> Any:
    """A stall that serves a model of two features as version 1."""
    n = len(NAMES)
    model = LogisticModel(
        feature_names=tuple(NAMES),
        centre=np.zeros(n),
        scale=np.ones(n),
        weights=np.array([1.0, 0.5, -3.0, -1.0]),
        intercept=np.array([0.25]),
    )
    stall.promote(model, NAMES)
    return stall


def infer(stall: Any, inputs: list[dict[str, Any]], path: str = PATH, **more: Any) -> Any:
    return stall.post(f"{path}/infer", {"inputs": inputs, **more})


def column(name: str, values: list[Any], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "shape": [len(values)], "datatype": datatype, "data": values}


def told(response: Any, status: int = 400) -> str:
    """What a refusal says, in the shape of the protocol."""
    assert response.status_code == status, response.text
    assert list(response.json()) == ["error"]
    said = response.json()["error"]
    assert isinstance(said, str)
    return said


def in_bytes(stall: Any, head: dict[str, Any], raw: bytes, **headers: str) -> Any:
    encoded = json.dumps(head).encode()
    length = {"Inference-Header-Content-Length": str(len(encoded))}
    return stall.call("POST", f"{PATH}/infer", content=encoded + raw, headers=length | headers)


def test_the_server_and_its_model_are_described(ready: Any) -> None:
    assert ready.call("GET", "/v2").json() == {
        "name": "sevenfold",
        "version": "0.0.0",
        "extensions": ["binary_tensor_data"],
    }
    assert ready.call("GET", "/v2/health/live").json() == {"live": True}
    assert ready.call("GET", "/v2/health/ready").json() == {"ready": True}
    assert ready.call("GET", "/v2/models").json() == {"models": ["test"]}
    for path in (PATH, f"{PATH}/versions/1"):
        described = ready.call("GET", path).json()
        assert described == {
            "name": "test",
            "versions": ["1"],
            "platform": "sevenfold_logistic",
            "inputs": [{"name": name, "datatype": "FP32", "shape": [-1]} for name in NAMES],
            "outputs": [{"name": "scores", "datatype": "FP64", "shape": [-1]}],
        }
        assert ready.call("GET", f"{path}/ready").json() == {"name": "test", "ready": True}


@pytest.mark.parametrize(
    "path",
    ["/v2/models/other", f"{PATH}/versions/2", f"{PATH}/versions/...", f"{PATH}/versions/01"],
)
def test_only_the_model_that_serves_is_there(ready: Any, path: str) -> None:
    told(ready.call("GET", path), 404)
    told(ready.call("GET", f"{path}/ready"), 404)
    told(infer(ready, [column("features", [])], path), 404)


def test_without_a_model_there_is_none(stall: Any) -> None:
    assert stall.call("GET", "/v2/models").json() == {"models": []}
    told(stall.call("GET", PATH), 404)


def test_the_scores_are_those_of_the_model_to_the_bit(ready: Any) -> None:
    rows = np.array([[3, 3], [2, 2.5], [np.nan, 1], [0.1, np.nan]], dtype=np.float32)
    wanted = ready.service.champion.follow().model.scores(rows)
    by_name = [
        column(name, [None if value != value else value for value in rows[:, i].tolist()])
        for i, name in enumerate(NAMES)
    ]
    matrix = {"name": "features", "shape": [4, 2], "datatype": "FP32"}
    nested = [[None if value != value else value for value in row] for row in rows.tolist()]
    size = {"parameters": {"binary_data_size": rows.nbytes}}
    for response in (
        infer(ready, by_name),
        infer(ready, by_name[::-1], f"{PATH}/versions/1"),
        infer(ready, [matrix | {"data": nested}]),
        infer(ready, [matrix | {"data": [value for row in nested for value in row]}]),
        in_bytes(ready, {"inputs": [matrix | size]}, rows.tobytes()),
    ):
        assert response.status_code == 200, response.text
        (output,) = response.json()["outputs"]
        assert (output["name"], output["datatype"], output["shape"]) == ("scores", "FP64", [4])
        np.testing.assert_array_equal(output["data"], wanted)


def test_scores_come_in_bytes_when_asked_for_so(ready: Any) -> None:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    wanted = ready.service.champion.follow().model.scores(rows)
    matrix = {"name": "features", "shape": [3, 2], "datatype": "FP32", "data": rows.tolist()}
    for more in (
        {"parameters": {"binary_data_output": True}},
        {"outputs": [{"name": "scores", "parameters": {"binary_data": True}}]},
    ):
        response = infer(ready, [matrix], id="mine", **more)
        length = int(response.headers["inference-header-content-length"])
        head = json.loads(response.content[:length])
        assert (head["id"], head["model_name"], head["model_version"]) == ("mine", "test", "1")
        assert head["outputs"][0]["parameters"] == {"binary_data_size": 24}
        assert "data" not in head["outputs"][0]
        np.testing.assert_array_equal(np.frombuffer(response.content[length:], "<f8"), wanted)
    plain = infer(
        ready,
        [matrix],
        parameters={"binary_data_output": True},
        outputs=[{"name": "scores", "parameters": {"binary_data": False}}],
    )
    np.testing.assert_array_equal(plain.json()["outputs"][0]["data"], wanted)


def test_keys_are_read_as_of_now_and_scored_as_an_answer_would(ready: Any) -> None:
    ranked = ready.post(
        "/v1/rank", {"request_id": "r", "keys": {"customer": "ada"}, "items": ["a", "b", "z"]}
    ).json()["items"]
    answer = infer(ready, [column("item", ["a", "b", "z"], "BYTES")])
    scores = dict(zip(["a", "b", "z"], answer.json()["outputs"][0]["data"], strict=True))
    assert scores == {one["item"]: one["score"] for one in ranked}
    raw = b"".join(struct.pack("<I", 1) + name for name in (b"a", b"b", b"z"))
    keys = {"name": "item", "shape": [3, 1], "datatype": "BYTES"}
    head = {"inputs": [keys | {"parameters": {"binary_data_size": len(raw)}}]}
    assert in_bytes(ready, head, raw).json()["outputs"] == answer.json()["outputs"]


def test_scoring_logs_nothing(ready: Any) -> None:
    before = ready.call("GET", "/metrics").text
    infer(ready, [column(name, [1.0]) for name in NAMES])
    after = ready.call("GET", "/metrics").text
    pick = [line for line in before.splitlines() if line.startswith("sevenfold_answers_total")]
    assert pick == [
        line for line in after.splitlines() if line.startswith("sevenfold_answers_total")
    ]


MATRIX = {"name": "features", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "length"),
        ([MATRIX, MATRIX], "twice"),
        ([MATRIX | {"shape": [2, 1]}], "shape"),
        ([MATRIX | {"shape": [1, 3], "data": [1, 2, 3]}], "shape"),
        ([MATRIX | {"shape": [1, 2, 1]}], "length <= 2"),
        ([MATRIX | {"shape": [1 << 23, 1 << 23]}], "values given"),
        ([MATRIX | {"shape": [-1, 2]}], ">= 0"),
        ([MATRIX | {"datatype": "FP33"}], "is none of"),
        ([MATRIX | {"data": ["1", "2"]}], "not all FP32"),
        ([MATRIX | {"data": [True, 2.0]}], "not all FP32"),
        ([MATRIX | {"data": [[1], [2, [3]]]}], "values given"),
        ([MATRIX | {"data": [[[1]], [2]]}], "not all FP32"),
        ([MATRIX | {"data": [10**400, 1]}], "not all FP32"),
        ([MATRIX | {"data": [1e39, 1]}], "infinite"),
        ([MATRIX | {"datatype": "INT8", "data": [1, 128]}], "not all INT8"),
        ([MATRIX | {"datatype": "UINT64", "data": [1, -1]}], "not all UINT64"),
        ([MATRIX | {"datatype": "INT32", "data": [1, 2.5]}], "not all INT32"),
        ([MATRIX | {"datatype": "BYTES", "data": ["a", "b"]}], "give numbers"),
        ([{"name": "features", "shape": [1, 2], "datatype": "FP32"}], "give data"),
        ([column("item__count_7d", [1.0])], "missing are item__sum_pieces"),
        (
            [column("item__count_7d", [1.0]), column("item__sum_pieces", [1.0, 2.0])],
            "numbers of rows",
        ),
        ([column("item", [1.0])], "BYTES"),
        ([column("item", [""], "BYTES")], "1 to 256"),
        ([column("shop", ["x"], "BYTES")], "give every feature"),
        ([MATRIX | {"shape": [10_001, 2], "data": [0] * 20_002}], "at most 10000"),
    ],
)
def test_what_does_not_fit_is_refused_with_words(
    ready: Any, inputs: list[dict[str, Any]], words: str
) -> None:
    assert words in told(infer(ready, inputs))


def test_other_outputs_and_ways_are_refused(ready: Any) -> None:
    assert "no output" in told(infer(ready, [MATRIX], outputs=[{"name": "probability"}]))
    told(ready.call("PUT", f"{PATH}/infer"), 405)
    told(ready.call("GET", "/v2/repository/index"), 404)
    told(ready.call("POST", "/v2/systemsharedmemory/region/x/register", json={"key": "/x"}), 404)


@pytest.mark.parametrize(
    ("size", "raw", "length"),
    [
        (8, b"\0" * 7, None),
        (8, b"\0" * 9, None),
        (7, b"\0" * 7, None),
        (-8, b"\0" * 8, None),
        ("8", b"\0" * 8, None),
        (True, b"\0", None),
        (1 << 62, b"\0" * 8, None),
        (8, b"\0" * 8, "99999999999999999999"),
        (8, b"\0" * 8, "-1"),
        (8, b"\0" * 8, "0"),
        (8, b"\0" * 8, "1e2"),
    ],
)
def test_bytes_that_are_not_as_announced_are_refused(
    ready: Any, size: Any, raw: bytes, length: str | None
) -> None:
    tensor = {"name": "features", "shape": [1, 2], "datatype": "FP32"}
    head = {"inputs": [tensor | {"parameters": {"binary_data_size": size}}]}
    more = {} if length is None else {"Inference-Header-Content-Length": length}
    told(in_bytes(ready, head, raw, **more))


@given(st.sampled_from(sorted(NUMBERS)), st.data())
def test_numbers_are_the_same_as_json_and_as_bytes(datatype: str, data: st.DataObject) -> None:
    kind = NUMBERS[datatype]
    if kind.kind == "f":
        values: Any = st.floats(width=8 * kind.itemsize, allow_nan=False, allow_infinity=False)
    elif kind.kind == "b":
        values = st.booleans()
    else:
        values = st.integers(int(np.iinfo(kind).min), int(np.iinfo(kind).max))
    drawn = data.draw(st.lists(values, max_size=6))
    array = np.array(drawn, dtype=kind)
    by_json = from_values("x", datatype, [len(drawn)], json.loads(json.dumps(drawn)))
    by_bytes = from_raw("x", datatype, [len(drawn)], to_raw(array))
    np.testing.assert_array_equal(by_json.values, array)
    np.testing.assert_array_equal(by_bytes.values, array)


@given(st.binary(max_size=40), st.integers(0, 3))
def test_any_bytes_are_texts_or_refused(raw: bytes, n: int) -> None:
    try:
        texts = from_raw("x", "BYTES", [n], raw).values
    except InputError:
        return
    assert b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts) == raw
