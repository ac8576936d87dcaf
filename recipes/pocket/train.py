"""Make pocket: train its tokenizer and its weights, resumably, on one CPU thread or a GPU.

    python recipes/pocket/train.py --permissive FILE --work DIR --steps 1500 --decay-steps 940

Knows nothing of monitors: it turns conversations into a causal LM in Hugging Face format. README.md beside this
file says what it was run with and what came out.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.checkpoint import checkpoint
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from corpus import generated, held_out, norms, permissive
from offmap.conversation import ROLES, Conversation
from offmap.rendering import Renderer

MARKS = ["<|bos|>", "<|end|>", *(f"<|{role}|>" for role in ROLES)]
VOCABULARY, CONTEXT, BATCH_TOKENS = 6144, 1024, 4096
SHAPES = {"64x3": (176, 2, 1), "128x4": (352, 4, 2), "192x6": (544, 6, 2), "320x8": (896, 10, 2)}
"""Width x layers -> width of the feed-forward part, attention heads, key-value heads."""
POCKET = "192x6"


def train_tokenizer(conversations: list[Conversation], path: Path) -> Tokenizer:
    """Byte-level BPE; digits one by one, so that numbers are read alike everywhere."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    texts = (m.text for c in conversations for m in c.messages)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=MARKS, initial_alphabet=alphabet)
    )
    tokenizer.save(str(path))
    return tokenizer


def encode(conversations: Sequence[Conversation], tokenizer: Tokenizer) -> list[np.ndarray]:
    """Token ids of each conversation, rendered by the very code that will render it for the monitor."""
    return [row.ids.astype(np.int64) for row in Renderer(tokenizer, max_tokens=CONTEXT)(conversations)]


def batches(rows: list[np.ndarray], seed: int) -> Iterator[torch.Tensor]:
    """Endless batches of rows of like length, about BATCH_TOKENS tokens each; -100 marks padding."""
    rng = np.random.default_rng(seed)
    while True:
        order = np.argsort([len(row) + rng.integers(0, 24) for row in rows], kind="stable")
        groups, group = [], []
        for index in order:
            if group and (len(group) + 1) * len(rows[index]) > BATCH_TOKENS:
                groups.append(group)
                group = []
            group.append(int(index))
        groups.append(group)
        for position in rng.permutation(len(groups)):
            yield _pad([rows[i] for i in groups[position]])


def _pad(rows: list[np.ndarray]) -> torch.Tensor:
    width = -(-max(map(len, rows)) // 32) * 32
    out = torch.full((len(rows), width), -100, dtype=torch.long)
    for line, row in enumerate(rows):
        out[line, : len(row)] = torch.from_numpy(row)
    return out


def new_model(shape: str) -> LlamaForCausalLM:
    """A fresh Llama-shaped model with tied embeddings and grouped keys and values."""
    torch.manual_seed(0)
    inner, heads, pairs = SHAPES[shape]
    width, layers = map(int, shape.split("x"))
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=width, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=pairs, max_position_embeddings=CONTEXT,
        tie_word_embeddings=True, bos_token_id=0, eos_token_id=1, pad_token_id=1,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def loss_of(model: LlamaForCausalLM, batch: torch.Tensor, chunk: int = 512) -> torch.Tensor:
    """Mean next-token loss; right padding needs no attention mask under causal attention.

    The head runs in chunks that are computed again on the way back: no (tokens, vocabulary) tensor is kept.
    """
    with torch.autocast(batch.device.type, torch.bfloat16):
        hidden = model.model(input_ids=batch.clamp_min(0)).last_hidden_state
    states, targets = hidden[:, :-1].flatten(0, 1), batch[:, 1:].flatten()
    total = sum(
        checkpoint(_head_loss, states[i : i + chunk], model.lm_head.weight, targets[i : i + chunk], use_reentrant=False)
        for i in range(0, len(targets), chunk)
    )
    return total / (targets != -100).sum()


def _head_loss(states: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with torch.autocast(states.device.type, torch.bfloat16):
        logits = states @ weight.T
    return torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")


def optimizers(model: LlamaForCausalLM) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the trunk, AdamW for embeddings and gains."""
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = torch.optim.Muon(matrices, lr=0.02, momentum=0.95, weight_decay=0.01)
    return [muon, torch.optim.AdamW(others, lr=4e-3, betas=(0.9, 0.95), weight_decay=0.0)]


@torch.no_grad()
def perplexity(model: LlamaForCausalLM, rows: list[np.ndarray]) -> float:
    """Exp of the mean token loss over held-out rows."""
    total = count = 0.0
    for row in rows:
        batch = _pad([row]).to(model.device)
        tokens = len(row) - 1
        total, count = total + loss_of(model, batch).item() * tokens, count + tokens
    return math.exp(total / count)


def train(model: LlamaForCausalLM, stages: list[tuple[str, list[np.ndarray], int]], work: Path, rate: float) -> None:
    """Run the stages by the step; the rate is flat until the last one, which brings it down to zero."""
    state = work / "state.pt"
    clock = {"step": 0, "spent": 0.0}
    tools = optimizers(model)
    base = [tool.param_groups[0]["lr"] * rate for tool in tools]
    if state.exists():
        saved = torch.load(state, weights_only=True)
        model.load_state_dict(saved["model"])
        for tool, kept in zip(tools, saved["tools"], strict=True):
            tool.load_state_dict(kept)
        clock = saved["clock"]
    ends = list(itertools.accumulate(steps for *_, steps in stages))
    feeds = [batches(rows, seed=clock["step"] + i) for i, (_, rows, _) in enumerate(stages)]
    while clock["step"] < ends[-1]:
        started = time.perf_counter()
        stage = bisect.bisect_right(ends, clock["step"])
        left = (ends[-1] - clock["step"]) / stages[-1][2] if stage == len(stages) - 1 else 1.0
        warm = min(1.0, (clock["step"] + 1) / 50)
        for tool, highest in zip(tools, base, strict=True):
            tool.param_groups[0]["lr"] = highest * warm * max(left, 0.02)
        loss = loss_of(model, next(feeds[stage]).to(model.device))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for tool in tools:
            tool.step()
            tool.zero_grad(set_to_none=True)
        clock["step"] += 1
        clock["spent"] += time.perf_counter() - started
        if clock["step"] % 20 == 0:
            print(f"{stages[stage][0]} step {clock['step']} {clock['spent']:.0f}s loss {loss.item():.3f}", flush=True)
        if clock["step"] % 100 == 0:
            _save(state, model, tools, clock)
    _save(state, model, tools, clock)


def _save(path: Path, model: LlamaForCausalLM, tools: list[torch.optim.Optimizer], clock: dict) -> None:
    fresh = path.with_suffix(".new")
    torch.save({"model": model.state_dict(), "tools": [t.state_dict() for t in tools], "clock": clock}, fresh)
    fresh.replace(path)


def main() -> None:
    """Tokenizer, stages, held-out perplexity, float16 weights in Hugging Face format."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--permissive", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--shape", choices=SHAPES, default=POCKET, help="width x layers")
    parser.add_argument("--steps", type=int, default=1500, help="on permissive text, at a flat rate")
    parser.add_argument("--decay-steps", type=int, default=940, help="on permissive and generated text, down to zero")
    parser.add_argument("--generated", type=int, default=0, help="generated conversations a domain in the last stage")
    parser.add_argument("--norms", type=int, default=0, help="situations of a failure told well, in the last stage")
    parser.add_argument("--start", type=Path, help="a model to go on from, without the first stage")
    parser.add_argument("--rate", type=float, default=1.0, help="times the usual learning rates")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    documents = list(permissive(args.permissive))
    path = (args.start or args.work) / "tokenizer.json"
    tokenizer = Tokenizer.from_file(str(path)) if path.exists() else train_tokenizer(documents, path)
    rows = encode([c for c in documents if not held_out(c)], tokenizer)
    print(f"{len(rows)} documents, {sum(map(len, rows))} tokens", flush=True)
    stages = [] if args.start else [("base", rows, args.steps)]
    if args.decay_steps:
        told = generated(args.generated) + norms(args.norms)
        stages.append(("decay", rows + encode(told, tokenizer), args.decay_steps))
    model = LlamaForCausalLM.from_pretrained(args.start, dtype=torch.float32) if args.start else new_model(args.shape)
    train(model.to("cuda" if torch.cuda.is_available() else "cpu"), stages, args.work, args.rate)
    report = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "held_out_perplexity": perplexity(model, encode([c for c in documents if held_out(c)], tokenizer)),
    }
    print(json.dumps(report))
    out = args.work / "pocket"
    model.to(torch.float16).save_pretrained(out)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|end|>").save_pretrained(out)
    (out / "report.json").write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
