"""A thing with identity that features describe."""

from __future__ import annotations

from dataclasses import dataclass

from sevenfold.spec.quantity import Name

__all__ = ["Entity"]


@dataclass(frozen=True, slots=True)
class Entity:
    """A thing with identity that features describe: a customer, an item, an ad.

    `name` is also the name of the request field and of the column that carries its key. `pii` is the class of personal data
    that the key is, such as "contact" for an address of mail; '' is none.
    """

    name: Name
    description: str = ""
    owner: str = ""
    pii: str = ""
