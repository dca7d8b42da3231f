"""A public client of the Open Inference Protocol speaks to a real server."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from grpc import RpcError, StatusCode
from tritonclient import utils

from sevenfold.cli.load import load_system
from sevenfold.loop.server_process import ServerProcess
from sevenfold.models.rule import RuleModel
from sevenfold.registry.registry import Registry
from sevenfold.serving.definition import Definition
from sevenfold.serving.tokens import add_token

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
    with ServerProcess(str(stall), home, ["--grpc-port", "0"]) as running:
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


@pytest.fixture(scope="module")
def grpc(server: ServerProcess, home: Path) -> Iterator[Any]:
    """The client over gRPC."""
    port = json.loads((home / "server.json").read_text())["grpc_port"]
    client = triton_grpc.InferenceServerClient(f"127.0.0.1:{port}")
    yield client
    client.close()


def test_health_and_metadata_over_grpc(grpc: Any, http: Any) -> None:
    assert grpc.is_server_live()
    assert grpc.is_server_ready()
    assert grpc.is_model_ready("shop_ranker", "1")
    assert not grpc.is_model_ready("shop_ranker", "2")
    described = grpc.get_model_metadata("shop_ranker", as_json=True)
    plain = http.get_model_metadata("shop_ranker")
    assert described["versions"] == plain["versions"]
    for side in ("inputs", "outputs"):
        assert described[side] == [one | {"shape": ["-1"]} for one in plain[side]]
    assert grpc.get_server_metadata(as_json=True)["name"] == "sevenfold"


def test_rows_are_scored_over_grpc_as_over_rest(grpc: Any, http: Any) -> None:
    rows = np.array([3, 1, np.nan, 2.5], dtype=np.float32)
    given = triton_grpc.InferInput(NAME, [4], "FP32").set_data_from_numpy(rows)
    answer = grpc.infer("shop_ranker", [given], request_id="r1")
    assert answer.get_response().id == "r1"
    np.testing.assert_array_equal(answer.as_numpy("scores"), MODEL.scores(rows[:, None]))
    matrix = triton_grpc.InferInput("features", [4, 1], "FP64")
    matrix.set_data_from_numpy(rows[:, None].astype(np.float64))
    wanted = [triton_grpc.InferRequestedOutput("scores")]
    again = grpc.infer("shop_ranker", [matrix], model_version="1", outputs=wanted)
    np.testing.assert_array_equal(again.as_numpy("scores"), answer.as_numpy("scores"))
    keys = np.array(["a", "t\u00e9"], dtype=np.object_)
    by_key = triton_grpc.InferInput("item", [2], "BYTES").set_data_from_numpy(keys)
    plain = triton.InferInput("item", [2], "BYTES").set_data_from_numpy(keys)
    np.testing.assert_array_equal(
        grpc.infer("shop_ranker", [by_key]).as_numpy("scores"),
        http.infer("shop_ranker", [plain]).as_numpy("scores"),
    )


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("FP32", "fp32_contents", [3.0, 1.0]),
        ("FP64", "fp64_contents", [3.0, 1.0]),
        ("INT8", "int_contents", [3, 1]),
        ("INT64", "int64_contents", [3, 1]),
        ("UINT16", "uint_contents", [3, 1]),
        ("UINT64", "uint64_contents", [3, 1]),
    ],
)
def test_values_that_are_not_raw_are_scored_too(
    grpc: Any, datatype: str, field: str, values: list[Any]
) -> None:
    pb2 = triton_grpc.service_pb2
    tensor = pb2.ModelInferRequest.InferInputTensor(name=NAME, datatype=datatype, shape=[2])
    getattr(tensor.contents, field).extend(values)
    answer = grpc._client_stub.ModelInfer(
        pb2.ModelInferRequest(model_name="shop_ranker", inputs=[tensor])
    )
    wanted = MODEL.scores(np.array([[3], [1]], dtype=np.float32))
    assert list(answer.outputs[0].contents.fp64_contents) == wanted.tolist()
    assert not answer.raw_output_contents


def test_errors_have_the_codes_of_grpc(grpc: Any) -> None:
    given = triton_grpc.InferInput("other", [1], "FP32")
    given.set_data_from_numpy(np.zeros(1, dtype=np.float32))
    with pytest.raises(utils.InferenceServerException, match=f"missing are {NAME}") as refused:
        grpc.infer("shop_ranker", [given])
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    with pytest.raises(utils.InferenceServerException, match="no such model") as refused:
        grpc.infer("another", [given])
    assert refused.value.status() == "StatusCode.NOT_FOUND"
    pb2 = triton_grpc.service_pb2
    tensor = pb2.ModelInferRequest.InferInputTensor(name=NAME, datatype="FP32", shape=[1])
    for raw in ([b"123"], [b"1234", b"5678"]):
        request = pb2.ModelInferRequest(
            model_name="shop_ranker", inputs=[tensor], raw_input_contents=raw
        )
        with pytest.raises(RpcError) as told:
            grpc._client_stub.ModelInfer(request)
        assert told.value.code() is StatusCode.INVALID_ARGUMENT
    big = triton_grpc.InferInput(NAME, [5_000_000], "FP32")
    big.set_data_from_numpy(np.zeros(5_000_000, np.float32))
    with pytest.raises(utils.InferenceServerException, match=r"(?i)larger than max"):
        grpc.infer("shop_ranker", [big])
    with pytest.raises(utils.InferenceServerException, match="UNIMPLEMENTED"):
        grpc.load_model("shop_ranker")


def test_a_token_is_needed_where_others_reach_it(
    stall: Path, home: Path, server: ServerProcess, tmp_path: Path
) -> None:
    """Over TLS, with the scope of predictions and no other."""
    reads, writes = (
        add_token(tmp_path, "reader", ["predict"]),
        add_token(tmp_path, "writer", ["events"]),
    )
    tls = Path(__file__).parent / "tls"
    options = ["--host", "0.0.0.0", "--tls-cert", str(tls / "cert.pem")]
    options += ["--tls-key", str(tls / "key.pem"), "--grpc-port", "0"]
    with ServerProcess(str(stall), tmp_path, options):
        port = json.loads((tmp_path / "server.json").read_text())["grpc_port"]
        client = triton_grpc.InferenceServerClient(
            f"localhost:{port}", ssl=True, root_certificates=str(tls / "cert.pem")
        )
        assert client.is_server_live()
        for token, code in (
            ("", "UNAUTHENTICATED"),
            (writes, "PERMISSION_DENIED"),
            (reads, "NOT_FOUND"),
        ):
            headers = {"authorization": f"Bearer {token}"} if token else None
            with pytest.raises(utils.InferenceServerException, match=code):
                client.get_model_metadata("none", headers=headers)
        client.close()
