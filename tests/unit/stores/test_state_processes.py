"""Processes that read states while writers die at each step of a commit: what a snapshot names is what it sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

# In commit n the keys of every fifth are written, with a value that tells the commit; a commit that is to die writes others first.
PROGRAM = """
import os, sys, time
import numpy as np
from sevenfold.stores import state_view
from sevenfold.stores.lmdb import LmdbStore
from sevenfold.stores.state_commit import Commit

state_view._LEAST_SLOTS = 4
FOLDER, KEYS, BITS, PREFIX = sys.argv[1], 300, 11, b"prefix-a"
COMMITS, DEATHS = int(sys.argv[2]), int(sys.argv[3])
STEPS = "make_room", "flush", "next_segment", "keep", "publish", "widen", "say"
rng = np.random.default_rng(3)
hashes = rng.integers(0, 1 << 63, (KEYS, 2)).astype(np.uint64)


def length(m, k):
    return 0 if (m + k) % 13 == 0 or m < 1 else 1 + (m + k) % 7


def expected(n):
    out = []
    for k in range(KEYS):
        m = n - (7 * k + n) % 5
        out.append([m * 1000 + k] * length(m, k))
    return out


def put(txn, n, wrong=0):
    ks = [k for k in range(KEYS) if (7 * k + n) % 5 == 0]
    lengths = np.array([length(n, k) for k in ks])
    words = np.repeat([n * 1000 + k for k in ks], lengths) + wrong
    txn.keep("state", PREFIX, hashes[ks], words, np.cumsum(lengths))


def committed(txn):
    return int(txn.get("meta", b"n") or b"0")


def require(txn, n):
    (words, places), = txn.words("state", [(PREFIX, hashes)])
    found = [words[a // 8 : b // 8].tolist() for a, b in places.tolist()]
    assert found == expected(n), [(k, x, y) for k, (x, y) in enumerate(zip(found, expected(n))) if x != y][:3]


def dying(step, after):
    real = getattr(Commit, step)

    def dies(commit, *given):
        if after:
            real(commit, *given)
        os._exit(9)

    setattr(Commit, step, dies)


def write(seed):
    rng = np.random.default_rng(seed)
    store = LmdbStore(FOLDER, segment_bits=BITS)
    for _ in range(int(rng.integers(1, 2 * COMMITS))):
        with store.write() as txn:
            n = committed(txn) + 1
            put(txn, n)
            txn.put("meta", b"n", str(n).encode())
    dying(STEPS[rng.integers(len(STEPS))], rng.random() < 0.5)
    for m in range(40):  # a step that is seldom may not come: then it dies between two commits
        with store.write() as txn:
            n = committed(txn) + 1
            put(txn, n + m % 5, wrong=-1)
            put(txn, n)
            txn.put("meta", b"n", str(n).encode())
            if m % 5:
                os._exit(9)
    os._exit(9)


def read(seed):
    rng = np.random.default_rng(seed)
    store, last, reads = LmdbStore(FOLDER, readonly=True), 0, 0
    while not os.path.exists(FOLDER + "/stop"):
        with store.read() as txn:
            n = committed(txn)
            assert n >= last
            last = n
            require(txn, n)
            if rng.random() < 0.1:
                time.sleep(0.2)
                require(txn, n)
        reads += 1
    print(reads, flush=True)
    os._exit(0)


def forked(work, seed):
    child = os.fork()
    if not child:
        try:
            work(seed)
        except BaseException as error:
            print(type(error).__name__, str(error)[:500], flush=True)
            os._exit(1)
    return child


def require_end(child, code):
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == code, status


store = LmdbStore(FOLDER, segment_bits=BITS)
with store.write() as txn:
    put(txn, 1)
    txn.put("meta", b"n", b"1")
store.close()
readers = [forked(read, seed) for seed in (1, 2)]
for death in range(DEATHS):
    require_end(forked(write, 100 + death), 9)
open(FOLDER + "/stop", "w").close()
for reader in readers:
    require_end(reader, 0)
store = LmdbStore(FOLDER, segment_bits=BITS)
with store.read() as txn:
    n = committed(txn)
    require(txn, n)
    layout = store._log.head(txn._txn).layout()
print("commits", n, "first", layout.first, "widest", max(layout.generations))
"""


def test_two_processes_read_while_writers_die(tmp_path: Path) -> None:
    command = [sys.executable, "-c", PROGRAM, str(tmp_path), "5", "24"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    first, second, said = done.stdout.splitlines()
    assert min(int(first), int(second)) > 20
    commits, oldest, widest = (int(word) for word in said.split()[1::2])
    assert commits > 60
    assert oldest > 1  # segments were cleaned
    assert widest > 2  # parts have grown
