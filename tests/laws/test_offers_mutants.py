"""A planted mistake in how processes write for one another is caught by its own tests."""

from pathlib import Path

import pytest

from tests.laws.planted import require_caught

OFFERS = ["tests/unit/serving/test_offers.py", "-k"]
MUTANTS = {
    "what another shows is written though events have come in since": (
        [*OFFERS, "left_to_its_process"],
        "serving/offers.py",
        "            and seen(txn, offer.end, offer.t_us)\n",
        "",
    ),
    "an answer is given because another has the same request on disk": (
        [*OFFERS, "two_answers"],
        "serving/prediction_log.py",
        "prediction.request_id)) == raw",
        "prediction.request_id)) == raw or is_answered(txn, prediction.request_id)",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_a_planted_mistake_is_caught(library: Path, name: str) -> None:
    tests, place, right, wrong = MUTANTS[name]
    require_caught(library, tests, place, right, wrong)
