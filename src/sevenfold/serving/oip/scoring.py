"""What the protocol can be asked of the model that serves: what it reads, and its scores of rows.

Rows come as one tensor a feature, as one tensor `features` (n, f) in the order of the metadata, or as keys: one tensor of
texts an entity, whose features the server then reads as of now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sevenfold.errors import InputError
from sevenfold.serving.champion import Loaded
from sevenfold.serving.oip.tensor import TEXT, Tensor
from sevenfold.serving.problem import HttpError
from sevenfold.serving.request import FeaturesRequest
from sevenfold.serving.site import Site
from sevenfold.types import Floats

__all__ = ["MATRIX", "MAX_ROWS", "SCORES", "loaded", "metadata", "scores"]

MATRIX, SCORES = "features", "scores"
MAX_ROWS = 10_000
_MAX_KEYS = 2_000
_PLATFORM = "sevenfold_{}"


@dataclass(frozen=True, slots=True)
class Described:
    """A tensor as the metadata of a model has it; -1 stands for any number of rows."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a model reads and gives."""

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Described, ...]
    outputs: tuple[Described, ...]


def loaded(site: Site, name: str, version: str | None) -> Loaded:
    """The model that serves, when it is the one asked for; raises HttpError 404.

    No version is loaded because somebody asks for it: what serves is decided by the alias.
    """
    site.service.changing.settle()
    found = site.service.champion.follow()
    if found is None or found.name != name or version not in (None, "", str(found.version)):
        raise HttpError(
            404, "not_found", "no such model serves now; `GET /v2/models` names the one"
        )
    return found


def metadata(found: Loaded) -> Metadata:
    """What the model reads, a tensor a feature in its order, and gives."""
    return Metadata(
        found.name,
        (str(found.version),),
        _PLATFORM.format(found.model.kind),
        tuple(Described(name, "FP32", (-1,)) for name in found.model.feature_names),
        (Described(SCORES, "FP64", (-1,)),),
    )


def scores(
    site: Site, found: Loaded, given: Sequence[Tensor], wanted: Sequence[str] = ()
) -> Floats:
    """The scores of the rows given, float64 (n,), by the path that answers are scored by.

    Raises InputError for other tensors than those the model reads, or other outputs than `scores`.
    """
    strange = [name for name in wanted if name != SCORES]
    if strange:
        raise InputError(f"$.outputs: no output {strange[0][:64]!r}; there is {SCORES}")
    tensors = {tensor.name: tensor for tensor in given}
    if len(tensors) != len(given):
        raise InputError("$.inputs: an input is given twice; give each once")
    rows = _matrix(site, found, tensors)
    result = found.choice.path.scores(rows)
    if not np.isfinite(result).all():
        raise HttpError(503, "unavailable", "the model gives no finite score for one of the rows")
    return result


def _matrix(site: Site, found: Loaded, tensors: Mapping[str, Tensor]) -> Any:
    """The rows as the model reads them: float32 (n, f), null as NaN."""
    names = found.model.feature_names
    if set(tensors) == set(names):
        columns = [_column(tensors[name]) for name in names]
        if len({len(column) for column in columns}) != 1:
            raise InputError("$.inputs: the tensors have different numbers of rows")
        return _bounded(np.column_stack(columns).astype(np.float32))
    if set(tensors) == {MATRIX}:
        tensor = tensors[MATRIX]
        if tensor.datatype == TEXT or len(tensor.shape) != 2 or tensor.shape[1] != len(names):
            raise InputError(
                f"$.inputs.{MATRIX}: give numbers of shape [rows, {len(names)}], in the order of the metadata"
            )
        return _bounded(np.ascontiguousarray(tensor.values, dtype=np.float32))
    if tensors and set(tensors) <= set(site.service.plan.entities):
        return _read(site, names, tensors)
    missing = sorted(set(names) - set(tensors))[:3]
    raise InputError(
        f"$.inputs: give every feature of the model (missing are {', '.join(missing) or 'none, but there are others'}), "
        f"or {MATRIX} alone, or keys by entity"
    )


def _column(tensor: Tensor) -> Any:
    values = tensor.values
    if isinstance(values, list) or (len(tensor.shape) == 2 and tensor.shape[1] != 1):
        raise InputError(f"$.inputs.{tensor.name}: give numbers of shape [rows] or [rows, 1]")
    return values.reshape(-1)


def _bounded(rows: Any) -> Any:
    if len(rows) > MAX_ROWS:
        raise InputError(f"$.inputs: {len(rows)} rows given, at most {MAX_ROWS} at once")
    return rows


def _read(site: Site, names: Sequence[str], tensors: Mapping[str, Tensor]) -> Any:
    """The features of keys as of now."""
    if len({tensor.rows for tensor in tensors.values()}) != 1:
        raise InputError("$.inputs: the tensors have different numbers of rows")
    keys: dict[str, list[str]] = {}
    for tensor in tensors.values():
        if not isinstance(tensor.values, list) or len(tensor.values) != tensor.rows:
            raise InputError(f"$.inputs.{tensor.name}: keys are BYTES of shape [rows] or [rows, 1]")
        if not all(1 <= len(key) <= 256 for key in tensor.values):
            raise InputError(f"$.inputs.{tensor.name}: a key has 1 to 256 characters")
        keys[tensor.name] = tensor.values
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*keys.values(), strict=True)]
    if not 1 <= len(rows) <= _MAX_KEYS:
        raise InputError(f"$.inputs: {len(rows)} rows of keys given; give 1 to {_MAX_KEYS}")
    answer = site.service.read_features(FeaturesRequest(rows, list(names)))
    return np.array(answer.values, dtype=np.float64).astype(np.float32)
