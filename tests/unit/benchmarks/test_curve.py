"""The picture of what an event costs: every point where the report says, and no picture of a report without a curve."""

import json
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.curve import CurveError, curve, lines_of, main

MACHINE = {"cpu": "<one & all>", "python": "3.11"}
COSTS = {
    "grown_to_1m": 3.0,
    "grown_to_3m": 2.5,
    "at_30m": 5.0,
    "at_10m": 4.5,
    "at_1m_beside_10m": 4.0,
    "at_1m_beside_30m": 3.9,
    "1m_keys": 3.8,
    "of_10000_keys": 2.7,
    "1k_keys": 1.7,
    "raw_lmdb_1m_keys": 12.6,
    "raw_lmdb_1k_keys": 2.9,
    "1k_keys_batches_of_100": 29.0,
}


def results() -> dict[str, dict[str, float]]:
    """Figures as `benchmarks ingest --curve` names them, and others that are not of the curve."""
    found = {f"cpu_us_an_event_{name}": {"median": cost, "n": 20} for name, cost in COSTS.items()}
    return {**found, "us_an_event_1m_keys": {"median": 99.0, "n": 20}}


def test_a_report_s_lines_are_in_the_order_of_size() -> None:
    lines = {(line.panel, line.name): list(line.points) for line in lines_of(results())}
    m = 1_000_000
    assert lines == {
        ("grown", "Sevenfold"): [(m, 3.0), (3 * m, 2.5), (10 * m, 4.5), (30 * m, 5.0)],
        ("grown", "Sevenfold with 1 M events, in turns"): [(10 * m, 4.0), (30 * m, 3.9)],
        ("keys", "Sevenfold"): [(1_000, 1.7), (10_000, 2.7), (m, 3.8)],
        ("keys", "bare LMDB file, same puts"): [(1_000, 2.9), (m, 12.6)],
    }


def test_a_point_lies_where_its_cost_and_size_say() -> None:
    drawn = curve(lines_of(results()), "here & now")
    root = ElementTree.fromstring(drawn)  # well-formed, with what is said escaped
    assert "here & now" in "".join(root.itertext())
    named = {"".join(c.itertext()): c for c in root.iter("{http://www.w3.org/2000/svg}circle")}
    assert len(named) == len(COSTS) - 1

    def at(name: str) -> tuple[float, float]:
        return float(named[name].get("cx", "")), float(named[name].get("cy", ""))

    one, ten = at("Sevenfold, 1 M: 3.00 us"), at("Sevenfold, 10 M: 4.50 us")
    thirty = at("Sevenfold, 30 M: 5.00 us")
    zero = next(float(line.get("y1", "")) for line in root.iter("{http://www.w3.org/2000/svg}line"))
    assert (zero - ten[1]) / (zero - one[1]) == pytest.approx(1.5, rel=1e-2)
    assert (thirty[0] - one[0]) / (ten[0] - one[0]) == pytest.approx(1.477, rel=1e-2)


def test_the_command_draws_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "report.json"
    report = {"results": results(), "machine": MACHINE, "versions": {"lmdb": "3"}}
    file.write_text(json.dumps(report))
    assert main([str(file)]) == 0
    drawn = capsys.readouterr().out
    assert drawn.endswith("</svg>\n")
    assert re.search(r"medians of 20 batches.*&lt;one &amp; all&gt;, Python 3.11, lmdb 3", drawn)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("no JSON", "is no report of a benchmark"),
        ("[]", "is no report of a benchmark"),
        ('{"results": {}}', "has no curve"),
        (None, "No such file"),
    ],
)
def test_what_is_no_curve_is_told(
    text: str | None, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "report.json"
    if text is not None:
        file.write_text(text)
    assert main([str(file)]) == 1
    said = capsys.readouterr()
    assert told in said.err
    assert not said.out
    assert main([]) == 2


def test_a_report_of_the_short_run_has_no_curve() -> None:
    short = {key: value for key, value in results().items() if "10000_keys" not in key}
    with pytest.raises(CurveError, match="--curve"):
        lines_of(short)
