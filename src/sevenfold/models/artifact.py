"""The files of a model: one JSON file that says everything, `.npy` arrays and plain text beside it.

Nothing in an artifact is executed: no pickle, no import path, no expression. Whatever a file claims is
checked against `model.json` and against its size before memory is taken for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from sevenfold.errors import ArtifactError

__all__ = [
    "MODEL_FILE",
    "ArrayEntry",
    "Artifact",
    "ModelFile",
    "read_artifact",
    "read_header",
    "write_artifact",
]

MODEL_FILE = "model.json"
_FORMAT = 1
_MAX_JSON_BYTES = 4 << 20
_MAX_BYTES = 1 << 30
_NPY_HEADER_BYTES = 4096
_NPY_MAGIC = b"\x93NUMPY\x01\x00"


class ArrayEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an array file must hold: the type of its numbers and its shape."""

    dtype: str
    shape: tuple[int, ...]


class ModelFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `model.json`: the kind, its settings, and the names of all other files."""

    format: int
    kind: str
    feature_names: tuple[str, ...]
    settings: dict[str, Any]
    arrays: dict[str, ArrayEntry] = {}
    texts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """An artifact that was read: `model.json`, the arrays and the texts by name."""

    file: ModelFile
    arrays: Mapping[str, npt.NDArray[Any]]
    texts: Mapping[str, str]


def write_artifact(
    folder: Path,
    file: ModelFile,
    arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    texts: Mapping[str, str] | None = None,
) -> None:
    """Write `model.json`, the arrays as `NAME.npy` and the texts as `NAME.txt` into `folder`.

    Raises ArtifactError when the folder holds files already: an artifact is written once.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise ArtifactError(f"{folder} is not empty: save a model into a new folder")
    arrays, texts = arrays or {}, texts or {}
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array), allow_pickle=False)
    for name, text in texts.items():
        (folder / f"{name}.txt").write_bytes(text.encode())
    entries = {name: ArrayEntry(array.dtype.str, array.shape) for name, array in arrays.items()}
    whole = msgspec.structs.replace(file, arrays=entries, texts=tuple(texts))
    encoded = msgspec.json.format(msgspec.json.encode(whole), indent=1)
    (folder / MODEL_FILE).write_bytes(encoded + b"\n")


def read_header(folder: Path) -> ModelFile:
    """The checked content of `model.json`; ArtifactError when it is missing, damaged or newer."""
    raw = _read(folder / MODEL_FILE, _MAX_JSON_BYTES)
    try:
        file = msgspec.json.decode(raw, type=ModelFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{folder / MODEL_FILE} is not a model file: {error}") from error
    if file.format != _FORMAT:
        raise ArtifactError(
            f"{folder / MODEL_FILE} is of format {file.format}; this version reads {_FORMAT}"
        )
    if not file.feature_names or len(set(file.feature_names)) != len(file.feature_names):
        raise ArtifactError(f"{folder / MODEL_FILE} names no features, or one of them twice")
    for name in (*file.arrays, *file.texts):
        if not name.isidentifier():
            raise ArtifactError(
                f"{folder / MODEL_FILE} names the file {name!r}, which is not a plain name"
            )
    return file


def read_artifact(
    folder: Path, kind: str, arrays: Mapping[str, ArrayEntry], texts: tuple[str, ...] = ()
) -> Artifact:
    """The artifact in `folder`, which must be of `kind` and hold exactly these arrays and texts.

    `arrays` maps each name to what it must hold: float64 (`<f8`), finite, or float32 (`<f4`), rows of features with
    null as NaN and not infinite.
    """
    file = read_header(folder)
    if file.kind != kind:
        raise ArtifactError(f"{folder} holds a {file.kind!r} model, not a {kind!r} model")
    given = (set(file.arrays), set(file.texts))
    if given != (set(arrays), set(texts)):
        raise ArtifactError(
            f"{folder / MODEL_FILE} lists {sorted(given[0] | given[1])}; a {kind!r} model has "
            f"{sorted({*arrays, *texts})}"
        )
    return Artifact(
        file,
        {name: _array(folder, name, file.arrays[name], entry) for name, entry in arrays.items()},
        {name: _text(folder / f"{name}.txt") for name in texts},
    )


def _read(path: Path, limit: int) -> bytes:
    try:
        if path.is_symlink() or not path.is_file():
            raise ArtifactError(f"{path} is missing or is not a plain file")
        size = path.stat().st_size
        if size > limit:
            raise ArtifactError(f"{path} has {size} bytes; at most {limit} are allowed")
        return path.read_bytes()
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error}") from error


def _text(path: Path) -> str:
    try:
        return _read(path, _MAX_BYTES).decode()
    except UnicodeDecodeError as error:
        raise ArtifactError(f"{path} is not UTF-8 text") from error


def _array(folder: Path, name: str, entry: ArrayEntry, wanted: ArrayEntry) -> npt.NDArray[Any]:
    path = folder / f"{name}.npy"
    if entry != wanted:
        raise ArtifactError(
            f"{folder / MODEL_FILE}: array {name!r} is {entry.dtype} {entry.shape}, must be "
            f"{wanted.dtype} {wanted.shape}"
        )
    dtype, size = np.dtype(wanted.dtype), math.prod(wanted.shape)
    raw = _read(path, dtype.itemsize * size + _NPY_HEADER_BYTES)
    # The only header `save` can have written is compared, not parsed: numpy reads headers as Python.
    known = f"{{'descr': '{wanted.dtype}', 'fortran_order': False, 'shape': {wanted.shape}, }}"
    end = len(_NPY_MAGIC) + 2 + int.from_bytes(raw[len(_NPY_MAGIC) :][:2], "little")
    header, body = raw[len(_NPY_MAGIC) + 2 : end], raw[end:]
    if raw[: len(_NPY_MAGIC)] != _NPY_MAGIC or header.rstrip() != known.encode():
        raise ArtifactError(f"{path} is not an array file of {wanted.dtype} {wanted.shape}")
    if len(body) != dtype.itemsize * size:
        raise ArtifactError(
            f"{path} holds {len(body)} bytes of numbers, not {dtype.itemsize} for each of {wanted.shape}"
        )
    values = np.frombuffer(body, dtype=dtype).astype(dtype.newbyteorder("=")).reshape(wanted.shape)
    if np.isinf(values).any() or (dtype.itemsize == 8 and np.isnan(values).any()):
        raise ArtifactError(f"{path} holds numbers that are not finite")
    return values
