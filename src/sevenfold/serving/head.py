"""The head of a request: what its headers claim, checked before anything of the body is read."""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping

from sevenfold.serving.admission import Priority
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Headers

__all__ = ["CLOSE", "check_length", "check_token", "priority", "too_large"]

_URGENCY = re.compile(rb"(?:^|[,;\s])u=([0-7])(?:$|[,;\s])")
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


def check_length(headers: Mapping[bytes, bytes], limit: int) -> int:
    """The declared length of the body, 0 where none is; raises HttpError 413 when it is more than `limit`."""
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_large(limit)
    return int(declared)


def priority(headers: Mapping[bytes, bytes], token: bytes) -> Priority:
    """The class that a request claims by `Priority: u=N`, the urgency of RFC 9218, 0 the most and 3 the usual.

    Anybody may ask to be served after the others, with more than 3; before them, with less, only who shows the token.
    """
    claimed = headers.get(b"priority")
    if claimed is None:
        return Priority.NORMAL
    found = _URGENCY.search(claimed)
    urgency = int(found[1]) if found else 3
    if urgency > 3:
        return Priority.LOW
    if urgency < 3 and hmac.compare_digest(headers.get(b"authorization", b""), token):
        return Priority.HIGH
    return Priority.NORMAL


def too_large(limit: int) -> HttpError:
    """The refusal of a body that is longer than `limit`."""
    message = f"a body has at most {limit} bytes here; send it in parts"
    return HttpError(413, "too_large", message, headers=CLOSE)
