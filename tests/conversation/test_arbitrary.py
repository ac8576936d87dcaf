"""Arbitrary conversations survive every form and file; arbitrary input raises nothing but InputError."""

import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offmap.conversation import ENDINGS, ROLES, Conversation, Image, Message, Tool, ToolCall, parse_row, read, write
from offmap.conversation.formats import FIELDS
from offmap.errors import InputError

short = st.text(max_size=8)


def tuples(items):
    return st.lists(items, max_size=2).map(tuple)


calls = st.builds(ToolCall, name=short, arguments=short, id=short)
messages = st.builds(
    Message,
    role=st.sampled_from(ROLES),
    content=short,
    tool_calls=tuples(calls),
    name=short,
    tool_call_id=short,
    images=tuples(st.builds(Image, url=short)),
)
conversations = st.builds(
    Conversation,
    id=st.text(min_size=1, max_size=8),
    messages=st.lists(messages, min_size=1, max_size=3).map(tuple),
    unsafe=st.sampled_from([None, False, True]),
    domain=short,
    kind=short,
    pair=short,
    tools=tuples(st.builds(Tool, name=short, description=short, parameters=short)),
)
files = st.lists(conversations, min_size=1, max_size=4, unique_by=lambda row: row.id)

scalars = st.none() | st.booleans() | st.integers() | st.floats() | short
json_values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(short, inner, max_size=3), max_leaves=8
)


def one(row):
    (found,) = parse_row(row)
    return found


@given(conversations)
def test_own_form_round_trips_exactly(conversation):
    assert one(msgspec.json.decode(msgspec.json.encode(conversation))) == conversation


@given(conversations)
def test_openai_form_of_a_conversation_reads_back(conversation):
    row = msgspec.to_builtins(conversation)
    for message in row["messages"]:
        images = [{"type": "image_url", "image_url": image} for image in message.pop("images", ())]
        text = message.get("content")
        message["content"] = [{"type": "text", "text": text or ""}, *images] if images else text
        message["tool_calls"] = [
            {"type": "function", "id": call.pop("id", None), "function": call} for call in message.get("tool_calls", ())
        ]
    row["tools"] = [{"type": "function", "function": tool} for tool in row.get("tools", ())]
    assert one(json.loads(json.dumps(row))) == conversation


@pytest.mark.parametrize("ending", ENDINGS)
@given(rows=files)
@settings(max_examples=30, deadline=None)
def test_round_trip(ending, rows):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"rows{ending}"
        assert write(path, iter(rows)) == len(rows)
        assert list(read(path)) == rows
        assert [file.name for file in Path(folder).iterdir()] == [path.name]


@given(content=st.lists(st.binary(max_size=30) | json_values.map(json.dumps).map(str.encode), max_size=4))
@settings(deadline=None)
def test_arbitrary_lines_raise_nothing_but_input_errors(content):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.jsonl"
        path.write_bytes(b"\n".join(content))
        with pytest.raises(InputError):
            list(read(path, on_error="skip"))


near_calls = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("id", "type", "function", "name", "arguments"), json_values)
)
near_messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "tool"]) | json_values},
    optional={
        "content": json_values,
        "tool_calls": st.lists(near_calls, max_size=2) | json_values,
        "images": json_values,
        "name": json_values,
        "refusal": json_values,
    },
)
near_rows = st.dictionaries(st.sampled_from(FIELDS), json_values, max_size=4) | st.fixed_dictionaries(
    {"messages": st.lists(near_messages, max_size=3)},
    optional={name: json_values for name in FIELDS if name != "messages"},
)


@given(json_values | near_rows)
def test_arbitrary_json_raises_nothing_but_input_errors(value):
    try:
        found = parse_row(value)
    except InputError:
        return
    assert found == tuple(one(msgspec.json.decode(msgspec.json.encode(row))) for row in found)
