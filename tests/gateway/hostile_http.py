"""What is sent to a gateway to break it: pieces of JSON, whole bodies, and bytes that are barely HTTP."""

import gzip
import json


def nested(depth, opening=b"[", closing=b"]", inner=b""):
    return opening * depth + inner + closing * depth


PIECES = {
    **{repr(each): json.dumps(each).encode() for each in (None, True, False, 0, -1, 1.5, "", [], {}, [None], {"a": 1})},
    "1e999": b"1e999",
    "-1e999": b"-1e999",
    "1e-999": b"1e-999",
    "-0": b"-0",
    "2**64": b"18446744073709551616",
    "4000 digits": b"9" * 4000,
    "5000 digits": b"9" * 5000,
    "5000 decimals": b"0." + b"9" * 5000,
    "NaN": b"NaN",
    "Infinity": b"-Infinity",
    "0x10": b"0x10",
    "01": b"01",
    "lone high surrogate": rb'"\ud800"',
    "lone low surrogate": rb'"a\udc00b"',
    "swapped surrogates": rb'"\udc00\ud800"',
    "surrogate in bytes": b'"\xed\xa0\x80"',
    "overlong": b'"\xc0\xaf\xe0\x80\xaf"',
    "beyond Unicode": b'"\xf4\x90\x80\x80"',
    "half a character": b'"\xe2\x82"',
    "latin-1": b'"caf\xe9"',
    "NUL, escaped": rb'"a\u0000b"',
    "NUL, raw": b'"a\x00b"',
    "controls": b'"' + bytes(range(1, 32)).replace(b"\n", b"") + b'"',
    "bidi and zero width": '"\u202e\u2066\u200b\u200d\ufeff\uffff"'.encode(),
    "combining": ('"e' + "\u0301" * 5000 + '"').encode(),
    "escape of nothing": rb'"\x41"',
    "short escape": rb'"\u12"',
    "unclosed text": b'"abc',
    "trailing comma": b"[1,]",
    "comment": b"/* a */ 1",
    "duplicate names": b'{"type": "text", "type": "image_url", "text": "a", "text": "b"}',
    "31 deep": nested(26),
    "objects, deep": nested(24, b'{"a":', b"}", b"1"),
    "100 deep": nested(100),
    "100,000 deep": nested(100_000),
    "unclosed, deep": b"[" * 100_000,
    "objects, very deep": nested(100_000, b'{"a":', b"}", b"1"),
    "parts": json.dumps([{"type": "text", "text": "a"}, {"type": "input_audio"}, {"type": "image_url"}, {}]).encode(),
}
"""What may stand in a body where a value is expected, and sometimes may not stand in any JSON."""


def large(size):
    """Values of about that many bytes that are dear to read."""
    return {
        "a long text": b'"' + b"x" * size + b'"',
        "a long text of escapes": b'"' + rb"\u0041" * (size // 6) + b'"',
        "many texts": b"[" + b",".join([b'"x"'] * (size // 4)) + b"]",
        "many lists": b"[" + b",".join([b"[]"] * (size // 3)) + b"]",
        "many objects": b"[" + b",".join([b"{}"] * (size // 3)) + b"]",
        "many numbers": b"[" + b",".join([b"1"] * (size // 2)) + b"]",
        "many names": b"{" + b",".join(b'"%d":1' % n for n in range(size // 11)) + b"}",
        "many messages": b"[" + b",".join([b'{"role":"user","content":"a"}'] * (size // 30)) + b"]",
        "many parts": b"[" + b",".join([b'{"type":"text","text":"a"}'] * (size // 27)) + b"]",
    }


_USER = b'{"role": "user", "content": "hello"}'
_DECISION = b'{"stage": "%s", "conversation": {"messages": [%s]%s}%s}'
TEMPLATES = [
    ("/v1/moderations", b'{"input": @}'),
    ("/v1/moderations", b'{"input": [@, "a"]}'),
    ("/v1/moderations", b'{"input": "a", "model": @}'),
    ("/v1/moderations", b'{"input": [{"type": "text", "text": @}]}'),
    ("/v1/decisions", _DECISION % (b"input", b'{"role": "user", "content": @}', b"", b"")),
    ("/v1/decisions", _DECISION % (b"input", b'{"role": @, "content": "a"}', b"", b"")),
    ("/v1/decisions", _DECISION % (b"input", _USER, b', "tools": @', b"")),
    ("/v1/decisions", _DECISION % (b"input", _USER, b', "meta": @, "id": @', b"")),
    ("/v1/decisions", _DECISION % (b"conversation", _USER, b"", b', "conversation_id": @')),
    ("/v1/decisions", _DECISION % (b"response", b'{"role": "assistant", "tool_calls": @}', b"", b"")),
    ("/v1/decisions", b'{"stage": "conversation", "conversation_id": "c", "conversation": {"messages": @}}'),
    ("/v1/decisions", b'{"stage": @, "conversation": {"messages": []}}'),
    ("/v1/decisions", b"@"),
    ("/v1/score", b'{"conversations": @}'),
    ("/v1/score", b'{"conversations": [{"messages": @}]}'),
    ("/v1/score", b'{"conversations": [{"messages": [{"role": "user", "content": @}]}], "stage": @}'),
    ("/v1/guardrail/checks", b'{"messages": @}'),
    ("/v1/guardrail/checks", b'{"messages": [{"role": "user", "content": @}]}'),
    ("/v1/guardrail/checks", b'{"messages": [%s], "guardrails": @, "stream": @}' % _USER),
    ("/beta/litellm_basic_guardrail_api", b'{"input_type": "request", "texts": @, "litellm_call_id": "c"}'),
    ("/beta/litellm_basic_guardrail_api", b'{"input_type": "response", "texts": [@], "litellm_call_id": @}'),
    ("/beta/litellm_basic_guardrail_api", b'{"input_type": "request", "structured_messages": @, "texts": @}'),
    ("/beta/litellm_basic_guardrail_api", b'{"input_type": "response", "texts": ["a"], "tool_calls": @}'),
    ("/beta/litellm_basic_guardrail_api", b'{"input_type": "request", "texts": ["a"], "tools": @}'),
    ("/v1/chat/completions", b'{"model": "m", "messages": @}'),
    ("/v1/chat/completions", b'{"model": @, "messages": [{"role": "user", "content": @}], "stream": true}'),
    ("/v1/chat/completions", b'{"model": "m", "messages": [%s], "n": @}' % _USER),
    ("/v1/chat/completions", b'{"model": "m", "messages": [%s], "stream": @, "temperature": @}' % _USER),
    (
        "/v1/chat/completions",
        b'{"messages": [%s], "tools": [{"type": "function", "function": {"name": "f", "parameters": {"p": @}}}]}'
        % _USER,
    ),
    ("/v1/chat/completions", b'{"messages": [{"role": "assistant", "tool_calls": @}], "chat_template_kwargs": @}'),
]
"""Paths, and bodies in which a piece takes the place of every @."""
PATHS = tuple(dict.fromkeys(path for path, _ in TEMPLATES))

_VALID = b'{"input": "hello"}'
BODIES = {
    "nothing": b"",
    "spaces": b" " * 1000,
    "a byte order mark": b"\xef\xbb\xbf" + _VALID,
    "UTF-16": _VALID.decode().encode("utf-16"),
    "UTF-32": _VALID.decode().encode("utf-32"),
    "two values": _VALID + _VALID,
    "a NUL behind": _VALID + b"\x00",
    "unclosed": _VALID[:-1],
    "no JSON": b"<xml/>",
    "random bytes": bytes(range(256)) * 100,
    "a zip bomb": gzip.compress(b"[" * (64 << 20)),
    "pickled": b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00\x8c\x01a\x94.",
    "quotation marks": b'"' * 1_000_000,
    "backslashes": b'{"a": "' + b"\\" * 1_000_000,
    "brackets in turn": b"[]" * 500_000,
    "duplicate names": b'{"input": "hello", "input": 1, "stage": "input", "stage": "response"}',
}
"""Whole bodies."""

_JSON = "content-type: application/json\r\n"
_POST = f"POST /v1/moderations HTTP/1.1\r\nhost: localhost\r\n{_JSON}"
_NEXT = "GET /smuggled HTTP/1.1\r\nhost: localhost\r\n\r\n"
REQUESTS = {
    "two lengths": f'{_POST}content-length: 18\r\ncontent-length: 3\r\n\r\n{{"input": "hello"}}',
    "a list of lengths": f'{_POST}content-length: 18, 18\r\n\r\n{{"input": "hello"}}',
    "a negative length": f"{_POST}content-length: -1\r\n\r\n",
    "a length with a sign": f"{_POST}content-length: +18\r\n\r\n",
    "a length in Arabic digits": f"{_POST}content-length: \u0661\u0668\r\n\r\n",
    "a length of 5000 digits": f"{_POST}content-length: {'9' * 5000}\r\n\r\n",
    "a length and chunks": f"{_POST}content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "chunks, misspelled": f"{_POST}transfer-encoding: xchunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "chunks, then identity": f"{_POST}transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n{_NEXT}",
    "chunks twice": f"{_POST}transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{_NEXT}",
    "a chunk of negative size": f"{_POST}transfer-encoding: chunked\r\n\r\n-1\r\n\r\n",
    "a chunk of 2**64 bytes": f"{_POST}transfer-encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc",
    "a chunk with a long extension": f"{_POST}transfer-encoding: chunked\r\n\r\n5;{'x' * 99_999}\r\nabcde\r\n",
    "a chunk that is none": f"{_POST}transfer-encoding: chunked\r\n\r\nhello\r\n",
    "a space before the colon": f"{_POST}content-length : 3\r\n\r\nabc",
    "a folded header": f"{_POST}x-a: b\r\n c\r\n\r\n",
    "a NUL in a header": f"{_POST}x-a: b\0c\r\n\r\n",
    "bare line feeds": "GET /healthz HTTP/1.1\nhost: localhost\n\n",
    "no host": "GET /healthz HTTP/1.1\r\n\r\n",
    "two hosts": "GET /healthz HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n\r\n",
    "another host": "GET /v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "an odd host": "GET /v1/models HTTP/1.1\r\nhost: [::1\r\n\r\n",
    "a whole address": "GET http://evil.example/v1/models HTTP/1.1\r\nhost: evil.example\r\n\r\n",
    "a fragment of a path": "GET healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path upwards": "GET /v1/../../etc/passwd HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path of escapes": "GET /%00%ff%2e%2e/%u0041%zz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path of slashes": f"GET {'/' * 20_000} HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a long path": f"GET /{'a' * 200_000} HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a path in UTF-8": "GET /caf\u00e9 HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "a long header": f"{_POST}x-a: {'a' * 200_000}\r\n\r\n",
    "many headers": _POST + "".join(f"x-{n}: 1\r\n" for n in range(20_000)) + "\r\n",
    "an endless header": f"{_POST}x-a: {'a' * 2_000_000}",
    "an odd method": "get /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "no method known": "BREW /v1/moderations HTTP/1.1\r\nhost: localhost\r\n\r\n",
    "CONNECT": "CONNECT evil.example:443 HTTP/1.1\r\nhost: evil.example:443\r\n\r\n",
    "TRACE": "TRACE /v1/moderations HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer secret\r\n\r\n",
    "HTTP/0.9": "GET /healthz\r\n\r\n",
    "HTTP/9.9": "GET /healthz HTTP/9.9\r\nhost: localhost\r\n\r\n",
    "HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an upgrade": "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    "an end in the head": f"{_POST}content-le",
    "an end in the body": f'{_POST}content-length: 18\r\n\r\n{{"inp',
    "more than announced": f'{_POST}content-length: 3\r\n\r\n{{"input": "hello"}}{_NEXT}',
    "a conversation's id in bytes": f"{_POST}x-offmap-conversation: \u00ff\u0000\r\ncontent-length: 2\r\n\r\n{{}}",
    "pipelined": _NEXT * 50,
}
"""Bytes for a socket, as text; what is above 0x7f is sent as UTF-8."""
TYPES = (
    "",
    "text/plain",
    "text/json",
    "application/x-www-form-urlencoded",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-msgpack",
    "application/json-seq",
    "application/",
    "*/*",
    "application/json, text/plain",
)
"""Types of content that are not JSON."""
ODD_JSON = ("APPLICATION/JSON", "application/json;;;", "application/json; charset=utf-16", "application/json ;a=b")
"""Types of content that are, as far as is looked at."""
