"""`sevenfold lineage`: what is made from what, from entities and streams to the versions of models."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from sevenfold.cli.home import home_of, home_option
from sevenfold.cli.output import json_option, show

if TYPE_CHECKING:
    from sevenfold.spec.lineage import Lineage, Node
    from sevenfold.spec.system import System


@click.command("lineage")
@click.argument("system")
@home_option
@click.option(
    "--of",
    "name",
    help="An entity, stream, field, view, feature, model: what it is made from, and what of it.",
)
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), help="Draw it into this file."
)
@json_option
def command(system: str, home: Path | None, name: str | None, svg: Path | None) -> None:
    """Say what is made from what: entity, stream, field, view, feature, set, model.

    From the declaration alone; where the home has a registry, its versions too, with what they were trained on.
    With `--of` only what is upstream and downstream of one thing.
    """
    from sevenfold.cli.load import load_system
    from sevenfold.spec.lineage import trace

    declared = load_system(system)
    lineage = trace(declared)
    _add_versions(lineage, declared, home_of(home, declared.name))
    node = lineage.find(name) if name is not None else None
    part = lineage.around(node) if node is not None else lineage
    if svg is not None:
        from sevenfold.web.lineage import picture

        title = f"{declared.name}: {node.id}" if node is not None else declared.name
        hidden = () if node is not None else ("field",)
        svg.write_text(picture(part, title, hidden), "utf-8")
    result = {"system": declared.name, "of": node.id if node else None, **part.as_dict()}
    if node is not None:
        result["upstream"] = [one.id for one in lineage.upstream(node)]
        result["downstream"] = [one.id for one in lineage.downstream(node)]
    text = _around(lineage, node) if node is not None else _whole(lineage)
    show(result, f"{text}\ndrawn into {svg}" if svg is not None else text)


def _add_versions(lineage: Lineage, declared: System, place: Path) -> None:
    """The versions of a registry: each of the model whose name it has, or of the features that it reads."""
    from sevenfold.registry.registry import Registry
    from sevenfold.serving.definition import Definition
    from sevenfold.spec.lineage import Node

    if not (place / "registry").is_dir():
        return
    registry, definition = Registry(place / "registry"), Definition(declared)
    champion = registry.alias("champion")
    for version in registry.versions():
        manifest = registry.get(version).manifest
        changed = definition.unreadable(manifest.feature_names, manifest.feature_hashes)
        told = [f"{manifest.name}, {len(manifest.feature_names)} features"]
        told += ["it serves"] if version == champion else []
        told += [f"of other definitions of {', '.join(changed)}"] if changed else []
        below = [f"model:{manifest.name}"]
        if below[0] not in lineage.nodes:
            below = [f"feature:{name}" for name in manifest.feature_names]
        lineage.add(Node("version", str(version), "; ".join(told)), below)


def _whole(lineage: Lineage) -> str:
    lines = []
    for node in lineage.nodes.values():
        below = lineage.sources[node.id]
        from_what = f"  <- {', '.join(one.split(':', 1)[1] for one in below)}" if below else ""
        lines.append(f"{node.kind:<10}{node.name}{_told(node)}{from_what}")
    return "\n".join(lines)


def _around(lineage: Lineage, node: Node) -> str:
    lines = [f"{node.id}{_told(node)}"]
    for head, found in (
        ("made from", lineage.upstream(node)),
        ("made of it", lineage.downstream(node)),
    ):
        lines.append(f"{head}:" if found else f"{head}: nothing")
        lines += [f"  {one.kind:<10}{one.name}{_told(one)}" for one in found]
    return "\n".join(lines)


def _told(node: Node) -> str:
    pii = [f"pii {', '.join(node.pii)}"] if node.pii else []
    told = [f"owner {node.owner}"] if node.owner else []
    return f" ({'; '.join([*told, *pii])})" if told or pii else ""
