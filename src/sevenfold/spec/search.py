"""Finding what is declared by words of its name, description, owner or class of personal data."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sevenfold.errors import InputError
from sevenfold.spec.lineage import KINDS, Lineage, Node

__all__ = ["search"]

_FILTERS = ("kind", "owner", "pii")


def search(lineage: Lineage, words: Sequence[str]) -> list[Node]:
    """The nodes that fit every word, the best first; ties by kind and name.

    A plain word fits a name or a part of one, then an owner or a class of personal data, then a description;
    at its start is better than inside. `kind:feature`, `owner:shop`, `pii:contact` and `pii:any` only let
    such nodes through. Case does not matter. Raises InputError for another filter or an unknown kind.
    """
    filters = [word.lower().split(":", 1) for word in words if ":" in word]
    plain = [word.lower() for word in words if ":" not in word]
    for name, value in filters:
        if name not in _FILTERS:
            raise InputError(f"{name}:{value} is no filter; there are {', '.join(_FILTERS)}")
        if name == "kind" and value not in KINDS:
            raise InputError(f"no kind {value!r}; there are {', '.join(KINDS)}")
    found = []
    for node in lineage.nodes.values():
        ranks = [_rank(node, word) for word in plain]
        if all(ranks) and all(_passes(node, name, value) for name, value in filters):
            found.append((sum(ranks), node))
    found.sort(key=lambda hit: (-hit[0], KINDS.index(hit[1].kind), hit[1].name))
    return [node for _, node in found]


def _rank(node: Node, word: str) -> int:
    """How well a word fits a node; 0 when it does not."""
    name = node.name.lower()
    parts = re.split(r"[._\W]+", name)
    if word in (name, node.id.lower()):
        return 32
    if word in parts:
        return 16
    if any(part.startswith(word) for part in parts):
        return 8
    if word in name:
        return 4
    if any(word in text.lower() for text in (node.owner, *node.pii)):
        return 2
    return 1 if word in node.description.lower() else 0


def _passes(node: Node, name: str, value: str) -> bool:
    if name == "kind":
        return node.kind == value
    if name == "owner":
        return node.owner.lower() == value
    classes = [one.lower() for one in node.pii]
    return bool(classes) if value == "any" else value in classes
