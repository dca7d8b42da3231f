"""What a server runs once it listens was compiled before: a compiler on the event loop has everybody wait for seconds."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from numba.core.dispatcher import Dispatcher
from numba.core.sigutils import normalize_signature

import sevenfold as sf
from sevenfold.clock import ManualClock
from sevenfold.compiled import COMPILES
from sevenfold.registry.registry import Registry
from sevenfold.serving.request import RecommendRequest
from sevenfold.serving.service import Service
from sevenfold.stores.open import open_store
from tests.unit.serving.conftest import START_US, declare, sold


@sf.on_demand
def hours(customer_x_item__since_last):
    """A function of a feature."""
    return customer_x_item__since_last / 3600


def declared() -> sf.System:
    """The stall with a function of a feature, every vector audited."""
    stall = declare()
    return replace(
        stall,
        features=[*stall.features, hours],
        models=[*stall.models, sf.LogisticRegression(name="other", features=["hours"])],
        monitoring=sf.Monitoring(audit=sf.Audit(share=1.0)),
    )


MANY = 700  # events of one post: their ids are more than lie in a run without a filter


def main(home: Path, kept: str) -> None:
    """A server's work, in a process in which nothing is compiled or loaded: what it compiles for others is printed."""
    clock, store = ManualClock(START_US), open_store(kept)
    service = Service(declared(), store, Registry(home / "registry"), clock)
    service.rehearse()
    assert service.ready() is None
    compiled: list[str] = []
    really = Dispatcher.compile

    def noted(self: Any, signature: Any) -> Any:
        kinds, _ = normalize_signature(signature)
        if tuple(kinds) not in self.overloads:
            compiled.append(f"{self.py_func.__module__}.{self.py_func.__name__}{kinds}")
        return really(self, signature)

    Dispatcher.compile = noted
    many = [sold(f"m{m}", f"i{m % 9}", START_US - 9_000_000) for m in range(MANY)]
    for new in (MANY, 0):
        assert service.accept("sales", many, None).events == new
    for n in range(12):
        at_us = clock.now_us() - 9_000_000
        rows = [sold(f"l{n}-{m}", f"i{m}", at_us, customer=f"c{n % 3}") for m in range(1 + n % 4)]
        assert service.accept("sales", rows, None).events == len(rows)
        clock.advance(3_600_000_000)
        service.recommend(RecommendRequest(f"r{n}", {"customer": f"c{n % 3}"}))
        clock.advance(1)
    for _ in range(200):
        service.audit._rest_until_s = 0.0
        if not service.audit.step():
            break
    totals = service.audit.totals
    service.close()
    store.close()
    done = {"compared": totals.compared, "different": totals.different, "compiled": compiled}
    sys.stdout.write(json.dumps(done))


@pytest.mark.skipif(not COMPILES, reason="nothing is compiled here")
@pytest.mark.parametrize("kind", ["lmdb", "memory"])
def test_nobody_waits_for_the_compiler(tmp_path: Path, root: Path, kind: str) -> None:
    kept = f"lmdb:{tmp_path / 'store'}" if kind == "lmdb" else "memory:"
    source = "import sys, pathlib; from tests.unit.serving.test_rehearsed import main; main(pathlib.Path(sys.argv[1]), sys.argv[2])"
    done = subprocess.run(
        [sys.executable, "-c", source, str(tmp_path), kept],
        env=os.environ | {"PYTHONPATH": f"{root / 'src'}{os.pathsep}{root}"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["compared"] > 20
    assert told["different"] == 0
    assert told["compiled"] == []
