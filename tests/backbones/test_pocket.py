"""The embedded backbone: the weights that were published, small, and able to read."""

import hashlib
import json
import math
from importlib.resources import files

import pytest
from tokenizers import Tokenizer

from offmap.backbones import open_backbone
from offmap.conversation import ROLES, Conversation, Message
from offmap.features import FeatureSpec, TokenStat
from offmap.rendering import Renderer

POCKET = files("offmap.backbones") / "pocket"
WEIGHTS = "5574d31336d538a0bdfd880e996ab17b72f23c6dd64814f9bc0f6ecf309f28fc"
TALK = Conversation(
    id="x",
    messages=(
        Message("user", "What did you do at the weekend?"),
        Message("assistant", "We went for a walk in the park with our friends, and then we had dinner at home."),
    ),
)


def test_the_weights_are_the_released_ones():
    assert hashlib.sha256((POCKET / "model.safetensors").read_bytes()).hexdigest() == WEIGHTS


def test_backbone_and_monitor_together_are_small():
    monitor = files("offmap.monitors") / "pocket"
    assert sum(len(file.read_bytes()) for place in (POCKET, monitor) for file in place.iterdir()) <= 8_000_000


def test_it_reads_english_better_than_chance():
    vocabulary = json.loads((POCKET / "config.json").read_text())["vocab_size"]
    assert vocabulary == 6144
    features = open_backbone("pocket", device="cpu")([TALK], FeatureSpec(tokens=frozenset([TokenStat.LOGPROB])))
    logprobs = features.tokens.stats[TokenStat.LOGPROB]
    assert -logprobs.mean() < math.log(vocabulary) / 1.5


@pytest.mark.parametrize("role", ROLES)
def test_the_marks_of_the_plain_template_are_single_tokens(role):
    tokenizer = Tokenizer.from_str((POCKET / "tokenizer.json").read_text())
    said = tokenizer.encode("rain", add_special_tokens=False).ids
    marks = [tokenizer.token_to_id(mark) for mark in ("<|bos|>", f"<|{role}|>", "<|end|>")]
    assert None not in marks
    (row,) = Renderer(tokenizer)([Conversation(id="x", messages=(Message(str(role), "rain"),))])
    assert row.ids.tolist() == [*marks[:2], *said, marks[2]]
