"""Where a store in Redis lies and what it may rely on: the parts of its URL.

redis://[[USER]:PASSWORD@]HOST[:PORT][/DB][?home=NAME&durable=always&lock=10s&keep=5s&timeout=10s]
rediss://...[&ca=FILE&cert=FILE&key=FILE]                                      the same over TLS
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from sevenfold.errors import StoreError, TimeError
from sevenfold.spec.units import parse_duration

__all__ = ["DURABLE", "Address", "parse_address"]

DURABLE = ("always", "everysec", "any")
"""What a commit may rely on: an fsync before it is acknowledged, one within a second, or whatever there is."""

_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_DURATIONS = {"lock": "10 s", "keep": "5 s", "timeout": "10 s"}
_FILES = ("ca", "cert", "key")
_US_PER_MS = 1_000


@dataclass(frozen=True, slots=True)
class Address:
    """The parts of a URL; durations in milliseconds.

    `lock_ms` is how long a writer that says nothing keeps its turn, `keep_ms` how long what a commit replaced
    stays readable for snapshots that are older.
    """

    host: str
    port: int
    db: int
    home: str
    durable: str
    lock_ms: int
    keep_ms: int
    timeout_ms: int
    username: str | None
    password: str | None
    tls: bool
    ca: str | None
    cert: str | None
    key: str | None

    def __str__(self) -> str:
        """The address as a message may show it: without the password."""
        return f"{'rediss' if self.tls else 'redis'}://{self.host}:{self.port}/{self.db}?home={self.home}"


def parse_address(url: str) -> Address:
    """The parts of `url`; StoreError, never with the password in it, when it is no address of a store.

    >>> str(parse_address("redis://:secret@cache:6380/2?home=shop"))
    'redis://cache:6380/2?home=shop'
    """
    parts = urlsplit(url)
    tls = parts.scheme == "rediss"
    try:
        port = parts.port or 6379
    except ValueError as error:
        raise _refuse(parts, f"the port is no number from 1 to 65535 ({error})") from error
    if not parts.hostname:
        raise _refuse(parts, "it names no host")
    path = parts.path.strip("/")
    if path and not (path.isascii() and path.isdigit() and len(path) < 6):
        raise _refuse(parts, f"the number of the database is {path!r}; give one such as 0")
    options = _options(parts)
    home = options.pop("home", "sevenfold")
    if not _NAME.fullmatch(home):
        raise _refuse(
            parts, f"home is {home!r}; give 1 to 64 letters, digits, dots, dashes and underscores"
        )
    durable = options.pop("durable", "always")
    if durable not in DURABLE:
        raise _refuse(parts, f"durable is {durable!r}; give {', '.join(DURABLE)}")
    times = {name: _milliseconds(parts, name, options) for name in _DURATIONS}
    files = {name: options.get(name) for name in _FILES}
    if any(files.values()) and not tls:
        raise _refuse(parts, "ca, cert and key are for TLS; begin it with rediss://")
    return Address(
        parts.hostname,
        port,
        int(path or 0),
        home,
        durable,
        times["lock"],
        times["keep"],
        times["timeout"],
        unquote(parts.username) if parts.username else None,
        unquote(parts.password) if parts.password else None,
        tls,
        files["ca"],
        files["cert"],
        files["key"],
    )


def _options(parts: SplitResult) -> dict[str, str]:
    try:
        pairs = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise _refuse(parts, f"what follows `?` cannot be read ({error})") from error
    allowed = ("home", "durable", *_DURATIONS, *_FILES)
    for name, _ in pairs:
        if name not in allowed:
            raise _refuse(parts, f"it has no option {name!r}; there are {', '.join(allowed)}")
    return dict(pairs)


def _milliseconds(parts: SplitResult, name: str, options: dict[str, str]) -> int:
    try:
        us = parse_duration(options.get(name, _DURATIONS[name]))
    except TimeError as error:
        raise _refuse(parts, f"{name}: {error}") from error
    if us < _US_PER_MS:
        raise _refuse(parts, f"{name} is shorter than a millisecond; give at least 1 ms")
    return us // _US_PER_MS


def _refuse(parts: SplitResult, why: str) -> StoreError:
    shown = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
    return StoreError(f"{shown!r} is no address of a store in Redis: {why}")
