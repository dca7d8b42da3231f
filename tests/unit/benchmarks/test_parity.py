"""The parity probe: its stream is what it says, and a key that differs is counted."""

import json
from importlib.util import find_spec

import pytest

from benchmarks import parity, probe
from benchmarks.__main__ import main
from benchmarks.peers.beside import VARIABLE
from benchmarks.peers.parity import compared


def test_the_stream_is_late_and_corrected_in_the_shares_it_says() -> None:
    pushes = probe.stream(1)
    rows = [(push.arrival_us, row) for push in pushes for row in push.trips]
    assert (len(rows), {len(push.trips) for push in pushes}) == (5_000, {50})
    assert [push.arrival_us for push in pushes] == sorted(push.arrival_us for push in pushes)
    lateness = [arrival - row["at"] for arrival, row in rows]
    assert min(lateness) >= 0
    late = sum(us >= probe.SECOND_US for us in lateness) / len(rows)
    seen: set[tuple[str, int]] = set()
    corrected = 0
    for _, row in rows:
        corrected += (row["driver"], row["at"]) in seen
        seen.add((row["driver"], row["at"]))
    assert 0.03 < corrected / len(rows) < 0.06
    assert 0.30 < late < 0.38  # a correction is of an earlier event, so most come late as well


def test_the_newest_is_by_event_time_and_then_by_arrival() -> None:
    def row(at: int, number: int, key: str = "d1") -> dict[str, object]:
        return {"at": at, "driver": key, "fare": float(number), "number": number}

    pushes = [
        probe.Push(10, [row(9, 0), row(5, 1)], []),
        probe.Push(20, [row(9, 2), row(3, 3), row(4, 4, "d2")], []),
    ]
    assert probe.newest(pushes) == {"d1": (2.0, 2), "d2": (4.0, 4)}


def test_what_differs_and_what_is_wrong_is_counted() -> None:
    truth = {"a": (1.0, 1), "b": (2.0, 2), "c": (3.0, 3)}
    online = {"a": [1.0, 1], "b": [9.0, 9], "c": None, "d": None}
    offline = {"a": [1.0, 1], "b": [8.0, 8], "c": [3.0, 3], "d": [4.0, 4]}
    duckdb = {"a": [1.0, 1], "b": [2.0, 2], "c": [3.0, 3], "d": None}
    assert compared(truth, {"online": online, "default": offline, "duckdb": duckdb}) == {
        "differ": 3,
        "online_wrong": 2,
        "offline_wrong": 2,
        "duckdb_wrong": 0,
    }


def test_no_key_of_ours_differs_or_is_wrong() -> None:
    assert parity.probe("lmdb", probe.stream(3, 0.1)) == {
        "differ": 0,
        "online_wrong": 0,
        "offline_wrong": 0,
    }


@pytest.mark.skipif(find_spec("feast") is not None, reason="Feast is installed here: it is found")
def test_without_a_peer_the_report_says_so_and_has_no_key_of_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    options = ["--json", "--repeat", "1", "--scale", "0.02"]
    monkeypatch.setattr("sys.argv", ["benchmarks", "parity", *options])
    assert main() == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert {key.split("_")[0] for key in report["results"]} == {"ours"}
    assert {result["max"] for result in report["results"].values()} == {0}
    assert any("no Feast beside" in note for note in report["notes"])
