"""The declared generators, made ready: those of one customer and item share one history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.fusion import Fused, fuse
from sevenfold.retrieval.history import BoughtBefore, History
from sevenfold.retrieval.popular import Popular
from sevenfold.retrieval.protocol import Generator, Query
from sevenfold.retrieval.together import BoughtTogether, TogetherSettings
from sevenfold.spec import retrieve as spec
from sevenfold.spec.units import parse_duration
from sevenfold.types import EventBatch

__all__ = ["Retrieval", "build_retrieval"]


@dataclass(frozen=True, eq=False)
class Retrieval:
    """All generators of a system over one catalogue; learns from the log and answers queries."""

    catalogue: Catalogue
    histories: tuple[History, ...]
    generators: tuple[Generator, ...]
    limit: int

    @property
    def names(self) -> list[str]:
        """The generators' names, in the order of the bits of `Fused.sources`."""
        return [generator.name for generator in self.generators]

    def observe(self, batch: EventBatch) -> None:
        """Learn from events of the log, in its order."""
        for history in self.histories:
            history.observe(batch)
        for generator in self.generators:
            generator.observe(batch)

    def forget(self, entity: str, key: str) -> None:
        """Let go of what is known of one customer."""
        for history in self.histories:
            if history.customer == entity:
                history.forget(key)

    def settle(self) -> None:
        """Have every generator do what is due."""
        for generator in self.generators:
            generator.settle()

    def candidates(self, query: Query) -> Fused:
        """The candidates of all generators, merged."""
        return fuse([generator.propose(query) for generator in self.generators], self.limit)


def build_retrieval(retrievers: Sequence[spec.Retriever], limit: int) -> Retrieval:
    """The generators that a pipeline declares, having seen nothing yet."""
    catalogue = Catalogue()
    histories: dict[tuple[str, str, str, int], History] = {}
    generators = tuple(_build(declared, catalogue, histories) for declared in retrievers)
    return Retrieval(catalogue, tuple(histories.values()), generators, limit)


def _build(
    declared: spec.Retriever,
    catalogue: Catalogue,
    histories: dict[tuple[str, str, str, int], History],
) -> Generator:
    half_life_us = parse_duration(declared.half_life)
    stream, item = declared.stream.name, declared.item.name
    if isinstance(declared, spec.Popular):
        by = declared.by.name if declared.by else None
        return Popular(declared.name, stream, item, half_life_us, declared.n, catalogue, by)
    # Only the instants of a history matter to the matrix, so it takes any history of its customer.
    same = [h for key, h in histories.items() if key[:3] == (stream, declared.customer.name, item)]
    if isinstance(declared, spec.BoughtTogether) and same:
        history = same[0]
    else:
        key = (stream, declared.customer.name, item, half_life_us)
        if key not in histories:
            histories[key] = History(stream, key[1], item, half_life_us, catalogue)
        history = histories[key]
    if isinstance(declared, spec.BoughtBefore):
        return BoughtBefore(declared.name, history, declared.n)
    settings = TogetherSettings(
        parse_duration(declared.refresh),
        half_life_us,
        parse_duration(declared.recent_half_life),
        declared.recent,
        declared.alpha,
        declared.shrink,
        declared.neighbours,
    )
    return BoughtTogether(
        declared.name, declared.basket, item, declared.n, history, catalogue, settings
    )
