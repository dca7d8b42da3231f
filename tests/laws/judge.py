"""Runs the laws once, on the same logs every time: exit 0 when they hold, 3 with the first that is broken."""

import sys
import warnings

from hypothesis import HealthCheck, Phase, given, settings

from sevenfold.testing.engine_suite import LAWS
from sevenfold.testing.strategies import logs
from tests.laws.views import FEATURES


def main(examples: int) -> int:
    """Every law on `examples` logs."""
    # Without compilation, integers wrap by way of a warning.
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    for law in LAWS:
        try:
            _held(law, examples)
        except AssertionError as error:
            sys.stdout.write(f"BROKEN {law.__name__}: {error}\n")
            return 3
    sys.stdout.write("HELD\n")
    return 0


def _held(law, examples: int) -> None:
    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(logs())
    def holds(log) -> None:
        law(FEATURES, log)

    holds()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
