"""The head of a request: what its headers claim, checked before anything of the body is read."""

from __future__ import annotations

import hmac
from collections.abc import Mapping

from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Headers

__all__ = ["CLOSE", "check_length", "check_token", "too_large"]

CLOSE: Headers = ((b"connection", b"close"),)


def check_token(headers: Mapping[bytes, bytes], wanted: bytes) -> None:
    """Raise HttpError 401 unless the request shows the token."""
    if not hmac.compare_digest(headers.get(b"authorization", b""), wanted):
        raise HttpError(
            401,
            "unauthorized",
            "this route needs `Authorization: Bearer TOKEN`; the token is in the home folder",
            headers=((b"www-authenticate", b"Bearer"),),
        )


def check_length(headers: Mapping[bytes, bytes], limit: int) -> None:
    """Raise HttpError 413 when a body is declared that is longer than `limit`."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_large(limit)


def too_large(limit: int) -> HttpError:
    """The refusal of a body that is longer than `limit`."""
    message = f"a body has at most {limit} bytes here; send it in parts"
    return HttpError(413, "too_large", message, headers=CLOSE)
