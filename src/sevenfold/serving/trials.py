"""Trials as they are asked for and told of, by the command and by the socket in the home alike."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from sevenfold.errors import InputError, RegistryError
from sevenfold.registry.registry import Registry
from sevenfold.registry.trial import (
    Kind,
    Trial,
    begin_trial,
    end_trial,
    ended_trials,
    guardrails_of,
    promote_trial,
    read_trial,
)
from sevenfold.serving.definition import Definition
from sevenfold.serving.evidence import Evidence, Finding
from sevenfold.serving.shadow import ShadowReport, read_shadowed, report
from sevenfold.stores.kv import Transaction

__all__ = [
    "EndRequest",
    "EndedTrial",
    "TrialAnswer",
    "TrialRequest",
    "begin",
    "finish",
    "promote",
    "told",
    "told_shadow",
]

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_Reason = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class TrialRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The version to put on trial, for what share of the keys of the entity `on`; the first of a request by default.

    `guardrails` are limits by name, null for what is not to be watched; what is not named stands as it is.
    """

    version: Annotated[int, msgspec.Meta(ge=1)]
    share: Annotated[float, msgspec.Meta(gt=0, le=1)]
    on: _Name | None = None
    guardrails: dict[_Name, float | None] = {}


class EndRequest(msgspec.Struct, forbid_unknown_fields=True):
    """Why; it is kept in the history."""

    reason: _Reason


class EndedTrial(msgspec.Struct):
    """How the last trial ended: its version, when, and why."""

    version: int
    at_us: int
    reason: str


class TrialAnswer(msgspec.Struct):
    """A trial: `running` or `none`; what was judged of its answers, by side, and its guardrails with what they saw.

    `evidence` of a guardrail grows towards 1, where the canary is taken back. `scored` is what the table says of a shadow.
    `last` is how the trial before it ended.
    """

    state: str
    id: str = ""
    version: int = 0
    champion: int = 0
    share: float = 0.0
    on: str = ""
    started_us: int = 0
    answers: dict[str, int] = {}
    guardrails: list[Finding] = []
    scored: ShadowReport | None = None
    last: EndedTrial | None = None


def begin(
    registry: Registry, definition: Definition, kind: Kind, asked: TrialRequest, at_us: int
) -> Trial:
    """The trial that was asked for, under way in every server of the home.

    Raises InputError for an entity that requests do not name and for guardrails that there are not, RegistryError for a
    version that reads other features than are served; see `registry.trial.begin_trial` for the others.
    """
    entities = [entity.name for entity in definition.system.task.query]
    on = asked.on if asked.on is not None else next(iter(entities), "")
    if on and on not in entities:
        raise InputError(f"$.on: requests do not name {on!r}; they name {', '.join(entities)}")
    manifest = registry.get(asked.version).manifest
    changed = definition.unreadable(manifest.feature_names, manifest.feature_hashes)
    if changed:
        raise RegistryError(
            f"version {asked.version} reads {', '.join(changed)} otherwise than it is served here: train a version "
            "with this declaration"
        )
    if kind == "shadow" and asked.guardrails:
        raise InputError("$.guardrails: a shadow answers nobody, so it has none; leave them out")
    before = read_trial(registry, kind)
    given: dict[str, Any] = dict(asked.guardrails)
    if "minimum" in given and given["minimum"] is not None:
        given["minimum"] = int(given["minimum"])
    kept = before.guardrails if before is not None and before.version == asked.version else None
    guardrails = guardrails_of(given, registry, asked.version, kept)
    return begin_trial(registry, kind, asked.version, asked.share, on, guardrails, at_us)


def finish(registry: Registry, kind: Kind, asked: EndRequest, at_us: int) -> None:
    """End the trial of a kind; RegistryError where there is none."""
    if end_trial(registry, kind, f"stopped: {asked.reason}", at_us) is None:
        raise RegistryError(f"there is no {kind} to stop")


def promote(registry: Registry, kind: Kind, asked: EndRequest, at_us: int) -> None:
    """Make the version on trial the champion; RegistryError where there is none."""
    promote_trial(registry, kind, asked.reason, at_us)


def told_shadow(registry: Registry, txn: Transaction | None) -> TrialAnswer:
    """The shadow as it is now, with what the table of a store says of it."""
    answer = told(registry, "shadow", None)
    answer.answers, answer.guardrails = {}, []
    if answer.id and txn is not None:
        answer.scored = report(list(read_shadowed(txn, answer.id)))
    return answer


def told(registry: Registry, kind: Kind, evidence: Evidence | None) -> TrialAnswer:
    """The trial of a kind as it is now."""
    ended = ended_trials(registry, kind)
    last = None if not ended else ended[-1]
    before = None if last is None else EndedTrial(last.before or 0, last.at_us, last.reason)
    trial = read_trial(registry, kind)
    if trial is None:
        return TrialAnswer("none", last=before)
    found = evidence or Evidence(trial.id, trial.version)
    return TrialAnswer(
        "running",
        trial.id,
        trial.version,
        registry.alias("champion") or 0,
        trial.share,
        trial.on,
        trial.started_us,
        {"canary": found.canary_answers, "champion": found.champion_answers},
        found.findings(trial.guardrails),
        None,
        before,
    )
