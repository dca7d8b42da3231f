"""Whether a request is one that was answered before, and the same."""

from __future__ import annotations

from collections.abc import Iterable

from sevenfold.errors import ServingError
from sevenfold.serving.pending import Draft, OvertakenError
from sevenfold.serving.prediction_log import Prediction, is_answered, items_digest
from sevenfold.serving.request import RecommendRequest
from sevenfold.stores.kv import Transaction

__all__ = ["check_fresh", "check_same"]


def check_fresh(txn: Transaction, drafts: Iterable[Draft]) -> None:
    """Refuse drafts where another process has answered the request of one meanwhile."""
    for draft in drafts:
        if is_answered(txn, draft.prediction.request_id):
            raise OvertakenError("another process has answered this request; ask it again")


def check_same(request: RecommendRequest, items: list[str] | None, given: Prediction) -> None:
    """Refuse an id that was used for another question: its answer may be another customer's."""
    same = request.keys == given.keys
    if items is not None:
        same &= items == given.items if not given.asked else items_digest(items) == given.asked
    if not same:
        raise ServingError(
            "$.request_id: this id was used for a request with other keys or items; "
            "give every request its own"
        )
