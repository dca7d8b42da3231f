"""Errors as every route answers them: one shape, a code to act on, no internal names."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from sevenfold.errors import (
    InputError,
    NotFoundError,
    ServingError,
    SevenfoldError,
    StoreFullError,
)
from sevenfold.serving.blocked import LogFailedError
from sevenfold.serving.depth import MAX_DEPTH, is_deeper

__all__ = ["HttpError", "OipRefusal", "Refusal", "decoded", "http_error", "overloaded"]

T = TypeVar("T")


class _Error(msgspec.Struct):
    """Why a request was refused: a code to act on, a sentence, and where in the body."""

    code: str
    message: str
    path: str | None
    request_id: str


class Refusal(msgspec.Struct):
    """The one shape of all errors."""

    error: _Error


class OipRefusal(msgspec.Struct):
    """An error of a route of the Open Inference Protocol."""

    error: str


_LOG = ("log_full", "log_failed")
_RETRY_S = 1
_LATER = ((b"retry-after", b"%d" % _RETRY_S),)


class HttpError(Exception):
    """A refusal with its status; `path` says where in the body, `headers` go with the answer."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        path: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.path = path
        self.headers = headers

    @property
    def is_fault(self) -> bool:
        """Whether a stage of the answer is at fault: not the client, and not a log that cannot be written."""
        return self.status >= 500 and not self.is_unlogged

    @property
    def is_unlogged(self) -> bool:
        """Whether it was refused because the log cannot be written."""
        return self.code in _LOG

    def body(self, request_id: str) -> bytes:
        """The JSON of the refusal."""
        return msgspec.json.encode(Refusal(_Error(self.code, str(self), self.path, request_id)))

    def text(self) -> bytes:
        """The JSON of the refusal as the Open Inference Protocol has it."""
        return msgspec.json.encode(OipRefusal(str(self)))


def decoded(decoder: msgspec.json.Decoder[T], body: bytes) -> T:
    """The body as its type; raises HttpError with the place of what is not so.

    Of a field that is given twice the last one counts.
    """
    try:
        if is_deeper(body):
            raise RecursionError
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        raise HttpError(400, "invalid_body", message, where.rstrip("`") or "$") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise HttpError(400, "not_json", f"the body is not JSON: {error}", "$") from None
    except RecursionError:
        message = f"the body is nested deeper than {MAX_DEPTH}; send flat rows"
        raise HttpError(400, "too_deep", message, "$") from None


def _unlogged(code: str, message: str) -> HttpError:
    return HttpError(503, code, f"{message}; come back in {_RETRY_S} s", headers=_LATER)


_OVERLOADED = {
    "overloaded": "the server is asked for more than it can do",
    "late": "the request had waited too long when its turn came",
    "queue_full": "too many requests are waiting",
    "unkept": "the answer is made, and the disk is too slow to log it; ask again by the same id",
}


def overloaded(reason: str, retry_s: int) -> HttpError:
    """The refusal of a request that there is no time for; it may come again after `retry_s` seconds."""
    message = f"{_OVERLOADED[reason]}; come back in {retry_s} s"
    return HttpError(503, reason, message, headers=((b"retry-after", b"%d" % retry_s),))


def http_error(error: Exception) -> HttpError:
    """The refusal for an error; of one that is a refusal, itself."""
    if isinstance(error, HttpError):
        return error
    text = str(error)
    path = text.split(":", 1)[0] if text.startswith("$") else None
    if isinstance(error, NotFoundError):
        return HttpError(404, "not_found", text, path)
    if isinstance(error, InputError):
        return HttpError(400, "invalid_input", text, path)
    if isinstance(error, ServingError):
        return HttpError(409, "conflict", text, path)
    if isinstance(error, StoreFullError):
        return _unlogged(
            "log_full", "the disk has no room for the log, and nothing is answered unlogged"
        )
    if isinstance(error, LogFailedError):
        return _unlogged(
            "log_failed", "the log cannot be written, and nothing is answered unlogged"
        )
    if isinstance(error, SevenfoldError):
        message = "the request cannot be answered now; the log says why"
        return HttpError(503, "unavailable", message, headers=_LATER)
    return HttpError(500, "internal", "the server failed on this request; the log says why")
