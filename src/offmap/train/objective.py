"""What is learned: guard heads and a language model on one trunk, from one pass.

    loss = guard + penalty + lm_weight * lm

guard: the weighted binary cross-entropy of every head; penalty: its L2 penalty on the heads, as of a probe; lm: the
mean negative log-likelihood of the assistant tokens of safe rows, the model's own head read in chunks. Knows nothing of
files and of the order of rows.
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

    def penalty(self) -> torch.Tensor:
        """The L2 penalty that the heads were fitted with, the mean over them: without it they would first overfit."""
        return self._strength / 2 * self.weight.float().square().sum(dim=1).mean()

    def fitted(self) -> FittedGuardProbe:
        """The heads in the coordinates of the states, as a detector."""
        mean, scale, weight, bias = (
            x.detach().cpu().double().numpy() for x in (self.mean, self.scale, self.weight, self.bias)
        )
        return FittedGuardProbe(self._probe, mean, weight.T / scale[:, None], bias, self._strength)


class Odds(torch.nn.Module):
    """A classifier's own output layer of two labels, safe and unsafe, as one head.

    Its logit is the difference of the two outputs, whose logistic loss is their cross-entropy.
    """

    def __init__(self, score: torch.nn.Module) -> None:
        super().__init__()
        self.score = score

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """(n, d) -> (n, 1) logits; higher is more unsafe."""
        outputs: torch.Tensor = self.score(states)
        return outputs[:, 1:] - outputs[:, :1]

    def penalty(self) -> torch.Tensor:
        """None."""
        return torch.zeros(())


class Objective(torch.nn.Module):
    """A trunk with its language-model head, and guard heads on it; or with one of the two alone.

    Args:
        model: the causal LM, or the classifier, that is trained; PEFT may have put an adapter into it.
        decoder: the part of it that turns token ids into hidden states.
        head: the form of its LM head: scale and cap. Its weights are read from ``model``. None: a classifier has none.
        guard: the guard heads. None: the language model is trained alone.
        layers: those that the heads read, as ``hidden_states`` counts them.
        lm_weight: of the language-model loss.
    """

    def __init__(
        self,
        model: Any,
        decoder: torch.nn.Module,
        head: Head | None,
        guard: GuardHeads | Odds | None,
        layers: tuple[int, ...],
        lm_weight: float,
    ) -> None:
        super().__init__()
        self.model, self.guard = model, guard
        self._decoder = (decoder,)  # in a tuple: it is a part of ``model`` and must not be counted twice
        self._form = (head.scale, head.cap) if head else None
        self._layers, self._lm_weight = layers, lm_weight
        self.norms = {"rows": 1.0, "tokens": 1.0}

    @property
    def parts(self) -> tuple[str, ...]:
        """What it has a loss of, of "guard" and "lm"; the first says when to stop."""
        return tuple(name for name, part in (("guard", self.guard), ("lm", self._form)) if part is not None)

    def forward(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        spoken: torch.Tensor,
        pools: torch.Tensor,
        unsafe: torch.Tensor,
        weights: torch.Tensor,
    ) -> Mapping[str, torch.Tensor]:
        """The losses of a batch (``batches.collate``) and the guard's logits.

        Each is a sum over the batch divided by ``norms``, what a batch holds on average: a row counts the same in a
        full batch and in a small one. A language-model loss that weighs nothing is computed for evaluation alone; in
        training it is 0. So is the loss of a part that is not there.
        """
        out = self.read(ids, positions)
        logits, guard, penalty = self._judge(out.hidden_states, pools, unsafe, weights)
        lm = self._lm_loss(out.last_hidden_state, ids, spoken)
        loss = guard + penalty + self._lm_weight * lm
        return {"loss": loss, "guard": guard.detach(), "lm": lm.detach(), "logits": logits.detach()}

    def read(self, ids: torch.Tensor, positions: torch.Tensor) -> Any:
        """What the trunk makes of the tokens of a batch; where rows share a line, positions say where one begins."""
        packed = bool((positions[:, 1:] == 0).any())
        return self._decoder[0](
            input_ids=ids, position_ids=positions if packed else None, use_cache=False, output_hidden_states=True
        )

    def _judge(
        self, states: tuple[torch.Tensor, ...], pools: torch.Tensor, unsafe: torch.Tensor, weights: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (rows, heads) float32, the loss and the penalty of the guard.

        The heads read states (rows, layers * pools * d), layers outermost, as a probe joins them.
        """
        rows, nothing = len(unsafe), pools.new_zeros(())
        if self.guard is None:
            return pools.new_zeros((rows, 0)), nothing, nothing
        with torch.autocast(pools.device.type, enabled=False):
            each = [_pooled(pools, states[layer].float()) for layer in self._layers]
            logits: torch.Tensor = self.guard(torch.cat(each, dim=1))
        return logits, self._guard_loss(logits, unsafe, weights), self.guard.penalty()

    def _guard_loss(self, logits: torch.Tensor, unsafe: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        signs = (2 * unsafe - 1)[:, None]
        losses = functional.softplus(-signs * logits) * weights
        return losses.mean(dim=1).sum() / self.norms["rows"]

    def _lm_loss(self, final: torch.Tensor, ids: torch.Tensor, spoken: torch.Tensor) -> torch.Tensor:
        if self._form is None or (self.training and not self._lm_weight):
            return final.new_zeros(())
        wanted = spoken[:, 1:]
        states, targets = final[:, :-1][wanted], ids[:, 1:][wanted]
        parts = [
            checkpoint(
                self._chunk_loss, *self._form, states[at : at + CHUNK], targets[at : at + CHUNK], use_reentrant=False
            )
            for at in range(0, len(targets), CHUNK)
        ]
        return torch.stack(parts).sum() / self.norms["tokens"] if parts else final.new_zeros(())

    def _chunk_loss(self, scale: float, cap: float | None, states: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = self.model.get_output_embeddings()(states).float() * scale
        if cap is not None:
            logits = cap * torch.tanh(logits / cap)
        return functional.cross_entropy(logits, targets, reduction="sum")


def _pooled(pools: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """(rows, pools * d): each row's pools of the states (lines, width, d) of its line, in the order of the lines.

    Args:
        pools: (lines, most, pools, width), all zeros where a line has fewer rows than the fullest.
        states: (lines, width, d).
    """
    lines, most, kinds, _ = pools.shape
    pooled = torch.bmm(pools.flatten(1, 2), states).reshape(lines, most, kinds * states.shape[2])
    return pooled[pools.amax(dim=(2, 3)) > 0]
