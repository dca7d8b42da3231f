"""What was freed between things that stay is the system's again."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import re
from sevenfold.heap import give_back


def anonymous_mb():
    return int(re.search(r"RssAnon:\\s+(\\d+)", open("/proc/self/status").read())[1]) / 1024


held = [bytes(30_000) for _ in range(4_000)]  # less than what the library asks the system for one by one
stays = held[::40]
full = anonymous_mb()
del held
kept = anonymous_mb()
done = give_back()
print(full, kept, anonymous_mb(), done)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="not the C library of GNU")
def test_what_stays_between_does_not_hold_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    full, kept, after, told = done.stdout.split()
    assert float(kept) > float(full) - 30  # else there is nothing to show
    assert float(after) < float(full) - 90
    assert told == "True"
