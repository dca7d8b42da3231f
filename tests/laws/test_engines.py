"""Both engines mean what the definition says, on logs that look for trouble."""

import pytest
from hypothesis import HealthCheck, given, settings

from sevenfold.testing.engine_suite import LAWS
from sevenfold.testing.strategies import logs
from tests.laws.views import FEATURES


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law) -> None:
    @settings(
        max_examples=settings.default.max_examples, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(logs())
    def holds(log) -> None:
        law(FEATURES, log)

    holds()
