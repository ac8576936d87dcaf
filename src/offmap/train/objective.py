"""What is learned: guard heads and a language model on one trunk, from one pass.

    loss = guard + lm_weight * lm

guard: the weighted binary cross-entropy of every head; lm: the mean negative log-likelihood of the assistant tokens of
safe rows, the model's own head read in chunks. Knows nothing of files and of the order of rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from offmap.backbones.token_stats import Head
from offmap.detectors.guard_probe import FittedGuardProbe
from offmap.features import FloatArray

CHUNK = 512
"""Tokens whose logits exist at once; they are computed again on the way back."""


class GuardHeads(torch.nn.Module):
    """Linear heads on standardised pooled states.

    Args:
        fitted: where they start: heads fitted on the states of the untrained trunk, so that training does not first
            destroy what the trunk already knows (linear probing, then fine-tuning: arXiv 2202.10054).
        scale: (d,) what a state is divided by.
    """

    def __init__(self, fitted: FittedGuardProbe, scale: FloatArray) -> None:
        super().__init__()
        self._probe, self._strength = fitted.probe, fitted.strength
        self.mean: torch.Tensor
        self.scale: torch.Tensor
        self.register_buffer("mean", torch.tensor(fitted.mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.weight = torch.nn.Parameter(torch.tensor((fitted.heads * scale[:, None]).T, dtype=torch.float32))
        self.bias = torch.nn.Parameter(torch.tensor(fitted.intercepts, dtype=torch.float32))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, d) -> (n, heads) logits; higher is more unsafe."""
        return functional.linear((states - self.mean) / self.scale, self.weight, self.bias)

    def fitted(self) -> FittedGuardProbe:
        """The heads in the coordinates of the states, as a detector."""
        mean, scale, weight, bias = (
            x.detach().cpu().double().numpy() for x in (self.mean, self.scale, self.weight, self.bias)
        )
        return FittedGuardProbe(self._probe, mean, weight.T / scale[:, None], bias, self._strength)


class Objective(torch.nn.Module):
    """A trunk with its language-model head, and guard heads on it.

    Args:
        model: the causal LM that is trained; PEFT may have put an adapter into it.
        decoder: the part of it that turns token ids into hidden states.
        head: the form of its LM head: scale and cap. Its weights are read from ``model``.
        guard: the guard heads.
        layers: those that the heads read, as ``hidden_states`` counts them.
        lm_weight: of the language-model loss.
    """

    def __init__(
        self,
        model: Any,
        decoder: torch.nn.Module,
        head: Head,
        guard: GuardHeads,
        layers: tuple[int, ...],
        lm_weight: float,
    ) -> None:
        super().__init__()
        self.model, self.guard = model, guard
        self._decoder = (decoder,)  # in a tuple: it is a part of ``model`` and must not be counted twice
        self._scale, self._cap, self._layers, self._lm_weight = head.scale, head.cap, layers, lm_weight
        self.norms = {"rows": 1.0, "tokens": 1.0}

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        spoken: torch.Tensor,
        pools: torch.Tensor,
        unsafe: torch.Tensor,
        weights: torch.Tensor,
    ) -> Mapping[str, torch.Tensor]:
        """The losses of a batch (``rows.collate``) and the guard's logits.

        Each is a sum over the batch divided by ``norms``, what a batch holds on average: a row counts the same in a
        full batch and in a small one.
        """
        packed = bool((positions[:, 1:] == 0).any())
        out = self._decoder[0](
            input_ids=ids, position_ids=positions if packed else None, use_cache=False, output_hidden_states=True
        )
        logits = self.guard(self._pooled(out.hidden_states, pools, len(unsafe)))
        guard = self._guard_loss(logits, unsafe, weights)
        lm = self._lm_loss(out.last_hidden_state, ids, spoken)
        loss = guard + self._lm_weight * lm if self._lm_weight else guard
        return {"loss": loss, "guard": guard.detach(), "lm": lm.detach(), "logits": logits.detach()}

    def _pooled(self, states: tuple[torch.Tensor, ...], pools: torch.Tensor, rows: int) -> torch.Tensor:
        """(rows, layers * pools * d) float32, layers outermost, as a probe joins them."""
        with torch.autocast(pools.device.type, enabled=False):
            each = [(pools @ states[layer].float().flatten(0, 1)).reshape(rows, -1) for layer in self._layers]
        return torch.cat(each, dim=1)

    def _guard_loss(self, logits: torch.Tensor, unsafe: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        signs = (2 * unsafe - 1)[:, None]
        losses = functional.softplus(-signs * logits.float()) * weights
        return losses.mean(dim=1).sum() / self.norms["rows"]

    def _lm_loss(self, final: torch.Tensor, ids: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
        if not self._lm_weight:
            return final.new_zeros(())
        wanted = spoken[:, 1:]
        states, targets = final[:, :-1][wanted], ids[:, 1:][wanted]
        parts = [
            checkpoint(self._chunk_loss, states[at : at + CHUNK], targets[at : at + CHUNK], use_reentrant=False)
            for at in range(0, len(targets), CHUNK)
        ]
        return torch.stack(parts).sum() / self.norms["tokens"] if parts else final.new_zeros(())

    def _chunk_loss(self, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(states).float() * self._scale
        if self._cap is not None:
            logits = self._cap * torch.tanh(logits / self._cap)
        return functional.cross_entropy(logits, targets, reduction="sum")
