"""Files with bytes changed, cut and put in: nothing but rows, letters and named files comes out, and no good line is lost."""

import gzip
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.sources.test_folder import Shop, aged, put, rows

LINES = 40


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A good file of each kind."""
    place = tmp_path_factory.mktemp("good")
    names = ["sales.jsonl", "sales.csv", "sales.parquet", "sales.jsonl.gz", "sales.json"]
    return {name: put(place / name, rows(0, LINES)).read_bytes() for name in names}


EDIT = st.tuples(
    st.sampled_from(["flip", "cut", "put", "drop"]),
    st.integers(0, 1 << 30),
    st.binary(min_size=1, max_size=6)
    | st.sampled_from([b'"', b",", b"\n", b"\r\n", b"\x00", b"\xff", b"{", b'""']),
)


def edited(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    """The bytes after the edits."""
    for kind, where, what in edits:
        at = where % (len(data) + 1)
        match kind:
            case "flip":
                data = data[:at] + what + data[at + len(what) :]
            case "put":
                data = data[:at] + what + data[at:]
            case "drop":
                data = data[:at] + data[at + len(what) :]
            case _:
                data = data[:at]
    return data


def run(data: bytes, name: str, folder: Path) -> Shop:
    """A shop that has read the file, and a whole one after it."""
    shop = Shop(folder)
    for old in folder.iterdir():
        old.unlink()
    (folder / name).write_bytes(data)
    aged(folder / name, 3_600)
    put(folder / "whole.jsonl", rows(1_000, 1_003))
    taken = shop.run().taken
    assert taken.rows == taken.events + taken.duplicates + sum(taken.dead.values())
    assert set(shop.lines()) >= {"l1000", "l1001", "l1002"}
    assert shop.run().taken.rows == 0
    return shop


QUIET = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


@QUIET
@pytest.mark.parametrize(
    "name", ["sales.parquet", "sales.jsonl.gz", "sales.csv", "sales.jsonl", "sales.json"]
)
@given(edits=st.lists(EDIT, min_size=1, max_size=4))
def test_no_bytes_stop_a_follower(
    name: str, edits: list[tuple[str, int, bytes]], files: dict[str, bytes], tmp_path: Path
) -> None:
    run(edited(files[name], edits), name, tmp_path)


@QUIET
@pytest.mark.parametrize("name", ["sales.jsonl", "sales.csv"])
@given(edit=EDIT)
def test_lines_that_were_not_touched_are_kept(
    name: str, edit: tuple[str, int, bytes], files: dict[str, bytes], tmp_path: Path
) -> None:
    good = files[name].splitlines(keepends=True)
    data = edited(files[name], [edit])
    left = data.splitlines(keepends=True)
    if name.endswith(".csv") and (not left or left[0] != good[0]):
        return  # without its header a file is damaged as a whole, and named
    untouched = {i - (not name.endswith("l")) for i, line in enumerate(good) if line in left}
    kept = set(run(data, name, tmp_path).lines())
    assert {f"l{i}" for i in untouched if i >= 0} <= kept


def test_a_packed_file_that_is_cut_gives_what_came_before(tmp_path: Path) -> None:
    text = b"".join(b'{"line": "l%d", "at": %d, "customer": "c"}\n' % (i, i) for i in range(20_000))
    packed = gzip.compress(text)
    shop = Shop(tmp_path)
    (tmp_path / "a.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    aged(tmp_path / "a.jsonl.gz", 3_600)
    taken = shop.run().taken
    assert taken.events > 1_000
    assert "a.jsonl.gz is set aside" in taken.notes[0]
