"""The declared generators, made ready: those of one customer and item share one history."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from sevenfold.clock import elapsed_s
from sevenfold.errors import SevenfoldError
from sevenfold.retrieval.beside import Beside, Place
from sevenfold.retrieval.catalogue import Catalogue
from sevenfold.retrieval.fusion import Fused, fuse
from sevenfold.retrieval.history import BoughtBefore, History
from sevenfold.retrieval.popular import Popular
from sevenfold.retrieval.protocol import Candidates, Generator, Query
from sevenfold.retrieval.together import BoughtTogether, TogetherSettings
from sevenfold.spec import retrieve as spec
from sevenfold.spec.units import parse_duration
from sevenfold.types import EventBatch

__all__ = ["Retrieval", "build_retrieval"]

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Retrieval:
    """All generators of a system over one catalogue; learns from the log and answers queries."""

    catalogue: Catalogue
    histories: tuple[History, ...]
    generators: tuple[Generator, ...]
    limit: int

    @cached_property
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

    def close(self) -> None:
        """Have the threads of generators end."""
        for generator in self.generators:
            if isinstance(generator, Beside):
                generator.close()

    def candidates(self, query: Query) -> Fused:
        """The candidates of all generators, merged, however long they take."""
        return fuse([generator.propose(query) for generator in self.generators], self.limit)

    def candidates_in_time(
        self, query: Query, until_s: float, only: bool = False
    ) -> tuple[Fused, list[str]]:
        """The candidates that are there at `until_s`, an instant of `clock.elapsed_s`, and who is left out.

        Generators in threads are asked first, the others meanwhile; then those in threads are waited for, each as
        long as it may take. A generator that would begin after the end is left out, but for the last resort: the first
        one that is quick and knows all items, or else the first without a thread. With `only` no other is asked.
        Without an end all are asked one after another, so the candidates do not depend on the machine.
        """
        if math.isinf(until_s) and not only:
            return self.candidates(query), []
        begun_s = elapsed_s()
        is_late = only or begun_s >= until_s
        asked = [None if is_late else _started(one, query) for one in self.generators]
        found: list[Candidates | None] = []
        for place, one in enumerate(self.generators):
            is_due = place == self.last_resort or not (only or elapsed_s() >= until_s)
            is_here = is_due and not isinstance(one, Beside)
            found.append(one.propose(query) if is_here else None)
        for place, (one, outcome) in enumerate(zip(self.generators, asked, strict=True)):
            if isinstance(one, Beside) and outcome is not None:
                found[place] = _waited(one, outcome, min(until_s, begun_s + one.timeout_s))
        out = [one.name for one, made in zip(self.generators, found, strict=True) if made is None]
        nothing = Candidates(np.empty(0, np.int64), np.empty(0, np.float32))
        return fuse([nothing if made is None else made for made in found], self.limit), out

    @cached_property
    def last_resort(self) -> int:
        """The place of the generator that is asked however late it is; -1 when all are in threads."""
        here = [i for i, one in enumerate(self.generators) if not isinstance(one, Beside)]
        quick = [
            i for i, one in enumerate(self.generators) if isinstance(one, Popular) and not one.by
        ]
        return next(iter([*quick, *here]), -1)


def _started(generator: Generator, query: Query) -> Future[Candidates] | None:
    return generator.start(query) if isinstance(generator, Beside) else None


def _waited(generator: Beside, outcome: Future[Candidates], until_s: float) -> Candidates | None:
    """What a thread has found by then; None when it has found nothing yet, or failed."""
    try:
        return outcome.result(max(0.0, until_s - elapsed_s()))
    except TimeoutError:
        _LOG.warning("generator left behind name=%s", generator.name)
    except SevenfoldError as error:
        _LOG.error("generator failed name=%s error=%s", generator.name, error)
    return None


def build_retrieval(retrievers: Sequence[spec.Retriever], limit: int) -> Retrieval:
    """The generators that a pipeline declares, having seen nothing yet."""
    catalogue = Catalogue()
    histories: dict[tuple[str, str, str, int], History] = {}
    generators = tuple(
        _placed(_build(declared, catalogue, histories), declared, catalogue)
        for declared in retrievers
    )
    return Retrieval(catalogue, tuple(histories.values()), generators, limit)


def _placed(generator: Generator, declared: spec.Retriever, catalogue: Catalogue) -> Generator:
    """In a thread of its own, if it is declared with a timeout."""
    if declared.timeout is None:
        return generator
    place = Place(declared.stream.name, declared.item.name, catalogue)
    return Beside(generator, parse_duration(declared.timeout) / 1e6, place)


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
