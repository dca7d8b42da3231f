"""The sample of candidates whose vectors are logged: the same for a request each time, each candidate as likely as the others."""

import numpy as np

from sevenfold.serving.candidates import _numbers, sampled


def test_the_numbers_are_those_of_splitmix64() -> None:
    """Known answers for the seed 1234567, as the generator's page at Rosetta Code gives them."""
    known = [
        *(6457827717110365317, 3203168211198807973, 9817491932198370423),
        *(4593380528125082431, 16408922859458223821),
    ]
    assert _numbers(1234567, 5).tolist() == known


def test_a_sample_is_of_others_sorted_and_the_same_each_time() -> None:
    shown = np.array([7, 3], dtype=np.int64)
    rows, weight = sampled(shown, 12, 4, "r1")
    assert rows[:2].tolist() == [7, 3]
    assert len(set(rows.tolist())) == 6
    assert (np.diff(rows[2:]) > 0).all()
    assert weight == 10 / 4
    assert sampled(shown, 12, 4, "r1")[0].tolist() == rows.tolist()


def test_without_others_or_room_there_is_no_sample() -> None:
    shown = np.arange(3, dtype=np.int64)
    assert sampled(shown, 3, 4, "r")[1] == 0.0
    assert sampled(shown, 9, 0, "r")[0].tolist() == [0, 1, 2]
    assert sampled(shown, 0, 4, "r")[0].tolist() == []
    assert len(sampled(shown, 5, 9, "r")[0]) == 5


def test_each_is_as_likely_as_the_others() -> None:
    """Ten thousand draws of 3 of 20: Pearson's chi-square with 19 degrees of freedom stays below its 99.9 % point, 43.8."""
    none = np.empty(0, dtype=np.int64)
    counts = np.zeros(20)
    for n in range(10_000):
        counts[sampled(none, 20, 3, f"request-{n}")[0]] += 1
    expected = 10_000 * 3 / 20
    # Drawn without replacement the counts vary less: by the share of those not drawn.
    assert ((counts - expected) ** 2 / (expected * (1 - 3 / 20))).sum() < 43.8
