"""Several generators' candidates become one list."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.retrieval.fusion import candidate_fields, fuse
from sevenfold.retrieval.protocol import Candidates, best

proposals = st.lists(st.lists(st.integers(0, 12), unique=True, max_size=10), max_size=4)


def candidates(codes: list[int], base: float = 1.0) -> Candidates:
    scores = base + np.arange(len(codes), 0, -1, dtype=np.float32)
    return Candidates(np.array(codes, dtype=np.int64), scores)


@given(proposals, st.integers(0, 40))
def test_each_item_comes_once_in_the_order_of_its_best_rank(
    proposed: list[list[int]], limit: int
) -> None:
    given_ = [candidates(codes, 10.0 * g) for g, codes in enumerate(proposed)]
    fused = fuse(given_, limit)
    by_rank = [codes[r] for r in range(10) for codes in proposed if r < len(codes)]
    assert fused.codes.tolist() == list(dict.fromkeys(by_rank))[:limit]
    assert len(fused) == len(fused.codes) == len(fused.sources) == len(fused.scores)
    assert fused.scores.shape == (len(fused), len(proposed))
    for i, code in enumerate(fused.codes.tolist()):
        for g, codes in enumerate(proposed):
            assert bool(fused.sources[i] >> g & 1) == (code in codes)
            wanted = given_[g].scores[codes.index(code)] if code in codes else np.nan
            np.testing.assert_array_equal(fused.scores[i, g], wanted)


@given(proposals, st.integers(1, 40))
def test_a_limit_of_as_many_as_there_are_generators_keeps_the_best_of_all(
    proposed: list[list[int]], more: int
) -> None:
    kept = set(fuse([candidates(codes) for codes in proposed], len(proposed) + more).codes.tolist())
    assert {codes[0] for codes in proposed if codes} <= kept


def test_the_types_hold_when_nothing_is_proposed() -> None:
    for given_ in ([], [candidates([]), candidates([])]):
        fused = fuse(given_, 10)
        assert (fused.codes.dtype, fused.sources.dtype, fused.scores.dtype) == (
            np.int64,
            np.uint32,
            np.float32,
        )
        assert fused.scores.shape == (0, len(given_))


def test_functions_see_each_score_and_its_share_of_the_best() -> None:
    nan = np.nan
    scores = np.array([[4, nan, 0], [nan, nan, 0], [1, nan, 0]], dtype=np.float32)
    fields = candidate_fields(scores, ["a", "b", "c"])
    assert list(fields) == ["a_score", "a_share", "b_score", "b_share", "c_score", "c_share"]
    np.testing.assert_array_equal(fields["a_score"], [4, nan, 1])
    np.testing.assert_array_equal(fields["a_share"], [1, nan, 0.25])
    for name in ("b_score", "b_share", "c_share"):
        assert np.isnan(fields[name]).all()
    empty = candidate_fields(np.empty((0, 1), np.float32), ["a"])
    assert [len(column) for column in empty.values()] == [0, 0]


@given(
    st.lists(st.sampled_from([0.0, -1.0, 0.5, 1.0, 1.0000001, 7.0]), max_size=30),
    st.integers(1, 40),
)
def test_the_best_are_the_highest_and_of_equals_the_lower_codes(
    scores: list[float], limit: int
) -> None:
    codes = np.random.default_rng(len(scores)).permutation(len(scores))
    found = best(codes, np.array(scores), limit)
    pairs = [
        (-score, code) for score, code in zip(scores, codes.tolist(), strict=True) if score > 0
    ]
    assert found.codes.tolist() == [code for _, code in sorted(pairs)[:limit]]
    assert found.scores.dtype == np.float32
