"""Versions of models that never change, and names that move between them.

registry/
  versions/000001/manifest.json, manifest.json.sha256, model/...
  aliases/champion.json                  {"version": 1}
  history.jsonl                          every promotion, with its reason
  incoming/                              versions being copied; never read
  lock
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import msgspec

from sevenfold.errors import ArtifactError, NotFoundError, RegistryError
from sevenfold.models.loader import KINDS, load_model
from sevenfold.models.protocol import Model
from sevenfold.registry import history as histories
from sevenfold.registry.history import Promotion
from sevenfold.registry.manifest import (
    FORMAT,
    MODEL_FOLDER,
    Manifest,
    check_files,
    list_files,
    read_manifest,
    signature,
    write_manifest,
)
from sevenfold.stores.durable import locked, replace_file, sync_folder, sync_tree
from sevenfold.watch import Watch

__all__ = ["TRIALS_FOLDER", "ModelVersion", "Registry"]

TRIALS_FOLDER = "trials"

_VERSION = re.compile(r"[0-9]{6,}")
_ALIAS = re.compile(r"[a-z][a-z0-9_]{0,63}")


class _Alias(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    version: int


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A version as registered: its folder and its manifest. `model_folder` holds the model's files."""

    folder: Path
    manifest: Manifest

    @property
    def version(self) -> int:
        """The number of the version, from 1."""
        return self.manifest.version

    @property
    def model_folder(self) -> Path:
        """The folder that `load_model` reads."""
        return self.folder / MODEL_FOLDER

    @property
    def signature(self) -> str:
        """The hash of the features, in order and with their definitions, that the model reads."""
        return signature(self.manifest.feature_names, self.manifest.feature_hashes)


class Registry:
    """A registry in a folder, made when it is not there.

    Any number of processes may use it at once: readers never wait, and writers take turns by a lock on
    the folder's file `lock`. A process killed at any instant leaves every version and alias as it was
    or as it was to become; opening the registry finishes a promotion that was already in the history.
    Models of other than `kinds` are not loaded, whatever their files say; None stands for all that are known. `watch` tells
    whether an alias or a trial may have moved.
    """

    def __init__(self, path: Path, kinds: Collection[str] | None = None) -> None:
        self.path = Path(path)
        self._kinds = frozenset(KINDS if kinds is None else kinds)
        self.watch = Watch([self.path, self.path / "aliases", self.path / TRIALS_FOLDER])
        for name in ("versions", "aliases", "incoming"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        with self._writing():
            pass

    def register(
        self,
        model_folder: Path,
        *,
        name: str,
        feature_names: Sequence[str],
        feature_hashes: Mapping[str, str],
        metrics: Mapping[str, float],
        lineage: Mapping[str, Any],
        created_us: int,
    ) -> ModelVersion:
        """The new version that holds a copy of the files in `model_folder`.

        Raises RegistryError when the folder has links, strange or too large files, when the features
        named are not those of the model or not those hashed, or when a metric is not finite.
        """
        if set(feature_names) != set(feature_hashes):
            raise RegistryError(
                "$.feature_hashes must have the hash of every feature of the model, and no other: "
                f"they differ in {sorted(set(feature_names) ^ set(feature_hashes))}"
            )
        entries = list_files(Path(model_folder))
        self._check_model(Path(model_folder), feature_names)
        with self._writing():
            version = max(self.versions(), default=0) + 1
            manifest = Manifest(
                FORMAT,
                version,
                name,
                created_us,
                tuple(feature_names),
                dict(feature_hashes),
                dict(metrics),
                dict(lineage),
                tuple(entries),
            )
            return self._publish(Path(model_folder), manifest)

    def get(self, version: int) -> ModelVersion:
        """The version of that number, its manifest checked; NotFoundError when there is none."""
        folder = self.path / "versions" / f"{version:06d}"
        if version < 1 or not folder.is_dir() or folder.is_symlink():
            raise NotFoundError(
                f"version {version} is not in {self.path}, which has {self.versions()}"
            )
        return ModelVersion(folder, read_manifest(folder))

    def verify(self, version: int) -> ModelVersion:
        """The version of that number, every file compared with its SHA-256; parses no model file.

        Raises RegistryError when a file is changed, missing, added, too large, or a link.
        """
        found = self.get(version)
        check_files(found.model_folder, found.manifest.files)
        return found

    def load(self, version: int) -> Model:
        """The model of that version: verified first, then loaded if its kind is one that this registry loads."""
        found = self.verify(version)
        model = load_model(found.model_folder, self._kinds)
        if model.feature_names != found.manifest.feature_names:
            raise RegistryError(f"version {version} reads other features than its manifest names")
        return model

    def require_signature(
        self, version: int, feature_names: Sequence[str], feature_hashes: Mapping[str, str]
    ) -> ModelVersion:
        """The version, when it reads exactly these features with these definitions, in this order.

        `feature_hashes` may hold more features. Raises RegistryError naming what differs.
        """
        found = self.get(version)
        wanted, hashes = found.manifest.feature_names, found.manifest.feature_hashes
        if wanted != tuple(feature_names):
            raise RegistryError(
                f"version {version} reads other features, or in another order: "
                f"{_first_difference(wanted, feature_names)}"
            )
        changed = [name for name in wanted if feature_hashes.get(name) != hashes[name]]
        if changed:
            raise RegistryError(
                f"version {version} was trained on other definitions of {changed}: train a new version"
            )
        return found

    def versions(self) -> list[int]:
        """The numbers of all versions, in order."""
        names = (entry.name for entry in (self.path / "versions").iterdir())
        return sorted(int(name) for name in names if _VERSION.fullmatch(name))

    def alias_path(self, name: str) -> Path:
        """The file of an alias: it is replaced when the alias moves, so a `stat` tells that it has."""
        if not _ALIAS.fullmatch(name):
            raise RegistryError(f"{name!r} is not an alias: give lower-case letters, digits and _")
        return self.path / "aliases" / f"{name}.json"

    def alias(self, name: str) -> int | None:
        """The number of the version that `name` points to; None when it was never set."""
        path = self.alias_path(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=_Alias).version
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as error:
            raise RegistryError(
                f"{path} is not an alias: {error}; open the registry again"
            ) from error

    def set_alias(self, name: str, version: int, reason: str, at_us: int) -> Promotion:
        """The promotion that points `name` to `version`, on disk; the version is verified first."""
        return self._move("set", name, version, reason, at_us)

    def rollback(self, name: str, reason: str, at_us: int) -> Promotion:
        """The promotion that undoes the last one of `name` that stands.

        Raises RegistryError when there is none before it.
        """
        return self._move("rollback", name, None, reason, at_us)

    def clear_alias(
        self, name: str, reason: str, at_us: int, expected: int | None = None
    ) -> Promotion | None:
        """The move that has `name` point nowhere; None where it does, or not to the `expected` version."""
        path = self.alias_path(name)
        _require_reason(name, reason)
        with self._writing():
            before = self.alias(name)
            if before is None or expected not in (None, before):
                return None
            promotion = Promotion("clear", name, before, 0, at_us, reason)
            histories.append(self._history_path, promotion)
            self._point(path, 0)
        return promotion

    def history(self) -> list[Promotion]:
        """Every promotion, the oldest first."""
        return histories.read_history(self._history_path)

    @property
    def _history_path(self) -> Path:
        return self.path / "history.jsonl"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the lock, with whatever a killed writer left behind put right."""
        with locked(self.path / "lock"):
            for left in (self.path / "incoming").iterdir():
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()
            histories.trim(self._history_path)
            for name, version in histories.current(self.history()).items():
                if self._points_to(name) != (version or None):
                    self._point(self.alias_path(name), version)
            yield

    def _points_to(self, name: str) -> int | None:
        try:
            return self.alias(name)
        except RegistryError:
            return None

    def _check_model(self, folder: Path, feature_names: Sequence[str]) -> None:
        try:
            found = load_model(folder).feature_names
        except ArtifactError as error:
            raise RegistryError(f"{folder} is not a model that can be loaded: {error}") from error
        if found != tuple(feature_names):
            raise RegistryError(
                "$.feature_names are not those of the model: "
                f"{_first_difference(found, feature_names)}"
            )

    def _publish(self, source: Path, manifest: Manifest) -> ModelVersion:
        label = f"{manifest.version:06d}"
        incoming, final = self.path / "incoming" / label, self.path / "versions" / label
        for entry in manifest.files:
            target = incoming / MODEL_FOLDER / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source / entry.path, target, follow_symlinks=False)
        # What was hashed is what was copied, even if the source changed meanwhile.
        check_files(incoming / MODEL_FOLDER, manifest.files)
        write_manifest(incoming, manifest)
        sync_tree(incoming)
        incoming.rename(final)
        sync_folder(final.parent)
        return ModelVersion(final, manifest)

    def _move(self, kind: str, name: str, to: int | None, reason: str, at_us: int) -> Promotion:
        path = self.alias_path(name)
        _require_reason(name, reason)
        with self._writing():
            version = histories.previous(self.history(), name) if to is None else to
            if version is None:
                raise RegistryError(f"alias {name!r} has no earlier version to roll back to")
            self.verify(version)
            promotion = Promotion(kind, name, self.alias(name), version, at_us, reason)
            histories.append(self._history_path, promotion)
            self._point(path, version)
        return promotion

    def _point(self, path: Path, version: int) -> None:
        if not version:
            path.unlink(missing_ok=True)
            sync_folder(path.parent)
            return
        replace_file(path, msgspec.json.encode(_Alias(version)) + b"\n")


def _require_reason(name: str, reason: str) -> None:
    if not reason.strip():
        raise RegistryError(f"alias {name!r} cannot move without a reason: say why in a sentence")


def _first_difference(wanted: Sequence[str], given: Sequence[str]) -> str:
    for at, (one, other) in enumerate(zip_longest(wanted, given)):
        if one != other:
            return f"column {at} is {one!r} for the model and {other!r} as given"
    return "none"
