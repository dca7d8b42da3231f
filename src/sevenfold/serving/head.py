"""The head of a request: what its headers claim, checked before anything of the body is read."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from sevenfold.serving.admission import Priority
from sevenfold.serving.problem import HttpError
from sevenfold.serving.route import Headers

__all__ = ["CLOSE", "DEADLINE", "check_length", "left_s", "priority", "read_headers", "too_large"]

_URGENCY = re.compile(rb"(?:^|[,;\s])u=([0-7])(?:$|[,;\s])")
DEADLINE = b"x-deadline-ms"
CLOSE: Headers = ((b"connection", b"close"),)
# Two of these are a quarrel about who asks, or where a body ends: whoever stands before us may read the other one.
_ONCE = (
    b"authorization",
    b"content-length",
    b"content-type",
    b"host",
    b"inference-header-content-length",
    b"transfer-encoding",
)


def read_headers(given: Sequence[tuple[bytes, bytes]]) -> Mapping[bytes, bytes]:
    """The headers by name, of names given twice the last; raises HttpError 400 where only one can be meant."""
    headers = dict(given)
    if len(headers) != len(given):
        names = [name for name, _ in given]
        for name in _ONCE:
            if names.count(name) > 1:
                message = f"the header {name.decode()} is given twice; give it once"
                raise HttpError(400, "invalid_header", message, headers=CLOSE)
    return headers


def check_length(headers: Mapping[bytes, bytes], limit: int) -> int:
    """The declared length of the body, 0 where none is.

    Raises HttpError 413 when it is more than `limit`, 415 when the body is compressed.
    """
    declared = headers.get(b"content-length", b"0")
    if not declared.isdigit() or int(declared) > limit:
        raise too_large(limit)
    coding = headers.get(b"content-encoding")
    if coding is not None and coding.strip().lower() not in (b"identity", b""):
        # A small body must not become a large one here.
        raise HttpError(415, "compressed", "bodies are taken as they are; send it uncompressed")
    return int(declared)


def priority(headers: Mapping[bytes, bytes], is_holder: bool) -> Priority:
    """The class that a request claims by `Priority: u=N`, the urgency of RFC 9218, 0 the most and 3 the usual.

    Anybody may ask to be served after the others, with more than 3; before them, with less, only who shows a token.
    """
    claimed = headers.get(b"priority")
    if claimed is None:
        return Priority.NORMAL
    found = _URGENCY.search(claimed)
    urgency = int(found[1]) if found else 3
    if urgency > 3:
        return Priority.LOW
    if urgency < 3 and is_holder:
        return Priority.HIGH
    return Priority.NORMAL


def left_s(headers: Mapping[bytes, bytes]) -> float:
    """The seconds that the caller has left, from the arrival on, by `x-deadline-ms`; infinite where it says nothing.

    Raises HttpError 400 where that is no number.
    """
    given = headers.get(DEADLINE)
    if given is None:
        return math.inf
    # Digits with a point only: `float` would take `nan`, `1e9` and `1_000` too.
    if not re.fullmatch(rb"\d{1,8}(\.\d{1,6})?", given):
        message = "x-deadline-ms: give the milliseconds that are left, such as 80"
        raise HttpError(400, "invalid_header", message)
    return float(given) / 1000


def too_large(limit: int) -> HttpError:
    """The refusal of a body that is longer than `limit`."""
    message = f"a body has at most {limit} bytes here; send it in parts"
    return HttpError(413, "too_large", message, headers=CLOSE)
