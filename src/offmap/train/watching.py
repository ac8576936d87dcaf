"""Who is told of a training run while it goes on. Knows nothing of what is learned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from transformers import TrainerCallback

Watch = Callable[[int, int, Mapping[str, float]], None]
"""Told after every step: steps done, steps in all, the latest losses."""
_TOLD = ("guard", "lm", "eval_guard", "eval_lm", "eval_auroc")


class Watcher(TrainerCallback):
    """Tells someone of every step."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._latest = watch, dict[str, float]()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:  # noqa: ARG002
        """Remember the latest losses."""
        self._latest |= {name: value for name, value in (logs or {}).items() if name in _TOLD}
        self._watch(state.global_step, state.max_steps, self._latest)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell how far it is."""
        self._watch(state.global_step, state.max_steps, self._latest)

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:  # noqa: ARG002
        """Tell that it is done, also where it stopped early."""
        self._watch(state.max_steps, state.max_steps, self._latest)
