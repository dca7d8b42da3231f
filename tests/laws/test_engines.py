"""Both engines mean what the definition says, on logs that look for trouble."""

import pytest
from hypothesis import HealthCheck, given, settings

from sevenfold.testing.engine_suite import check_cuts, check_offline, check_online, check_spine
from sevenfold.testing.strategies import logs
from tests.laws.views import VIEWS

LAWS = [check_offline, check_online, check_cuts, check_spine]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: law.__name__)
def test_law(law) -> None:
    @settings(
        max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None
    )
    @given(logs())
    def holds(log) -> None:
        law(VIEWS, log)

    holds()
