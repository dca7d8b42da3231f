"""A canary and a shadow by hand: begun, looked at, changed, promoted, stopped; what cannot be is said."""

from pathlib import Path

import pytest

from tests.unit.cli.test_store_commands import answer, refusal, register, run


@pytest.fixture
def home(tea: Path, tmp_path: Path) -> Path:
    """A home with two versions, the first of which is the champion."""
    register(tea, tmp_path / "home")
    answer("promote", tea, 1, "--home", tmp_path / "home", "--reason", "first")
    return tmp_path / "home"


@pytest.mark.parametrize("kind", ["canary", "shadow"])
def test_a_trial_from_its_beginning_to_its_end(tea: Path, home: Path, kind: str) -> None:
    at = ("--home", home)
    assert answer(kind, "status", tea, *at)["state"] == "none"
    begun = answer(kind, "start", tea, *at, "--version", 2, "--share", 0.1)
    assert (begun["state"], begun["version"], begun["on"]) == ("running", 2, "customer")
    raised = answer(kind, "start", tea, *at, "--version", 2, "--share", 0.5)
    assert (raised["id"], raised["share"]) == (begun["id"], 0.5)
    assert f"{kind}: version 2 beside version 1, 50.0%" in run(kind, "status", tea, *at).output
    stopped = answer(kind, "stop", tea, *at, "--reason", "enough")
    assert (stopped["state"], stopped["last"]["reason"]) == ("none", "stopped: enough")
    answer(kind, "start", tea, *at, "--version", 2, "--share", 0.5)
    answer(kind, "promote", tea, *at, "--reason", "it is good")
    listed = answer("models", tea, *at)
    assert [version["aliases"] for version in listed["versions"]] == [[], ["champion"]]
    assert "no" in refusal(kind, "stop", tea, *at, "--reason", "again")


def test_guardrails_are_given_by_name(tea: Path, home: Path) -> None:
    start = ("canary", "start", tea, "--home", home, "--version", 2, "--share", 0.1)
    assert "mistakes" in refusal(*start, "--guardrail", "mistakes=1")
    assert run(*start, "--guardrail", "errors=few").exit_code == 2
    begun = answer(*start, "--guardrail", "errors=0.1", "--guardrail", "slow=off")
    limits = {rail["name"]: rail["limit"] for rail in begun["guardrails"]}
    assert (limits["errors"], limits["slow"], limits["empty"]) == (0.1, None, 0.05)


def test_what_cannot_be_on_trial_is_said(tea: Path, home: Path) -> None:
    start = ("canary", "start", tea, "--home", home, "--share", 0.1, "--version")
    assert "is the champion" in refusal(*start, 1)
    assert "version 9 is not in" in refusal(*start, 9)
    assert "do not name 'item'" in refusal(*start, 2, "--on", "item")
    assert "no registry in" in refusal("canary", "status", tea, "--home", home / "other")
