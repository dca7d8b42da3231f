"""Features of a thing that is reached through a row of a table: an ad's campaign, a campaign's advertiser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sevenfold.spec.aggregate import FeatureView
from sevenfold.spec.entity import Entity
from sevenfold.spec.quantity import Duration, Name
from sevenfold.spec.stream import Stream

__all__ = ["Through", "through"]


@dataclass(frozen=True, slots=True, eq=False)
class Through:
    """The features of `view`, under the key that the row of `table` names in its field `link`.

    The link and the values are read at one instant. A row that is not there, is deleted, is older than `ttl`
    or has no key in `link` gives the values of an unknown key. `entity` is the one of the view's whose key is
    reached; it may be left out where the view has only one, or one of the link's name.
    """

    table: Stream
    link: str
    view: FeatureView | Through
    name: Name
    entity: Entity | None = None
    ttl: Duration | None = None
    description: str = ""

    @property
    def reached(self) -> str | None:
        """The entity whose key the link holds; None when that cannot be told."""
        wanted = self.view.needs if isinstance(self.view, Through) else _names(self.view)
        if self.entity is not None:
            return self.entity.name if self.entity.name in wanted else None
        if self.link in wanted:
            return self.link
        return wanted[0] if len(wanted) == 1 else None

    @property
    def needs(self) -> tuple[str, ...]:
        """The entities whose keys have to be given: those of the table, and those of the view not reached."""
        wanted = self.view.needs if isinstance(self.view, Through) else _names(self.view)
        own = [entity.name for entity in self.table.keys]
        return tuple(dict.fromkeys([*own, *(name for name in wanted if name != self.reached)]))


def through(
    table: Stream,
    link: str,
    view: FeatureView | Through,
    *,
    entity: Entity | None = None,
    ttl: str | None = None,
    name: str | None = None,
    description: str = "",
) -> Through:
    """The features of `view` for the key in field `link` of a table's row; `view` may be reached so itself.

    `sf.through(ads, "campaign", clicks_of_campaign)` is asked for an ad and answers for its campaign. The
    features are named `{name}__{aggregate}`; the name is, when not given, that of the table's entities and
    of the view: `ad_campaign__count_1d`.
    """
    if name is None:
        name = "_".join(_named(table, view))
    return Through(table, link, view, name, entity, ttl, description)


def _names(view: FeatureView) -> tuple[str, ...]:
    return tuple(entity.name for entity in view.entities)


def _named(table: Any, view: Any) -> list[str]:
    """The names that make up a default one; what is none, the checks refuse."""
    keys = table.keys if isinstance(table, Stream) else None
    entities = keys if isinstance(keys, list | tuple) else ()
    parts = (*entities, view)
    return [str(p.name) for p in parts if isinstance(p, Entity | FeatureView | Through)]
