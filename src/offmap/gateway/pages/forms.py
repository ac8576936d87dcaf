"""Forms that only our own pages can send: where a request comes from, and the token that it brings.

Three things have to hold, each of which stops another site alone: the cookie is ``SameSite=Strict``; ``Origin`` and
``Sec-Fetch-Site`` speak of this very site; the field ``TOKEN`` is the session's. Knows nothing of what forms ask for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from litestar.datastructures import Headers

from offmap.gateway.pages.session import Session
from offmap.gateway.wire.base import Refused

TOKEN = "token"  # noqa: S105
"""The name of the hidden field that every form has."""
ELSEWHERE = "this form was not sent by a page of this gateway"
STALE = "this form is of another session: go back, reload the page and send it again"


@dataclass(frozen=True)
class Form:
    """A form that was checked: whose it is, and its fields, each a text."""

    session: Session
    fields: Mapping[str, str]

    def text(self, name: str, most: int = 4096) -> str:
        """A field, "" where there is none: line breaks as in a file, no NUL, at most so many characters."""
        value = self.fields.get(name, "").replace("\r\n", "\n").replace("\r", "\n")
        return value.replace("\0", "\ufffd")[:most]


def require_same_site(headers: Headers) -> None:
    """Refuse what another site, or no page at all, sends.

    A proxy in front has to pass ``Host`` on as it was; the scheme is not compared, since a proxy may end TLS.

    Raises:
        Refused: it does not come from here, or does not say where it comes from.
    """
    origin, fetched = headers.get("origin"), headers.get("sec-fetch-site")
    if origin is None and fetched is None:
        raise Refused(403, ELSEWHERE)
    if fetched not in (None, "same-origin") or (origin is not None and not _is_of(origin, headers.get("host", ""))):
        raise Refused(403, ELSEWHERE)


def is_https(scheme: str, headers: Headers) -> bool:
    """Whether the browser speaks TLS: with us, or with a proxy before us, as its ``Origin`` tells."""
    return scheme == "https" or headers.get("origin", "").startswith("https://")


def _is_of(origin: str, host: str) -> bool:
    try:
        parts = urlsplit(origin)
    except ValueError:
        return False
    return bool(host) and parts.scheme in ("http", "https") and parts.netloc.lower() == host.lower()
