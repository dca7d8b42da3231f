"""Errors as every route answers them: one shape, a code to act on, no internal names."""

from __future__ import annotations

import msgspec

from sevenfold.errors import InputError, NotFoundError, ServingError, SevenfoldError

__all__ = ["HttpError", "http_error"]


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

    def body(self, request_id: str) -> bytes:
        """The JSON of the refusal."""
        error = {
            "code": self.code,
            "message": str(self),
            "path": self.path,
            "request_id": request_id,
        }
        return msgspec.json.encode({"error": error})


def http_error(error: Exception) -> HttpError:
    """The refusal for an error of the library, or of the body's decoder."""
    text = str(error)
    path = text.split(":", 1)[0] if text.startswith("$") else None
    if isinstance(error, msgspec.ValidationError):
        message, _, where = text.partition(" - at `")
        return HttpError(400, "invalid_body", message, where.rstrip("`") or "$")
    if isinstance(error, msgspec.DecodeError):
        return HttpError(400, "not_json", f"the body is not JSON: {text}", "$")
    if isinstance(error, RecursionError):
        return HttpError(400, "too_deep", "the body is nested too deeply; send flat rows", "$")
    if isinstance(error, NotFoundError):
        return HttpError(404, "not_found", text, path)
    if isinstance(error, InputError):
        return HttpError(400, "invalid_input", text, path)
    if isinstance(error, ServingError):
        return HttpError(409, "conflict", text, path)
    if isinstance(error, SevenfoldError):
        return HttpError(503, "unavailable", "the request cannot be answered now; the log says why")
    return HttpError(500, "internal", "the server failed on this request; the log says why")
