"""What the log of states runs is compiled by its rehearsal."""

import numpy as np
import pytest

from sevenfold.compiled import COMPILES
from sevenfold.stores import state_records
from sevenfold.stores.state_rehearsal import rehearse_states

KERNELS = [
    "collect",
    "difference",
    "enter",
    "find",
    "lay",
    "move",
    "note",
    "regrow",
    "retreat",
    "weigh",
]


@pytest.mark.skipif(not COMPILES, reason="kernels are not compiled")
def test_every_kernel_is_run() -> None:
    rehearse_states()
    assert {
        name: len(getattr(state_records, name).signatures) for name in KERNELS
    } == dict.fromkeys(KERNELS, 1)
    assert set(KERNELS) < set(state_records.__all__)
    assert np.intp().itemsize == 8
