"""Versions never change, aliases move with a reason, and nothing damaged is ever loaded."""

from __future__ import annotations

import hashlib
import json
import os

import msgspec
import pytest

from sevenfold.errors import NotFoundError, RegistryError
from sevenfold.registry import manifest as manifests
from sevenfold.registry.registry import Registry
from sevenfold.testing.model_suite import sample_dataset


def test_a_version_is_a_verified_copy(registry, version, model_folder, facts) -> None:
    assert version.version == 1
    assert registry.versions() == [1]
    content = (model_folder / "model.json").read_bytes()
    (model_folder / "model.json").write_bytes(b"changed later")
    verified = registry.verify(1)
    assert (verified.model_folder / "model.json").read_bytes() == content
    assert verified.manifest.files[0].sha256 == hashlib.sha256(content).hexdigest()
    for key, value in facts.items():
        assert getattr(verified.manifest, key) == value
    x = sample_dataset().x
    assert registry.load(1).scores(x).shape == (len(x),)


def test_versions_count_up_and_are_the_same_for_another_reader(
    registry, model_folder, facts
) -> None:
    found = [registry.register(model_folder, **facts).version for _ in range(3)]
    assert found == [1, 2, 3]
    other = Registry(registry.path)
    assert other.versions() == [1, 2, 3]
    assert other.get(2) == registry.get(2)


@pytest.mark.parametrize("version", [0, -1, 2, 999_999])
def test_an_unknown_version_is_not_found(registry, version) -> None:
    with pytest.raises(NotFoundError, match="is not in"):
        registry.get(version)


def test_the_signature_is_that_of_names_order_and_definitions(registry, version, facts) -> None:
    names, hashes = facts["feature_names"], facts["feature_hashes"]
    more = hashes | {"another": "hash"}
    assert registry.require_signature(1, names, more).signature == version.signature
    turned = (names[1], names[0], *names[2:])
    with pytest.raises(
        RegistryError, match="column 0 is 'signal' for the model and 'noise' as given"
    ):
        registry.require_signature(1, turned, hashes)
    with pytest.raises(RegistryError, match="column 5 is None for the model and 'more'"):
        registry.require_signature(1, (*names, "more"), hashes)
    with pytest.raises(RegistryError, match=r"other definitions of \['holes'\]"):
        registry.require_signature(1, names, hashes | {"holes": "changed"})
    with pytest.raises(RegistryError, match=r"other definitions of \['holes'\]"):
        registry.require_signature(1, names, {k: v for k, v in hashes.items() if k != "holes"})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"metrics": {"auc": float("nan")}}, r"\['auc'\] are not finite"),
        ({"lineage": {"what": object()}}, "plain JSON"),
        ({"feature_hashes": {"signal": "x"}}, "the hash of every feature"),
        (
            {"feature_names": ("noise", "signal", "holes", "constant", "never_known")},
            "not those of the model",
        ),
    ],
)
def test_facts_that_are_not_true_are_refused(registry, model_folder, facts, change, words) -> None:
    with pytest.raises(RegistryError, match=words):
        registry.register(model_folder, **(facts | change))
    assert registry.versions() == []
    assert registry.register(model_folder, **facts).version == 1


def test_folders_that_are_no_models_are_refused(registry, tmp_path, model_folder, facts) -> None:
    (tmp_path / "empty").mkdir()
    for folder, words in (("empty", "holds no files"), ("nothing", "missing")):
        with pytest.raises(RegistryError, match=words):
            registry.register(tmp_path / folder, **facts)
    (model_folder / "model.json").write_text("{}")
    with pytest.raises(RegistryError, match="not a model that can be loaded"):
        registry.register(model_folder, **facts)


def test_links_and_devices_are_not_registered(registry, tmp_path, model_folder, facts) -> None:
    (tmp_path / "secret").write_text("secret")
    (model_folder / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(RegistryError, match="a link or a device"):
        registry.register(model_folder, **facts)
    (model_folder / "link").unlink()
    os.mkfifo(model_folder / "pipe")
    with pytest.raises(RegistryError, match="a link or a device"):
        registry.register(model_folder, **facts)


def test_a_linked_folder_is_not_registered(registry, tmp_path, model_folder, facts) -> None:
    (model_folder / "more").symlink_to(tmp_path)
    with pytest.raises(RegistryError, match="a link or a device"):
        registry.register(model_folder, **facts)


def test_too_large_a_file_and_too_many_are_refused(registry, model_folder, facts) -> None:
    with (model_folder / "huge").open("wb") as stream:
        stream.truncate(manifests.MAX_FILE_BYTES + 1)
    with pytest.raises(RegistryError, match="at most"):
        registry.register(model_folder, **facts)
    (model_folder / "huge").unlink()
    for i in range(manifests.MAX_FILES):
        (model_folder / f"file{i}").write_text("")
    with pytest.raises(RegistryError, match="more than 64 files"):
        registry.register(model_folder, **facts)


def flip(path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)


def test_any_change_to_a_model_file_is_found_before_it_is_parsed(registry, version) -> None:
    folder = version.model_folder
    content = (folder / "model.json").read_bytes()
    flip(folder / "model.json")
    for call in (registry.verify, registry.load):
        with pytest.raises(RegistryError, match="SHA-256"):
            call(1)
    (folder / "model.json").write_bytes(content + b" ")
    with pytest.raises(RegistryError, match="were registered"):
        registry.verify(1)
    (folder / "model.json").unlink()
    with pytest.raises(RegistryError, match=r"missing \['model.json'\]"):
        registry.verify(1)
    (folder / "model.json").write_bytes(content)
    (folder / "extra").write_text("")
    with pytest.raises(RegistryError, match=r"not registered \['extra'\]"):
        registry.verify(1)
    (folder / "extra").unlink()
    assert registry.verify(1) == version


def test_a_link_in_place_of_a_registered_file_is_refused(registry, version, tmp_path) -> None:
    file = version.model_folder / "model.json"
    (tmp_path / "same").write_bytes(file.read_bytes())
    file.unlink()
    file.symlink_to(tmp_path / "same")
    with pytest.raises(RegistryError, match="a link or a device"):
        registry.verify(1)


def test_a_linked_version_is_not_found(registry, version) -> None:
    (registry.path / "versions" / "000002").symlink_to(version.folder)
    with pytest.raises(NotFoundError):
        registry.get(2)


def rewrite(folder, change) -> None:
    """A manifest changed together with its hash, as someone with access to the folder could."""
    path = folder / "manifest.json"
    content = change(json.loads(path.read_text()))
    raw = json.dumps(content).encode()
    path.write_bytes(raw)
    (folder / "manifest.json.sha256").write_text(hashlib.sha256(raw).hexdigest())


@pytest.mark.parametrize(
    "path", ["../../000002/model/x", "/etc/passwd", "a//b", "./a", "a\\b", "", "a/.."]
)
def test_a_path_that_leaves_the_folder_is_refused(registry, version, path) -> None:
    entry = {"path": path, "size": 1, "sha256": "0" * 64}
    rewrite(version.folder, lambda m: m | {"files": [*m["files"], entry]})
    with pytest.raises(RegistryError, match="not a plain path"):
        registry.verify(1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"version": 2}, "is of version 2, but lies in 000001"),
        ({"format": 9}, "of format 9"),
        ({"surprise": 1}, "unknown field"),
        ({"files": "all"}, "not a manifest"),
        ({"feature_names": ["a"], "feature_hashes": {"a": "1"}}, "reads other features"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(registry, version, change, words) -> None:
    rewrite(version.folder, lambda m: m | change)
    with pytest.raises(RegistryError, match=words):
        registry.load(1)


def test_a_damaged_manifest_is_refused_before_it_is_parsed(registry, version) -> None:
    flip(version.folder / "manifest.json")
    with pytest.raises(RegistryError, match="SHA-256 is another"):
        registry.get(1)
    (version.folder / "manifest.json").unlink()
    with pytest.raises(RegistryError, match="cannot be read"):
        registry.get(1)
    with (version.folder / "manifest.json").open("wb") as stream:
        stream.truncate(manifests.MAX_MANIFEST_BYTES + 1)
    with pytest.raises(RegistryError, match="larger than"):
        registry.get(1)


@pytest.fixture
def three(registry, model_folder, facts):
    for _ in range(3):
        registry.register(model_folder, **facts)
    return registry


def test_an_alias_moves_with_a_reason(three) -> None:
    assert three.alias("champion") is None
    three.set_alias("champion", 1, "the first", 10)
    before = three.alias_path("champion").stat()
    three.set_alias("champion", 2, "better by 0.01", 20)
    assert three.alias("champion") == 2
    assert three.alias_path("champion").stat().st_ino != before.st_ino
    three.set_alias("challenger", 3, "to be compared", 30)
    told = [(p.kind, p.alias, p.before, p.version, p.at_us, p.reason) for p in three.history()]
    assert told == [
        ("set", "champion", None, 1, 10, "the first"),
        ("set", "champion", 1, 2, 20, "better by 0.01"),
        ("set", "challenger", None, 3, 30, "to be compared"),
    ]


def test_rolling_back_goes_back_and_not_to_and_fro(three) -> None:
    for version in (1, 2, 2, 3):
        three.set_alias("champion", version, "better", version)
    assert three.rollback("champion", "errors rose", 5).version == 2
    assert three.rollback("champion", "still", 6).version == 1
    assert three.alias("champion") == 1
    with pytest.raises(RegistryError, match="no earlier version"):
        three.rollback("champion", "again", 7)
    three.set_alias("champion", 3, "fixed", 8)
    assert three.rollback("champion", "no", 9).version == 1
    assert [p.kind for p in three.history()][4:] == ["rollback", "rollback", "set", "rollback"]


@pytest.mark.parametrize("name", ["../champion", "Champion", "", "a b", "a/b", "9", "x" * 65])
def test_a_name_that_is_no_alias_is_refused(three, name) -> None:
    with pytest.raises(RegistryError, match="is not an alias"):
        three.set_alias(name, 1, "why", 1)


def test_an_alias_only_moves_to_a_whole_version_and_for_a_reason(three) -> None:
    with pytest.raises(RegistryError, match="without a reason"):
        three.set_alias("champion", 1, "  ", 1)
    with pytest.raises(NotFoundError):
        three.set_alias("champion", 4, "better", 1)
    flip(three.get(2).model_folder / "model.json")
    with pytest.raises(RegistryError, match="SHA-256"):
        three.set_alias("champion", 2, "better", 1)
    assert three.history() == []
    assert three.alias("champion") is None


def test_a_promotion_in_the_history_is_finished_when_the_registry_is_opened(three) -> None:
    three.set_alias("champion", 1, "the first", 1)
    promotion = msgspec.structs.replace(three.history()[0], before=1, version=2)
    with (three.path / "history.jsonl").open("ab") as stream:
        stream.write(msgspec.json.encode(promotion) + b"\n")
    assert three.alias("champion") == 1
    assert Registry(three.path).alias("champion") == 2


def test_a_line_that_a_crash_cut_off_never_happened(three) -> None:
    three.set_alias("champion", 1, "the first", 1)
    with (three.path / "history.jsonl").open("ab") as stream:
        stream.write(b'{"kind":"set","alias":"champ')
    assert len(three.history()) == 1
    again = Registry(three.path)
    again.set_alias("champion", 2, "better", 2)
    assert [p.version for p in again.history()] == [1, 2]


def test_a_damaged_line_inside_the_history_is_told(three) -> None:
    three.set_alias("champion", 1, "the first", 1)
    path = three.path / "history.jsonl"
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    with pytest.raises(RegistryError, match="line 1, is not a promotion"):
        three.history()


def test_a_damaged_alias_is_made_again_from_the_history(three) -> None:
    three.set_alias("champion", 1, "the first", 1)
    three.alias_path("champion").write_bytes(b"")
    with pytest.raises(RegistryError, match="open the registry again"):
        three.alias("champion")
    assert Registry(three.path).alias("champion") == 1


def test_copies_that_were_never_finished_are_swept_away(three, model_folder, facts) -> None:
    left = three.path / "incoming" / "000004"
    (left / "model").mkdir(parents=True)
    (left / "model" / "model.json").write_bytes(b"half")
    assert three.versions() == [1, 2, 3]
    assert three.register(model_folder, **facts).version == 4
    assert three.verify(4)
    assert list((three.path / "incoming").iterdir()) == []
