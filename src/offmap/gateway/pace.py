"""How long a monitor takes for what it reads, learnt from its calls. Knows nothing of conversations."""

from __future__ import annotations

import math

_KEPT = 0.95
"""What a call counts beside the next one."""
_ALIKE = 1e-9
"""A spread of sizes, as a share of their squares, that is none."""


class Pace:
    """Seconds of a call = fixed + per token * tokens, by least squares over the calls so far, late ones counting more.

    While calls are all of one size, nothing tells the two parts apart; then all of it is taken for fixed, and since a
    call is never more than twice the largest before it, that is found out step by step.
    """

    def __init__(self) -> None:
        self._largest = 0
        self._calls = self._tokens = self._seconds = self._squares = self._products = 0.0

    def saw(self, tokens: int, seconds: float) -> None:
        """A call about so many tokens took so long."""
        self._largest = max(self._largest, tokens)
        self._calls = _KEPT * self._calls + 1
        self._tokens = _KEPT * self._tokens + tokens
        self._seconds = _KEPT * self._seconds + seconds
        self._squares = _KEPT * self._squares + tokens**2
        self._products = _KEPT * self._products + tokens * seconds

    @property
    def per_token(self) -> float:
        """Seconds that one more token takes."""
        spread = self._calls * self._squares - self._tokens**2
        slope = self._calls * self._products - self._tokens * self._seconds
        return max(0.0, slope / spread) if spread > _ALIKE * self._calls * self._squares else 0.0

    def room(self, seconds: float) -> float:
        """Tokens that take so long, what is fixed left out: to read less would not make that shorter."""
        told = 2.0 * self._largest if self._largest else math.inf
        return min(told, seconds / self.per_token) if self.per_token else told
