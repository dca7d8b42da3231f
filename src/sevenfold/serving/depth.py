"""How deep a JSON body is nested, told before it is parsed."""

from __future__ import annotations

import re

import numpy as np

__all__ = ["MAX_DEPTH", "is_deeper"]

MAX_DEPTH = 256
_ESCAPED = re.compile(rb"\\.", re.DOTALL)
_STEP = np.zeros(256, dtype=np.int8)
_STEP[[ord("["), ord("{")]] = 1
_STEP[[ord("]"), ord("}")]] = -1
_QUOTE = ord('"')
_OTHERS = bytes(byte for byte in range(256) if byte not in b'[]{}"')


def is_deeper(body: bytes, limit: int = MAX_DEPTH) -> bool:
    """Whether lists and objects of a JSON text stand in each other more than `limit` deep; linear in its length.

    Brackets in texts do not count. Of bytes that are no JSON it may say either.

    >>> is_deeper(b"[[1]]", 1), is_deeper(b'[{"[[[": 1}]', 2)
    (True, False)
    """
    if body.count(b"[") + body.count(b"{") <= limit:
        return False
    if b"\\" in body:
        body = _ESCAPED.sub(b"", body)
    # Two quotes side by side leave what follows as far inside or outside of a text as it was, and are most of it.
    signs = np.frombuffer(body.translate(None, _OTHERS).replace(b'""', b""), dtype=np.uint8)
    steps = _STEP[signs]
    steps[np.cumsum(signs == _QUOTE) % 2 == 1] = 0  # inside a text
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0)) > limit
