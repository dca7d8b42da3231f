"""`sevenfold models`: the versions of a system's models and who serves."""

from __future__ import annotations

from pathlib import Path

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show, table
from sevenfold.cli.times import written


@click.command("models")
@click.argument("system")
@home_option
@json_option
def command(system: str, home: Path | None) -> None:
    """List the versions of a system's models, where the aliases point, and every promotion."""
    import msgspec

    from sevenfold.cli.load import load_system
    from sevenfold.errors import RunError
    from sevenfold.registry.history import current
    from sevenfold.registry.registry import Registry

    declared = load_system(system)
    place = home_of(home, declared.name) / "registry"
    if not place.is_dir():
        raise RunError(f"no registry in {place.parent}: a model is registered when it is trained")
    registry = Registry(place)
    history = registry.history()
    aliases = current(history)
    manifests = [registry.get(version).manifest for version in registry.versions()]
    result = {
        "system": declared.name,
        "versions": [
            {
                "version": manifest.version,
                "name": manifest.name,
                "created": written(manifest.created_us),
                "features": len(manifest.feature_names),
                "metrics": manifest.metrics,
                "aliases": [alias for alias, to in aliases.items() if to == manifest.version],
            }
            for manifest in manifests
        ],
        "history": [msgspec.to_builtins(promotion) for promotion in history],
    }
    rows = [
        [
            m.version,
            m.name,
            written(m.created_us),
            len(m.feature_names),
            _pointing(aliases, m.version),
        ]
        for m in manifests
    ]
    moves = [
        [
            written(p.at_us),
            p.alias,
            p.before if p.before is not None else "-",
            p.version or "-",
            p.kind,
            p.reason,
        ]
        for p in history
    ]
    text = [table(["version", "name", "created", "features", "aliases"], rows)]
    text.append(table(["at", "alias", "from", "to", "by", "reason"], moves))
    show(result, "\n\n".join(text))


def _pointing(aliases: dict[str, int], version: int) -> str:
    return ", ".join(alias for alias, to in aliases.items() if to == version) or "-"
