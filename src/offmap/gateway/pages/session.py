"""Who looks at the pages: signed cookies that hold a name and a time, never a key; and the tokens of their forms.

Nothing is stored, so processes that share their API keys and the secret of ``SECRET_VARIABLE`` share sessions. Without
that variable each process makes a secret of its own: sessions end with it, and several processes behind one address
ask to sign in again and again. Knows nothing of HTTP.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec

from offmap.errors import InputError
from offmap.gateway.keys import KeyRecord, Keys

SECRET_VARIABLE = "OFFMAP_GATEWAY_SECRET"  # noqa: S105
"""Environment variable with the secret that signs sessions; wanted where several processes serve the pages."""
SHORTEST_SECRET = 32
IDLE_SECONDS = 3600.0
"""A session ends this long after the last form that was sent with it."""
LONGEST_SECONDS = 12 * 3600.0
"""And this long after the key was given, whatever was sent."""
_LONGEST_COOKIE = 2048
_LONGEST_TOKEN = 256


class Session(msgspec.Struct, frozen=True):
    """What a cookie says.

    Attributes:
        name: of the API key; "" before anybody has signed in.
        key: a hash of the key's record: another key of that name, or another role, ends the session.
        id: random; the forms' tokens come from it.
        began, until: seconds since the epoch.
    """

    name: str
    key: str
    id: str
    began: float
    until: float

    @property
    def signed_in(self) -> bool:
        """Whether a key was given."""
        return bool(self.name)


class Sessions:
    """Makes and reads cookies.

    Args:
        keys: who may have a session.
        secret: signs; at least 32 characters. "" for one of this process.
        clock: seconds since the epoch.

    Raises:
        InputError: the secret is too short to be one.
    """

    def __init__(self, keys: Keys, secret: str = "", clock: Callable[[], float] = time.time) -> None:
        if secret and len(secret) < SHORTEST_SECRET:
            raise InputError(f"{SECRET_VARIABLE}: found {len(secret)} characters, wanted {SHORTEST_SECRET} or more")
        self._secret = secret.encode("utf-8", "surrogateescape") if secret else secrets.token_bytes(32)
        self._keys, self._clock = keys, clock
        self._ended: dict[str, float] = {}

    @classmethod
    def from_environment(cls, keys: Keys, environment: Mapping[str, str] = os.environ) -> Sessions:
        """With the secret of ``SECRET_VARIABLE``.

        Raises:
            InputError: see ``Sessions``.
        """
        return cls(keys, environment.get(SECRET_VARIABLE, ""))

    def visitor(self) -> Session:
        """A session of nobody: what the form to sign in is bound to."""
        now = self._clock()
        return Session("", "", secrets.token_urlsafe(16), now, now + IDLE_SECONDS)

    def begin(self, record: KeyRecord) -> Session:
        """The session of who has given that key."""
        now = self._clock()
        return Session(record.name, _print_of(record), secrets.token_urlsafe(16), now, now + IDLE_SECONDS)

    def renewed(self, session: Session) -> Session:
        """The same session for some more time."""
        until = min(self._clock() + IDLE_SECONDS, session.began + LONGEST_SECONDS)
        return msgspec.structs.replace(session, until=until)

    def end(self, session: Session) -> None:
        """Its cookie is not read any more; in this process only, and in the browser that is told to forget it."""
        now = self._clock()
        self._ended = {each: until for each, until in self._ended.items() if until > now}
        self._ended[session.id] = session.began + LONGEST_SECONDS

    def written(self, session: Session) -> str:
        """The cookie of a session."""
        said = base64.urlsafe_b64encode(msgspec.json.encode(session)).decode().rstrip("=")
        return f"{said}.{self._signed('session', said)}"

    def read(self, cookie: str) -> Session | None:
        """The session of a cookie; None for one that is not ours or has run out, or whose key is gone."""
        said, _, signature = cookie[:_LONGEST_COOKIE].partition(".")
        if not hmac.compare_digest(_bytes(signature), self._signed("session", said).encode()):
            return None
        try:
            session = msgspec.json.decode(base64.urlsafe_b64decode(said + "=" * (-len(said) % 4)), type=Session)
        except (msgspec.DecodeError, binascii.Error, ValueError):
            return None
        if session.until <= self._clock() or session.id in self._ended:
            return None
        return session if not session.signed_in or self.record(session) else None

    def record(self, session: Session) -> KeyRecord | None:
        """The key that began the session, None where it is not accepted any more."""
        return next((each for each in self._keys.records if self._began(each, session)), None)

    def token(self, session: Session) -> str:
        """What every form of this session has to bring (``forms``)."""
        return self._signed("form", session.id)

    def is_token(self, session: Session, given: str) -> bool:
        """Whether it is that, compared in constant time."""
        return hmac.compare_digest(_bytes(given[:_LONGEST_TOKEN]), self.token(session).encode())

    @staticmethod
    def _began(record: KeyRecord, session: Session) -> bool:
        return record.name == session.name and hmac.compare_digest(_print_of(record), _ascii(session.key))

    def _signed(self, what: str, text: str) -> str:
        message = what.encode() + b"\0" + _bytes(text)
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()


def _print_of(record: KeyRecord) -> str:
    return hashlib.sha256(msgspec.json.encode(record)).hexdigest()[:32]


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode()
