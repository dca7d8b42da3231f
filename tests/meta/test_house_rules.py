"""The house rules hold in the tree, and the checker sees each kind of fault when it is planted."""

from pathlib import Path

import pytest

import check_source


def test_the_tree_keeps_the_house_rules(root: Path) -> None:
    assert [str(fault) for fault in check_source.check_tree(root)] == []


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [
        ("src/sevenfold/long.py", "x = 1\n" * 501, "long-file"),
        ("src/sevenfold/utils.py", "", "vague-name"),
        ("src/sevenfold/common/join.py", "", "vague-name"),
        ("src/sevenfold/store.py", "class StoreManager: ...\n", "vague-name"),
        ("src/sevenfold/key.py", "bucket = hash('a') % 8\n", "salted-hash"),
        ("src/sevenfold/key.py", "def f(x):\n    return hasattr(x, 'y')\n", "duck-typing"),
        ("src/sevenfold/serving/app.py", "print('up')\n", "stray-print"),
        ("docs/start.md", "Open " + "/ho" + "me/ada/report.html\n", "machine-path"),
        ("src/sevenfold/store.py", "ROOT = '/t" + "mp/state'\n", "machine-path"),
    ],
)
def test_a_planted_fault_is_found(name: str, text: str, rule: str) -> None:
    assert [fault.rule for fault in check_source.check_file(name, text)] == [rule]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("src/sevenfold/long.py", "x = 1\n" * 500),
        ("src/sevenfold/cli/show.py", "print('up')\n"),
        ("src/sevenfold/key.py", "class Key:\n    def hash(self): ...\nKey().hash()\n"),
        ("tests/unit/test_key.py", "assert hash(('a',)) == hash(('a',))\n"),
        (
            "docs/start.md",
            "Read <https://example.org/home/ada> or `GET /v1/rank`, write to `$HOME/work/x`.\n",
        ),
    ],
)
def test_what_is_allowed_is_not_a_fault(name: str, text: str) -> None:
    assert list(check_source.check_file(name, text)) == []
