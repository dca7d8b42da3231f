"""What the log of states runs is compiled by its rehearsal."""

from pathlib import Path
from typing import Any

import pytest

from sevenfold.compiled import COMPILES
from sevenfold.stores import state_records, state_rehearsal, state_upkeep
from sevenfold.stores.state_rehearsal import rehearse_states

KERNELS: list[Any] = [state_records.find, state_records.note]
KERNELS += [getattr(state_upkeep, name) for name in state_upkeep.__all__]


@pytest.mark.skipif(not COMPILES, reason="kernels are not compiled")
def test_every_kernel_is_run() -> None:
    rehearse_states()
    assert {kernel.__name__: len(kernel.signatures) for kernel in KERNELS} == {
        kernel.__name__: 1 for kernel in KERNELS
    }


@pytest.mark.parametrize("place", ["no such place", "/proc", "{here}"])
def test_without_memory_for_files_it_is_done_on_disk(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_rehearsal, "_MEMORY", place.format(here=tmp_path))
    if "{" in place:
        monkeypatch.setattr(state_rehearsal, "_ROOM", 1 << 62)
    assert state_rehearsal._in_memory() is None
    rehearse_states()


def test_what_waits_for_no_disk_is_left_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(state_rehearsal, "_MEMORY", str(tmp_path))
    monkeypatch.setattr(state_rehearsal, "_ROOM", 0)
    assert state_rehearsal._in_memory() == str(tmp_path)
    rehearse_states()
    assert not list(tmp_path.iterdir())
