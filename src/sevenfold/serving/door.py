"""Who may come in where: what a server that listens somewhere must have, and the guards of its listeners."""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from pathlib import Path

from sevenfold.errors import ServingError
from sevenfold.serving.guard import LOOPBACK_NAMES, Guard, is_loopback
from sevenfold.serving.limits import Limits
from sevenfold.serving.rate import Bucket
from sevenfold.serving.tokens import TOKENS_FILE, Tokens, home_token, read_tokens

__all__ = ["Door", "Tls", "admin_guard", "check_door", "inner_guard", "public_guard"]

_ANONYMOUS_PER_S = 100.0


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of a certificate chain and its key, in PEM."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Door:
    """Where a server listens, loopback unless told otherwise, and how it treats who comes.

    `token` is one more for events and predictions, beside those of the home. `plain` says that TLS ends in front of
    a server that others reach. `hosts` are further names that it is called by. With `admin` there is a socket in the
    home for its owner; what changes the server is asked there and nowhere else.
    """

    host: str = "127.0.0.1"
    port: int = 8077
    token: str | None = None
    tls: Tls | None = None
    plain: bool = False
    hosts: tuple[str, ...] = ()
    admin: bool = True
    limits: Limits = field(default_factory=Limits)


def check_door(door: Door, home: Path) -> None:
    """Raise ServingError for a server that others reach without TLS, or without a token to ask with."""
    if door.tls is not None:
        _check_tls(door.tls)
    granted = read_tokens(home / TOKENS_FILE)
    if is_loopback(door.host):
        return
    if door.tls is None and not door.plain:
        raise ServingError(
            f"others reach {door.host}, and would see tokens and keys on their way: give --tls-cert and --tls-key, "
            "or --plain where TLS ends in front of this server"
        )
    if door.token is None and not any("predict" in one.scopes for one in granted):
        raise ServingError(
            f"others reach {door.host}, and nobody has a token for predictions: `sevenfold token add NAME "
            "--scope predict` gives one"
        )


def public_guard(door: Door, home: Path) -> Guard:
    """The guard of the port: on loopback predictions and counters are for every program of this machine."""
    tokens = Tokens(home_token(home), home / TOKENS_FILE, door.token)
    if is_loopback(door.host):
        return Guard(tokens, {"predict", "metrics"}, {*LOOPBACK_NAMES, door.host, *door.hosts})
    per_s = door.limits.anonymous_per_s or _ANONYMOUS_PER_S
    return Guard(tokens, (), set(door.hosts) or None, Bucket(per_s))


def inner_guard(door: Door, home: Path) -> Guard:
    """The guard between the processes of one server: tokens are looked at again, the rest was on the port."""
    open_scopes = {"predict", "metrics"} if is_loopback(door.host) else ()
    return Guard(Tokens(home_token(home), home / TOKENS_FILE, door.token), open_scopes)  # type: ignore[arg-type]


def admin_guard(home: Path) -> Guard:
    """The guard of the socket in the home: whoever reaches it still shows a token for `admin`."""
    return Guard(Tokens(home_token(home), home / TOKENS_FILE))


def _check_tls(tls: Tls) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key)
    except (OSError, ssl.SSLError) as error:
        raise ServingError(
            f"{tls.certificate} and {tls.key} are not a certificate and its key: {error}; give PEM files "
            "that this user can read"
        ) from error
