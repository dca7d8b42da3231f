"""`sevenfold promote`: lets a version of a model serve, or takes the last step back."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show


@click.command("promote")
@click.argument("system")
@click.argument("version", type=click.IntRange(1), required=False)
@home_option
@click.option("--alias", default="champion", show_default=True, help="The alias to move.")
@click.option("--reason", required=True, help="Why; kept in the history.")
@click.option("--rollback", is_flag=True, help="Undo the last move instead of giving a version.")
@json_option
def command(
    system: str,
    version: int | None,
    home: Path | None,
    alias: str,
    reason: str,
    rollback: bool,
) -> None:
    """Point an alias at a version. A server that runs on the home takes it over by itself.

    The version must read features exactly as they are declared now, and its files must be what was
    registered.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.clock import SystemClock
    from sevenfold.errors import RunError
    from sevenfold.features.plan import compile_plan
    from sevenfold.registry.registry import Registry

    if (version is None) != rollback:
        raise click.UsageError("give a VERSION, or --rollback")
    declared = load_system(system)
    place = home_of(home, declared.name) / "registry"
    if not place.is_dir():
        raise RunError(f"no registry in {place.parent}: a model is registered when it is trained")
    registry = Registry(place)
    now_us = SystemClock().now_us()
    if version is None:
        moved = registry.rollback(alias, reason, now_us)
    else:
        names = registry.get(version).manifest.feature_names
        plan = compile_plan(declared.features)
        plan.require(names)
        registry.require_signature(version, names, plan.definition_hashes(names))
        moved = registry.set_alias(alias, version, reason, now_us)
    result = {
        "system": declared.name,
        "alias": alias,
        "before": moved.before,
        "version": moved.version,
    }
    before = f"version {moved.before}" if moved.before is not None else "nothing"
    show(result, f"{alias}: from {before} to version {moved.version}")
