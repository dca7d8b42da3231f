"""What the log of states runs is compiled by its rehearsal."""

from typing import Any

import pytest

from sevenfold.compiled import COMPILES
from sevenfold.stores import state_records, state_upkeep
from sevenfold.stores.state_rehearsal import rehearse_states

KERNELS: list[Any] = [state_records.find, state_records.note]
KERNELS += [getattr(state_upkeep, name) for name in state_upkeep.__all__]


@pytest.mark.skipif(not COMPILES, reason="kernels are not compiled")
def test_every_kernel_is_run() -> None:
    rehearse_states()
    assert {kernel.__name__: len(kernel.signatures) for kernel in KERNELS} == {
        kernel.__name__: 1 for kernel in KERNELS
    }
