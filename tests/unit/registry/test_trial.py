"""Who is in a trial is always the same; a trial has one version, one beginning and one end."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sevenfold.errors import InputError, RegistryError
from sevenfold.registry.history import current
from sevenfold.registry.registry import Registry
from sevenfold.registry.trial import (
    Guardrails,
    Trial,
    begin_trial,
    end_trial,
    ended_trials,
    guardrails_of,
    promote_trial,
    read_trial,
    trial_path,
)

RAILS = Guardrails()
KEYS = [f"customer {i}" for i in range(1000)]


def trial(share: float, name: str = "t") -> Trial:
    """A trial of version 2."""
    return Trial(name, "canary", 2, share, "customer", 0, RAILS)


@pytest.fixture
def two(registry: Registry, model_folder: Any, facts: Any) -> Registry:
    """A registry of three versions, the first of which is the champion."""
    for _ in range(3):
        registry.register(model_folder, **facts)
    registry.set_alias("champion", 1, "first", 1)
    return registry


@given(st.text(min_size=1, max_size=20), st.floats(0.001, 1), st.floats(0.001, 1))
def test_who_is_in_stays_in_at_a_larger_share(key: str, one: float, other: float) -> None:
    small, large = sorted([one, other])
    assert trial(large).takes(key) >= trial(small).takes(key)
    assert trial(1.0).takes(key)
    assert trial(small).takes(key) == trial(small).takes(key)


def test_as_many_are_in_as_the_share_says_and_others_in_the_next_trial() -> None:
    first = np.array([trial(0.2, "one").takes(key) for key in KEYS])
    second = np.array([trial(0.2, "two").takes(key) for key in KEYS])
    assert abs(first.mean() - 0.2) < 0.05
    assert abs((first & second).mean() - 0.04) < 0.025


def test_a_trial_begins_changes_its_share_and_ends(two: Registry) -> None:
    begun = begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    assert read_trial(two, "canary") == begun
    assert two.alias("canary") == 2
    raised = begin_trial(two, "canary", 2, 0.5, "customer", RAILS, 9)
    assert (raised.id, raised.share, raised.started_us) == (begun.id, 0.5, 5)
    with pytest.raises(RegistryError, match="stop it first"):
        begin_trial(two, "canary", 3, 0.1, "customer", RAILS, 9)
    with pytest.raises(RegistryError, match="stop it first"):
        begin_trial(two, "canary", 2, 0.1, "", RAILS, 9)
    assert end_trial(two, "canary", "enough", 10) is not None
    assert read_trial(two, "canary") is None
    assert two.alias("canary") is None
    assert end_trial(two, "canary", "enough", 10) is None
    assert [move.reason for move in ended_trials(two, "canary")] == ["enough"]
    again = begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    assert again.id != begun.id  # other people


def test_only_a_version_that_still_is_the_canary_is_ended(two: Registry) -> None:
    begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    end_trial(two, "canary", "first", 6, 2)
    begun = begin_trial(two, "canary", 3, 0.1, "customer", RAILS, 7)
    assert end_trial(two, "canary", "late", 8, 2) is None
    assert read_trial(two, "canary") == begun


def test_opening_a_registry_again_leaves_an_ended_alias_away(two: Registry) -> None:
    begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    end_trial(two, "canary", "enough", 6)
    assert current(two.history())["canary"] == 0
    again = Registry(two.path)
    assert again.alias("canary") is None
    # A crash between the history and the file: the file follows when the registry is opened.
    two.alias_path("canary").write_bytes(b'{"version":2}\n')
    assert Registry(two.path).alias("canary") is None


def test_the_canary_becomes_the_champion(two: Registry) -> None:
    with pytest.raises(RegistryError, match="no canary"):
        promote_trial(two, "canary", "good", 9)
    begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    promote_trial(two, "canary", "good", 9)
    assert (two.alias("champion"), two.alias("canary")) == (2, None)
    assert two.rollback("champion", "not so good", 10).version == 1
    with pytest.raises(RegistryError, match="no earlier version"):
        two.rollback("canary", "again", 11)


def test_what_cannot_be_a_trial_is_refused(registry: Registry, two: Registry) -> None:
    for version, share, said in ((1, 0.1, "is the champion"), (2, 0.0, "share"), (2, 1.5, "share")):
        with pytest.raises(RegistryError, match=said):
            begin_trial(two, "canary", version, share, "customer", RAILS, 5)
    two.clear_alias("champion", "none", 6)
    with pytest.raises(RegistryError, match="needs a champion"):
        begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 7)
    with pytest.raises(RegistryError, match="reason"):
        two.clear_alias("champion", " ", 8)


def test_a_damaged_trial_says_what_to_do(two: Registry) -> None:
    begin_trial(two, "canary", 2, 0.1, "customer", RAILS, 5)
    trial_path(two, "canary").write_bytes(b"{")
    with pytest.raises(RegistryError, match="remove it"):
        read_trial(two, "canary")
    end_trial(two, "canary", "damaged", 6)
    assert read_trial(two, "canary") is None


def test_guardrails_are_named_and_checked(two: Registry) -> None:
    assert guardrails_of({}, two, 2).shift == RAILS.shift  # the same name as the champion
    given = guardrails_of({"errors": 0.1, "shift": None}, two, 2)
    assert (given.errors, given.shift, given.empty) == (0.1, None, RAILS.empty)
    assert guardrails_of({"empty": 0.2}, two, 2, given).errors == 0.1
    for wrong in ({"mistakes": 0.1}, {"errors": 2.0}, {"minimum": 3}):
        with pytest.raises(InputError, match=r"\$\.guardrails"):
            guardrails_of(wrong, two, 2)
