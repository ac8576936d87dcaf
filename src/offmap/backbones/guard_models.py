"""Published guards: the verdict of one, as a number, from the same forward pass that gives the features.

A generative guard's verdict is read at the last token of its prompt (``guard_prompts``), a classifier's at the last
token of the conversation. Nothing is generated and nothing parsed. The real guards (``guard_families``) could not be
downloaded here: what is tested is small models of their architectures. Knows nothing of batches and of layers below
the last.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from offmap.backbones.guard_families import CLASSIFIER, orientation
from offmap.backbones.guard_prompts import GuardRenderer
from offmap.backbones.loading import Loaded
from offmap.backbones.source import BackboneSource
from offmap.backbones.token_stats import Head
from offmap.errors import InputError
from offmap.features import FloatArray
from offmap.rendering import Renderer


@dataclass(frozen=True)
class Guard:
    """A guard that is ready to score.

    Attributes:
        render: conversation to tokens; a generative guard's prompt ends where its verdict is predicted.
        head: last hidden state to the outputs of the verdict: the unsafe ones, then the safe ones.
        n_unsafe: how many are unsafe.
        padding: the token that a classifier steps over when it looks for the last one, or None.
        name: the family and the outputs, for the fingerprint.
    """

    render: Renderer
    head: Head
    n_unsafe: int
    padding: int | None
    name: str

    def position(self, ids: NDArray[np.int32]) -> int:
        """Where the verdict is read."""
        return _last(ids, self.padding)

    def score(self, hidden: torch.Tensor) -> FloatArray:
        """Of each row log P(unsafe) - log P(safe); higher is more unsafe.

        A log-sum-exp over the outputs of each side; the others cancel. A lone output is its own log-odds, of unsafe
        or of safe.

        Args:
            hidden: (n, d) last hidden states at the verdict position.

        Returns:
            (n,) float64.
        """
        with torch.autocast(hidden.device.type, enabled=False):
            logits = self.head.logits(hidden.float()).cpu().double()
        sides = ((1, logits[:, : self.n_unsafe]), (-1, logits[:, self.n_unsafe :]))
        said = [sign * side.logsumexp(1) for sign, side in sides if side.shape[1]]
        score: FloatArray = torch.stack(said).sum(0).numpy()
        return score


def open_guard(loaded: Loaded, source: BackboneSource, limit: int | None, head: Head) -> Guard:
    """The guard that ``loaded`` is.

    Args:
        loaded: the model, with the name of its family.
        source: says the policy or the unsafe label, where there is one.
        limit: the most tokens of a prompt, or None.
        head: last hidden state to logits: of the vocabulary, or of a classifier's labels.

    Raises:
        InputError: the chat template is missing or does not ask for this family's verdict, the tokenizer cannot tell
            the verdicts apart, the labels do not say which is unsafe, or an option is not for this family.
    """
    if loaded.guard == CLASSIFIER:
        return _classifier(loaded, source, limit, head)
    _refuse("unsafe_label", source.unsafe_label, loaded.guard)
    render = GuardRenderer(loaded.tokenizer, str(loaded.guard), source.policy, limit)
    unsafe, safe = render.verdicts()
    name = f"{loaded.guard} unsafe={unsafe} safe={safe}"
    return Guard(render, _rows(head, unsafe + safe), len(unsafe), None, name)


def _classifier(loaded: Loaded, source: BackboneSource, limit: int | None, head: Head) -> Guard:
    _refuse("policy", source.policy, CLASSIFIER)
    config = loaded.model.config
    unsafe, safe = orientation(config.id2label, source.unsafe_label)
    if config.problem_type == "multi_label_classification" and unsafe:
        safe = []
    name = f"{CLASSIFIER} unsafe={unsafe} safe={safe}"
    padding = config.get_text_config().pad_token_id
    return Guard(Renderer(loaded.tokenizer, limit), _rows(head, unsafe + safe), len(unsafe), padding, name)


def classifier_head(
    model: Any, ids: torch.Tensor, hidden: torch.Tensor, logits: torch.Tensor, dtype: torch.dtype
) -> Head:
    """The head of a sequence classifier, proven on one example.

    Args:
        model: a classifier of transformers with one linear layer, ``score``.
        ids: (n,) tokens.
        hidden: (n, d) last hidden states.
        logits: (labels,), what the model itself makes of them.
        dtype: the precision of the model's products.

    Raises:
        InputError: its logits are another function of the last token's hidden state.
    """
    bias = model.score.bias
    head = Head(model.score.weight.detach().float(), None if bias is None else bias.detach().float())
    at = _last(ids.cpu().numpy(), model.config.get_text_config().pad_token_id)
    with torch.autocast(hidden.device.type, enabled=False):
        error = (head.logits(hidden[at : at + 1].float())[0] - logits.float()).abs().max()
    if error > (1e-3 if dtype == torch.float32 else 3e-2) * logits.abs().max():
        raise InputError(f"{type(model).__name__}: its logits are no linear function of the last token's hidden state")
    return head


def _rows(head: Head, chosen: list[int]) -> Head:
    """The head of some outputs alone, in float32."""
    bias = None if head.bias is None else head.bias[chosen].float()
    return replace(head, weight=head.weight[chosen].float(), bias=bias)


def _last(ids: NDArray[Any], padding: int | None) -> int:
    """The last token that is not padding."""
    real = np.flatnonzero(ids != padding) if padding is not None else np.arange(len(ids))
    return int(real[-1]) if len(real) else 0


def _refuse(option: str, value: str | None, guard: str | None) -> None:
    if value is not None:
        raise InputError(f"{option} {value!r}: not for guard {guard!r}")
