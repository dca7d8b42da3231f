"""What is written into events as they come in is what the tables said before they became known."""

from hypothesis import HealthCheck, given, settings

from tests.laws.enrichment import check_enrichment, histories


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(histories())
def test_events_are_enriched_by_what_was_known_before_them(history) -> None:
    check_enrichment(history)
