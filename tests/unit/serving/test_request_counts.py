"""What is counted by a few additions reads as what Prometheus counts."""

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest

from sevenfold.serving.request_counts import RequestCounts

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def values(registry: CollectorRegistry) -> dict[str, float]:
    """The samples by name and labels, but for when each was made."""
    lines = generate_latest(registry).decode().splitlines()
    pairs = [line.rpartition(" ") for line in lines if not line.startswith("#")]
    return {name: float(value) for name, _, value in pairs if "_created" not in name}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/v1/rank", "other"]),
            st.sampled_from([200, 503]),
            st.one_of(st.sampled_from(BUCKETS), st.floats(0, 5)),
        ),
        max_size=30,
    )
)
def test_it_says_what_the_library_would(noted: list[tuple[str, int, float]]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    counts = RequestCounts()
    ours.register(counts)
    requests = Counter("sevenfold_requests", "n", ["route", "status"], registry=theirs)
    seconds = Histogram(
        "sevenfold_request_seconds", "s", ["route"], buckets=BUCKETS, registry=theirs
    )
    for route, status, taken_s in noted:
        counts.note(route, status, taken_s)
        requests.labels(route, str(status)).inc()
        seconds.labels(route).observe(taken_s)
    assert values(ours) == values(theirs)
