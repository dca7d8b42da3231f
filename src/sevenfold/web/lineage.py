"""A lineage as one SVG file: a column for each kind, lines from what is used to what uses it. No script, no request."""

from __future__ import annotations

from html import escape

from sevenfold.spec.lineage import Lineage, Node
from sevenfold.web.chart import COLOURS

__all__ = ["picture"]

_BOX, _GAP, _ROW, _LINE = 200, 80, 34, 26
_LEFT, _TOP = 16, 54
_LETTERS = 29
_SWEEPS = 6
_HEADS = (
    "entity, stream",
    "field",
    "view, generator, request, label",
    "feature",
    "computed at the request",
    "features of a model",
    "model, stage",
    "version",
)
_COLUMN = {
    "entity": 0,
    "stream": 0,
    "field": 1,
    "view": 2,
    "generator": 2,
    "request": 2,
    "label": 2,
    "feature": 3,
}
_COLUMN |= {"set": 5, "stage": 6, "model": 6, "version": 7}
_STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#1c1c1c}.kind{font-weight:600;fill:#5a5a5a}"
    ".box{fill:#fff;stroke-width:1.5}.edge{fill:none;stroke:#8a8a8a;stroke-width:1;opacity:.55}"
    ".pii{font-size:10px;fill:#b00020}.ground{fill:#fff}"
    "@media(prefers-color-scheme:dark){text{fill:#eee}.kind{fill:#aaa}.box{fill:#222}.ground{fill:#161616}"
    ".pii{fill:#ff8a80}}"
)


def picture(lineage: Lineage, title: str, hidden: tuple[str, ...] = ("field",)) -> str:
    """The SVG of a lineage; kinds in `hidden` are left out and their lines drawn through them."""
    shown = _without(lineage, hidden)
    columns: list[tuple[str, list[Node]]] = [(head, []) for head in _HEADS]
    for node in shown.nodes.values():
        columns[_column(node, shown)][1].append(node)
    columns = [(head, nodes) for head, nodes in columns if nodes]
    places = _places([[node.id for node in nodes] for _, nodes in columns], shown)
    width = 2 * _LEFT + len(columns) * (_BOX + _GAP) - _GAP if columns else 2 * _LEFT
    height = int(max((y for _, y in places.values()), default=_TOP) + _ROW + 12)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>{escape(title)}</title><style>{_STYLE}</style>'
        f'<rect class="ground" width="{width}" height="{height}"/>'
        f'<text x="{_LEFT}" y="20" class="kind">{escape(title)}</text>'
    ]
    parts += [
        f'<text class="kind" x="{_LEFT + i * (_BOX + _GAP)}" y="{_TOP - 10}">{escape(head)}</text>'
        for i, (head, _) in enumerate(columns)
    ]
    parts += [_edge(places[below], places[above]) for below, above in shown.edges]
    for i, (_, nodes) in enumerate(columns):
        parts += [_box(node, places[node.id], COLOURS[i % len(COLOURS)]) for node in nodes]
    return "".join([*parts, "</svg>\n"])


def _without(lineage: Lineage, hidden: tuple[str, ...]) -> Lineage:
    """The lineage without nodes of some kinds: what used them uses what they were made from."""

    def visible(name: str) -> list[str]:
        if lineage.nodes[name].kind not in hidden:
            return [name]
        return [above for below in lineage.sources[name] for above in visible(below)]

    kept = Lineage()
    for name, node in lineage.nodes.items():
        if node.kind not in hidden:
            kept.nodes[name] = node
            direct = [one for below in lineage.sources[name] for one in visible(below)]
            kept.sources[name] = list(dict.fromkeys(direct))
    for name, below in kept.sources.items():
        # What a view already leads to need not be drawn past it.
        further = {two for one in below for two in kept.sources.get(one, ())}
        kept.sources[name] = [one for one in below if one not in further]
    return kept


def _column(node: Node, lineage: Lineage) -> int:
    if node.kind == "feature" and not any(s.startswith("view:") for s in lineage.sources[node.id]):
        return 4
    return _COLUMN[node.kind]


def _places(columns: list[list[str]], lineage: Lineage) -> dict[str, tuple[int, float]]:
    """Where each box begins: its column, and as near as there is room to what it is joined to."""
    near: dict[str, list[str]] = {name: [] for column in columns for name in column}
    for below, above in lineage.edges:
        near[below].append(above)
        near[above].append(below)
    at = {name: float(i * _ROW) for column in columns for i, name in enumerate(column)}
    for sweep in range(2 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wish = {
                name: sum(at[other] for other in near[name]) / len(near[name])
                if near[name]
                else at[name]
                for name in column
            }
            at |= _apart(sorted(column, key=wish.__getitem__), wish)
    highest = min(at.values(), default=0.0)
    return {
        name: (_LEFT + i * (_BOX + _GAP), _TOP + at[name] - highest)
        for i, column in enumerate(columns)
        for name in column
    }


def _apart(names: list[str], wish: dict[str, float]) -> dict[str, float]:
    """Places in the order of `names`, a row apart at least, off their wishes by nothing on the whole."""
    placed: list[float] = []
    for name in names:
        placed.append(max(wish[name], placed[-1] + _ROW) if placed else wish[name])
    off = sum(wish[name] - y for name, y in zip(names, placed, strict=True)) / len(names)
    return {name: y + off for name, y in zip(names, placed, strict=True)}


def _edge(begin: tuple[int, float], end: tuple[int, float]) -> str:
    x0, y0 = begin[0] + _BOX, begin[1] + _LINE / 2
    x1, y1 = end[0], end[1] + _LINE / 2
    bend = max((x1 - x0) / 2, _GAP / 2)
    return (
        f'<path class="edge" d="M{x0:.0f} {y0:.1f}C{x0 + bend:.0f} {y0:.1f} '
        f'{x1 - bend:.0f} {y1:.1f} {x1:.0f} {y1:.1f}"/>'
    )


def _box(node: Node, place: tuple[int, float], colour: str) -> str:
    x, y = place
    name = node.name if len(node.name) <= _LETTERS else f"{node.name[: _LETTERS - 1]}…"
    told = [node.id, node.description, f"owner: {node.owner}" if node.owner else ""]
    told.append(f"personal data: {', '.join(node.pii)}" if node.pii else "")
    mark = (
        f'<text class="pii" x="{x + _BOX - 6}" y="{y + 17:.1f}" text-anchor="end">pii</text>'
        if node.pii
        else ""
    )
    return (
        f"<g><title>{escape(chr(10).join(line for line in told if line))}</title>"
        f'<rect class="box" x="{x}" y="{y:.1f}" width="{_BOX}" height="{_LINE}" rx="4" '
        f'stroke="{colour}"/><text x="{x + 8}" y="{y + 17:.1f}">{escape(name)}</text>{mark}</g>'
    )
