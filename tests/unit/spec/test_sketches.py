"""What a sketch may be declared as: an error, sizes and windows that can be kept."""

from typing import Any

import pytest

import sevenfold as sf
from sevenfold.spec.check_features import sketches_have_bounds

user = sf.Entity("user")
stream = sf.Stream("s", time="at", keys=[user], fields={"x": sf.Number()})


def problems(one: Any) -> list[str]:
    class Declared:
        features = (sf.aggregate(user, stream, one),)

    return [f"{p.path}: {p.message}" for p in sketches_have_bounds(Declared())]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "said"),
    [
        (sf.distinct("x", cap=0), "cap: the cap of a distinct is 1 to 65536, 0 was given"),
        (sf.distinct("x", error=0.5), "error: the error of a distinct is 0.005 to 0.26"),
        (sf.quantile("x", 0.5, error=0), "error: the error of a quantile is 0.001 to 0.25"),
        (sf.quantile("x", 0.5, smallest=2, largest=2), "smallest: no magnitude is from 2 to 2"),
        (sf.quantile("x", 0.5, windows=["30 d"], hop="1 min"), "windows[0]: 43,200 tiles of 3,4"),
        (sf.top_k("x", 65, tracked=99), "k: the k of a top_k is 1 to 64, 65 was given"),
        (sf.top_k("x", 5, tracked=4), "tracked: the 5 most frequent of 4 values are asked for"),
        (
            sf.top_k("x", 5, tracked=1000, windows=["7 d"], hop="1 min"),
            "windows[0]: 10,080 tiles of 1,000",
        ),
    ],
)
def test_what_cannot_be_kept_is_a_problem(one: Any, said: str) -> None:
    (found,) = problems(one)
    assert found.startswith("$.features[0].aggregates[0]." + said)


def test_the_defaults_can_be_kept() -> None:
    windows = ["1 h", "24 h", "30 d"]
    for one in (
        sf.distinct("x", windows=windows),
        sf.quantile("x", 0.5, windows=windows),
        sf.top_k("x", 3, windows=windows),
    ):
        assert problems(one) == []
