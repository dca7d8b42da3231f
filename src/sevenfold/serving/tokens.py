"""Who may ask for what: tokens by name, kept as hashes, each with its scopes and its rate.

HOME/token         the owner's: every scope, made with the first server, readable by its owner only
HOME/tokens.json   those given to others: names, SHA-256, scopes, rates; never the tokens themselves
"""

from __future__ import annotations

import hashlib
import logging
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, get_args

import msgspec

from sevenfold.errors import InputError, NotFoundError, ServingError
from sevenfold.serving.rate import Bucket
from sevenfold.serving.route import Scope
from sevenfold.stores.durable import locked, replace_file

__all__ = [
    "SCOPES",
    "TOKENS_FILE",
    "Granted",
    "Holder",
    "Tokens",
    "add_token",
    "home_token",
    "read_tokens",
    "revoke_token",
]

_LOG = logging.getLogger(__name__)
SCOPES: tuple[Scope, ...] = get_args(Scope)
TOKENS_FILE = "tokens.json"
_VERSION = 1

Name = Annotated[str, msgspec.Meta(pattern="^[a-z][a-z0-9_-]{0,63}$")]
Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Rate = Annotated[float, msgspec.Meta(gt=0, le=1e6)]


class Granted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A token as it is kept: whose it is, its SHA-256, what it is for, and how many requests a second."""

    name: Name
    sha256: Sha256
    scopes: tuple[Scope, ...]
    rate: Rate | None = None


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int
    tokens: tuple[Granted, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Holder:
    """Who shows a token: the scopes it is for, and what is left of its rate."""

    name: str
    scopes: frozenset[Scope]
    bucket: Bucket | None


class Tokens:
    """Finds the holder of a token; a token that is revoked in the file is void at the next request.

    `owner` has every scope, `shared` is for events and predictions. While the file cannot be read, only these count.
    """

    def __init__(self, owner: str, path: Path | None = None, shared: str | None = None) -> None:
        self._fixed = {_hashed(owner.encode()): Holder("owner", frozenset(SCOPES), None)}
        if shared is not None:
            holder = Holder("shared", frozenset({"events", "predict"}), None)
            self._fixed.setdefault(_hashed(shared.encode()), holder)
        self._path = path
        self._place = "" if path is None else str(path)  # looked at by every request
        self._stamp: tuple[int, int] | None = None
        self._granted: dict[str, Holder] = {}

    def holder(self, token: bytes) -> Holder | None:
        """The holder of a token; None for one that was never given, or is void."""
        self._follow()
        # A look-up by hash: how long it takes says nothing about the token.
        found = _hashed(token)
        return self._fixed.get(found) or self._granted.get(found)

    def _follow(self) -> None:
        stamp = self._stamp_now()
        if stamp == self._stamp or self._path is None:
            return
        self._stamp = stamp
        try:
            granted = read_tokens(self._path)
        except ServingError as error:
            _LOG.error("tokens of the file void error=%s", error)
            granted = ()
        self._granted = {
            one.sha256: Holder(
                one.name, frozenset(one.scopes), Bucket(one.rate) if one.rate else None
            )
            for one in granted
        }

    def _stamp_now(self) -> tuple[int, int] | None:
        if self._path is None:
            return None
        try:
            stat = os.stat(self._place)
        except FileNotFoundError:
            return None
        return stat.st_mtime_ns, stat.st_ino


def read_tokens(path: Path) -> tuple[Granted, ...]:
    """The tokens given to others; none when there is no file, ServingError when it is damaged."""
    try:
        file = msgspec.json.decode(path.read_bytes(), type=_File)
    except FileNotFoundError:
        return ()
    except (msgspec.DecodeError, OSError, UnicodeDecodeError) as error:
        raise ServingError(
            f"{path} cannot be read: {error}; put it right, or delete it and give new tokens"
        ) from error
    if file.version != _VERSION:
        raise ServingError(f"{path} is of version {file.version}; this one reads {_VERSION}")
    return file.tokens


def add_token(home: Path, name: str, scopes: Iterable[Scope], rate: float | None = None) -> str:
    """A new token, which is told this once and kept as its hash only.

    Raises InputError for a name that is taken or not plain, no scope, or a rate that is not positive.
    """
    token = secrets.token_urlsafe(32)
    wanted = {
        "name": name,
        "sha256": _hashed(token.encode()),
        "scopes": sorted(set(scopes)),
        "rate": rate,
    }
    if not wanted["scopes"]:
        raise InputError(f"a token is for something: give one of {', '.join(SCOPES)}")
    try:
        granted = msgspec.convert(wanted, Granted)
    except msgspec.ValidationError as error:
        raise InputError(
            f"token {name!r}: {error}; a name is lower-case letters, digits, - and _, a rate is above 0"
        ) from None
    with locked(home / ".tokens.lock"):
        known = read_tokens(home / TOKENS_FILE)
        if any(one.name == name for one in known):
            raise InputError(f"there is a token {name!r}: revoke it first, or give another name")
        _write(home / TOKENS_FILE, (*known, granted))
    return token


def revoke_token(home: Path, name: str) -> None:
    """Make the token of that name void, for a running server too; NotFoundError when there is none."""
    with locked(home / ".tokens.lock"):
        known = read_tokens(home / TOKENS_FILE)
        left = tuple(one for one in known if one.name != name)
        if len(left) == len(known):
            names = ", ".join(one.name for one in known) or "none"
            raise NotFoundError(f"no token {name!r}; there are: {names}")
        _write(home / TOKENS_FILE, left)


def home_token(home: Path) -> str:
    """The owner's token of a home, made with the first server and readable by its owner only."""
    path = home / "token"
    if not path.exists():
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_urlsafe(32))
    return path.read_text().strip()


def _write(path: Path, tokens: tuple[Granted, ...]) -> None:
    raw = msgspec.json.format(msgspec.json.encode(_File(_VERSION, tokens)), indent=1)
    replace_file(path, raw + b"\n", private=True)


def _hashed(token: bytes) -> str:
    # The tokens are 256 random bits, so that a fast hash keeps them as well as a slow one would.
    return hashlib.sha256(token).hexdigest()
