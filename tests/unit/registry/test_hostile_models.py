"""Model files from an enemy: nothing of them is run, unpacked or followed, and what may be loaded is not theirs to say."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle  # noqa: TID251  to attack with, never to read
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sevenfold.errors import ArtifactError, RegistryError
from sevenfold.models.loader import KINDS, load_model
from sevenfold.models.logistic import LogisticModel
from sevenfold.registry.registry import Registry
from sevenfold.testing.model_suite import sample_dataset


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        """What a reader of pickles would call."""
        return os.mknod, (str(self.mark),)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A good model with arrays."""
    labelled = sample_dataset()
    model = LogisticModel().fit(labelled, np.random.default_rng(0))
    model.save(tmp_path / "model")
    return tmp_path / "model"


def bombs(mark: Path) -> dict[str, bytes]:
    """Files that cost much or run code where they are trusted."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("centre.npy", b"\0" * (32 << 20))
        archive.writestr("../../escaped", b"x")
    objects = io.BytesIO()
    np.save(objects, np.array([Bomb(mark)], dtype=object), allow_pickle=True)
    huge = b"\x93NUMPY\x02\x00" + (0xFFFFFFF0).to_bytes(4, "little") + b"{" * 1_000
    many = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
    claims = b"\x93NUMPY\x01\x00" + len(many).to_bytes(2, "little") + many
    return {
        "pickle": pickle.dumps(Bomb(mark)),
        "pickled array": objects.getvalue(),
        "zip bomb": packed.getvalue(),
        "oversize header": huge,
        "header that claims": claims,
        "header of code": b"\x93NUMPY\x01\x00\x76\x00" + b"__import__('os').mknod('x')".ljust(118),
        "nothing": b"",
    }


@pytest.mark.parametrize("name", bombs(Path()))
@pytest.mark.parametrize("file", ["model.json", "centre.npy", "weights.npy"])
def test_no_file_of_a_model_is_run_or_unpacked(
    folder: Path, tmp_path: Path, file: str, name: str
) -> None:
    mark = tmp_path / "ran"
    (folder / file).write_bytes(bombs(mark)[name])
    with pytest.raises(ArtifactError):
        load_model(folder)
    assert not mark.exists()
    assert not (tmp_path.parent / "escaped").exists()


@pytest.mark.parametrize(
    "name", ["../outside", "/etc/passwd", "a/../../b", "..", "a\\b", "a\0b", "", "con.npy"]
)
def test_no_name_in_a_model_file_leads_out_of_its_folder(folder: Path, name: str) -> None:
    described = json.loads((folder / "model.json").read_text())
    described["arrays"][name] = described["arrays"].pop("centre")
    (folder / "model.json").write_text(json.dumps(described))
    with pytest.raises(ArtifactError):
        load_model(folder)


@pytest.mark.parametrize(
    "more",
    [
        {"kind": "pickle"},
        {"kind": "os.system"},
        {"kind": "sevenfold.models.rule:RuleModel"},
        {"loader_module": "os"},
        {"trusted": ["os.system"]},
        {"allow_pickle": True},
        {"settings": {"l2": 0.1, "max_steps": 5, "allowed_kinds": ["pickle"]}},
    ],
)
def test_a_model_cannot_say_what_may_be_loaded(folder: Path, more: dict[str, Any]) -> None:
    described = json.loads((folder / "model.json").read_text()) | more
    (folder / "model.json").write_text(json.dumps(described))
    with pytest.raises(ArtifactError):
        load_model(folder)


def registered(tmp_path: Path, folder: Path) -> tuple[Registry, int]:
    """A registry in which the model is a version."""
    names = load_model(folder).feature_names
    registry = Registry(tmp_path / "registry")
    version = registry.register(
        folder,
        name="shop",
        feature_names=names,
        feature_hashes=dict.fromkeys(names, "hash"),
        metrics={},
        lineage={},
        created_us=1,
    )
    return registry, version.version


def test_a_wrong_hash_is_found_before_any_of_it_is_parsed(tmp_path: Path, folder: Path) -> None:
    registry, version = registered(tmp_path, folder)
    place = registry.get(version).model_folder / "model.json"
    place.write_bytes(b"\x80\x04" + place.read_bytes()[2:])  # as long as it was
    with pytest.raises(RegistryError, match="SHA-256"):
        registry.load(version)


def test_a_manifest_that_leads_out_is_refused_though_its_own_hash_is_right(
    tmp_path: Path, folder: Path
) -> None:
    registry, version = registered(tmp_path, folder)
    place = registry.get(version).folder / "manifest.json"
    manifest = json.loads(place.read_text())
    manifest["files"][0]["path"] = "../../../../outside"
    raw = msgspec.json.encode(manifest)
    place.write_bytes(raw)
    (place.parent / "manifest.json.sha256").write_text(hashlib.sha256(raw).hexdigest() + "\n")
    with pytest.raises(RegistryError, match="not a plain path"):
        registry.load(version)


def test_a_server_loads_the_kinds_that_it_was_told_to_and_no_other(
    tmp_path: Path, folder: Path
) -> None:
    _, version = registered(tmp_path, folder)
    path = tmp_path / "registry"
    assert Registry(path, {"logistic"}).load(version).kind == "logistic"
    assert Registry(path).load(version).kind == "logistic"
    with pytest.raises(ArtifactError, match="loads \\['lightgbm', 'rule'\\] only"):
        Registry(path, {*KINDS} - {"logistic"}).load(version)
