"""Answers as Arrow are the same answers: every value to the bit, what is not a column in the metadata."""

import json
import sys
from typing import Any

import pyarrow as pa
import pytest

from sevenfold.serving.encoding import ARROW, wants_arrow

ASK = {"request_id": "r1", "keys": {"customer": "ada"}}


def table(response: Any) -> tuple[pa.Table, dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == ARROW
    assert response.headers["vary"] == "accept"
    read = pa.ipc.open_stream(response.content).read_all()
    return read, json.loads(read.schema.metadata[b"sevenfold"])


@pytest.mark.parametrize(
    ("path", "more"), [("/v1/recommend", {}), ("/v1/rank", {"items": ["c", "a"]})]
)
def test_a_slate_is_the_same(stall: Any, path: str, more: dict[str, Any]) -> None:
    plain = stall.post(path, ASK | more)
    assert plain.headers["vary"] == "accept"
    read, told = table(stall.post(path, ASK | more, Accept=ARROW))
    answer = plain.json()
    assert read.to_pylist() == answer.pop("items")
    assert told.pop("timing_ms").keys() <= answer.pop("timing_ms").keys()
    assert told | {"repeated": False} == answer
    assert read.schema.field("score").type == pa.float64()


def test_features_are_the_same(stall: Any) -> None:
    body = {"rows": [{"customer": "ada", "item": item} for item in ("a", "b", "z")]}
    answer = stall.post("/v1/features", body).json()
    read, told = table(stall.post("/v1/features", body, Accept=ARROW))
    for i, name in enumerate(answer["features"]):
        assert read.column(name).to_pylist() == [row[i] for row in answer["values"]]
        assert read.column(f"{name}.state").to_pylist() == [row[i] for row in answer["states"]]
    assert read.column(answer["features"][0]).type == pa.float64()
    assert told["definition"] == answer["definition"]
    assert told["position"] == answer["position"]


def test_an_empty_slate_and_a_refusal(make_stall: Any) -> None:
    stall = make_stall()
    read, _ = table(stall.post("/v1/recommend", ASK, Accept=ARROW))
    assert read.num_rows == 0
    refused = stall.post("/v1/recommend", {}, Accept=ARROW)
    assert refused.headers["content-type"] == "application/json"
    assert refused.status_code == 400


def test_without_pyarrow_it_is_said(stall: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    response = stall.post("/v1/recommend", ASK, Accept=ARROW)
    assert response.status_code == 406
    assert "sevenfold[arrow]" in response.json()["error"]["message"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/*", False),
        ("application/json", False),
        (ARROW, True),
        (ARROW.upper(), True),
        (f"{ARROW}, */*;q=0.8", True),
        (f"application/json;q=0.9, {ARROW}", True),
        (f"application/json, {ARROW};q=0.9", False),
        (f"{ARROW};q=0", False),
        (f"{ARROW};q=x", False),
        (f"{ARROW};q=nan", False),
        (",,;;q=,", False),
    ],
)
def test_arrow_is_given_to_who_asks_for_it(accept: str | None, wanted: bool) -> None:
    assert wants_arrow({} if accept is None else {b"accept": accept.encode()}) is wanted
