"""What a version of a model is made of: every file with its size and SHA-256, checked before it is read."""

from __future__ import annotations

import hashlib
import math
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedReader
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import RegistryError
from sevenfold.hashing import canonical_json, digest

__all__ = [
    "FORMAT",
    "FileEntry",
    "Manifest",
    "check_files",
    "list_files",
    "read_manifest",
    "signature",
    "write_manifest",
]

FORMAT = 1
MANIFEST_FILE = "manifest.json"
MODEL_FOLDER = "model"
MAX_FILES = 64
MAX_FILE_BYTES = 1 << 30
MAX_MANIFEST_BYTES = 4 << 20


class FileEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of the model: its path below the model's folder with `/`, its size and its SHA-256."""

    path: str
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that is known of a version; it never changes.

    `feature_hashes` maps each of `feature_names` to the hash of its definition; `lineage` says what the
    model was made from (training set, log position, code version, parent version).
    """

    format: int
    version: int
    name: str
    created_us: int
    feature_names: tuple[str, ...]
    feature_hashes: dict[str, str]
    metrics: dict[str, float]
    lineage: dict[str, Any]
    files: tuple[FileEntry, ...]


def signature(feature_names: Iterable[str], feature_hashes: Mapping[str, str]) -> str:
    """The hash of the features in order with their definitions: what a model can read.

    >>> signature(["b", "a"], {"a": "1", "b": "2"}) == signature(["a", "b"], {"a": "1", "b": "2"})
    False
    """
    return digest(canonical_json([[name, feature_hashes[name]] for name in feature_names]))


def list_files(folder: Path) -> list[FileEntry]:
    """The files below `folder`, ordered by path, with size and SHA-256.

    Raises RegistryError for links, devices, too many or too large files, or none at all.
    """
    entries = [_entry(folder, path) for path in sorted(_walk(folder))]
    if not entries:
        raise RegistryError(f"{folder} holds no files: give the folder that a model was saved into")
    return entries


def check_files(folder: Path, entries: Iterable[FileEntry]) -> None:
    """Raise RegistryError unless the files below `folder` are exactly those listed, byte for byte.

    Paths and sizes are compared first, so a large stranger is not even hashed.
    """
    wanted = {entry.path: entry for entry in entries}
    for name in wanted:
        _check_path(name)
    found = {_relative(folder, path): path for path in _walk(folder)}
    if found.keys() != wanted.keys():
        missing, extra = sorted(wanted.keys() - found.keys()), sorted(found.keys() - wanted.keys())
        raise RegistryError(
            f"{folder} is not what was registered: missing {missing}, not registered {extra}"
        )
    for name, path in found.items():
        size = path.lstat().st_size
        if size != wanted[name].size:
            raise RegistryError(f"{path} has {size} bytes; {wanted[name].size} were registered")
    for name, path in found.items():
        if _sha256(path) != wanted[name].sha256:
            raise RegistryError(
                f"{path} has changed since it was registered: its SHA-256 is another"
            )


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest and, beside it, its SHA-256."""
    odd = [name for name, value in manifest.metrics.items() if not math.isfinite(value)]
    if odd:
        raise RegistryError(
            f"$.metrics: {odd} are not finite; leave out what could not be measured"
        )
    try:
        encoded = msgspec.json.encode(manifest, order="sorted")
        raw = msgspec.json.format(encoded, indent=1) + b"\n"
    except (TypeError, ValueError) as error:
        raise RegistryError(
            f"$.lineage and $.metrics must be plain JSON values: {error}"
        ) from error
    if len(raw) > MAX_MANIFEST_BYTES:
        raise RegistryError(
            f"the manifest has {len(raw)} bytes; at most {MAX_MANIFEST_BYTES} are allowed"
        )
    (folder / MANIFEST_FILE).write_bytes(raw)
    (folder / f"{MANIFEST_FILE}.sha256").write_text(hashlib.sha256(raw).hexdigest() + "\n")


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version folder, hashed before it is parsed; RegistryError when it is damaged."""
    path = folder / MANIFEST_FILE
    raw = _read_small(path, MAX_MANIFEST_BYTES)
    wanted = _read_small(folder / f"{MANIFEST_FILE}.sha256", 256).decode("ascii", "replace").strip()
    if hashlib.sha256(raw).hexdigest() != wanted:
        raise RegistryError(f"{path} has changed since it was registered: its SHA-256 is another")
    try:
        manifest = msgspec.json.decode(raw, type=Manifest)
    except msgspec.DecodeError as error:
        raise RegistryError(f"{path} is not a manifest: {error}") from error
    if manifest.format != FORMAT:
        raise RegistryError(f"{path} is of format {manifest.format}; this version reads {FORMAT}")
    if folder.name != f"{manifest.version:06d}":
        raise RegistryError(f"{path} is of version {manifest.version}, but lies in {folder.name}")
    return manifest


def _check_path(path: str) -> None:
    parts = path.split("/")
    if not path or "\\" in path or "\0" in path or any(part in {"", ".", ".."} for part in parts):
        raise RegistryError(f"$.files names {path!r}, which is not a plain path below the model")


def _walk(folder: Path) -> Iterator[Path]:
    """Every plain file below `folder`; RegistryError for anything that is neither file nor folder."""
    if folder.is_symlink() or not folder.is_dir():
        raise RegistryError(f"{folder} is missing or is not a folder")
    count = 0
    for where, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(where, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            if not stat.S_ISREG(mode):
                raise RegistryError(f"{path} is a link or a device: a model has plain files only")
            count += 1
            if count > MAX_FILES:
                raise RegistryError(f"{folder} holds more than {MAX_FILES} files")
            yield path


def _relative(folder: Path, path: Path) -> str:
    return path.relative_to(folder).as_posix()


def _entry(folder: Path, path: Path) -> FileEntry:
    size = path.lstat().st_size
    if size > MAX_FILE_BYTES:
        raise RegistryError(f"{path} has {size} bytes; at most {MAX_FILE_BYTES} are allowed")
    name = _relative(folder, path)
    _check_path(name)
    return FileEntry(name, size, _sha256(path))


def _sha256(path: Path) -> str:
    with _open(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _read_small(path: Path, limit: int) -> bytes:
    with _open(path) as stream:
        raw = stream.read(limit + 1)
    if len(raw) > limit:
        raise RegistryError(f"{path} is larger than the {limit} bytes allowed")
    return raw


def _open(path: Path) -> BufferedReader:
    # O_NOFOLLOW: a link put here after the walk is not followed either.
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb")
    except OSError as error:
        raise RegistryError(f"{path} cannot be read: {error.strerror}") from error
