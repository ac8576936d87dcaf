"""Hidden states of chosen layers, pooled in float32 the moment each layer is computed: no layer is kept.

Layers count as in transformers' ``hidden_states``: 0 the embeddings, k the output of block k, and the last one, also
called -1, after the final norm.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.errors import InputError
from offmap.features import ROLE_CODE, HiddenKey, Pool

_ASSISTANT = ROLE_CODE["assistant"]
_ROLE_OF = {Pool.ASSISTANT: _ASSISTANT, Pool.USER: ROLE_CODE["user"], Pool.TOOL: ROLE_CODE["tool"]}


class Enough(Exception):  # noqa: N818 - a signal, not an error
    """Raised by the last wanted layer when nothing above it is wanted."""


def pool_weights(pools: Sequence[Pool], roles: NDArray[np.int8], turns: NDArray[np.int16]) -> torch.Tensor:
    """What each token counts in each pool.

    Args:
        pools: the pools, in the order of the second axis of the result.
        roles: (batch, width) role codes, -1 for padding, which is on the right.
        turns: (batch, width) the message of every token.

    Returns:
        (batch, pools, width) float32; each row sums to one.
    """
    real = roles >= 0
    weights = np.zeros((len(roles), len(pools), roles.shape[1]), np.float32)
    for place, pool in enumerate(pools):
        if pool == Pool.LAST:
            weights[np.arange(len(roles)), place, real.sum(axis=1) - 1] = 1
            continue
        chosen = _chosen(pool, roles, turns)
        chosen = np.where(chosen.any(axis=1, keepdims=True), chosen, real)
        weights[:, place] = chosen / chosen.sum(axis=1, keepdims=True)
    return torch.from_numpy(weights)


def _chosen(pool: Pool, roles: NDArray[np.int8], turns: NDArray[np.int16]) -> NDArray[np.bool_]:
    """(batch, width): the tokens that a pool is the mean of."""
    if pool == Pool.REPLY:
        said = np.where(roles == _ASSISTANT, turns, -1)
        return np.asarray((said == said.max(axis=1, keepdims=True)) & (said >= 0))
    return roles == _ROLE_OF[pool] if pool in _ROLE_OF else roles >= 0


class PooledLayers:
    """A context in which every forward pass of the blocks fills ``pooled[(layer, pool)]`` with (batch, width) tensors.

    Args:
        blocks: the decoder layers.
        keys: the wanted (layer, pool), with negative layers as they are.
        roles: (batch, width) role codes of the tokens, -1 for padding.
        turns: (batch, width) the message of every token.
        device: where the hidden states are.
        only_hidden: nothing else is wanted of the pass, which may stop with ``Enough`` at the last wanted block.
    """

    def __init__(
        self,
        blocks: torch.nn.ModuleList,
        keys: Iterable[HiddenKey],
        roles: NDArray[np.int8],
        turns: NDArray[np.int16],
        device: torch.device,
        *,
        only_hidden: bool,
    ) -> None:
        self._blocks, self._wanted = blocks, _by_layer(keys, len(blocks))
        self._pools = sorted({pool for keys_ in self._wanted.values() for _, pool in keys_})
        self._weights = pool_weights(self._pools, roles, turns).to(device)
        top = max(self._wanted, default=0)
        self._stop_at = top if only_hidden and top < len(blocks) else -1
        self._hooks: list[Any] = []
        self._thread = 0
        self.pooled: dict[HiddenKey, torch.Tensor] = {}

    def __enter__(self) -> Self:
        self._thread = threading.get_ident()
        for layer in self._wanted:
            if layer == 0:
                self._hooks.append(self._blocks[0].register_forward_pre_hook(self._before_first, with_kwargs=True))
            elif layer < len(self._blocks):
                self._hooks.append(self._blocks[layer - 1].register_forward_hook(self._after(layer)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        for hook in self._hooks:
            hook.remove()
        return kind is Enough

    def final(self, hidden: torch.Tensor) -> None:
        """Pool the last hidden state, (batch, width, d), which no block returns."""
        self._pool(len(self._blocks), hidden)

    def _before_first(self, _: torch.nn.Module, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        self._pool(0, args[0] if args else named["hidden_states"])

    def _after(self, layer: int) -> Callable[[torch.nn.Module, Any, Any], None]:
        def pool(_: torch.nn.Module, __: object, output: Any) -> None:
            self._pool(layer, output[0] if isinstance(output, tuple) else output)

        return pool

    def _pool(self, layer: int, hidden: torch.Tensor) -> None:
        # Passes of other threads call the hooks of this one too: they hang on the same blocks.
        if layer not in self._wanted or threading.get_ident() != self._thread:
            return
        with torch.autocast(hidden.device.type, enabled=False):
            pooled = torch.bmm(self._weights, hidden.float())
        for key in self._wanted[layer]:
            self.pooled[key] = pooled[:, self._pools.index(key[1])]
        if layer == self._stop_at:
            raise Enough


def _by_layer(keys: Iterable[HiddenKey], blocks: int) -> dict[int, list[HiddenKey]]:
    wanted: dict[int, list[HiddenKey]] = {}
    for layer, pool in keys:
        if not -blocks - 1 <= layer <= blocks:
            raise InputError(f"layer {layer}: the model has layers 0 to {blocks}, or -{blocks + 1} to -1")
        wanted.setdefault(layer if layer >= 0 else layer + blocks + 1, []).append((layer, pool))
    return wanted
