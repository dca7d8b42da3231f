"""`sevenfold diff`: what another declaration changes, what has to be computed for it, and who is affected."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show, table

if TYPE_CHECKING:
    from sevenfold.serving.comparison import Comparison
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.estimate import Cost

_WIDEST = 60


@click.command("diff")
@click.argument("old")
@click.argument("new", required=False)
@home_option
@json_option
def command(old: str, new: str | None, home: Path | None) -> None:
    """Compare two declarations, or one with what a home is served by.

    With OLD and NEW, what NEW changes; with one declaration, what it changes of the home's. Says of every
    feature whether it is added, altered (and in which part), dropped or only renamed; which views have to be
    filled from the home's log, with events, keys, bytes and seconds measured on a sample of it; and which
    models, declared or registered, read what is altered. Ends with 1 when there is a difference.
    """
    import sys

    from sevenfold.cli.load import load_system, load_system_anew
    from sevenfold.serving.comparison import compare
    from sevenfold.serving.definition import Definition
    from sevenfold.serving.record import record_of

    if new is None:
        definition = Definition(load_system(old))
        place = home_of(home, definition.system.name)
        before = _record(place)
    else:
        before = record_of(Definition(load_system(old)))
        definition = Definition(load_system_anew(new))
        place = home_of(home, definition.system.name)
    found = compare(before, record_of(definition))
    versions = _versions(place, definition)
    costs = _costs(place, definition, found.filled)
    result = {
        "old": before.name,
        "new": definition.name,
        "home": str(place),
        **found.as_dict(),
        "registered_models": versions,
        "recomputed": [_plain(cost) for cost in costs] if costs is not None else None,
    }
    show(result, "\n".join(_text(found, versions, costs)))
    sys.exit(0 if found.is_empty else 1)


def _record(place: Path) -> Any:
    from sevenfold.cli.home import store_url
    from sevenfold.serving.record import read_record
    from sevenfold.stores.open import open_store

    store = open_store(store_url(place), readonly=True)
    try:
        with store.read() as txn:
            return read_record(txn)
    finally:
        store.close()


def _versions(place: Path, definition: Definition) -> list[dict[str, Any]]:
    """The registered versions that cannot read the new definition, with what of it they cannot."""
    from sevenfold.registry.registry import Registry

    if not (place / "registry").is_dir():
        return []
    registry = Registry(place / "registry")
    champion = registry.alias("champion")
    found = []
    for version in registry.versions():
        manifest = registry.get(version).manifest
        if changed := definition.unreadable(manifest.feature_names, manifest.feature_hashes):
            serves = version == champion
            found.append(
                {"version": version, "name": manifest.name, "serves": serves, "features": changed}
            )
    return found


def _costs(place: Path, definition: Definition, filled: Sequence[str]) -> list[Cost] | None:
    from sevenfold.serving.estimate import estimate
    from sevenfold.stores.open import open_store

    if not (place / "store" / "data.mdb").exists():
        return None
    store = open_store(f"lmdb:{place / 'store'}", readonly=True)
    try:
        return estimate(store, [view for view in definition.plan.views if view.name in filled])
    finally:
        store.close()


def _plain(cost: Cost) -> dict[str, Any]:
    import msgspec

    plain: dict[str, Any] = msgspec.to_builtins(cost)
    return plain


def _text(
    found: Comparison, versions: Sequence[dict[str, Any]], costs: Sequence[Cost] | None
) -> list[str]:
    if found.is_empty:
        return ["no difference"]
    lines = [*_features(found), *_refused(found)]
    lines += [f"model {model} reads {', '.join(read)}" for model, read in found.models.items()]
    for one in versions:
        serves = ", which serves" if one["serves"] else ""
        names = ", ".join(one["features"])
        lines.append(f"version {one['version']} ({one['name']}){serves} cannot read {names}")
    return [*lines, *_recomputed(found, costs)]


def _features(found: Comparison) -> list[str]:
    difference = found.features
    lines = [click.style(f"+ {name}", fg="green") for name in difference.added]
    for name, parts in difference.altered.items():
        lines.append(click.style(f"~ {name}", fg="yellow"))
        lines += [f"    {part}: {_short(old)} -> {_short(new)}" for part, old, new in parts]
    lines += [click.style(f"- {name}", fg="red") for name in difference.dropped]
    lines += [f"= {old} is now {new}, the same definition" for old, new in difference.renamed]
    lines += [f"+ field {name}, null in older events" for name in found.new_fields]
    lines.append(f"{len(difference.unchanged)} features are as they were")
    return lines


def _refused(found: Comparison) -> list[str]:
    lines = [click.style(f"! {reason}", fg="red") for reason in found.refused]
    if found.restart:
        lines.append(f"{', '.join(found.restart)} changed: this needs a restart of the server")
    return lines


def _recomputed(found: Comparison, costs: Sequence[Cost] | None) -> list[str]:
    if not found.filled:
        return ["nothing has to be filled"]
    if costs is None:
        return [f"to be filled: {', '.join(found.filled)} (the home has no log to measure on)"]
    about = "" if all(cost.exact for cost in costs) else " (about, from a sample)"
    rows = [[c.view, c.events, c.keys, c.bytes, round(c.seconds, 2)] for c in costs]
    heads = ["to be filled", "events", "keys", "bytes", "seconds"]
    return [table(heads, rows) + about, "beside a server that answers, at most twice as long"]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 20]} ... {line[-15:]}"
