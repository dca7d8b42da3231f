"""A long spine that is filled part by part: interrupted anywhere, it goes on, and the file is the same to the byte."""

import fcntl
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from click.testing import CliRunner

from sevenfold.batch import Filled, Reader
from sevenfold.batch import table_file as files
from sevenfold.cli.main import main
from sevenfold.errors import InputError, RunError
from tests.unit.batch.kinds import as_arrow
from tests.unit.batch.shop import DAY0, HOUR, some_rows, some_sales, system

SYSTEM = Path(__file__).parent / "shop.py"
SALES = some_sales(300)
ROWS = 40


class Killed(BaseException):
    """Nobody catches it, as nobody catches a kill."""


@pytest.fixture(scope="module")
def reader() -> Reader:
    """The shop's sales, given."""
    return Reader(system, events={"sales": SALES})


@pytest.fixture(autouse=True)
def _fourteen_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: 14)


@pytest.fixture(params=[".parquet", ".csv"])
def spine(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Forty rows: three parts."""
    return write(some_rows(ROWS), tmp_path / f"spine{request.param}")


def write(rows: dict[str, list[Any]], path: Path) -> Path:
    frame = pl.from_arrow(as_arrow(rows))
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def killed_at(step: int, monkeypatch: pytest.MonkeyPatch, run: Any) -> None:
    """Run until file number `step` would be put in its place, before or after it is."""
    put, seen = files._put, 0

    def stopping(part: Path, out: Path) -> None:
        nonlocal seen
        seen += 1
        if seen == step // 2 + 1 and step % 2 == 0:
            raise Killed
        put(part, out)
        if seen == step // 2 + 1:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(files, "_put", stopping)
        with pytest.raises(Killed):
            run()


def test_stopped_at_any_file_it_goes_on_to_the_same_bytes(
    reader: Reader, spine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, out = tmp_path / "whole.parquet", tmp_path / "out.parquet"
    reader.backfill(spine, whole)
    n_puts = 4 + (spine.suffix == ".csv")
    for step in range(2 * n_puts - 1):
        killed_at(step, monkeypatch, lambda: reader.backfill(spine, out))
        assert not out.exists()
        done = reader.backfill(spine, out)
        assert out.read_bytes() == whole.read_bytes()
        first = 2 * (spine.suffix == ".csv") + 1
        assert done.resumed == min(max(step - first + 2, 0) // 2 * 14, ROWS)
        out.unlink()
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted([spine.name, whole.name])


def test_other_parts_of_memory_take_over_what_is_done(
    reader: Reader, spine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.parquet"
    whole = pl.read_parquet(_filled(reader, spine, tmp_path / "whole.parquet"))
    killed_at(3, monkeypatch, lambda: reader.backfill(spine, out))
    monkeypatch.setattr(Reader, "rows_at_once", lambda *_: 3)
    assert reader.backfill(spine, out).resumed >= 14
    assert pl.read_parquet(out).equals(whole)


def _filled(reader: Reader, spine: Path, out: Path, **meant: Any) -> Path:
    reader.backfill(spine, out, **meant)
    return out


def less(n: int) -> dict[str, np.ndarray]:
    return {name: column[:n] for name, column in SALES.items()}


@pytest.mark.parametrize("what", ["spine", "features", "dtype", "events", "nothing"])
def test_what_the_answer_depends_on_begins_it_anew(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reader: Reader
) -> None:
    spine, out = write(some_rows(ROWS), tmp_path / "spine.parquet"), tmp_path / "out.parquet"
    killed_at(3, monkeypatch, lambda: reader.backfill(spine, out))
    then, names, meant = reader, (), {}
    match what:
        case "spine":
            write(some_rows(ROWS, seed=4), spine)
        case "features":
            names = ("item__count_1d",)
        case "dtype":
            meant = {"dtype": "float64"}
        case "events":
            then = Reader(system, events={"sales": less(299)})
    done = then.backfill(spine, out, names, **meant)
    assert (done.resumed > 0) == (what == "nothing")
    whole = tmp_path / "whole.parquet"
    then.backfill(spine, whole, names, **meant)
    assert out.read_bytes() == whole.read_bytes()


def ingested(home: Path, begin: int, end: int) -> None:
    path = home.with_suffix(".parquet")
    pl.DataFrame(SALES).slice(begin, end - begin).write_parquet(path)
    command = ["ingest", str(SYSTEM), "sales", str(path), "--home", str(home)]
    done = CliRunner().invoke(main, command)
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("last", [200 * HOUR - HOUR + 1, 200 * HOUR - HOUR + 2])
def test_a_log_that_has_grown_is_gone_on_with_when_no_row_can_see_it(
    last: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, out = tmp_path / "home", tmp_path / "out.parquet"
    ingested(home, 0, 200)
    rows = some_rows(ROWS)
    rows["t"] = [min(t, DAY0 + last - 5) for t in rows["t"]]
    rows["t"][-1] = DAY0 + last  # the newest event became known at 199 h
    spine = write(rows, tmp_path / "spine.parquet")
    reader = Reader(system, home=home)
    killed_at(3, monkeypatch, lambda: reader.backfill(spine, out))
    ingested(home, 200, 300)
    done = reader.backfill(spine, out)
    assert (done.resumed > 0) == (last == 199 * HOUR + 1)
    whole = pl.read_parquet(_filled(reader, spine, tmp_path / "whole.parquet"))
    assert pl.read_parquet(out).equals(whole)


def test_one_process_at_a_time(reader: Reader, tmp_path: Path) -> None:
    spine, out = write(some_rows(ROWS), tmp_path / "spine.parquet"), tmp_path / "out.parquet"
    folder = tmp_path / ".out.parquet.parts"
    folder.mkdir()
    with (folder / "lock").open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is at work in"):
            reader.backfill(spine, out)
    assert reader.backfill(spine, out) == Filled(ROWS, reader.plan.names, ())


def test_what_is_refused_leaves_what_was_there(reader: Reader, tmp_path: Path) -> None:
    rows = some_rows(ROWS)
    rows["user"][23] = None
    spine, out = write(rows, tmp_path / "spine.parquet"), tmp_path / "out.parquet"
    out.write_text("mine")
    with pytest.raises(InputError, match=r"row 23 of the spine: \$\[23\]\.user: the key is null"):
        reader.backfill(spine, out)
    assert out.read_text() == "mine"
    done = reader.backfill(spine, out, null_keys="empty")
    assert (done.rows, done.resumed) == (ROWS, 0)
    assert pl.read_parquet(out).height == ROWS
    with pytest.raises(InputError, match="cannot be written"):
        reader.backfill(spine, tmp_path / "nowhere" / "out.parquet")
    with pytest.raises(InputError, match=r"its name must end in .parquet, .csv"):
        reader.backfill(write(rows, tmp_path / "s.parquet").rename(tmp_path / "s.txt"), out)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(InputError, match="cannot be read"):
        reader.backfill(tmp_path / "bad.parquet", out)
    left = {path.name for path in tmp_path.iterdir() if path.name.startswith(".")}
    assert left == set()


def test_a_file_of_no_rows_is_filled(reader: Reader, tmp_path: Path) -> None:
    rows = {name: values[:0] for name, values in some_rows(1).items()}
    frame = pl.from_arrow(as_arrow(some_rows(1))).clear()
    frame.write_parquet(tmp_path / "none.parquet")
    done = reader.backfill(tmp_path / "none.parquet", tmp_path / "out.parquet")
    assert done.rows == 0
    assert pl.read_parquet(tmp_path / "out.parquet").columns == [*rows, *reader.plan.names]
