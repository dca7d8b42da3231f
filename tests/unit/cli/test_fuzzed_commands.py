"""Files with bytes changed, cut and put in, given to the commands: done, or one clear message; never a traceback."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sevenfold.cli.main import main
from tests.unit.sources.test_fuzzed_files import EDIT, edited

ROWS = 30
QUIET = settings(
    max_examples=max(settings.default.max_examples // 4, 15),
    suppress_health_check=list(HealthCheck),
)
Edits = list[tuple[str, int, bytes]]
EDITS = st.lists(EDIT, min_size=1, max_size=3)
# Whole files that are something else than their names say.
OTHERS = [
    b"",
    b"\0" * 100,
    b"PAR1" * 20,
    b"\x1f\x8b" + b"\0" * 30,
    b"\n\n\n",
    b'{"t": 1}\n',
    b"t,customer,item\n" + b"\xff\xfe" * 30,
    b'"' + b"t" * 100_000,
    b"[" * 10_000,
]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each kind, of sales and of rows to fill."""
    place = tmp_path_factory.mktemp("good")
    sales = (
        "select 'l' || i as line, 1700000000000000 + i as sold_at, 'c' || i % 5 as customer, 'i' || i % 7 as item, "
        f"1 + i % 3 as pieces, 'b' as basket from range({ROWS}) r(i)"
    )
    spine = f"select 1800000000000000 + i as t, 'c' || i as customer, 'i' || i as item from range({ROWS}) r(i)"
    with duckdb.connect(config={"threads": 1}) as connection:
        for name, query in (("sales", sales), ("spine", spine)):
            for end, how in (
                ("parquet", "format parquet"),
                ("csv", "format csv, header"),
                ("jsonl", "format json"),
            ):
                connection.execute(f"copy ({query}) to '{place / name}.{end}' ({how})")
    files = {path.name: path.read_bytes() for path in place.iterdir()}
    return files | {
        f"{name}.gz": gzip.compress(raw) for name, raw in files.items() if name.endswith("csv")
    }


def told(*arguments: str) -> tuple[int, str]:
    """The exit code of a command and what it said; fails on a traceback."""
    result = CliRunner().invoke(main, [*arguments, "--json"])
    assert result.exception is None or isinstance(result.exception, SystemExit), (
        f"{result.exception!r} got out of {arguments[0]}"
    )
    assert "Traceback" not in result.output
    if result.exit_code:
        lines = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
        assert len(lines) == 1, result.output
        assert result.stdout, result.output
        assert json.loads(result.stdout.splitlines()[-1])["error"]["message"]
    return result.exit_code, result.output


@pytest.mark.parametrize("name", ["sales.parquet", "sales.csv", "sales.jsonl", "sales.csv.gz"])
def test_events_to_ingest(name: str, tea: Path, tmp_path: Path, good: dict[str, bytes]) -> None:
    home = tmp_path / "home"

    def ingest(raw: bytes, file: Path = tmp_path / name) -> int:
        file.write_bytes(raw)
        return told("ingest", str(tea), "sales", str(file), "--home", str(home), "--late")[0]

    @QUIET
    @given(EDITS)
    def holds(edits: Edits) -> None:
        ingest(edited(good[name], edits))

    holds()
    for raw in OTHERS:
        ingest(raw)
    assert ingest(good[name], tmp_path / f"whole_{name}") == 0


@pytest.mark.parametrize("name", ["spine.parquet", "spine.csv", "spine.csv.gz"])
def test_rows_to_fill(name: str, tea: Path, tmp_path: Path, good: dict[str, bytes]) -> None:
    home, file, out = tmp_path / "home", tmp_path / name, tmp_path / "out.parquet"
    sales = tmp_path / "sales.parquet"
    sales.write_bytes(good["sales.parquet"])
    assert told("ingest", str(tea), "sales", str(sales), "--home", str(home))[0] == 0

    def fill(raw: bytes) -> int:
        file.write_bytes(raw)
        out.unlink(missing_ok=True)
        where = ["--spine", str(file), "--out", str(out), "--home", str(home)]
        code = told("features", str(tea), *where)[0]
        assert out.exists() == (code == 0)
        left = {path.name for path in tmp_path.iterdir()} - {"home", name, sales.name, out.name}
        assert left <= {tea.name}
        return code

    @QUIET
    @given(EDITS)
    def holds(edits: Edits) -> None:
        fill(edited(good[name], edits))

    holds()
    for raw in OTHERS:
        assert fill(raw) != 0
    assert fill(good[name]) == 0
