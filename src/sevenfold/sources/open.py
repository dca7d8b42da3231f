"""A source from its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sevenfold.clock import Clock
from sevenfold.errors import InputError
from sevenfold.sources.folder import FolderSource
from sevenfold.sources.protocol import Address, Source
from sevenfold.spec.stream import Stream

__all__ = ["SCHEMES", "is_address", "open_source"]


Opener = Callable[[Address, Stream, Clock], Source]


def _folder(address: Address, stream: Stream, clock: Clock) -> Source:
    settle_us = address.duration_us("settle", "2 s")
    place = Path(address.place)
    return FolderSource(place, stream, clock, address.columns, settle_us)


def _elsewhere(module: str, extra: str | None = None) -> Opener:
    """The opener of a module that may need what an extra installs."""

    def opened(address: Address, stream: Stream, clock: Clock) -> Source:
        try:
            found = import_module(f"sevenfold.sources.{module}")
        except ModuleNotFoundError as error:
            if extra is None or (error.name or "").startswith("sevenfold"):
                raise
            raise InputError(
                f"{address.scheme}: needs {error.name}: pip install 'sevenfold[{extra}]'"
            ) from error
        source: Source = found.open_address(address, stream, clock)
        return source

    return opened


_TABLE = frozenset({"table", "cursor", "key", "overlap"})
# What an address may say to the driver itself.
_LIBPQ = frozenset({"host", "port", "user", "password", "dbname"})
_LIBPQ |= frozenset({"sslmode", "sslrootcert", "connect_timeout"})
_LIBRDKAFKA = frozenset({"group.id", "security.protocol", "sasl.mechanism", "sasl.username"})
_LIBRDKAFKA |= frozenset({"sasl.password", "ssl.ca.location", "client.id"})
_OPENERS: Mapping[str, tuple[Opener, frozenset[str]]] = {
    "folder": (_folder, frozenset({"settle"})),
    "file": (_folder, frozenset({"settle"})),
    "sqlite": (_elsewhere("sqlite"), _TABLE),
    "redis+stream": (_elsewhere("redis_stream", "redis"), frozenset({"stream", "field"})),
    "rediss+stream": (_elsewhere("redis_stream", "redis"), frozenset({"stream", "field"})),
    "kafka": (_elsewhere("kafka", "kafka"), _LIBRDKAFKA | {"topic"}),
    "postgresql": (_elsewhere("postgres", "postgres"), _TABLE | _LIBPQ),
}
SCHEMES = tuple(_OPENERS)
"""How the address of a source begins."""


def is_address(text: str) -> bool:
    """Whether `text` begins as the address of a source does.

    >>> is_address("folder:incoming"), is_address("sales.csv")
    (True, False)
    """
    return text.partition(":")[0] in SCHEMES and ":" in text


def open_source(
    url: str, stream: Stream, clock: Clock, columns: Mapping[str, str] | None = None
) -> Source:
    """The source at `url`, for rows of `stream`; `columns` maps names of the stream to the source's own.

    Raises InputError for an address that is none, and for a source that is not there.
    """
    scheme, _, rest = url.partition(":")
    if scheme not in _OPENERS:
        raise InputError(
            f"{scheme!r} is no kind of source: an address begins with {', '.join(f'{s}:' for s in SCHEMES)}"
        )
    place, _, query = rest.partition("?")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
    except ValueError as error:
        raise InputError(f"{scheme}:{place}: its options are not name=value: {error}") from error
    opener, allowed = _OPENERS[scheme]
    address = Address(url, scheme, unquote(place), dict(pairs), columns)
    unknown = sorted({name for name, _ in pairs} - allowed)
    if unknown:
        raise InputError(
            f"{address.shown} has no option {unknown[0]!r}; it has {', '.join(sorted(allowed))}"
        )
    if not address.place:
        raise InputError(f"{url!r} names no place: write it behind the colon")
    return opener(address, stream, clock)
