"""Who may ask for what: scopes, rates, names of hosts, and no way round any of them."""

import itertools
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sevenfold.errors import InputError, NotFoundError, ServingError
from sevenfold.serving.door import Door, Tls, check_door, public_guard
from sevenfold.serving.guard import LOOPBACK_NAMES, Guard
from sevenfold.serving.problem import HttpError
from sevenfold.serving.rate import Bucket
from sevenfold.serving.route import Route
from sevenfold.serving.routes.table import ADMIN_ROUTES, PUBLIC_ROUTES, ROUTES
from sevenfold.serving.tokens import (
    SCOPES,
    TOKENS_FILE,
    Tokens,
    add_token,
    home_token,
    revoke_token,
)

FOR_EVERYBODY = {"/healthz", "/readyz", "/v2", "/v2/health/live", "/v2/health/ready"}


def shown(token: str, **more: bytes) -> dict[bytes, bytes]:
    headers = {name.encode(): value for name, value in more.items()}
    return {b"authorization": f"Bearer {token}".encode(), **headers}


def status(guard: Guard, headers: dict[bytes, bytes], scope: Any) -> int:
    """What becomes of a request: 200 when it may pass."""
    try:
        guard.admit(headers, scope)
    except HttpError as error:
        return error.status
    return 200


def test_every_route_has_a_scope_but_those_of_health() -> None:
    assert {route.path for route in ROUTES if route.scope is None} == FOR_EVERYBODY
    assert all(route.scope in (*SCOPES, None) for route in ROUTES)


def test_no_listener_has_both_predictions_and_what_changes_the_server() -> None:
    assert {route.scope for route in PUBLIC_ROUTES} == {"events", "predict", "metrics", None}
    assert {route.scope for route in ADMIN_ROUTES} == {"admin", "metrics", None}
    assert {*PUBLIC_ROUTES, *ADMIN_ROUTES} == {*ROUTES}


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_a_token_opens_the_routes_of_its_scopes_and_no_other(tmp_path: Path, route: Route) -> None:
    guard = Guard(Tokens("the owner's", tmp_path / TOKENS_FILE))
    tokens = {scope: add_token(tmp_path, scope, [scope]) for scope in SCOPES}
    for scope, token in tokens.items():
        wanted = 200 if route.scope in (scope, None) else 403
        assert status(guard, shown(token), route.scope) == wanted
    assert status(guard, shown("the owner's"), route.scope) == 200
    assert status(guard, {}, route.scope) == (401 if route.scope else 200)
    assert status(guard, shown("another"), route.scope) == (401 if route.scope else 200)


def test_tokens_are_kept_as_hashes_and_only_for_their_owner(tmp_path: Path) -> None:
    token = add_token(tmp_path, "shop", ["predict"], rate=5)
    raw = (tmp_path / TOKENS_FILE).read_text()
    assert token not in raw
    assert json.loads(raw)["tokens"][0]["scopes"] == ["predict"]
    assert os.stat(tmp_path / TOKENS_FILE).st_mode & 0o077 == 0


def test_a_revoked_token_is_void_at_once_and_a_damaged_file_voids_all_but_the_owners(
    tmp_path: Path,
) -> None:
    guard = Guard(Tokens("own", tmp_path / TOKENS_FILE, "shared"))
    token = add_token(tmp_path, "shop", ["predict"])
    other = add_token(tmp_path, "app", ["predict"])
    assert status(guard, shown(token), "predict") == 200
    revoke_token(tmp_path, "shop")
    assert status(guard, shown(token), "predict") == 401
    assert status(guard, shown(other), "predict") == 200
    (tmp_path / TOKENS_FILE).write_text('{"version":1,"tokens":[{"name":"app"}]}')
    assert status(guard, shown(other), "predict") == 401
    assert status(guard, shown("own"), "admin") == 200
    assert status(guard, shown("shared"), "events") == 200
    assert status(guard, shown("shared"), "admin") == 403


def test_what_is_no_token_is_refused_with_words(tmp_path: Path) -> None:
    add_token(tmp_path, "shop", ["events"])
    for name, scopes, rate in (
        ("shop", ["events"], None),
        ("Shop", ["events"], None),
        ("../x", ["events"], None),
        ("x", [], None),
        ("x", ["root"], None),
        ("x", ["events"], 0.0),
        ("x", ["events"], float("nan")),
    ):
        with pytest.raises(InputError):
            add_token(tmp_path, name, scopes, rate)  # type: ignore[arg-type]
    with pytest.raises(NotFoundError, match="there are: shop"):
        revoke_token(tmp_path, "app")


def test_a_holder_has_its_rate_and_no_more(tmp_path: Path) -> None:
    guard = Guard(Tokens("own", tmp_path / TOKENS_FILE))
    slow = shown(add_token(tmp_path, "slow", ["predict"], rate=1e-3))
    assert [status(guard, slow, "predict") for _ in range(3)] == [200, 429, 429]
    with pytest.raises(HttpError) as refused:
        guard.admit(slow, "predict")
    ((name, wait_s),) = refused.value.headers
    assert name == b"retry-after"
    assert 900 < int(wait_s) <= 1000
    assert status(guard, shown("own"), "predict") == 200


def test_tokens_cannot_be_tried_out_at_any_speed() -> None:
    guard = Guard(Tokens("own"), anonymous=Bucket(1e-3, burst=3))
    tried = [status(guard, shown(f"guess{i}"), "events") for i in range(5)]
    assert tried == [401, 401, 401, 429, 429]
    assert status(guard, {}, None) == 429
    assert status(guard, shown("own"), "events") == 200


def test_a_bucket_lets_its_rate_through_whatever_the_times() -> None:
    bucket, passed = Bucket(10.0, burst=2), 0
    for step in range(1_000):
        passed += bucket.take(step * 0.01) == 0.0
    assert passed == 2 + 99


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        (b"127.0.0.1:8077", 200),
        (b"LOCALHOST:1", 200),
        (b"[::1]:8077", 200),
        (None, 200),
        (b"shop.example", 421),
        (b"127.0.0.1.shop.example:8077", 421),
        (b"", 421),
        (b"[::1", 200),
        (b"localhost.", 421),
    ],
)
def test_on_loopback_a_page_cannot_come_in_under_a_name_of_its_own(
    host: bytes | None, wanted: int
) -> None:
    guard = Guard(Tokens("own"), {"predict"}, LOOPBACK_NAMES)
    assert status(guard, {} if host is None else {b"host": host}, "predict") == wanted


def test_a_page_of_a_browser_is_not_answered() -> None:
    guard = Guard(Tokens("own"), {"predict"})
    assert status(guard, {b"origin": b"http://evil.example"}, "predict") == 403
    assert status(guard, {b"origin": b"null"}, "predict") == 403
    assert status(guard, {b"origin": b"http://evil.example"}, None) == 200


def test_a_server_that_others_reach_has_tls_and_a_token_for_predictions(tmp_path: Path) -> None:
    check_door(Door(), tmp_path)
    with pytest.raises(ServingError, match="--tls-cert"):
        check_door(Door(host="0.0.0.0"), tmp_path)
    with pytest.raises(ServingError, match="--scope predict"):
        check_door(Door(host="0.0.0.0", plain=True), tmp_path)
    add_token(tmp_path, "writer", ["events"])
    with pytest.raises(ServingError, match="--scope predict"):
        check_door(Door(host="::", plain=True), tmp_path)
    add_token(tmp_path, "reader", ["predict"])
    check_door(Door(host="::", plain=True), tmp_path)
    with pytest.raises(ServingError, match="not a certificate and its key"):
        check_door(Door(tls=Tls(tmp_path / "no.pem", tmp_path / "no.key")), tmp_path)


@pytest.mark.parametrize(("host", "open_"), [("127.0.0.1", 200), ("::1", 200), ("0.0.0.0", 401)])
def test_predictions_are_open_on_loopback_only(tmp_path: Path, host: str, open_: int) -> None:
    guard = public_guard(Door(host=host, plain=True), tmp_path)
    assert status(guard, {}, "predict") == open_
    assert status(guard, {}, "metrics") == open_
    assert status(guard, {}, "events") == 401
    assert status(guard, shown(home_token(tmp_path)), "events") == 200


def test_no_spelling_of_a_path_or_header_comes_round_the_token(stall: Any) -> None:
    body = {"stream": "sales", "events": []}
    for path in (
        "/v1/%65vents",
        "/v1//events",
        "//v1/events",
        "/v1/events/",
        "/v1/events;x=1",
        "/v1/./events",
        "/V1/EVENTS",
        "/v1/events%00",
        "/healthz/../v1/events",
        "/healthz%2f..%2fv1%2fevents",
    ):
        assert stall.call("POST", path, json=body).status_code in (401, 404)
    for name in ("X-HTTP-Method-Override", "X-Original-URL", "X-Rewrite-URL", "X-Forwarded-For"):
        response = stall.call("POST", "/v1/events", json=body, headers={name: "/healthz"})
        assert response.status_code == 401
    twice = [("Authorization", "Bearer no"), ("Authorization", "Bearer the-token")]
    for given in itertools.permutations(twice):
        response = stall.call("POST", "/v1/events", json=body, headers=list(given))
        assert response.json()["error"]["code"] == "invalid_header"


def test_a_request_that_is_refused_does_nothing(stall: Any, sale: Callable[..., Any]) -> None:
    before = stall.service.position()
    body = {"stream": "sales", "event": sale("n1", "a")}
    assert stall.call("POST", "/v1/events", json=body).status_code == 401
    assert stall.service.position() == before
