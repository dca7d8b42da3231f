"""A version on trial beside the champion: as its canary, which answers a share, or as its shadow, which answers nobody.

registry/trials/canary.json, registry/trials/shadow.json     the trial under way; the alias of that name points to its version

A trial is under way where its file and the alias name the same version. The alias moves first, at the start and at the
end, and its history says why; a process killed before the file follows leaves a version on trial nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from sevenfold.errors import InputError, RegistryError
from sevenfold.hashing import canonical_json, digest, siphash128
from sevenfold.registry.history import Promotion
from sevenfold.registry.registry import TRIALS_FOLDER, Registry
from sevenfold.stores.durable import replace_file

__all__ = [
    "Guardrails",
    "Kind",
    "Trial",
    "begin_trial",
    "end_trial",
    "ended_trials",
    "guardrails_of",
    "promote_trial",
    "read_trial",
    "trial_path",
]

Kind: TypeAlias = Literal["canary", "shadow"]
_Share = Annotated[float, msgspec.Meta(gt=0, lt=1)]


class Guardrails(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a canary must keep to, None for what is not watched.

    `errors` is the share of its answers that it may fail to give. Of its answers, beyond the champion's share of the
    same: `constant` with one score for all, `empty`, and `fallback` by a lower rung. `slow` is the share that may take
    more than `slower` times the champion's p99 of the score stage. `disagreement` is the share of pairs of items that
    it may order otherwise than the champion, `shift` the largest distance (Kolmogorov and Smirnov) of its best scores
    from the champion's, beyond what lies between the first and the last item of an answer; over at least `minimum`
    answers of each. `outcome`, unless it is given not watched, is by how much less of its answers may come true than of the
    champion's, as a part of those: see the task's label. All of them together raise a false alarm with a
    probability of at most `alpha` in the life of a canary.
    """

    errors: _Share | None = 0.02
    slow: _Share | None = 0.1
    slower: Annotated[float, msgspec.Meta(ge=1)] = 2.0
    constant: _Share | None = 0.2
    empty: _Share | None = 0.05
    fallback: _Share | None = 0.1
    disagreement: _Share | None = 0.6
    shift: _Share | None = 0.3
    outcome: _Share | None = None
    minimum: Annotated[int, msgspec.Meta(ge=20)] = 100
    alpha: _Share = 0.01


class Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version on trial for a `share` of the keys of the entity `on`; where that is empty, of the requests.

    `id` is that of this trial and no other: it salts the choice of who is in, so that each has people of its own.
    """

    id: str
    kind: Kind
    version: int
    share: float
    on: str
    started_us: int
    guardrails: Guardrails

    def takes(self, key: str) -> bool:
        """Whether an entity is in: always the same, and one that is in at a share is in at every larger one."""
        return siphash128(f"{self.id}\0{key}".encode())[0] < self.share * 2.0**64


def trial_path(registry: Registry, kind: Kind) -> Path:
    """The file of a trial: it is replaced or goes when the trial changes, so a `stat` tells that it has."""
    return registry.path / TRIALS_FOLDER / f"{kind}.json"


def read_trial(registry: Registry, kind: Kind) -> Trial | None:
    """The trial under way, None where there is none; RegistryError for a file that is none."""
    path = trial_path(registry, kind)
    try:
        trial = msgspec.json.decode(path.read_bytes(), type=Trial)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError as error:
        raise RegistryError(f"{path} is no trial: {error}; remove it") from error
    return trial if registry.alias(kind) == trial.version else None


def begin_trial(
    registry: Registry,
    kind: Kind,
    version: int,
    share: float,
    on: str,
    guardrails: Guardrails,
    at_us: int,
) -> Trial:
    """The trial of a version, under way; of the one that is, with its share, guardrails and nothing else new.

    Raises RegistryError when another version is on trial, there is no champion, or the version is the champion.
    """
    if not 0 < share <= 1:
        raise RegistryError(f"share is {share}: give what part is in, above 0 and at most 1")
    champion = registry.alias("champion")
    if champion is None:
        raise RegistryError(f"a {kind} needs a champion to be beside: promote a version first")
    if champion == version:
        raise RegistryError(f"version {version} is the champion: a {kind} is another version")
    before = read_trial(registry, kind)
    if before is None:
        number = sum(1 for move in registry.history() if move.alias == kind)
        name = digest(canonical_json([kind, version, number, at_us]), 8)
        trial = Trial(name, kind, version, share, on, at_us, guardrails)
        registry.set_alias(kind, version, f"{kind} for a share of {share:g}", at_us)
    elif before.version != version or before.on != on:
        raise RegistryError(
            f"version {before.version} is the {kind} now, on {before.on or 'requests'}: stop it first "
            "(only share and guardrails of a trial can change)"
        )
    else:
        trial = msgspec.structs.replace(before, share=share, guardrails=guardrails)
    path = trial_path(registry, kind)
    path.parent.mkdir(exist_ok=True)
    replace_file(path, msgspec.json.encode(trial) + b"\n")
    return trial


def end_trial(
    registry: Registry, kind: Kind, reason: str, at_us: int, version: int | None = None
) -> Promotion | None:
    """Take the alias away, with the reason in the history: the champion answers all again.

    With `version` only where the alias still points to it; None where there is nothing to end. Whoever calls it again,
    or at once from another process, ends nothing twice, and nothing that began since.
    """
    promotion = registry.clear_alias(kind, reason, at_us, version)
    if registry.alias(kind) is None:
        trial_path(registry, kind).unlink(missing_ok=True)
    return promotion


def promote_trial(registry: Registry, kind: Kind, reason: str, at_us: int) -> Promotion:
    """The promotion that makes a version on trial the champion, and ends the trial; RegistryError where there is none."""
    trial = read_trial(registry, kind)
    if trial is None:
        raise RegistryError(f"there is no {kind} to promote: `sevenfold {kind} start` begins one")
    promotion = registry.set_alias("champion", trial.version, reason, at_us)
    end_trial(registry, kind, f"promoted: {reason}", at_us, trial.version)
    return promotion


def ended_trials(registry: Registry, kind: Kind) -> list[Promotion]:
    """How each trial of a kind ended, the last one last."""
    return [move for move in registry.history() if move.alias == kind and move.kind == "clear"]


def guardrails_of(
    given: dict[str, Any], registry: Registry, version: int, before: Guardrails | None = None
) -> Guardrails:
    """The guardrails given by name, the others as `before` or as they are declared by default.

    Scores of differently named models are on different scales: their distance is then watched only where it is given.
    Raises InputError for a name or a value that there is not.
    """
    base = before or Guardrails()
    champion = registry.alias("champion")
    if before is None and champion is not None:
        names = {registry.get(each).manifest.name for each in (champion, version)}
        base = msgspec.structs.replace(base, shift=base.shift if len(names) == 1 else None)
    try:
        return msgspec.convert(msgspec.to_builtins(base) | given, Guardrails)
    except msgspec.ValidationError as error:
        known = ", ".join(Guardrails.__struct_fields__)
        raise InputError(f"$.guardrails: {error}; there are {known}") from error
