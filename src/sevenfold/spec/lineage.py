"""What is made from what: entities, streams, fields, views, features, sets, models, from the declaration alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from sevenfold.errors import NotFoundError
from sevenfold.spec.aggregate import Aggregate, FeatureView, Source
from sevenfold.spec.declaration import Declaration
from sevenfold.spec.feature_set import FeatureSet
from sevenfold.spec.model import Rule
from sevenfold.spec.naming import endings, feature_names
from sevenfold.spec.on_demand import OnDemand, parameters
from sevenfold.spec.stream import Stream
from sevenfold.spec.table import Table
from sevenfold.spec.through import Through

__all__ = ["KINDS", "Kind", "Lineage", "Node", "trace"]

Kind: TypeAlias = Literal[
    "entity",
    "stream",
    "field",
    "generator",
    "request",
    "view",
    "feature",
    "stage",
    "label",
    "set",
    "model",
    "version",
]
KINDS: tuple[Kind, ...] = (
    "entity",
    "stream",
    "field",
    "generator",
    "request",
    "view",
    "feature",
    "stage",
    "label",
    "set",
    "model",
    "version",
)
"""In the order in which one is made from another."""


@dataclass(frozen=True, slots=True)
class Node:
    """A named thing; `pii` are the classes of personal data that it holds or is made from."""

    kind: Kind
    name: str
    description: str = ""
    owner: str = ""
    pii: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name with its kind: two kinds may share a name."""
        return f"{self.kind}:{self.name}"


@dataclass(slots=True)
class Lineage:
    """Nodes by id and what each is made from; an edge goes from what is used to what uses it."""

    nodes: dict[str, Node] = field(default_factory=dict)
    sources: dict[str, list[str]] = field(default_factory=dict)

    @property
    def edges(self) -> list[tuple[str, str]]:
        """Every (used, user), users in the order of declaration."""
        return [(below, node) for node, found in self.sources.items() for below in found]

    def add(self, node: Node, sources: Iterable[str] = ()) -> str:
        """Add a node with the ids of what it is made from, which have to be there; its id."""
        known = [below for below in dict.fromkeys(sources) if below in self.nodes]
        pii = dict.fromkeys(
            [*node.pii, *(c for below in known for c in self._made_of(node, below))]
        )
        self.nodes[node.id] = replace(node, pii=tuple(pii))
        self.sources[node.id] = known
        return node.id

    def find(self, name: str) -> Node:
        """The node of a name, with its kind before a colon where kinds share it; raises NotFoundError."""
        if name in self.nodes:
            return self.nodes[name]
        found = [node for node in self.nodes.values() if node.name == name]
        if len(found) == 1:
            return found[0]
        if found:
            which = ", ".join(node.id for node in found)
            raise NotFoundError(f"{name!r} is the name of several: say which, of {which}")
        near = [node.id for node in self.nodes.values() if name.lower() in node.name.lower()]
        hint = f"did you mean {', '.join(near[:5])}?" if near else "`sevenfold search` finds names"
        raise NotFoundError(f"nothing is named {name!r}: {hint}")

    def upstream(self, node: Node) -> list[Node]:
        """All that `node` is made from, directly or not, in the order of kinds."""
        return self._reached(node, self.sources)

    def downstream(self, node: Node) -> list[Node]:
        """All that is made from `node`, directly or not, in the order of kinds."""
        users: dict[str, list[str]] = {}
        for below, above in self.edges:
            users.setdefault(below, []).append(above)
        return self._reached(node, users)

    def around(self, node: Node) -> Lineage:
        """The part with `node`, what it is made from and what is made from it."""
        kept = {n.id for n in (node, *self.upstream(node), *self.downstream(node))}
        return Lineage(
            {name: found for name, found in self.nodes.items() if name in kept},
            {
                name: [below for below in found if below in kept]
                for name, found in self.sources.items()
                if name in kept
            },
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        return {
            "nodes": [
                {
                    "id": node.id,
                    "kind": node.kind,
                    "name": node.name,
                    "description": node.description,
                    "owner": node.owner,
                    "pii": list(node.pii),
                }
                for node in self.nodes.values()
            ],
            "edges": [list(edge) for edge in self.edges],
        }

    def _reached(self, node: Node, steps: dict[str, list[str]]) -> list[Node]:
        seen: dict[str, None] = {}
        ready = list(steps.get(node.id, ()))
        while ready:
            name = ready.pop()
            if name not in seen:
                seen[name] = None
                ready += steps.get(name, ())
        found = [known for name, known in self.nodes.items() if name in seen]
        return sorted(found, key=lambda one: KINDS.index(one.kind))

    def _made_of(self, node: Node, below: str) -> tuple[str, ...]:
        """The classes that `node` takes over from `below`: not those of fields beside the one it reads, nor of its own key."""
        source = self.nodes[below]
        beside = node.kind in ("field", "view") or source.kind in ("stream", "view")
        return () if beside else source.pii


def trace(system: Declaration) -> Lineage:
    """The lineage of a declaration that has been checked."""
    lineage = Lineage()
    _add_entities(lineage, system)
    for stream in system.data:
        pii = dict.fromkeys(
            held.pii for held in (*stream.keys, *stream.fields.values()) if held.pii
        )
        described = Node("stream", stream.name, stream.description, stream.owner, tuple(pii))
        here = lineage.add(described)
        for name, kept in stream.fields.items():
            classes = (kept.pii,) if kept.pii else ()
            told = f"{stream.name}.{name}"
            lineage.add(Node("field", told, kept.description, stream.owner, classes), [here])
    _add_lookups(lineage, system)
    for retriever in system.serving.retrieve:
        lineage.add(Node("generator", retriever.name), [f"stream:{retriever.stream.name}"])
    functions = []
    for feature in system.features:
        if isinstance(feature, OnDemand):
            functions.append(feature)
        else:
            _add_view(lineage, feature)
    _add_functions(lineage, functions)
    _add_stages(lineage, system)
    _add_models(lineage, system)
    return lineage


def _add_entities(lineage: Lineage, system: Declaration) -> None:
    """The entities that streams touch, each once."""
    for entity in (entity for stream in system.data for entity in stream.keys):
        classes = (entity.pii,) if entity.pii else ()
        lineage.add(Node("entity", entity.name, entity.description, entity.owner, classes))


def _add_lookups(lineage: Lineage, system: Declaration) -> None:
    """The fields that events have from tables, of the class of what is looked up."""
    for stream in system.data:
        for name, lookup in stream.enrich.items():
            table = lookup.table
            found = table.fields[lookup.field]
            classes = (found.pii,) if found.pii else ()
            told = f"{table.name}.{lookup.field} as the event came in"
            node = Node("field", f"{stream.name}.{name}", told, stream.owner, classes)
            lineage.add(node, [f"stream:{stream.name}", f"field:{table.name}.{lookup.field}"])


def _add_view(lineage: Lineage, declared: FeatureView | Through) -> None:
    links: list[Through] = []
    below = declared
    while isinstance(below, Through):
        links.append(below)
        below = below.view
    stream = below.stream.name
    streams = [f"stream:{link.table.name}" for link in links] + [f"stream:{stream}"]
    through = [f"field:{link.table.name}.{link.link}" for link in links]
    owner = below.owner or below.stream.owner
    description = declared.description or below.description
    entities = [f"entity:{entity.name}" for entity in below.entities]
    view = lineage.add(Node("view", declared.name, description, owner), [*entities, *streams])
    names = iter(feature_names(declared))
    shared = _ids(below.stream, _read(below.where))
    if isinstance(below.stream, Table):
        shared += _ids(below.stream, _read(below.stream.delete))
    for aggregate in below.aggregates:
        read = _ids(below.stream, _read(aggregate.source))
        for name in _outputs(aggregate, names):
            lineage.add(Node("feature", name, description, owner), [view, *read, *shared, *through])


def _outputs(aggregate: Aggregate, names: Iterator[str]) -> list[str]:
    """The names of the features of an aggregate, taken from those of its view."""
    n = len(aggregate.windows or (None,)) * len(endings(aggregate))
    return [next(names) for _ in range(n)]


def _ids(stream: Stream, names: Iterable[str]) -> list[str]:
    """The ids of the fields of a stream, and of the entities whose keys some of them are."""
    keys = {entity.name for entity in stream.keys} - stream.fields.keys()
    return [f"entity:{name}" if name in keys else f"field:{stream.name}.{name}" for name in names]


def _read(source: Source | None) -> tuple[str, ...]:
    if source is None:
        return ()
    return (source,) if isinstance(source, str) else parameters(source) or ()


def _add_functions(lineage: Lineage, functions: Sequence[OnDemand]) -> None:
    """Request-time functions, each after those that it reads."""
    waiting = {function.name: function for function in functions}
    while waiting:
        ready = [f for f in waiting.values() if not waiting.keys() & set(f.inputs)]
        for function in ready or list(waiting.values()):
            below = [_input(lineage, name) for name in function.inputs]
            lineage.add(Node("feature", function.name, function.description), below)
            del waiting[function.name]


def _input(lineage: Lineage, name: str) -> str:
    """The id of what a request-time function reads under a name: a field of the request if nothing else."""
    for ending in ("", "__state"):
        if name.endswith(ending) and f"feature:{name.removesuffix(ending)}" in lineage.nodes:
            return f"feature:{name.removesuffix(ending)}"
    for ending in ("_score", "_share"):
        if name.endswith(ending) and f"generator:{name.removesuffix(ending)}" in lineage.nodes:
            return f"generator:{name.removesuffix(ending)}"
    return lineage.add(Node("request", name))


def _add_stages(lineage: Lineage, system: Declaration) -> None:
    """The stages that read features by their names: the filter and the rerank, where there is one."""
    serving = system.serving
    filtered = tuple(keep.feature for keep in serving.filter)
    reranked = replace(serving, filter=()).reads
    for name, read in (("filter", filtered), ("rerank", reranked)):
        if read:
            lineage.add(Node("stage", name), [f"feature:{feature}" for feature in read])


def _add_models(lineage: Lineage, system: Declaration) -> None:
    target = system.task.label
    learned_from = lineage.add(Node("label", target.name), [f"stream:{target.outcome.name}"])
    sets: dict[tuple[str, ...], str] = {}
    for model in system.models:
        chosen = model.features
        label = chosen.label if isinstance(chosen, FeatureSet) else ""
        names = tuple(chosen)
        if (label, *names) not in sets:
            told = chosen.description if isinstance(chosen, FeatureSet) else ""
            size = f"{len(names)} in order"
            text = f"{told}; {size}" if told else size
            described = Node("set", label or f"features of {model.name}", text)
            made = lineage.add(described, [f"feature:{feature}" for feature in names])
            sets[label, *names] = made
        taught = [] if isinstance(model, Rule) else [learned_from]
        lineage.add(Node("model", model.name), [sets[label, *names], *taught])
