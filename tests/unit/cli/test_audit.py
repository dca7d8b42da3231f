"""`sevenfold audit` on a home that has answered."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sevenfold.cli.load import load_system
from sevenfold.cli.main import main
from sevenfold.clock import ManualClock
from sevenfold.registry.registry import Registry
from sevenfold.serving.prediction_log import read_predictions, write_prediction
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.open import open_store


@pytest.fixture
def home(tea: Path, tmp_path: Path) -> Path:
    """A home with ten sales and two answers."""
    folder = tmp_path / "home"
    store = open_store(f"lmdb:{folder / 'store'}")
    clock = ManualClock(1_700_000_000_000_000)
    service = Service(load_system(str(tea)), store, Registry(folder / "registry"), clock)
    sale = {"sold_at": "2023-11-14T20:00:00", "customer": "ada", "pieces": 2, "basket": "b"}
    service.accept(
        "sales", [{**sale, "line": f"l{n}", "item": f"i{n % 4}"} for n in range(10)], None
    )
    for name in ("r1", "r2"):
        clock.advance(1_000_000)
        service.recommend(RecommendRequest(name, {"customer": "ada"}))
    store.close()
    return folder


def answer(code: int, *arguments: object) -> Any:
    """The object that the command prints."""
    result = CliRunner().invoke(main, ["audit", *map(str, arguments), "--json"])
    assert result.exit_code == code, result.output
    return json.loads(result.stdout.splitlines()[-1])


def test_all_logged_vectors_are_compared(tea: Path, home: Path) -> None:
    found = answer(0, tea, "--home", home)
    assert (found["compared"], found["different"], found["examples"]) == (8, 0, [])
    assert set(found["mismatch_rate"].values()) == {0.0}
    assert answer(0, tea, "--home", home, "--share", "0")["compared"] == 0
    assert answer(0, tea, "--home", home, "--found")["compared"] == 0


def test_a_value_that_differs_is_named(tea: Path, home: Path) -> None:
    store = open_store(f"lmdb:{home / 'store'}")
    with store.write() as txn:
        found = next(iter(read_predictions(txn)))
        wrong = found.logged_vectors().copy()
        wrong[0, 0] += 1
        found.vectors = wrong.tobytes()
        write_prediction(txn, found)
    store.close()
    found = answer(1, tea, "--home", home)
    (example,) = found["examples"]
    assert found["different"] == 1
    assert (example["request_id"], example["logged"]) == ("r1", example["recomputed"] + 1)
    text = CliRunner().invoke(main, ["audit", str(tea), "--home", str(home)]).output
    assert "8 vectors compared, 1 differ" in text
    assert f"{example['feature']} of {example['item']} in r1: logged" in text
