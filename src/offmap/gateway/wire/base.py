"""What all wire formats share: errors as JSON that repeat nothing of what was sent, and conversations that can be read.

Knows nothing of any one format.
"""

from __future__ import annotations

import logging
import re
from typing import Any

import msgspec
from litestar import Request, Response
from litestar.exceptions import ClientException, HTTPException, SerializationException, ValidationException
from litestar.openapi.datastructures import ResponseSpec

from offmap.conversation import Conversation, Message, Tool, parse_messages, parse_row, parse_tools
from offmap.conversation.fields import Object
from offmap.errors import InputError
from offmap.gateway.decision import STAGES, Decision, Stage

_log = logging.getLogger(__name__)
_PATH = re.compile(r"\w+(?:\[\d+\]|\.\w+)*")
_SHAPE = "the row's shape: "
_FOUND = re.compile(r"field ([\w.\[\] ]+): found .*, wanted ([^\n]*)", re.DOTALL)
_EXPECTED = re.compile(r"Expected `([^`]*)`([^`,]*)(?:, got `([^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_KINDS = {
    400: ("invalid_request", "the request cannot be read"),
    401: ("unauthorized", "no valid API key"),
    403: ("forbidden", "this may not be done with this API key"),
    404: ("not_found", "there is no such path"),
    405: ("method_not_allowed", "not with this method"),
    408: ("timeout", "the body did not arrive in time"),
    413: ("too_large", "the body is too large"),
    415: ("unsupported_media_type", "wanted content of type application/json"),
    429: ("rate_limited", "too many requests"),
    503: ("unavailable", "not now"),
}
ID_LENGTH = 256
"""Characters of a conversation's id."""
NO_IMAGES = "images are not read by this gateway: send text only"


class ErrorDetail(msgspec.Struct, frozen=True):
    """What went wrong: a fixed word, and a sentence that repeats nothing of what was sent."""

    type: str
    message: str


class ErrorBody(msgspec.Struct, frozen=True):
    """The body of every error."""

    error: ErrorDetail


ERRORS = {
    status: ResponseSpec(ErrorBody, generate_examples=False, description=message)
    for status, (_, message) in _KINDS.items()
    if status not in (404, 405)
}
"""The errors that every face may answer, for the OpenAPI description."""


class Refused(HTTPException):
    """A request that is not served. The message goes to the caller as it is, so it holds nothing that was sent.

    Args:
        status: HTTP's.
        message: in place of the usual sentence of this status.
        retry_after: seconds.
        close: whether nothing more is read from the connection.
    """

    def __init__(
        self, status: int, message: str = "", *, retry_after: float | None = None, close: bool = False
    ) -> None:
        headers = {"Connection": "close"} if close else {}
        if retry_after is not None:
            headers["Retry-After"] = str(max(1, round(retry_after + 0.5)))
        super().__init__(message or _KINDS[status][1], status_code=status, headers=headers)


def answer_error(_: Request[Any, Any, Any], error: Exception) -> Response[ErrorBody]:
    """Any exception as JSON. What nobody foresaw is logged by its class alone: its message may hold content."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    if isinstance(error, InputError):
        status = 400
    if status >= 500 and not isinstance(error, Refused):
        _log.error("a request failed (%s)", type(error).__name__)
    kind, usual = _KINDS.get(status, ("internal", "this request could not be answered"))
    headers = error.headers if isinstance(error, Refused) else None
    return Response(ErrorBody(ErrorDetail(kind, _told(error) or usual)), status_code=status, headers=headers)


def conversation(messages: object, at: str = "messages") -> Conversation:
    """A conversation from the messages of a decoded body, in offmap's form or OpenAI's; ``at``: the field they are in.

    Raises:
        InputError: they are not of that form.
        Refused: they hold images, which no monitor reads.
    """
    return readable(Conversation("request", parse_messages(messages, at)))


def read_row(row: object, at: str) -> tuple[Conversation, ...]:
    """The conversations of a row (``parse_row``) in the field ``at`` of a body.

    Raises:
        InputError: it is no such row; the message names the field from the body on.
        Refused: it holds images.
    """
    try:
        rows = parse_row(row)
    except InputError as error:
        said = str(error)
        field = f"{at}." if said.startswith("field ") else f"{at}: "
        raise InputError(f"field {field}{said.removeprefix('field ').removeprefix(_SHAPE)}") from None
    return tuple(map(readable, rows))


def read_tools(tools: object) -> tuple[Tool, ...]:
    """Offered tools; None is none."""
    return () if tools is None else parse_tools(tools)


def readable(row: Conversation) -> Conversation:
    """The same conversation.

    Raises:
        Refused: it holds images: what no monitor looks at cannot be found harmless.
    """
    if any(message.images for message in row.messages):
        raise Refused(400, NO_IMAGES)
    return row


def identifier(value: str | None, at: str = "the conversation's id") -> str:
    """A conversation's id; ``at``: what errors call it.

    Raises:
        Refused: too long, or with characters that are not printed.
    """
    text = value or ""
    if len(text) > ID_LENGTH or not text.isprintable():
        raise Refused(400, f"{at}: wanted at most {ID_LENGTH} printable characters")
    return text


def stages_of(messages: tuple[Message, ...]) -> list[tuple[Stage, tuple[Message, ...]]]:
    """What is to be looked at in a conversation: its last question, and the reply and its tool calls if it has one."""
    last = messages[-1]
    if last.role != "assistant":
        return [("input", messages)]
    asked = next((n for n in range(len(messages), 0, -1) if messages[n - 1].role != "assistant"), 0)
    found: list[tuple[Stage, tuple[Message, ...]]] = [("input", messages[:asked])] if asked else []
    found.append(("response", messages))
    return [*found, ("tool_call", messages)] if last.tool_calls else found


def smallest_p(decision: Decision) -> float | None:
    """The smallest p-value of the question of harm among what was scored, else of the fused ones; None without any."""
    scored = [finding for finding in decision.findings if finding.outcome == "scored"]
    found = [each.p_unsafe for each in scored if each.p_unsafe is not None]
    return min(found or [each.p_value for each in scored if each.p_value is not None], default=None)


def _told(error: Exception) -> str:
    """What may be told of an error; "": the usual sentence."""
    if isinstance(error, Refused):
        return error.detail
    if isinstance(error, InputError):
        found = _FOUND.fullmatch(str(error))
        return f"field {found[1]}: wanted {found[2]}" if found else ""
    if isinstance(error, ValidationException) and isinstance(error.extra, list):
        return "; ".join(filter(None, map(_field, error.extra[:8])))
    return _no_json(error)


def _no_json(error: Exception) -> str:
    """Where the body stops being JSON; "" where that is not what was wrong."""
    wrapped = error.__cause__ if isinstance(error, ClientException) else None
    cause = wrapped.__cause__ if isinstance(wrapped, SerializationException) else None
    if type(cause) is not msgspec.DecodeError:  # its heirs repeat what was sent
        return ""
    why = (
        str(cause)
        .removeprefix("JSON is malformed: ")
        .replace("Input data was truncated", "it ends too soon, or within a character, such as half of a pair of \\u")
    )
    return f"the body is no JSON: {why}"


def _field(extra: Object) -> str:
    """What msgspec found wrong, without what was sent: it repeats unknown names and values that are none of a few."""
    said, place = str(extra.get("message", "")), _place(str(extra.get("key", "")))
    if said.startswith("Object contains unknown field"):  # its name may look like a place
        return "the body: wanted only the fields that /openapi.json lists"
    if missing := _MISSING.fullmatch(said):
        return f"field {f'{place}.' if place else ''}{missing[1]}: wanted a value"
    field = f"field {place}" if place else "the body"
    if expected := _EXPECTED.fullmatch(said):
        wanted, bound, found = expected.groups()
        return f"{field}: wanted {wanted}{bound}" + (f", found {found}" if found else "")
    if said.startswith("Invalid enum"):
        known = f"one of {', '.join(STAGES)}" if place == "stage" else "one of the values that /openapi.json lists"
        return f"{field}: wanted {known}"
    return f"{field}: it cannot be read" if place else ""


def _place(key: str) -> str:
    """The path of a field; "" for the body itself.

    Litestar takes it from the first "`$." of msgspec's message, which may be one of a value that was sent; the last
    one is msgspec's own.
    """
    own = key.rpartition("`$.")[2]
    return own if own != "data" and _PATH.fullmatch(own) else ""
