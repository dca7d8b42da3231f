"""What was answered, and from what: every answer with its candidates and the exact features of its rows."""

from __future__ import annotations

import heapq
import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple, Protocol

import lz4.frame
import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import StoreError
from sevenfold.hashing import canonical_json, digest
from sevenfold.stores.kv import Entry, Transaction
from sevenfold.stores.log import raise_frontier
from sevenfold.stores.tables import META, PREDICTIONS, REQUESTS
from sevenfold.types import Floats, Instant, Ints

__all__ = [
    "FeatureList",
    "Prediction",
    "Sealed",
    "SealedFile",
    "count_predictions",
    "decode_prediction",
    "encode_prediction",
    "entry_of",
    "feature_list",
    "feature_list_id",
    "feature_names",
    "find_prediction",
    "is_answered",
    "is_kept",
    "items_digest",
    "keep_feature_list",
    "knows_feature_list",
    "name_file",
    "prediction_key",
    "read_predictions",
    "sealed_files",
    "unname_file",
    "write_encoded",
    "write_prediction",
]

Vectors = npt.NDArray[np.float32]


class Prediction(msgspec.Struct):
    """One answer.

    `items` are the candidates in the order they were scored; `sources` uint32 bytes say which of
    `generators` proposed each, `candidate_scores` float32 bytes (n, g) how strongly. `shown` int32 bytes are
    the rows of the slate, first position first, `scores` their float64 scores. `logged` int32 bytes are the
    rows whose vectors follow in `vectors` float32 (r, f), features in the order of `features`; shown rows
    have weight 1, sampled ones stand for `sample_weight` rows each. `asked` is the digest of the items that a
    request gave, where not all of them were ranked. `degraded` says by stage what the answer had to do without.
    `as_of_us` is when the slate or the candidates were made, where that was ahead, in a table; else 0. `trial` is the id of
    the canary's trial that was under way, and `arm` the side on which the request was: `canary` or `champion`.
    """

    request_id: str
    t_us: int
    keys: dict[str, str]
    model: str
    version: int
    rung: str
    k: int
    features: str
    generators: list[str]
    items: list[str]
    sources: bytes
    candidate_scores: bytes
    shown: bytes
    scores: bytes
    logged: bytes
    vectors: bytes
    sample_weight: float
    timing_us: dict[str, int] = {}
    asked: str = ""
    degraded: dict[str, str] = {}
    as_of_us: int = 0
    trial: str = ""
    arm: str = ""

    def source_masks(self) -> npt.NDArray[np.uint32]:
        """Which generators proposed each candidate, uint32 (n,)."""
        return np.frombuffer(self.sources, dtype=np.uint32)

    def generator_scores(self) -> Vectors:
        """The generators' scores of the candidates, float32 (n, g), NaN where not proposed."""
        scores = np.frombuffer(self.candidate_scores, dtype=np.float32)
        return scores.reshape(len(self.items), len(self.generators))

    def shown_rows(self) -> Ints:
        """The rows of the slate, int64 (k,)."""
        return np.frombuffer(self.shown, dtype=np.int32).astype(np.int64)

    def logged_rows(self) -> Ints:
        """The rows whose vectors are kept, int64 (r,)."""
        return np.frombuffer(self.logged, dtype=np.int32).astype(np.int64)

    def logged_vectors(self) -> Vectors:
        """The vectors of the logged rows, float32 (r, f)."""
        rows = len(self.logged) // 4
        width = len(self.vectors) // len(self.logged) if rows else 0
        return np.frombuffer(self.vectors, dtype=np.float32).reshape(rows, width)

    def score_at(self, position: int) -> float:
        """The score of the item at a position of the slate, from 1."""
        return float(self.shown_scores()[position - 1])

    def shown_scores(self) -> Floats:
        """The scores of the slate, float64 (k,)."""
        return np.frombuffer(self.scores, dtype=np.float64)

    def slate(self) -> list[str]:
        """The items shown, first position first."""
        return [self.items[row] for row in self.shown_list()]

    def shown_list(self) -> list[int]:
        """The rows of the slate."""
        return memoryview(self.shown).cast("i").tolist()


class SealedFile(msgspec.Struct, frozen=True):
    """A file of answers: its name, the keys of its first and last answer, how many it has, its bytes and their SHA-256.

    Answers with a key before `kept`, `gone` of them, count as deleted though the file still has them.
    """

    name: str
    first: bytes
    last: bytes
    rows: int
    size: int
    sha256: str
    kept: bytes = b""
    gone: int = 0


class Sealed(Protocol):
    """What reads the files of answers."""

    def read(
        self, file: SealedFile, begin: bytes = b"", end: bytes | None = None
    ) -> Iterator[tuple[bytes, Prediction]]:
        """The answers of a file with `begin <= key < end`, in the order of their keys."""
        ...

    def find(self, file: SealedFile, key: bytes) -> Prediction | None:
        """The answer under a key of a file, if any."""
        ...


_SEALED = b"sealed/"
_LZ4 = b"\x04\x22\x4d\x18"  # how a frame of LZ4 begins
_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Prediction)
_FILES = msgspec.msgpack.Decoder(SealedFile)


def feature_list_id(names: Sequence[str], hashes: Sequence[str]) -> str:
    """The short id of a list of features with their definitions: what the vectors of an answer are."""
    return digest(_feature_list(names, hashes), 8)


class FeatureList(NamedTuple):
    """A list of features with their definitions as a store keeps it, and its short id."""

    name: str
    encoded: bytes


def feature_list(names: Sequence[str], hashes: Sequence[str]) -> FeatureList:
    """The list of features as a store keeps it."""
    encoded = _feature_list(names, hashes)
    return FeatureList(digest(encoded, 8), encoded)


def keep_feature_list(txn: Transaction, features: FeatureList) -> None:
    """Have the store keep a list that answers name; nothing when it does."""
    if not knows_feature_list(txn, features.name):
        txn.put(META, _features_key(features.name), features.encoded)


def knows_feature_list(txn: Transaction, name: str) -> bool:
    """Whether the store keeps the list of that id."""
    return txn.get(META, _features_key(name)) is not None


def _features_key(name: str) -> bytes:
    return b"features/" + name.encode()


def feature_names(txn: Transaction, name: str) -> tuple[str, ...]:
    """The list of features kept under an id; raises StoreError for an unknown one."""
    raw = txn.get(META, _features_key(name))
    if raw is None:
        raise StoreError(f"a prediction names feature list {name!r}, which the store does not hold")
    pairs: list[Any] = msgspec.json.decode(raw)
    # Before 0.2 the list had names only.
    return tuple(pair if isinstance(pair, str) else pair[0] for pair in pairs)


def _feature_list(names: Sequence[str], hashes: Sequence[str]) -> bytes:
    return canonical_json([list(pair) for pair in zip(names, hashes, strict=True)])


def encode_prediction(prediction: Prediction) -> bytes:
    """The answer as it is kept."""
    packed: bytes = lz4.frame.compress(_ENCODER.encode(prediction), content_checksum=True)
    return packed


def write_prediction(txn: Transaction, prediction: Prediction, raw: bytes | None = None) -> None:
    """Keep the answer, and note its instant so that nothing becomes known before it any more.

    `raw` is the answer encoded, where that has been done.
    """
    encoded = encode_prediction(prediction) if raw is None else raw
    write_encoded(txn, prediction.request_id, prediction.t_us, encoded)


def write_encoded(txn: Transaction, request_id: str, t_us: Instant, raw: bytes) -> None:
    """The same for an answer that is known by its id and instant only."""
    key = prediction_key(t_us, request_id)
    txn.put(PREDICTIONS, key, raw)
    txn.put(REQUESTS, _request_key(request_id), key)
    raise_frontier(txn, t_us)


def entry_of(request_id: str, t_us: Instant, raw: bytes, features: FeatureList | None) -> Entry:
    """The same as what can be put aside, with the list of features where the store may not have it yet."""
    key, found = prediction_key(t_us, request_id), _request_key(request_id)
    puts = [(PREDICTIONS, key, raw), (REQUESTS, found, key)]
    if features is not None:
        puts.append((META, _features_key(features.name), features.encoded))
    return Entry(puts, t_us)


def is_kept(txn: Transaction, prediction: Prediction, raw: bytes) -> bool:
    """Whether the store keeps this very answer, `raw` as it is kept."""
    return txn.get(PREDICTIONS, prediction_key(prediction.t_us, prediction.request_id)) == raw


def is_answered(txn: Transaction, request_id: str) -> bool:
    """Whether an answer to a request is kept."""
    return txn.get(REQUESTS, _request_key(request_id)) is not None


def find_prediction(
    txn: Transaction, request_id: str, sealed: Sealed | None = None
) -> Prediction | None:
    """The answer that was given to a request, if any; `sealed` are the files of the home, where it has any."""
    key = txn.get(REQUESTS, _request_key(request_id))
    if key is None:
        return None
    raw = txn.get(PREDICTIONS, key)
    if raw is not None:
        return decode_prediction(raw, request_id)
    # Files do not overlap: the last one that begins at the key or before has it, or none.
    name, value = next(txn.scan(META, _SEALED, _SEALED + key + b"\0", reverse=True), (b"", b""))
    found = None
    if name:
        file = _FILES.decode(value)
        if file.kept <= key <= file.last:
            found = _require(sealed).find(file, key)
    if found is None:
        raise StoreError(
            f"request {request_id!r} is known, its answer is not: the store is damaged"
        )
    return found


def read_predictions(
    txn: Transaction,
    start_us: Instant = 0,
    stop_us: Instant | None = None,
    sealed: Sealed | None = None,
) -> Iterator[Prediction]:
    """The answers with `start_us <= t_us < stop_us`, in order of time, whether in the store or in `sealed` files.

    Raises StoreError when some of them are in files and none are given.
    """
    begin = start_us.to_bytes(8, "big")
    stop = None if stop_us is None else stop_us.to_bytes(8, "big")
    stored = (
        (key, decode_prediction(raw, key.hex())) for key, raw in txn.scan(PREDICTIONS, begin, stop)
    )
    # Nothing is read of a file before its turn: until then its first key stands for it.
    heads: list[tuple[bytes, int, Prediction | None, Iterator[tuple[bytes, Prediction]]]] = [
        (file.first, n, None, _require(sealed).read(file, max(begin, file.kept), stop))
        for n, file in enumerate(sealed_files(txn))
        if file.last >= begin and (stop is None or file.first < stop)
    ]
    heads.append((b"", -1, None, stored))
    heapq.heapify(heads)
    while heads:
        _, n, answer, rest = heads[0]
        if answer is not None:
            yield answer
        following = next(rest, None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (following[0], n, following[1], rest))


def count_predictions(txn: Transaction) -> int:
    """How many answers there are, in the store and in files."""
    return txn.count(PREDICTIONS) + sum(file.rows - file.gone for file in sealed_files(txn))


def sealed_files(txn: Transaction) -> list[SealedFile]:
    """The files that hold answers, in the order of their keys, which do not overlap."""
    return [_FILES.decode(raw) for _, raw in txn.scan(META, _SEALED, _SEALED + b"\xff" * 25)]


def name_file(txn: Transaction, file: SealedFile) -> None:
    """Have the store name a file: its answers are read from there."""
    txn.put(META, _SEALED + file.first, msgspec.msgpack.encode(file))


def unname_file(txn: Transaction, file: SealedFile) -> None:
    """Have the store name a file no more."""
    txn.delete(META, _SEALED + file.first)


def _require(sealed: Sealed | None) -> Sealed:
    if sealed is None:
        raise StoreError(
            "answers of this time are in the files of the home's folder `predictions`: read them with it"
        )
    return sealed


def decode_prediction(raw: bytes, name: str) -> Prediction:
    """The answer as it is kept; StoreError, with the `name` it is kept under, when it cannot be read."""
    try:
        # Those of earlier stores are zlib's, which begin otherwise.
        is_lz4 = raw.startswith(_LZ4)
        return _DECODER.decode(lz4.frame.decompress(raw) if is_lz4 else zlib.decompress(raw))
    except (RuntimeError, zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise StoreError(f"the answer under {name} cannot be read: {error}") from error


def prediction_key(t_us: Instant, request_id: str) -> bytes:
    """The key of an answer in `predictions`: in order of time."""
    return t_us.to_bytes(8, "big") + _request_key(request_id)


@lru_cache(maxsize=1_024)
def _request_key(request_id: str) -> bytes:
    # Of each answer it is wanted when it is looked for, and twice when it is kept.
    return bytes.fromhex(digest(request_id.encode()))


def items_digest(items: Sequence[str]) -> str:
    """The digest of a list of items, in their order."""
    return digest(canonical_json(list(items)), 16)


def packed(array: npt.NDArray[Any], kind: type[Any]) -> bytes:
    """An array as the bytes of its elements."""
    return np.ascontiguousarray(array, dtype=kind).tobytes()
