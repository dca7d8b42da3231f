"""The Open Inference Protocol over REST, with its extension for binary tensors."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypedDict

import msgspec

from sevenfold.errors import InputError
from sevenfold.serving.oip.scoring import SCORES, loaded, metadata, scores
from sevenfold.serving.oip.tensor import Tensor, from_raw, from_values, to_raw
from sevenfold.serving.problem import HttpError, decoded
from sevenfold.serving.route import Asked, Reply, Route
from sevenfold.serving.site import Site

__all__ = ["OIP"]

_HEADER_LENGTH = b"inference-header-content-length"
_BINARY = "binary_tensor_data"
_OCTETS = b"application/octet-stream"

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
Shape = Annotated[
    list[Annotated[int, msgspec.Meta(ge=0, le=1 << 24)]], msgspec.Meta(min_length=1, max_length=2)
]


class InferInput(msgspec.Struct):
    """An input tensor: `data` in JSON, or `parameters.binary_data_size` bytes behind the JSON of the request."""

    name: Name
    shape: Shape
    datatype: str
    parameters: dict[str, Any] = {}
    data: list[Any] | None = None


class InferOutput(msgspec.Struct):
    """An output that is wanted; `parameters.binary_data` has it sent as bytes behind the JSON of the answer."""

    name: Name
    parameters: dict[str, Any] = {}


class InferRequest(msgspec.Struct):
    """Rows to score: a tensor a feature, or `features` (rows, features), or keys by entity."""

    inputs: Annotated[list[InferInput], msgspec.Meta(min_length=1, max_length=1000)]
    id: Annotated[str, msgspec.Meta(max_length=256)] | None = None
    parameters: dict[str, Any] = {}
    outputs: Annotated[list[InferOutput], msgspec.Meta(max_length=16)] | None = None


class InferTensor(msgspec.Struct, omit_defaults=True):
    """An output tensor."""

    name: str
    datatype: str
    shape: list[int]
    data: list[float] | None = None
    parameters: dict[str, Any] | None = None


class InferAnswer(msgspec.Struct, omit_defaults=True):
    """The scores, float64, one for each row in its place: higher is better."""

    model_name: str
    model_version: str
    outputs: list[InferTensor]
    id: str | None = None


class OipTensor(msgspec.Struct):
    """A tensor that a model reads or gives; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


class OipModel(msgspec.Struct):
    """What a model reads, a tensor a feature in the order in which it reads them, and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[OipTensor, ...]
    outputs: tuple[OipTensor, ...]


class OipServer(msgspec.Struct):
    """The server, and what it knows beyond the protocol."""

    name: str
    version: str
    extensions: list[str]


class OipModels(msgspec.Struct):
    """The model that serves, if there is one."""

    models: list[str]


class OipLive(msgspec.Struct):
    """Whether the process lives."""

    live: bool


class OipReady(msgspec.Struct):
    """Whether a probe row can be scored."""

    ready: bool


class OipModelReady(msgspec.Struct):
    """Whether the model serves."""

    name: str
    ready: bool


_INFER = msgspec.json.Decoder(InferRequest)


def _live(site: Site, asked: Asked) -> Reply:
    return Reply(site.encode(OipLive(True)))


def _ready(site: Site, asked: Asked) -> Reply:
    if site.service.ready() is not None:
        raise HttpError(503, "not_ready", "a probe row cannot be scored; the log says why")
    return Reply(site.encode(OipReady(True)))


def _server(site: Site, asked: Asked) -> Reply:
    return Reply(site.encode(OipServer("sevenfold", site.version, [_BINARY])))


def _models(site: Site, asked: Asked) -> Reply:
    found = site.service.champion.follow()
    return Reply(site.encode(OipModels([] if found is None else [found.name])))


def _model(site: Site, asked: Asked) -> Reply:
    found = loaded(site, asked.names["model"], asked.names.get("version"))
    return Reply(site.encode(msgspec.convert(metadata(found), OipModel, from_attributes=True)))


def _model_ready(site: Site, asked: Asked) -> Reply:
    found = loaded(site, asked.names["model"], asked.names.get("version"))
    return Reply(site.encode(OipModelReady(found.name, True)))


def _infer(site: Site, asked: Asked) -> Reply:
    request, tensors = _read(asked)
    found = loaded(site, asked.names["model"], asked.names.get("version"))
    wanted = request.outputs or []
    result = scores(site, found, tensors, [output.name for output in wanted])
    answer = InferAnswer(found.name, str(found.version), [], request.id)
    output = InferTensor(SCORES, "FP64", [len(result)])
    answer.outputs.append(output)
    chosen = wanted[-1].parameters.get("binary_data") if wanted else None
    if not (request.parameters.get("binary_data_output") if chosen is None else chosen):
        output.data = result.tolist()
        return Reply(site.encode(answer))
    raw = to_raw(result)
    output.parameters = {"binary_data_size": len(raw)}
    head = site.encode(answer)
    return Reply(head + raw, _OCTETS, ((_HEADER_LENGTH, str(len(head)).encode()),))


def _read(asked: Asked) -> tuple[InferRequest, list[Tensor]]:
    """The request and its tensors; those in bytes follow the JSON in the order in which they are named there."""
    body = memoryview(asked.body)
    end = len(body)
    given = asked.headers.get(_HEADER_LENGTH)
    if given is not None:
        if not given.isdigit() or len(given) > 9 or int(given) > end:
            message = (
                f"{_HEADER_LENGTH.decode()}: give the length of the JSON, at most that of the body"
            )
            raise HttpError(400, "invalid_header", message)
        end = int(given)
    request = decoded(_INFER, bytes(body[:end]))
    tensors = []
    for one in request.inputs:
        size = one.parameters.get("binary_data_size")
        if size is None:
            if one.data is None:
                raise InputError(
                    f"$.inputs.{one.name}: give data, or the size of what follows in bytes"
                )
            tensors.append(from_values(one.name, one.datatype, one.shape, one.data))
            continue
        if one.data is not None or type(size) is not int or not 0 <= size <= len(body) - end:
            raise InputError(
                f"$.inputs.{one.name}.parameters.binary_data_size: give how many bytes follow, and no data beside them"
            )
        tensors.append(from_raw(one.name, one.datatype, one.shape, body[end : end + size]))
        end += size
    if end != len(body):
        raise InputError(f"$.inputs: {len(body) - end} bytes follow that belong to no input")
    return request, tensors


_DESCRIBE = (_model, None, OipModel)
_ASK_READY = (_model_ready, None, OipModelReady)
_SCORE_SUMMARY = "Score rows by the model that serves; nothing is logged."
_SCORE = (_infer, InferRequest, InferAnswer)


class _Limits(TypedDict):
    max_body_bytes: int
    has_deadline: bool
    turn: Literal["answers"]
    also: tuple[str, ...]


_LIMITS: _Limits = {
    "max_body_bytes": 16 * 1024 * 1024,
    "has_deadline": True,
    "turn": "answers",
    "also": ("application/octet-stream",),
}

OIP = (
    Route("GET", "/v2/health/live", None, "Whether the process lives.", _live, None, OipLive),
    Route("GET", "/v2/health/ready", None, "Whether it can score.", _ready, None, OipReady),
    Route("GET", "/v2", None, "The server and its extensions.", _server, None, OipServer),
    Route("GET", "/v2/models", "predict", "The model that serves.", _models, None, OipModels),
    Route("GET", "/v2/models/{model}", "predict", "What a model reads and gives.", *_DESCRIBE),
    Route(
        "GET",
        "/v2/models/{model}/versions/{version}",
        "predict",
        "What a version reads and gives.",
        *_DESCRIBE,
    ),
    Route("GET", "/v2/models/{model}/ready", "predict", "Whether a model serves.", *_ASK_READY),
    Route(
        "GET",
        "/v2/models/{model}/versions/{version}/ready",
        "predict",
        "Whether a version serves.",
        *_ASK_READY,
    ),
    Route("POST", "/v2/models/{model}/infer", "predict", _SCORE_SUMMARY, *_SCORE, **_LIMITS),
    Route(
        "POST",
        "/v2/models/{model}/versions/{version}/infer",
        "predict",
        _SCORE_SUMMARY,
        *_SCORE,
        **_LIMITS,
    ),
)
