"""What stands between the generators and the model, between the model and the slate, and what is kept of both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sevenfold.spec.entity import Entity
from sevenfold.spec.quantity import Count, Duration, Positive, Share

__all__ = ["Cap", "Fresh", "Hot", "Keep", "Pin", "Rerank", "Slate", "Spread"]


@dataclass(frozen=True, slots=True)
class Keep:
    """Candidates of which `feature` is from `low` to `high`, among `one_of` and not among `none_of` stay.

    What is not given is not asked. A candidate without a value stays only with `nulls`. With `must` it holds on
    every rung and however late it is; where it cannot be told, no candidate stays. Without `must` it is left
    out when time is short. Bought of late: `Keep("customer_x_item__count_7d", high=0)`; in stock:
    `Keep("item__pieces", low=1)`; not blocked: `Keep("item__blocked", high=0, nulls=True)`.
    """

    feature: str
    low: float | None = None
    high: float | None = None
    one_of: Sequence[float] = ()
    none_of: Sequence[float] = ()
    nulls: bool = False
    must: bool = True


@dataclass(frozen=True, slots=True)
class Fresh:
    """Candidates gain `weight` times a part that halves with every `half_life` of `age`, seconds; null gains nothing.

    Beside it stands the score, as a share of the way from the lowest of the candidates to the highest.
    """

    age: str
    half_life: Duration
    weight: Positive = 0.1


@dataclass(frozen=True, slots=True)
class Cap:
    """At most `most` items with one value of `by` among the first `within` places, the slate when not given.

    An item over the cap comes after those places; it comes within them only where nothing else is left. Items
    without a value are not capped.
    """

    by: str
    most: Count
    within: Count | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """The slate by maximal marginal relevance (Carbonell and Goldstein, 1998).

    The next item is the one with the largest `relevance * score - (1 - relevance) * likeness`: the score as a share of
    the way from the lowest to the highest, the likeness its largest cosine with an item above, over the features `by`
    with nulls as 0.
    """

    by: Sequence[str]
    relevance: Share = 0.7


@dataclass(frozen=True, slots=True)
class Pin:
    """The place `position`, from 1, is for the best item that `keep` allows and that is not above already.

    Where there is none, the place is like any other.
    """

    position: Count
    keep: Keep


@dataclass(frozen=True, slots=True, eq=False)
class Hot:
    """States of these entities' views are kept in memory, as many as `megabytes` hold, the latest read.

    They are copies of what the store holds and leave with the next event of their key, so no value is ever older than
    one from the store, and there is no time after which they are.
    """

    entities: Sequence[Entity]
    megabytes: Count = 64


@dataclass(frozen=True, slots=True, eq=False)
class Slate:
    """Slates are kept for `ttl` by all keys of a request and `k`, at most `most` of them: the rung `cached`.

    Only whole ones are: by the champion, with nothing left out. A slate is not given any more after `ttl`, when another
    version or definition serves, or once an event of an entity of `of` has come, all of the request's when not given.
    Filters that must hold are asked again. With `always` a kept slate is the answer even where there is time for a new one.
    """

    ttl: Duration
    of: Sequence[Entity] = ()
    most: Count = 10_000
    always: bool = False


@dataclass(frozen=True, slots=True)
class Jobs:
    """What `POST /v1/jobs` begins: at most `waiting` jobs at a time, and `kept` with those that have ended.

    A job that has ended, and its slates, are kept for `ttl`; past `kept` the oldest of them makes way.
    """

    ttl: Duration = "1 h"
    waiting: Count = 8
    kept: Count = 100


Rerank: TypeAlias = Fresh | Cap | Spread | Pin
