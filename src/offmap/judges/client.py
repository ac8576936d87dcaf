"""One question to an OpenAI-compatible chat endpoint, through the official SDK. Knows nothing of rubrics and grades.

A question is answered, or what went wrong says who must act: ``RefusedError``, the endpoint will not read this text
however often it is asked; ``EndpointError``, no answer after all retries, ask again later; ``InputError``, the key, the
model or the address is wrong and no question can be answered.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

import msgspec

from offmap.errors import InputError

if TYPE_CHECKING:
    import openai

REFUSALS = (400, 403, 413, 422)
"""Statuses that may be about the text: too long, or filtered. The same are given for a parameter that is not known."""
PASSING = (408, 409, 429)
"""Client errors that pass; the SDK retries them, as it does every status of 500 and more."""


class EndpointError(ConnectionError):
    """No answer after all retries: no fault of the conversation, and no judgement of it."""


class RefusedError(ValueError):
    """The endpoint answered that it will not take this request."""


class JudgeSource(msgspec.Struct, frozen=True, omit_defaults=True):
    """A model behind an endpoint, and how it is asked. Holds no secret.

    Attributes:
        model: as the endpoint calls it.
        base_url: of the endpoint, up to and with its version: ``http://localhost:8000/v1``.
        revision: tells apart two models that go by one name at different endpoints, or at one endpoint over time: a
            commit, a hash of weights, a date. Only the fingerprint reads it.
        temperature: 0 repeats itself as far as the endpoint does; None leaves it to the endpoint.
        max_tokens: of an answer; one that is cut there has no score. None leaves it to the endpoint.
        timeout: seconds to wait for one attempt.
        retries: further attempts after a timeout, a lost connection, 408, 409, 429 or 5xx; the SDK waits between them,
            longer each time, or as long as the endpoint says.
        concurrency: requests under way at once, at most.
        api_key_env: the environment variable that holds the key, read at each request; "" where none is wanted.

    Raises:
        InputError: a value out of range, an address that is not http(s) or that holds a password.
    """

    gives_tokens: ClassVar[bool] = False

    model: str
    base_url: str
    revision: str = ""
    temperature: float | None = 0.0
    max_tokens: int | None = 512
    timeout: float = 60.0
    retries: int = 3
    concurrency: int = 8
    api_key_env: str = ""

    def __post_init__(self) -> None:
        address = urlsplit(self.base_url)
        if address.scheme not in ("http", "https") or not address.hostname:
            raise InputError(f"base_url {self.base_url!r}: wanted http://... or https://...")
        if address.username or address.password:
            raise InputError("base_url holds a user or a password: wanted without; name a variable in api_key_env")
        wanted = {
            "model": (bool(self.model), "a name"),
            "temperature": (self.temperature is None or 0 <= self.temperature <= 2, "from 0 to 2, or None"),
            "max_tokens": (self.max_tokens is None or self.max_tokens >= 1, "at least 1, or None"),
            "timeout": (0 < self.timeout < math.inf, "a number of seconds above 0"),
            "retries": (self.retries >= 0, "0 or more"),
            "concurrency": (self.concurrency >= 1, "at least 1"),
        }
        for name, (good, what) in wanted.items():
            if not good:
                raise InputError(f"{name} {getattr(self, name)!r}: wanted {what}")


class Reply(msgspec.Struct, frozen=True):
    """What the model said. ``whole`` is False where the endpoint says that it cut or filtered the answer."""

    text: str
    whole: bool


class ChatClient:
    """Asks one model. Safe to use from several threads."""

    def __init__(self, source: JudgeSource) -> None:
        """Open the client; nothing is sent.

        Raises:
            InputError: the SDK is not installed, or the variable for the key is not set.
        """
        try:
            from openai import OpenAI
        except ImportError as error:
            raise InputError(f"a judge needs the package openai ({error}): install offmap[judge]") from None
        self.source = source
        # Without a key the SDK would fall back on OPENAI_API_KEY and send that to whatever base_url names.
        key = self._key if source.api_key_env and self._key() else "none"
        self._sdk = OpenAI(api_key=key, base_url=source.base_url, timeout=source.timeout, max_retries=source.retries)

    def ask(self, prompt: str) -> Reply:
        """The model's answer to one message of a user.

        Raises:
            RefusedError: 400, 403, 413 or 422.
            EndpointError: timeout, lost connection, a status that passes, or an answer that is no chat completion.
            InputError: 401 (the key), 404 (the model or the address) and any other status.
        """
        import openai

        source = self.source
        try:
            response = self._sdk.chat.completions.with_raw_response.create(
                model=source.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=openai.omit if source.temperature is None else source.temperature,
                max_tokens=openai.omit if source.max_tokens is None else source.max_tokens,
            )
        except openai.APIStatusError as error:
            raise self._failure(error) from error
        except openai.APIConnectionError as error:
            tries = f"{source.retries + 1} attempts of at most {source.timeout:g} s"
            raise EndpointError(f"{source.base_url}: {error} ({tries})") from error
        return self._reply(response.content)

    def _key(self) -> str:
        key = os.environ.get(self.source.api_key_env, "")
        if not key:
            raise InputError(f"{self.source.api_key_env}: not set; wanted the key for {self.source.base_url}")
        return key

    def _failure(self, error: openai.APIStatusError) -> Exception:
        source, status = self.source, error.status_code
        said = f"{source.base_url}: model {source.model!r}: status {status}: {error.message[:300]}"
        if status in REFUSALS:
            return RefusedError(said)
        if status in PASSING or status >= 500:
            return EndpointError(f"{said} ({source.retries + 1} attempts)")
        hint = {
            401: f"; wanted a valid key in api_key_env (now {source.api_key_env!r})",
            404: "; no such model or path",
        }
        return InputError(said + hint.get(status, ""))

    def _reply(self, body: bytes) -> Reply:
        try:
            choice = msgspec.json.decode(body, type=_Completion).choices[0]
        except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
            raise EndpointError(f"{self.source.base_url}: the answer is no chat completion ({error})") from error
        return Reply(choice.message.content or "", choice.finish_reason not in ("length", "content_filter"))


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message
    finish_reason: str | None = None


class _Completion(msgspec.Struct, frozen=True):
    choices: list[_Choice]
