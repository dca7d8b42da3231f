"""A public client of the Open Inference Protocol speaks to a real server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient import utils

from sevenfold.cli.load import load_system
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition

NAME = "item__count_7d"
MODEL = RuleModel(NAME, None, (NAME,))


@pytest.fixture(scope="module")
def home(stall: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a model that serves."""
    place = tmp_path_factory.mktemp("triton")
    hashes = Definition(load_system(str(stall))).plan.definition_hashes([NAME])
    MODEL.save(place / "model")
    registry = Registry(place / "registry")
    made = registry.register(
        place / "model",
        name="shop_ranker",
        feature_names=[NAME],
        feature_hashes={NAME: hashes[NAME]},
        metrics={},
        lineage={},
        created_us=1,
    )
    registry.set_alias("champion", made.version, "the first", 1)
    return place


@pytest.fixture(scope="module")
def server(stall: Path, home: Path) -> Iterator[ServerProcess]:
    """A running server."""
    with ServerProcess(str(stall), home) as running:
        yield running
        assert "Traceback" not in (home / "server.log").read_text(errors="replace")


@pytest.fixture(scope="module")
def http(server: ServerProcess) -> Iterator[Any]:
    """The client over REST."""
    client = triton.InferenceServerClient(f"127.0.0.1:{server.port}")
    yield client
    client.close()


def test_health_and_metadata(http: Any) -> None:
    assert http.is_server_live()
    assert http.is_server_ready()
    assert http.is_model_ready("shop_ranker")
    assert http.is_model_ready("shop_ranker", "1")
    assert not http.is_model_ready("shop_ranker", "2")
    assert http.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    described = http.get_model_metadata("shop_ranker")
    assert described["inputs"] == [{"name": NAME, "datatype": "FP32", "shape": [-1]}]
    assert described["versions"] == ["1"]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_rows_are_scored(http: Any, binary_in: bool, binary_out: bool | None) -> None:
    rows = np.array([3, 1, 2], dtype=np.float32)
    given = triton.InferInput(NAME, [3], "FP32")
    given.set_data_from_numpy(rows, binary_data=binary_in)
    wanted = None
    if binary_out is not None:
        wanted = [triton.InferRequestedOutput("scores", binary_data=binary_out)]
    answer = http.infer("shop_ranker", [given], outputs=wanted, request_id="r1")
    assert answer.get_response()["id"] == "r1"
    np.testing.assert_array_equal(answer.as_numpy("scores"), MODEL.scores(rows[:, None]))


@pytest.mark.parametrize("binary", [True, False])
def test_keys_are_scored(http: Any, binary: bool) -> None:
    given = triton.InferInput("item", [2], "BYTES")
    given.set_data_from_numpy(np.array(["a", "t\u00e9"], dtype=np.object_), binary_data=binary)
    answer = http.infer("shop_ranker", [given], model_version="1")
    assert answer.as_numpy("scores").shape == (2,)


def test_an_error_is_told_as_the_protocol_has_it(http: Any) -> None:
    given = triton.InferInput("other", [1], "FP32")
    given.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    with pytest.raises(utils.InferenceServerException, match=f"missing are {NAME}"):
        http.infer("shop_ranker", [given])
    with pytest.raises(utils.InferenceServerException, match="no such model serves now"):
        http.infer("another", [given])
