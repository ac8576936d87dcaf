"""What is kept of content in each mode, read from the bytes of the data base file itself."""

import hashlib
import json

import msgspec
import pytest

from offmap.conversation import Conversation, Message, Tool, ToolCall
from offmap.errors import InputError
from offmap.evidence import Span
from offmap.gateway.decision import Finding
from offmap.gateway.store import CAPTURES, AuditLog, find
from offmap.gateway.store.capture import canonical, captured, kept, restored

SECRET, CARD, PLAIN = "alice@example.com", "4111 1111 1111 1111", "the boat leaves at noon"
CALL = ToolCall("send", json.dumps({"to": SECRET, "password": "hunter2", "n": 5}))
CONVERSATION = Conversation("c1", (Message("user", f"{PLAIN}, write {SECRET}"), Message("assistant", CARD, (CALL,))))
SPANS = (
    Span(0, "user", 0, 8, "the boat", 9.0),
    Span(0, "user", 30, 41, SECRET[:11], 8.0),
    Span(1, "assistant", 0, 9, CARD[:9], 7.0),
)


@pytest.fixture
def decision(make):
    finding = Finding("pocket", "v1", "scored", p_value=0.01, spans=SPANS)
    return make(1, findings=(finding,), content_sha256=hashlib.sha256(canonical(CONVERSATION).encode()).hexdigest())


def redacted(decision, conversation):
    return json.loads(captured(decision, conversation, "redacted")[1])["content"]


def test_only_so_much_of_a_conversation_is_redacted_and_of_the_rest_its_length_is_told(decision):
    """The log has one thread: a megabyte that is redacted holds up everybody's decision for seconds."""
    long, fits = "1-" * 490_000, "word " * 25_000
    said = (Message("user", long), Message("user", fits), Message("assistant", fits, (CALL,)), Message("user", "so?"))
    found = redacted(decision, Conversation("c", said))["messages"]
    assert [each["content"] for each in found[:2]] == ["[980000 characters left out]", fits]
    size = len(fits) + sum(map(len, (CALL.name, CALL.arguments)))
    assert found[2] == {"role": "assistant", "content": f"[{size} characters left out]"}
    assert found[3] == {"role": "user", "content": "so?"}
    whole = json.loads(captured(decision, Conversation("c", said), "full")[1])["content"]["messages"]
    assert whole[0]["content"] == long


def test_of_too_many_messages_it_is_told_how_many_are_left_out(decision):
    found = redacted(decision, Conversation("c", (Message("user", "hi"),) * 30_000))["messages"]
    assert found[-1]["role"] == "system"
    assert found[-1]["content"] == f"[{30_000 - len(found) + 1} messages left out]"
    assert 1000 < len(found) < 3000
    msgspec.convert(found, list[Message])  # the review page shows them as messages


def test_tools_that_fill_half_of_the_room_are_left_out(decision):
    tools = (Tool("f", SECRET, json.dumps({"x": "word " * 20_000})),)
    found = redacted(decision, Conversation("c", (Message("user", PLAIN),), tools=tools))
    assert "tools" not in found
    assert [each["content"] for each in found["messages"]] == [PLAIN, "[tools left out]"]


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_file_holds_what_the_mode_allows(sqlite, sqlite_url, tmp_path, decision, capture):
    with AuditLog(sqlite, capture) as log:
        log.submit(decision, CONVERSATION).result()
    entry = find(sqlite, decision.id)
    sqlite.close()
    raw = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    held = {name: text.encode() in raw for name, text in {"secret": SECRET, "card": CARD, "plain": PLAIN}.items()}
    hashed = decision.content_sha256.encode() in raw
    assert held == {"secret": capture == "full", "card": capture == "full", "plain": capture in ("redacted", "full")}
    assert hashed == (capture in ("hash", "full"))
    assert (b"hunter2" in raw) == (capture == "full")
    texts = [span.text for span in entry.decision.findings[0].spans]
    assert (
        texts
        == {
            "none": ["", "", ""],
            "hash": ["", "", ""],
            "redacted": ["the boat", "[redacted]", "[redacted]"],
            "full": [span.text for span in SPANS],
        }[capture]
    )
    assert [span.start for span in entry.decision.findings[0].spans] == [0, 30, 0]
    assert entry.capture == capture
    assert entry.decision.content_sha256 == (decision.content_sha256 if capture in ("hash", "full") else "")


def test_full_content_comes_back_as_it_was(decision):
    record, content = captured(decision, CONVERSATION, "full")
    assert msgspec.json.decode(kept(content).content, type=Conversation) == CONVERSATION
    assert restored(record, content) == decision
    assert restored(record, None).findings[0].spans[0].text == ""


def test_redacted_content_keeps_its_shape(decision):
    _, content = captured(decision, CONVERSATION, "redacted")
    shown = msgspec.json.decode(kept(content).content, type=Conversation)
    assert shown.messages[0].content == f"{PLAIN}, write [email]"
    assert shown.messages[1].content == "[card]"
    assert json.loads(shown.messages[1].tool_calls[0].arguments) == {"to": "[email]", "password": "[secret]", "n": 5}


def test_a_hash_is_made_where_the_decision_has_none(make):
    digest = hashlib.sha256(b'{"a":"x","b":1}').hexdigest()
    assert kept(captured(make(1), {"b": 1, "a": "x"}, "hash")[1]).sha256 == digest
    for capture in CAPTURES:
        stored, content = captured(make(1), None, capture)
        assert (stored.content_sha256, content) == ("", None)


@pytest.mark.parametrize("capture", CAPTURES)
def test_the_record_holds_no_content_at_all(sqlite, decision, capture):
    """What stays when content is purged: neither its words nor a hash that they could be found from by trial."""
    with AuditLog(sqlite, capture) as log:
        log.submit(decision, CONVERSATION).result()
    entry = find(sqlite, decision.id)
    for told in (SECRET, SECRET[:11], CARD[:9], "the boat", decision.content_sha256):
        assert told not in entry.record
    assert (entry.salt is None) == (entry.commitment is None) == (capture == "none")


@pytest.mark.parametrize("content", ["5", "{", '{"spans":[1]}'])
def test_content_that_is_not_ours_is_an_error(content):
    with pytest.raises(InputError, match="content of an audit row"):
        kept(content)


def test_half_a_surrogate_pair_is_written_out(sqlite, make):
    assert canonical({"b": ["\ud800"], "a\udfff": 1}) == '{"a\\\\udfff":1,"b":["\\\\ud800"]}'
    with AuditLog(sqlite, "full") as log:
        log.submit(make(1, conversation="x\ud800"), {"text": "\ud800"}).result()
    assert find(sqlite, "id-000001").decision.conversation == "x\\ud800"
