"""Pages from templates, and the two files that they load. Everything that a template shows is escaped, twice over.

Markup by Jinja's autoescape; and what cannot be seen or turns the direction of writing by ``shown``, wherever a text is
put into a page. Knows nothing of what pages show.
"""

from __future__ import annotations

import functools
import hashlib
import math
import re
import time
from collections.abc import Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from offmap.errors import printable
from offmap.judges.transcript import escaped

STATIC = Path(__file__).parent / "static"
TEMPLATES = Path(__file__).parent / "templates"
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
"""The content security policy of every page: only our own two files, nothing inline, nothing from elsewhere."""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    # With "no-referrer" a browser says "Origin: null" of our own forms.
    "Referrer-Policy": "same-origin",
}
_PLAIN = re.compile(r"(?:[\n\t -~]|\r\n)+|[^\n\t -~]")
_ESCAPE = '<span class="escape">'
_HARMLESS = frozenset('[]<>|"\\\n\t')


def render(template: str, values: Mapping[str, object]) -> str:
    """A page from its template, which refuses a value that it is not given."""
    return _environment().get_template(template).render(values)


@functools.cache
def static_file(name: str) -> bytes | None:
    """What one of our files holds, None for any other name."""
    return (STATIC / name).read_bytes() if name in _names() else None


def shown(text: str) -> str:
    """A text with everything that would not be seen, or would turn what is seen, as an escape; tabs stay."""
    return "".join(map(_letter, _PLAIN.findall(text)))


def marked_up(text: str) -> Markup:
    """The same for long texts of strangers: an escape is marked as such, so that it is not taken for its letters."""
    pieces = ((each, _letter(each)) for each in _PLAIN.findall(text))
    # An escape is ASCII without markup, so it is put out as it is.
    marked = "".join(escape(seen) if seen == each else f"{_ESCAPE}{seen}</span>" for each, seen in pieces)
    return Markup(marked.replace(f"</span>{_ESCAPE}", ""))  # noqa: S704 - every piece of it is escaped


def p_value(p: float | None) -> str:
    """A p-value to two digits, "–" where there is none, as for what is no number."""
    return "–" if p is None or math.isnan(p) else f"{p:.2g}"


def clock_time(at: float) -> str:
    """A time of day, with its date where that is another than today's: "14:05:10", "2026-03-01 14:05:10"; in UTC."""
    day, now = time.strftime("%Y-%m-%d", time.gmtime(at)), time.strftime("%Y-%m-%d", time.gmtime())
    return time.strftime("%H:%M:%S" if day == now else "%Y-%m-%d %H:%M:%S", time.gmtime(at))


def duration(seconds: float) -> str:
    """How long something is, in two units at most: "12 min 5 s"."""
    left, parts = max(0, int(seconds)), []
    for name, size in (("d", 86400), ("h", 3600), ("min", 60), ("s", 1)):
        count, left = divmod(left, size)
        if count:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


@functools.cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_seen,
    )
    environment.filters.update({each.__name__: each for each in (clock_time, duration, marked_up, p_value, shown)})
    environment.globals["static"] = _address
    return environment


def _seen(value: object) -> object:
    """What a template puts out: plain text never without its escapes, markup of ours as it is."""
    return shown(value) if type(value) is str else value


@functools.cache
def _address(name: str) -> str:
    """Where a browser finds one of our files: it may keep it until it is another one."""
    digest = hashlib.sha256(static_file(name) or b"").hexdigest()[:12]
    return f"/review/static/{name}?{digest}"


@functools.cache
def _names() -> frozenset[str]:
    return frozenset(path.name for path in STATIC.iterdir() if path.suffix in TYPES)


@functools.lru_cache(4096)
def _letter(piece: str) -> str:
    """Plain ASCII as it is; any other letter as it is or as its escape."""
    if len(piece) > 1 or piece in _HARMLESS:
        return piece
    # ``printable`` leaves letters that fonts draw as nothing; what judges read has those escaped too.
    return printable(piece) if printable(piece) != piece else escaped(piece)
