"""What the benchmarks say of a peer stands on this: it is found, asked, and its answers are compared."""

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.peers.beside import VARIABLE, PeerError, compare, feast_beside, find_feast

NAN = float("nan")


def test_the_interpreter_given_comes_before_that_of_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, named = tmp_path / "given", tmp_path / "named"
    given.touch()
    named.touch()
    monkeypatch.setenv(VARIABLE, str(named))
    assert find_feast(given) == given
    assert find_feast(None) == named


def test_an_interpreter_that_is_named_has_to_be_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(PeerError, match=rf"no interpreter at .*gone: give --feast or {VARIABLE}"):
        find_feast(None)


def test_an_interpreter_without_feast_says_so(tmp_path: Path) -> None:
    # Isolated, so that a Feast that this project's environment may have is not seen either.
    empty = tmp_path / "python"
    empty.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', "utf-8")
    empty.chmod(0o755)
    with (
        pytest.raises(PeerError, match=r"(?s)hello: the peer has ended.*No module named 'feast'"),
        feast_beside(empty, tmp_path),
    ):
        pass


def test_a_peer_that_does_not_answer_is_ended(tmp_path: Path) -> None:
    deaf = tmp_path / "python"
    deaf.write_text("#!/bin/sh\necho '{}'\ncat > /dev/null\n", "utf-8")
    deaf.chmod(0o755)
    with (
        feast_beside(deaf, tmp_path) as (peer, _),
        pytest.raises(PeerError, match=r"join: no answer within 0\.05 s"),
    ):
        peer.ask("join", within_s=0.05)
    assert peer.ended


@pytest.mark.parametrize(
    ("rows", "got", "missing", "differ"),
    [
        ([0, 1, 2], [[1.0, NAN], [2.0, 5.0], [NAN, 6.0]], 0, 0),
        ([2, 0], [[NAN, 6.0], [1.0, NAN]], 1, 0),  # another order, one left out
        ([0, 1, 2], [[1.0, 0.0], [2.0, 5.0], [3.0, 6.0]], 0, 2),  # a null is not a number
        ([1], [[2.0, np.nextafter(5.0, 6.0)]], 2, 1),  # nor is nearly equal equal
        ([], np.empty((0, 2)), 3, 0),
    ],
)
def test_what_is_left_out_and_what_differs_is_counted(
    rows: list[int], got: list[list[float]], missing: int, differ: int
) -> None:
    expected = np.array([[1.0, NAN], [2.0, 5.0], [NAN, 6.0]])
    assert compare(expected, np.array(rows, np.int64), np.array(got)) == (missing, differ)


def test_a_row_that_is_answered_twice_is_no_answer() -> None:
    with pytest.raises(PeerError, match="1 rows were answered twice"):
        compare(np.zeros((3, 1)), np.array([1, 2, 1]), np.zeros((3, 1)))
