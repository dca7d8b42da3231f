"""Tests that may be looked at after every observation: a false alarm is as rare over all looks as over one.

A test of a fixed size that is looked at again and again raises an alarm in the end, whatever is true. Here evidence is a
wealth: what a gambler holds who begins with 1 and bets on every observation against the hypothesis, at odds that are fair
when it is true. By Ville's inequality (Ville, Etude critique de la notion de collectif, 1939) such a wealth ever reaches
1 / alpha with a probability of at most alpha.
"""

from __future__ import annotations

import math

import msgspec

__all__ = ["Wealth", "band"]

_BETS = (0.05, 0.1, 0.25, 0.5, 0.9)


class Wealth(msgspec.Struct):
    """Evidence that observations of [0, 1] have a mean above a limit; `n` of them with the sum `total`.

    The hypothesis is that the mean of each, given those before, is at most the limit given with it; the limit may
    move, if it comes of what was seen before. The wealth is the average of those of five gamblers, who each stake a
    fixed part of what they hold: none of them can be ruined, and the average is within a factor of five of the best
    (Waudby-Smith and Ramdas, Estimating means of bounded random variables by betting, JRSS-B 86, 2024, section 4).

    >>> wealth = Wealth()
    >>> for _ in range(3):
    ...     wealth.add(1.0, 0.01)
    >>> wealth.value > 1e5
    True
    """

    n: int = 0
    total: float = 0.0
    logs: list[float] = msgspec.field(default_factory=lambda: [0.0] * len(_BETS))
    peak: float = 0.0

    def add(self, x: float, limit: float) -> None:
        """Bet on an observation in [0, 1]; where the limit is 1 or more no bet is open, and it only counts."""
        self.n += 1
        self.total += x
        if limit >= 1.0:
            return
        odds = x / limit - 1.0
        self.logs = [
            log + math.log1p(bet * odds) for log, bet in zip(self.logs, _BETS, strict=True)
        ]
        self.peak = max(self.peak, self._log())

    @property
    def mean(self) -> float:
        """The mean of what was seen; 0 of nothing."""
        return self.total / self.n if self.n else 0.0

    @property
    def value(self) -> float:
        """The most that was ever held, infinite where no float holds it."""
        return math.exp(self.peak) if self.peak < 700 else math.inf

    def _log(self) -> float:
        most = max(self.logs)
        return most + math.log(sum(math.exp(log - most) for log in self.logs) / len(self.logs))


def band(n: int, alpha: float, least: int = 1) -> float:
    """How far the distribution of `n` independent draws is from that which they are drawn from, at most.

    With a probability of 1 - alpha it holds at every n from `least` on at once, and at every value: Howard and Ramdas,
    Sequential estimation of quantiles with applications to A/B testing and best-arm identification, Bernoulli 28,
    2022, theorem 2 with A = 0.85 and C = 0.8 log(1612 / alpha). Infinite for fewer than `least` draws.

    >>> round(band(1000, 0.05, 100), 3)
    0.083
    """
    if n < least:
        return math.inf
    return 0.85 * math.sqrt(
        (math.log(math.log(math.e * n / least)) + 0.8 * math.log(1612 / alpha)) / n
    )
