"""What the benchmark runs on: a seeded causal LM with its tokenizer, and conversations of realistic lengths.

Everything is made locally; nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from offmap.conversation import Conversation

VOCABULARY, CONTEXT = 32_000, 2048
LENGTH, BETWEEN, WITHIN, SHORTEST, LONGEST = 200, 0.55, 0.7, 30, 1500
"""Tokens of a row: log-normal within a domain, around a median that is log-normal between domains. Spreads are those
of public chat, code and tool-use data."""
SAFE = 2000
"""Hidden states that the Gaussian is fitted on: drawn, not computed, so that neither side pays for them."""
MARKS = ["<|bos|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>", "<|padding|>"]


@dataclass(frozen=True)
class Plan:
    """What every process shares.

    Attributes:
        work: where the model and the rows are.
        reference: where mood-bench is installed.
        data: a directory of labelled rows, or None for rows of the procedural suite.
        rows: how many to score.
        hidden: the width of the model, a multiple of 64.
        layers: its depth.
        dtype: the precision of both.
        seed: of weights, rows and lengths.
    """

    work: Path
    reference: Path
    data: Path | None
    rows: int
    hidden: int
    layers: int
    dtype: str
    seed: int

    @property
    def model(self) -> str:
        """The directory of the causal LM."""
        return str(self.work / "model")


def prepare(plan: Plan) -> list[int]:
    """Make tokenizer, model, guard head, safe hidden states and rows; return the rows' lengths in tokens."""
    import msgspec
    import numpy as np

    from offmap.rendering import Renderer
    from offmap.suites import load

    suite = load(plan.data or "procedural", seed=plan.seed)
    tokenizer = _tokenizer(suite.train, plan.model)
    _model(plan)
    drawn, d = np.random.default_rng(plan.seed), plan.hidden
    np.save(plan.work / "head.npy", (drawn.normal(size=(2, d)) / math.sqrt(d)).astype(np.float32))
    np.save(plan.work / "safe.npy", (drawn.normal(size=(SAFE, d)) * drawn.uniform(0.5, 2, d)).astype(np.float32))
    render, rng = Renderer(tokenizer), random.Random(plan.seed)
    chosen = (_sample if plan.data else _chained)(suite.test, plan.rows, render, rng)
    rendered = render(chosen)
    texts = [tokenizer.decode(row.ids, clean_up_tokenization_spaces=False) for row in rendered]
    (plan.work / "rows.json").write_bytes(msgspec.json.encode(chosen))
    (plan.work / "texts.json").write_text(json.dumps(texts))
    return [len(row) for row in rendered]


def _tokenizer(rows: Sequence[Conversation], path: str) -> Any:
    """A byte-level BPE trained on the rows, whose special tokens are the marks of offmap's plain template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer, bpe.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=MARKS, initial_alphabet=alphabet)
    bpe.train_from_iterator((message.text for row in rows for message in row.messages), trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=bpe, bos_token=MARKS[0], eos_token=MARKS[-1], model_max_length=CONTEXT
    )
    fast.save_pretrained(path)
    return fast


def _model(plan: Plan) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(plan.seed)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        max_position_embeddings=CONTEXT,
        hidden_size=plan.hidden,
        intermediate_size=plan.hidden * 8 // 3,
        num_hidden_layers=plan.layers,
        num_attention_heads=plan.hidden // 64,
        # A layer then keeps the variance of its input; the usual 0.02 would make all tokens alike.
        initializer_range=1.2 / math.sqrt(plan.hidden),
        bos_token_id=0,
        eos_token_id=len(MARKS) - 1,
        pad_token_id=len(MARKS) - 1,
    )
    LlamaForCausalLM(config).save_pretrained(plan.model)


def _chained(pool: Sequence[Conversation], size: int, render: Any, rng: random.Random) -> list[Conversation]:
    """Conversations of drawn lengths, each several of one domain's in a row; domain after domain."""
    domains = sorted({row.domain for row in pool})
    chosen: list[Conversation] = []
    for place, domain in enumerate(rng.sample(domains, len(domains))):
        told = [row for row in pool if row.domain == domain]
        share = NormalDist(sigma=BETWEEN).inv_cdf((place + 0.5) / len(domains))
        for number in range(size // len(domains) + (place < size % len(domains))):
            wanted = min(max(LENGTH * math.exp(share + rng.gauss(0, WITHIN)), SHORTEST), LONGEST)
            chosen.append(_of_length(wanted, told, f"{domain}-{number}", render, rng))
    return chosen


def _of_length(wanted: float, told: Sequence[Conversation], name: str, render: Any, rng: random.Random) -> Conversation:
    """One conversation after the other, until there are about so many tokens; the last message is cut to fit."""
    from offmap.conversation import Conversation, Message

    messages: list[Message] = []
    while True:
        for message in rng.choice(told).messages:
            plain = Message(message.role, message.text)
            length = len(render([Conversation(name, (plain,))])[0])
            messages.append(Message(plain.role, plain.content[: int(len(plain.content) * wanted / length)]))
            wanted -= length
            if wanted < 1:
                return Conversation(name, tuple(messages), domain=told[0].domain)


def _sample(pool: Sequence[Conversation], size: int, render: Any, rng: random.Random) -> list[Conversation]:
    """Rows that fit the model, in their order, without tools, which are tokenised apart from the text."""
    from offmap.conversation import Conversation

    drawn = rng.sample(range(len(pool)), min(len(pool), 2 * size))
    rows = [Conversation(pool[i].id, pool[i].messages, domain=pool[i].domain) for i in drawn]
    fitting = [row for row, tokens in zip(rows, render(rows), strict=True) if len(tokens) <= CONTEXT]
    return sorted(fitting[:size], key=lambda row: row.domain)
