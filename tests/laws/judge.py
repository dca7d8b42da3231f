"""Runs the laws once, on the same logs every time: exit 0 when they hold, 3 with the first that is broken."""

import sys
import warnings

from hypothesis import HealthCheck, Phase, given, settings

from sevenfold import hashing
from sevenfold.errors import StoreError
from sevenfold.testing.engine_suite import LAWS
from sevenfold.testing.strategies import logs
from tests.laws.enrichment import check_enrichment, histories
from tests.laws.views import FEATURES


def main(examples: int, what: str = "engines") -> int:
    """All laws of the engines, or that of enrichment, on each of `examples` logs."""
    # Without compilation, integers wrap by way of a warning.
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    remember_hashes()
    try:
        (_hold if what == "engines" else _hold_enrichment)(examples)
    # IndexError: a write beyond the room of a state; StoreError: a state that is not one of its view.
    except (AssertionError, IndexError, StoreError) as error:
        sys.stdout.write(f"BROKEN {error}\n")
        return 3
    sys.stdout.write("HELD\n")
    return 0


def remember_hashes() -> None:
    """Hash each text once: not compiled, that is more than half of the time, and no mistake is planted there."""
    plain, known = hashing._siphash, {}

    def remembered(data, start, end, k0, k1):
        text = data[start:end].tobytes()
        if text not in known:
            known[text] = plain(data, start, end, k0, k1)
        return known[text]

    hashing._siphash = remembered


def _hold(examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(logs(largest=12))
    def holds(log) -> None:
        for law in LAWS:
            law(FEATURES, log)

    holds()


def _hold_enrichment(examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(histories(largest=16))
    def holds(history) -> None:
        check_enrichment(history)

    holds()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
