"""Which features the versions of feature sets stand for: noted once, and never another thing."""

from __future__ import annotations

import msgspec

from sevenfold.errors import Problem, SpecError
from sevenfold.serving.definition import Definition
from sevenfold.stores.kv import Store, Transaction
from sevenfold.stores.tables import META

__all__ = ["keep_sets", "read_sets"]

_KEY = b"sets"


def keep_sets(store: Store, definition: Definition) -> None:
    """Note the sets of `definition`; raise SpecError where a version stood for something else before."""
    with store.read() as txn:
        before = read_sets(txn)
    after = before | definition.set_hashes
    problems = [
        Problem(
            "$.models",
            f"feature set {label} was served with other features or definitions",
            f"give the set the version {int(label.rpartition('@')[2]) + 1}, or what it had before",
            "C-24",
        )
        for label, known in before.items()
        if after[label] != known
    ]
    if problems:
        raise SpecError(problems)
    if after != before:
        with store.write() as txn:
            txn.put(META, _KEY, msgspec.json.encode(after))


def read_sets(txn: Transaction) -> dict[str, str]:
    """The hash of every version of a set that this home has served, by label: `ranking@2`."""
    raw = txn.get(META, _KEY)
    return msgspec.json.decode(raw, type=dict[str, str]) if raw else {}
