"""`sevenfold serve`: the HTTP server of a system."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, progress, say, show

if TYPE_CHECKING:
    from sevenfold.serving.server import Beside
    from sevenfold.serving.supervisor import Place
    from sevenfold.serving.tracing import Tracing
    from sevenfold.spec.system import System


class _StopError(Exception):
    """The server was asked to stop."""


def _stop(_number: int, _frame: object) -> None:
    raise _StopError


def _known(kinds: tuple[str, ...]) -> frozenset[str] | None:
    from sevenfold.models.loader import KINDS

    strange = sorted(set(kinds) - set(KINDS))
    if strange:
        raise click.UsageError(f"no kind {strange[0]!r} is known; there are {', '.join(KINDS)}")
    return frozenset(kinds) or None


def _tracing(system: str, share: float | None) -> Tracing | None:
    """Where traces go; None where none are asked for."""
    if share is None:
        return None
    from sevenfold import __version__
    from sevenfold.serving.tracing import Tracing

    try:
        from sevenfold.adapters.otel import OpenTelemetryTraces
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"--trace-share needs {error.name}: pip install 'sevenfold[otel]'"
        ) from error
    return Tracing(OpenTelemetryTraces(system, __version__), share)


def _grpc(port: int | None) -> Beside | None:
    """What listens for gRPC; None where it is not asked for."""
    if port is None:
        return None
    from functools import partial

    try:
        from sevenfold.serving.oip.grpc import listening
    except ModuleNotFoundError as error:
        raise click.UsageError(
            f"--grpc-port needs {error.name}: pip install 'sevenfold[grpc]'"
        ) from error
    return partial(listening, port=port)


def _declared(system: str, home: Path | None, is_one_of_several: bool) -> tuple[System, Path]:
    """The declaration and its home; one of several processes begins with what they have changed to since."""
    from sevenfold.cli.load import load_system
    from sevenfold.serving.order import read_declared

    declared = load_system(system)
    place = home_of(home, declared.name)
    changed = read_declared(place) if is_one_of_several else None
    return (declared if changed is None else load_system(changed)), place


def _check_several(workers: int, clock: str, log_sync: str) -> None:
    """Raise UsageError for what several processes cannot do."""
    if workers > 1 and clock == "replay":
        raise click.UsageError("a replay is answered by one process: leave --workers out")
    if workers > 1 and log_sync != "always":
        raise click.UsageError(
            "several processes commit each answer before it is given: leave --log-sync out"
        )


def _again(place: Place) -> list[str]:
    """This very command, for one of several processes."""
    import sys

    return [sys.executable, "-m", "sevenfold", *sys.argv[1:], "--place", place.text()]


@click.command("serve")
@click.argument("system")
@home_option
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8077,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--token",
    envvar="SEVENFOLD_TOKEN",
    help="One more token for events and predictions, beside HOME/token and those of `sevenfold token`.",
)
@click.option(
    "--tls-cert",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Certificate chain in PEM: serve HTTPS. Needs --tls-key.",
)
@click.option(
    "--tls-key", type=click.Path(dir_okay=False, path_type=Path), help="Its private key in PEM."
)
@click.option(
    "--plain",
    is_flag=True,
    help="Others reach this server without TLS of its own: it ends in front of it.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    metavar="NAME",
    help="A further name in the Host header to answer to; on loopback there are only those of loopback.",
)
@click.option(
    "--grpc-port",
    type=click.IntRange(0, 65535),
    help="Speak the Open Inference Protocol over gRPC on this port too, 0 for a free one. Needs sevenfold[grpc].",
)
@click.option(
    "--no-admin",
    is_flag=True,
    help="No socket in HOME for `sevenfold change` and `forget`: nothing changes this server.",
)
@click.option(
    "--load-kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="Load models of this kind only, such as lightgbm; may be given more than once. Without it, all known.",
)
@click.option(
    "--clock",
    type=click.Choice(["live", "replay"]),
    default="live",
    show_default=True,
    help="replay: requests and events name their instant.",
)
@click.option(
    "--history-head",
    type=click.IntRange(min=0),
    default=200_000,
    show_default=True,
    metavar="EVENTS",
    help="Keep the past by key, for reads as of then, up to so many newest events; 0 keeps none.",
)
@click.option(
    "--log-head",
    type=click.IntRange(min=0),
    default=20_000,
    show_default=True,
    metavar="ANSWERS",
    help="Leave so many newest answers in the store; older ones go to Parquet files in HOME/predictions. 0 moves none.",
)
@click.option(
    "--log-sync",
    type=click.Choice(["always", "everysec"]),
    default="always",
    show_default=True,
    help="always: an answer is on disk before it is given. everysec: it outlives the process, and is on disk within a "
    "second; a loss of power may cost the log that second. Not with --workers.",
)
@click.option(
    "--admission/--no-admission",
    default=True,
    show_default=True,
    help="Refuse what there is no time for, and answer more cheaply under load; never with --clock replay.",
)
@click.option(
    "--trace-share",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Write OpenTelemetry spans of the answers that callers trace, and of this share of the others, to "
    "OTEL_EXPORTER_OTLP_ENDPOINT. Needs the extra `otel`.",
)
@click.option(
    "--workers",
    type=click.IntRange(1, 64),
    default=1,
    show_default=True,
    metavar="N",
    help="Answer by so many processes on the one port, one of which takes the events in; live only.",
)
@click.option("--place", "place_text", hidden=True)
@json_option
def command(
    system: str,
    home: Path | None,
    host: str,
    port: int,
    token: str | None,
    tls_cert: Path | None,
    tls_key: Path | None,
    plain: bool,
    hosts: tuple[str, ...],
    grpc_port: int | None,
    no_admin: bool,
    kinds: tuple[str, ...],
    clock: str,
    history_head: int,
    log_head: int,
    log_sync: str,
    admission: bool,
    trace_share: float | None,
    workers: int,
    place_text: str | None,
) -> None:
    """Answer requests over HTTP until stopped.

    Takes events, recommends, ranks and reads features; /openapi.json says how. HOME/server.json tells the
    address once it listens. A server that others reach needs TLS and a token for predictions.
    """
    import logging
    import signal
    from contextlib import suppress

    from sevenfold import __version__
    from sevenfold.serving.pools import keep_to_one_thread

    keep_to_one_thread()  # before what is imported next

    from sevenfold.cli.load import load_system_anew
    from sevenfold.serving.door import Door, Tls
    from sevenfold.serving.server import Way, serve, serve_place, supervise
    from sevenfold.serving.supervisor import Place

    logging.basicConfig(
        level=logging.INFO,
        format="time=%(asctime)s level=%(levelname)s logger=%(name)s %(message)s",
    )
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("give --tls-cert and --tls-key, or neither")
    _check_several(workers, clock, log_sync)
    tls = Tls(tls_cert, tls_key) if tls_cert and tls_key else None
    door = Door(host, port, token, tls, plain, hosts, not no_admin)
    declared, place = _declared(system, home, place_text is not None)
    own = None if place_text is None else Place.of(place_text)
    where = (
        f"{'https' if tls else 'http'}://{host}:{port}"
        if port
        else f"a free port of {host}, see {place}/server.json"
    )
    if own is None:
        say(f"{declared.name}: starting on {where}; the first start of a version compiles")
    # The server drains on these signals and then raises them again, for whoever started it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    with suppress(_StopError):
        if workers > 1 and own is None:
            supervise(place, door, workers, _again)
        else:
            tracing = _tracing(declared.name, trace_share)
            allowed, beside = _known(kinds), _grpc(grpc_port)
            replay = clock == "replay"
            way = Way(
                replay,
                history_head,
                load_system_anew,
                admission,
                allowed,
                tracing,
                beside,
                log_head,
                log_sync == "always",
            )
            with progress("reading the log") as advance:
                if own is None:
                    serve(declared, place, __version__, door, way, advance)
                else:
                    serve_place(declared, place, __version__, door, way, own, advance)
    if own is None:
        show({"system": declared.name, "home": str(place)}, f"{declared.name}: stopped")
