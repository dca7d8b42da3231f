"""The Open Inference Protocol over gRPC, on the event loop of the server and over the same scores as REST."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np

from sevenfold.clock import elapsed_s
from sevenfold.errors import InputError, ServingError
from sevenfold.serving.admission import Priority
from sevenfold.serving.door import Door
from sevenfold.serving.guard import Guard
from sevenfold.serving.oip.messages import METHODS, SERVICE, message
from sevenfold.serving.oip.scoring import SCORES, loaded, metadata, scores
from sevenfold.serving.oip.tensor import TEXT, Tensor, from_raw, from_values, to_raw
from sevenfold.serving.problem import HttpError, http_error
from sevenfold.serving.route import Scope
from sevenfold.serving.site import Site
from sevenfold.types import Floats

__all__ = ["listening"]

_LOG = logging.getLogger(__name__)
_ROUTE = "/v2/models/{model}/infer"  # whose turns it takes
_MAX_BYTES = 8 * 1024 * 1024
_DRAIN_S = 10
_OPTIONS = (
    ("grpc.max_receive_message_length", _MAX_BYTES),
    ("grpc.max_metadata_size", 32 * 1024),
    ("grpc.max_connection_idle_ms", 75_000),
    ("grpc.so_reuseport", 0),
)
_MAX_AT_ONCE = 128  # so that all messages together have at most 1 GiB
_CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    TEXT: "bytes_contents",
}


class _Inference:
    """The methods of the service, by name."""

    def __init__(self, site: Site, guard: Guard) -> None:
        self._site = site
        self._guard = guard

    def handler(self, name: str) -> Any:
        """The method as grpc has it: guarded, counted, and its errors as codes."""
        scope: Scope | None = (
            None if name in ("ServerLive", "ServerReady", "ServerMetadata") else "predict"
        )
        methods: dict[str, Callable[[Any], Awaitable[Any]]] = {
            "ServerLive": self.server_live,
            "ServerReady": self.server_ready,
            "ServerMetadata": self.server_metadata,
            "ModelReady": self.model_ready,
            "ModelMetadata": self.model_metadata,
            "ModelInfer": self.model_infer,
        }
        method = methods[name]

        async def answer(request: Any, context: Any) -> Any:
            begin_s, status = elapsed_s(), 200
            try:
                self._guard.admit(_headers(context.invocation_metadata()), scope)
                return await method(request)
            except Exception as error:  # noqa: BLE001  the edge of the process
                refusal = error if isinstance(error, HttpError) else http_error(error)
                status = refusal.status
                if not isinstance(error, HttpError) and status >= 500:
                    _LOG.exception("request failed method=%s", name)
            finally:
                self._site.metrics.request(f"grpc {name}", status, elapsed_s() - begin_s)
            return await context.abort(_CODES.get(status, grpc.StatusCode.INTERNAL), str(refusal))

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=message(f"{name}Request").FromString,
            response_serializer=message(f"{name}Response").SerializeToString,
        )

    async def server_live(self, request: Any) -> Any:
        """Whether the process lives."""
        return message("ServerLiveResponse")(live=True)

    async def server_ready(self, request: Any) -> Any:
        """Whether a probe row can be scored."""
        return message("ServerReadyResponse")(ready=self._site.service.ready() is None)

    async def server_metadata(self, request: Any) -> Any:
        """The server."""
        return message("ServerMetadataResponse")(name="sevenfold", version=self._site.version)

    async def model_ready(self, request: Any) -> Any:
        """Whether a model serves."""
        try:
            loaded(self._site, request.name, request.version)
        except HttpError:
            return message("ModelReadyResponse")(ready=False)
        return message("ModelReadyResponse")(ready=True)

    async def model_metadata(self, request: Any) -> Any:
        """What a model reads and gives."""
        found = metadata(loaded(self._site, request.name, request.version))
        described = message("TensorMetadata")
        return message("ModelMetadataResponse")(
            name=found.name,
            versions=found.versions,
            platform=found.platform,
            inputs=[
                described(name=t.name, datatype=t.datatype, shape=t.shape) for t in found.inputs
            ],
            outputs=[
                described(name=t.name, datatype=t.datatype, shape=t.shape) for t in found.outputs
            ],
        )

    async def model_infer(self, request: Any) -> Any:
        """The scores of rows: in bytes when they came so."""
        tensors = _tensors(request)
        gate = self._site.gate
        if gate is None:
            return self._scored(request, tensors)
        ticket = gate.enter(_ROUTE, Priority.NORMAL, request.ByteSize())
        await gate.turn(ticket)
        try:
            answer = self._scored(request, tensors)
            ticket.done = True
            return answer
        finally:
            gate.leave(ticket)

    def _scored(self, request: Any, tensors: list[Tensor]) -> Any:
        found = loaded(self._site, request.model_name, request.model_version)
        result = scores(self._site, found, tensors, [one.name for one in request.outputs])
        answer = message("ModelInferResponse")(
            model_name=found.name, model_version=str(found.version), id=request.id
        )
        _put(answer, result, bool(request.raw_input_contents))
        return answer


def _headers(metadata: Iterable[tuple[str, str | bytes]]) -> Mapping[bytes, bytes]:
    """What the guard reads of a call's metadata; raises HttpError 400 when it is there twice."""
    shown = [value for key, value in metadata if key == "authorization"]
    if len(shown) > 1:
        raise HttpError(400, "invalid_header", "authorization is given twice; give it once")
    return {b"authorization": str(shown[0]).encode()} if shown else {}


def _tensors(request: Any) -> list[Tensor]:
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise InputError("$.raw_input_contents: give as many as there are inputs, or none")
    found = []
    for i, one in enumerate(request.inputs):
        shape = list(one.shape)
        if raw:
            found.append(from_raw(one.name, one.datatype, shape, raw[i]))
            continue
        field = _CONTENTS.get(one.datatype)
        if field is None:
            raise InputError(f"$.inputs.{one.name}: give {one.datatype[:20]!r} as raw contents")
        values: list[Any] = list(getattr(one.contents, field))
        if one.datatype == TEXT:
            try:
                values = [value.decode() for value in values]
            except UnicodeDecodeError:
                raise InputError(f"$.inputs.{one.name}: BYTES are texts in UTF-8 here") from None
        found.append(from_values(one.name, one.datatype, shape, values))
    return found


def _put(answer: Any, result: Floats, in_bytes: bool) -> None:
    output = answer.outputs.add(name=SCORES, datatype="FP64", shape=[len(result)])
    if in_bytes:
        answer.raw_output_contents.append(to_raw(result))
    else:
        output.contents.fp64_contents.extend(np.asarray(result, dtype=np.float64).tolist())


@asynccontextmanager
async def listening(site: Site, guard: Guard, door: Door, port: int) -> AsyncIterator[int]:
    """Listen on a port of the door's host, 0 for a free one, for as long as the block runs; gives the port.

    TLS is the door's. Raises ServingError when the port is taken.
    """
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=_MAX_AT_ONCE)
    inference = _Inference(site, guard)
    handlers = {name: inference.handler(name) for name in METHODS}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    where = f"[{door.host}]:{port}" if ":" in door.host else f"{door.host}:{port}"
    try:
        if door.tls is None:
            taken = server.add_insecure_port(where)
        else:
            pair = (door.tls.key.read_bytes(), door.tls.certificate.read_bytes())
            taken = server.add_secure_port(where, grpc.ssl_server_credentials([pair]))
    except RuntimeError as error:
        raise ServingError(
            f"cannot listen on {where}: give another --grpc-port, 0 for a free one"
        ) from error
    await server.start()
    try:
        yield taken
    finally:
        await server.stop(_DRAIN_S)
