"""A source from its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from urllib.parse import parse_qsl, unquote

from sevenfold.clock import Clock
from sevenfold.errors import InputError, TimeError
from sevenfold.sources.folder import FolderSource
from sevenfold.sources.protocol import Source
from sevenfold.spec.stream import Stream
from sevenfold.spec.units import parse_duration

__all__ = ["SCHEMES", "Address", "is_address", "open_source"]


@dataclass(frozen=True, slots=True)
class Address:
    """An address apart: `scheme:place?option=value`, with the names of the fields that go by others there."""

    url: str
    scheme: str
    place: str
    options: Mapping[str, str]
    columns: Mapping[str, str] | None

    def required(self, name: str) -> str:
        """An option that must be there."""
        if not self.options.get(name):
            raise InputError(f"{self.shown}: give {name}, as ?{name}=...")
        return self.options[name]

    def duration_us(self, name: str, usual: str) -> int:
        """An option that is a duration."""
        try:
            return parse_duration(self.options.get(name, usual))
        except TimeError as error:
            raise InputError(f"{self.shown}: {name}: {error}") from error

    @property
    def shown(self) -> str:
        """The address without its options, and without what stands before an @ in it."""
        head, slashes, rest = self.place.partition("//")
        rest = rest.rpartition("@")[2] if slashes else rest
        return f"{self.scheme}:{head}{slashes}{rest}"


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


_OPENERS: Mapping[str, tuple[Opener, frozenset[str]]] = {
    "folder": (_folder, frozenset({"settle"})),
    "file": (_folder, frozenset({"settle"})),
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
