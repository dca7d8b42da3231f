"""Two definitions of a system compared: features, streams, models, and what a change between them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from sevenfold.features.description import Difference, compare_features
from sevenfold.serving.record import DefinitionRecord
from sevenfold.serving.schema import clash

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the second definition changes of the first.

    `filled` are the views whose states the first does not keep, `freed` those that the second does not name.
    `models` maps a declared model to the altered or dropped features that it reads. `refused` says which
    fields would change the meaning of logged events, `restart` which steps cannot change while serving.
    """

    features: Difference
    filled: tuple[str, ...]
    freed: tuple[str, ...]
    models: Mapping[str, tuple[str, ...]]
    new_fields: tuple[str, ...]
    refused: tuple[str, ...]
    restart: tuple[str, ...]
    other: bool

    @property
    def is_empty(self) -> bool:
        """Whether both are the same, as far as a record knows."""
        return self.features.is_empty and not (
            self.other
            or self.new_fields
            or self.refused
            or self.restart
            or self.filled
            or self.freed
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON has it."""
        features = self.features
        return {
            "same": self.is_empty,
            "added": list(features.added),
            "altered": {
                name: [
                    {"part": part, "before": before, "after": after}
                    for part, before, after in parts
                ]
                for name, parts in features.altered.items()
            },
            "dropped": list(features.dropped),
            "renamed": [list(pair) for pair in features.renamed],
            "unchanged": len(features.unchanged),
            "filled": list(self.filled),
            "freed": list(self.freed),
            "models": msgspec.to_builtins(dict(self.models)),
            "new_fields": list(self.new_fields),
            "refused": list(self.refused),
            "restart": list(self.restart),
        }


def compare(before: DefinitionRecord, after: DefinitionRecord) -> Comparison:
    """What `after` changes of `before`."""
    features = compare_features(before.features, after.features)
    old, new = before.views, after.views
    touched = {*features.altered, *features.dropped, *(name for name, _ in features.renamed)}
    readers = {**before.models, **after.models}
    return Comparison(
        features,
        tuple(name for key, name in new.items() if key not in old),
        tuple(name for key, name in old.items() if key not in new),
        {
            model: tuple(name for name in names if name in touched)
            for model, names in readers.items()
            if not touched.isdisjoint(names)
        },
        tuple(
            f"{stream}.{name}"
            for stream, fields in after.streams.items()
            for name in fields
            if stream in before.streams and name not in before.streams[stream]
        ),
        tuple(_refused(before, after)),
        tuple(f"$.{step}" for step, now in after.fixed.items() if before.fixed.get(step) != now),
        before.models != after.models or before.streams != after.streams,
    )


def _refused(before: DefinitionRecord, after: DefinitionRecord) -> list[str]:
    found: list[str] = []
    for stream, fields in after.streams.items():
        known = before.streams.get(stream, {})
        reasons = {name: clash(known[name], fields[name]) for name in known if name in fields}
        found.extend(f"{stream}.{name}: {reason}" for name, reason in reasons.items() if reason)
    return found
