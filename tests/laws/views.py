"""Features that use every aggregate, with windows that share hops and windows that do not."""

import numpy as np

import sevenfold as sf

user, item = sf.Entity("user"), sf.Entity("item")
stream = sf.Stream("s", time="at", keys=[user, item], fields={"x": sf.Number(), "tag": sf.Id()})


def positive(x):
    """A filter; null is not positive."""
    return np.nan_to_num(x) > 0


def gone(x):
    """Which rows are deletes; a null row is none."""
    return (x == 1) | (x == 0.1)


vector = sf.Vector(width=3)
rows = sf.Table("s", user, {"x": sf.Number(), "tag": sf.Id(), "v": vector}, time="at", delete=gone)
pair_rows = sf.Table("s", [user, item], {"x": sf.Number()}, time="at", delete=gone)


with_vector = sf.Stream("s", time="at", keys=[user, item], fields={"v": vector})


def doubled(x):
    """A row-level function; what it takes beyond float64 is null."""
    with np.errstate(over="ignore"):
        return x * 2


AGGREGATES = (
    sf.count(),
    sf.count(windows=["1 h", "24 h", "7 d"]),
    sf.count("x", windows=["24 h"]),
    sf.sum("x", windows=["1 h", "30 d"]),
    sf.sum("x"),
    sf.sum(doubled, windows=["24 h"], hop="12 h"),
    sf.mean("x", windows=["24 h"]),
    sf.min("x", windows=["1 h", "7 d"]),
    sf.max("x", windows=["24 h"]),
    sf.last("x"),
    sf.last("x", windows=["1 h"]),
    sf.last("x", nulls=True, windows=["24 h"], hop="24 h"),
    sf.var("x"),
    sf.var("x", windows=["24 h", "7 d"]),
    sf.std(doubled, windows=["24 h"], hop="12 h"),
    sf.first("x"),
    sf.first("x", windows=["1 h", "7 d"]),
    sf.quantile("x", 0.5),
    sf.quantile("x", 0.9, windows=["24 h", "7 d"], error=0.1, smallest=0.2, largest=1e15),
    sf.quantile("x", 0.0, windows=["24 h"], error=0.1, smallest=0.2, largest=1e15),
    sf.top_k("x", 2, tracked=3),
    sf.top_k("x", 2, windows=["1 h", "7 d"], tracked=2),
    sf.last_k("x", 3),
    sf.last_k("x", 2, windows=["24 h"]),
    sf.since_last(),
    sf.distinct("tag", windows=["24 h"], cap=2),
    sf.distinct("item", cap=8),
    sf.distinct("x", windows=["1 h", "7 d"], cap=3, error=0.2),
    sf.distinct("x", cap=1, error=0.26),
    sf.count("tag", windows=["7 d"]),
    sf.decayed(half_life="1 d"),
    sf.decayed("x", half_life="10 d"),
)
VIEWS = [
    sf.aggregate(user, stream, *[a for a in AGGREGATES if not (a.nulls)]),
    sf.aggregate(user, stream, *[a for a in AGGREGATES if a.nulls], name="user_nulls"),
    sf.aggregate([user, item], stream, sf.count(windows=["1 h"]), sf.last("x"), name="pair"),
    sf.aggregate(item, stream, sf.sum("x", windows=["24 h"]), where=positive, name="item_positive"),
    sf.attribute(user, stream, "x", ttl="24 h", name="row"),
    sf.attribute(user, rows, "x", ttl="24 h", age=True, name="kept"),
    sf.attribute([user, item], pair_rows, "x", name="kept_pair"),
    sf.attribute(user, rows, "v", "x", ttl="24 h", name="kept_vector"),
    sf.attribute(item, with_vector, "v", name="vector"),
    sf.aggregate(item, with_vector, sf.count("v", windows=["24 h"]), name="vectors"),
    # Answered by a search, not by a state; the same aggregates beside a sum are answered by a state.
    sf.aggregate(
        [item, user],
        stream,
        sf.last("x"),
        sf.last("x", windows=["1 h"]),
        sf.last(doubled, nulls=True),
        sf.since_last(),
        name="newest",
    ),
    sf.aggregate(
        user, stream, sf.last("x", windows=["24 h"]), where=positive, name="newest_positive"
    ),
]
pair_view, kept = (next(v for v in VIEWS if v.name == name) for name in ("pair", "kept"))
of_item = sf.aggregate(item, stream, sf.count(), sf.last("x"), name="of_item")
item_rows = sf.Table("s", item, {"x": sf.Number(), "tag": sf.Id()}, time="at", delete="x")
to_user = sf.through(item_rows, "tag", kept, name="to_user")
LINKS = [
    sf.through(rows, "tag", of_item),
    sf.through(rows, "tag", of_item, ttl="24 h", name="fresh_item"),
    sf.through(rows, "tag", pair_view, entity=item, name="pair_of"),
    to_user,
    sf.through(rows, "tag", to_user, name="there_and_back"),
    sf.through(rows, "tag", sf.through(rows, "tag", kept, name="below"), name="user_of_user"),
]


@sf.on_demand
def trust(kept__x, kept__x__state, kept__age, to_user__x__state):
    """A function of states and of an age."""
    return np.where(kept__x__state == 0, kept__x, -kept__x__state) + to_user__x__state + kept__age


@sf.on_demand
def hours_quiet(user__since_last, request_time, price):
    """A function of a feature, the instant and the request; null without an event."""
    return user__since_last / 3600 * price + request_time % 7


REQUEST_TIME = [
    sf.rate("per_day", "pair__count_1h", "user__count_1d", prior=0.25, weight=4),
    hours_quiet,
    trust,
]
FEATURES = [*REQUEST_TIME, *VIEWS, *LINKS]
