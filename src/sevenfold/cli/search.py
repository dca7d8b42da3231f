"""`sevenfold search`: finds what is declared by words."""

from __future__ import annotations

import click

from sevenfold.cli.output import json_option, show, table

_WIDEST = 60


@click.command("search")
@click.argument("system")
@click.argument("words", nargs=-1, required=True)
@json_option
def command(system: str, words: tuple[str, ...]) -> None:
    """Find entities, streams, fields, views, features and models by their names, descriptions, owners and classes.

    All WORDS have to fit. `kind:feature`, `owner:NAME`, `pii:CLASS` and `pii:any` let only such things through.
    Ends with 1 when nothing fits.
    """
    import sys

    from sevenfold.cli.load import load_system
    from sevenfold.spec.lineage import trace
    from sevenfold.spec.search import search

    declared = load_system(system)
    found = search(trace(declared), words)
    result = {
        "system": declared.name,
        "found": [
            {
                "kind": node.kind,
                "name": node.name,
                "description": node.description,
                "owner": node.owner,
                "pii": list(node.pii),
            }
            for node in found
        ],
    }
    rows = [
        [
            node.kind,
            node.name,
            node.owner or "-",
            ", ".join(node.pii) or "-",
            _short(node.description),
        ]
        for node in found
    ]
    heads = ["kind", "name", "owner", "pii", "description"]
    show(result, table(heads, rows) if rows else f"nothing fits {' '.join(words)}")
    sys.exit(0 if found else 1)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDEST else f"{line[: _WIDEST - 1]}…"
