"""What is above the workers of a server: it starts them, starts again what dies or hangs, and leaves nobody behind."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sevenfold.clock import elapsed_s
from sevenfold.errors import InputError, ServingError
from sevenfold.serving.supervisor import Patience, Place, Supervisor

PATIENCE_S = 60
# A child that says that it is ready and that it lives, and writes down what becomes of it.
CHILD = """
import os, signal, sys, threading, time
folder, (who, files) = sys.argv[1], sys.argv[2].split(":")
number = who.split("/")[0]
port, says, life = map(int, files.split(","))
def note(what):
    with open(f"{folder}/{number}", "a") as file:
        file.write(f"{what} {os.getpid()} {time.monotonic()}\\n")
def end(*_):
    note("ended")
    os._exit(0)
def follow():
    os.read(life, 1)
    end()
signal.signal(signal.SIGTERM, end)
threading.Thread(target=follow, daemon=True).start()
note("began")
"""
LIVES = (
    CHILD
    + "os.write(says, b'told ' + number.encode() + b'\\n')\nwhile True: time.sleep(0.02); os.write(says, b'\\n')\n"
)
HANGS = CHILD + "os.write(says, b'\\n')\nwhile True: time.sleep(1)\n"
DIES = CHILD + "sys.exit(3)\n"
DIES_LATER = CHILD + "os.write(says, b'\\n')\ntime.sleep(0.05)\nsys.exit(3)\n"
# What is judged by a time has one that no busy machine reaches, or is tested with one of its own.
QUICK = Patience(stuck_s=600, again_s=0.01, longest_s=0.02, steady_s=600, deaths=3, drain_s=600)
WATCHFUL = replace(QUICK, stuck_s=2)  # four looks at the least


@dataclass
class Run:
    """A supervisor at work in a process of its own thread of tests: signals are given by `stop`."""

    folder: Path
    scripts: list[str]
    patience: Patience = QUICK
    told: list[bytes] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    ready: Callable[[], None] = lambda: None
    over: threading.Event = field(default_factory=threading.Event)

    def supervise(self, meanwhile: Callable[["Run"], None]) -> None:
        """Run it in this thread, which is the one that has signals, and `meanwhile` in another; then stop it."""
        errors: list[BaseException] = []

        def beside() -> None:
            try:
                meanwhile(self)
            except BaseException as error:  # noqa: BLE001  told by the test's own thread
                errors.append(error)
            os.kill(os.getpid(), signal.SIGTERM)

        def command(place: Place) -> list[str]:
            return [
                sys.executable,
                "-c",
                self.scripts[place.number],
                str(self.folder),
                place.text(),
            ]

        def ready(told: bytes) -> None:
            self.ready()
            self.told.append(told)

        with socket.create_server(("127.0.0.1", 0)) as port:
            supervisor = Supervisor(
                command,
                len(self.scripts),
                port,
                ready,
                lambda: self.gone.append(1),
                self.patience,
            )
            thread = threading.Thread(target=beside)
            thread.start()
            try:
                supervisor.run()
            finally:
                self.over.set()
                thread.join(PATIENCE_S)
        assert not errors, errors

    def notes(self, number: int) -> list[list[str]]:
        path = self.folder / str(number)
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def began(self, number: int) -> int:
        return sum(note[0] == "began" for note in self.notes(number))

    def wait(self, what: Callable[[], bool]) -> None:
        until_s = elapsed_s() + PATIENCE_S
        while not what():
            assert elapsed_s() < until_s, [self.notes(n) for n in range(len(self.scripts))]
            time.sleep(0.01)


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """A signal that comes when the supervisor has ended by itself ends no test."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    yield
    signal.signal(signal.SIGTERM, before)


def test_it_is_ready_when_all_are_and_ends_the_owner_last(tmp_path: Path) -> None:
    run = Run(tmp_path, [LIVES] * 3)
    run.supervise(lambda run: run.wait(lambda: bool(run.told)))
    assert run.told == [b"told 0"]
    notes = [run.notes(number) for number in range(3)]
    assert [[note[0] for note in of] for of in notes] == [["began", "ended"]] * 3
    began, over = ([float(of[at][2]) for of in notes] for at in (0, 1))
    assert began[0] < min(began[1:])
    assert over[0] > max(over[1:])


def test_what_dies_is_started_again_and_the_others_are_left_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, [LIVES] * 3)

    def kill(run: Run) -> None:
        run.wait(lambda: bool(run.told))
        for number in (1, 0):
            os.kill(int(run.notes(number)[0][1]), signal.SIGKILL)
            run.wait(lambda number=number: run.began(number) == 2)

    run.supervise(kill)
    assert [run.began(number) for number in range(3)] == [2, 2, 1]
    assert run.gone == [1]  # of the owner only
    assert run.told == [b"told 0"]


def test_what_hangs_is_ended_and_started_again(tmp_path: Path) -> None:
    run = Run(tmp_path, [LIVES, HANGS], WATCHFUL)
    run.supervise(lambda run: run.wait(lambda: run.began(1) >= 2))
    assert run.began(0) == 1


def test_who_was_stopped_together_with_the_supervisor_does_not_hang(tmp_path: Path) -> None:
    """As where a container is paused, and goes on much later."""
    run = Run(tmp_path, [LIVES] * 3, WATCHFUL)

    def stop() -> None:
        pids = [int(run.notes(number)[0][1]) for number in range(3)]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(WATCHFUL.stuck_s + 0.5)  # the supervisor waits for us
        for pid in pids:
            os.kill(pid, signal.SIGCONT)

    def look(run: Run) -> None:
        run.wait(lambda: bool(run.told))
        time.sleep(0.5)  # for whoever would end them

    run.ready = stop
    run.supervise(look)
    assert [[note[0] for note in run.notes(n)] for n in range(3)] == [["began", "ended"]] * 3


@pytest.mark.parametrize("number", [0, 1])
def test_what_dies_at_its_start_ends_the_server(tmp_path: Path, number: int) -> None:
    scripts = [LIVES, LIVES]
    scripts[number] = DIES
    name = "the owner" if number == 0 else "worker 1"
    run = Run(tmp_path, scripts)
    with pytest.raises(ServingError, match=f"{name} ended at its start with status 3"):
        run.supervise(lambda run: run.wait(run.over.is_set))
    assert run.began(number) == 1
    assert [note[0] for note in run.notes(1 - number)] in ([], ["began", "ended"])


def test_what_dies_again_and_again_ends_the_server(tmp_path: Path) -> None:
    run = Run(tmp_path, [LIVES, DIES_LATER])
    with pytest.raises(ServingError, match=r"worker 1 ended with status 3, 3 times"):
        run.supervise(lambda run: run.wait(run.over.is_set))
    assert run.began(1) == 3
    assert [note[0] for note in run.notes(0)] == ["began", "ended"]


ALONE = """
import sys, socket
from sevenfold.serving.supervisor import Supervisor
folder, script = sys.argv[1:]
command = lambda place: [sys.executable, "-c", script, folder, place.text()]
Supervisor(command, 2, socket.create_server(("127.0.0.1", 0)), lambda told: print("ready", flush=True)).run()
"""


def test_asked_twice_it_still_ends_in_order(tmp_path: Path) -> None:
    slow = LIVES.replace("def end(*_):", "def end(*_):\n    time.sleep(0.3)")
    run = Run(tmp_path, [LIVES, slow])

    def ask(run: Run) -> None:
        run.wait(lambda: bool(run.told))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)

    run.supervise(ask)
    assert [[note[0] for note in run.notes(n)] for n in (0, 1)] == [["began", "ended"]] * 2


def test_no_child_outlives_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    run = Run(tmp_path, [LIVES, LIVES])
    command = [sys.executable, "-c", ALONE, str(tmp_path), LIVES]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.kill()
    run.wait(lambda: all([note[0] for note in run.notes(n)] == ["began", "ended"] for n in (0, 1)))


@pytest.mark.parametrize("text", ["", "1", "1/2", "1/2:3,4", "a/2:3,4,5", "1/2:3,4,5,6"])
def test_a_place_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="no place of a worker"):
        Place.of(text)
