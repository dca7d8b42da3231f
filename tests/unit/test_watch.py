"""Looks that count: each change of a file is seen by the first look after it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sevenfold import watch as watching
from sevenfold.stores.durable import replace_file
from sevenfold.watch import Watch

on_linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks that count for the sake of file systems that do not tell would hide a missed change."""
    monkeypatch.setattr(watching, "_TRUSTED_S", 3_600.0)


def _changes(folder: Path) -> dict[str, object]:
    name = folder / "champion.json"
    return {
        "made": lambda: name.write_bytes(b"1"),
        "replaced": lambda: replace_file(name, b"2"),
        "written to": lambda: os.truncate(name, 0),
        "moved away": lambda: name.rename(folder / "other"),
        "moved back": lambda: (folder / "other").rename(name),
        "put over it": lambda: (folder.parent / "new").replace(name),
        "deleted": name.unlink,
    }


@on_linux
@pytest.mark.usefixtures("trusted")
def test_each_change_in_a_folder_is_counted_once(tmp_path: Path) -> None:
    folder = tmp_path / "aliases"
    folder.mkdir()
    (tmp_path / "new").write_bytes(b"4")
    watch = Watch([folder])
    first = watch.look()
    assert watch.look() == first
    for what, change in _changes(folder).items():
        before = watch.look()
        change()  # type: ignore[operator]
        after = watch.look()
        assert after > before, what
        assert watch.look() == after, what


@on_linux
@pytest.mark.usefixtures("trusted")
def test_a_folder_that_is_made_later_is_watched(tmp_path: Path) -> None:
    inner = tmp_path / "trials"
    watch = Watch([tmp_path, inner])
    before = watch.look()
    inner.mkdir()
    made = watch.look()
    assert made > before
    (inner / "canary.json").write_bytes(b"1")
    assert watch.look() > made


@on_linux
@pytest.mark.usefixtures("trusted")
@pytest.mark.parametrize("how", ["deleted", "replaced", "moved", "moved with its folder"])
def test_a_file_that_loses_its_name_is_noticed_and_writing_to_it_is_not(
    tmp_path: Path, how: str
) -> None:
    file = tmp_path / "home" / "store" / "aside"
    file.parent.mkdir(parents=True)
    file.write_bytes(bytes(100))
    with file.open("r+b") as held:
        watch = Watch([file], content=False)
        before = watch.look()
        os.pwrite(held.fileno(), b"answer", 0)
        os.fdatasync(held.fileno())
        assert watch.look() == before
        if how == "deleted":
            file.unlink()
        elif how == "replaced":
            replace_file(file, b"another")
        elif how == "moved":
            file.rename(tmp_path / "elsewhere")
        else:
            for folder in (file.parent, file.parent.parent):
                folder.rename(tmp_path / "elsewhere")
                assert watch.look() > before
                before = watch.look()
                (tmp_path / "elsewhere").rename(folder)
        assert watch.look() > before


@on_linux
@pytest.mark.usefixtures("trusted")
def test_a_change_by_another_process_is_seen_when_that_has_ended(tmp_path: Path) -> None:
    watch = Watch([tmp_path])
    before = watch.look()
    script = "import pathlib, sys; pathlib.Path(sys.argv[1], 'champion.json').write_text('1')"
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert watch.look() > before


@on_linux
@pytest.mark.usefixtures("trusted")
def test_an_event_loop_hears_before_what_was_sent_after_the_change(tmp_path: Path) -> None:
    seen: list[int] = []

    async def main() -> int:
        loop = asyncio.get_running_loop()
        watch = Watch([tmp_path])
        ended = watch.heard_by(loop)
        before = watch.look()
        read, write = os.pipe()
        done = loop.create_future()

        def asked() -> None:
            os.read(read, 1)
            # A request is heard in one round, and answered in a later one.
            loop.call_soon(lambda: done.set_result(watch.look()))

        loop.add_reader(read, asked)
        (tmp_path / "champion.json").write_bytes(b"1")
        os.write(write, b"?")
        seen.append(before)
        found = await done
        loop.remove_reader(read)
        os.close(read)
        os.close(write)
        ended()
        assert watch.look() == found
        (tmp_path / "champion.json").write_bytes(b"2")
        assert watch.look() > found  # it asks again itself
        return found

    assert asyncio.run(main()) > seen[0]


def test_a_look_counts_once_in_a_while_though_nothing_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch([tmp_path])
    first = watch.look()
    monkeypatch.setattr(watching, "_TRUSTED_S", 0.0)
    assert watch.look() > first


@on_linux
@pytest.mark.usefixtures("trusted")
def test_where_something_is_not_told_of_every_look_counts_until_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = watching._is_watched
    folder = tmp_path / "aliases"
    folder.mkdir()
    with monkeypatch.context() as patch:
        # What the system says where there are more watches than it allows, or a folder that may not be read.
        patch.setattr(watching, "_is_watched", lambda *asked: asked[1] != folder and told(*asked))
        watch = Watch([folder])
        counts = [watch.look() for _ in range(4)]
        assert sorted(set(counts)) == counts
    assert watch.look() > counts[-1]
    watch._asked_s -= 3_600
    whole = watch.look()
    assert watch.look() == whole
    (folder / "champion.json").write_bytes(b"1")
    assert watch.look() > whole


def test_where_nobody_tells_every_look_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_opened", lambda: None)
    watch = Watch([tmp_path])
    assert watch.look() < watch.look() < watch.look()


@on_linux
def test_its_file_is_closed_with_it(tmp_path: Path) -> None:
    watch = Watch([tmp_path])
    watch.look()
    before = sum("inotify" in _target(fd) for fd in os.listdir("/proc/self/fd"))
    del watch
    assert sum("inotify" in _target(fd) for fd in os.listdir("/proc/self/fd")) == before - 1


def _target(fd: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return ""
