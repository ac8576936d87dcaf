"""Somebody at the pages: a browser without scripts, what its forms hold, what a person reads."""

import html
import re

from offmap.evidence import Span
from offmap.gateway.decision import Finding

SITE = "http://127.0.0.1"
PEOPLE = {"anna": "reviewer", "ben": "reviewer", "ada": "admin", "robot": "caller"}


class Pointer:
    """Points at every "bomb", which it finds unsafe."""

    stuck = False

    def __init__(self, name="fake", word="bomb"):
        self.name, self.version, self.word = name, "version-1", word

    async def ask(self, conversation, timeout=None):
        spans = tuple(
            Span(turn, message.role, found.start(), found.end(), found[0], 3.0)
            for turn, message in enumerate(conversation.messages)
            for found in re.finditer(self.word, message.text)
        )
        p = 1e-6 if spans else 0.5
        return Finding(self.name, self.version, "scored", p, p, 0.5, ("guard",) * bool(spans), "", spans, windows=1)

    async def drain(self, timeout=None):
        return True


class Person:
    """A browser of somebody, signed in: pages, and forms with all that they hold."""

    def __init__(self, client, key):
        self.client, self.key = client, key

    def get(self, path, **options):
        return self.client.get(path, **options)

    def post(self, path, headers=None, follow_redirects=True, **fields):
        headers = {"origin": SITE} if headers is None else headers
        return self.client.post(path, data=fields, headers=headers, follow_redirects=follow_redirects)

    def sign_in(self, key=None, **fields):
        return self.post("/review/sign-in", key=key or self.key, token=hidden(self.get("/review/sign-in")), **fields)

    def take(self):
        """The page of the next item."""
        return self.post("/review/next", token=hidden(self.get("/review")))

    def send(self, page, what, **fields):
        """The form of an item's page."""
        number = page.url.path.split("/")[3]
        held = {"lease": hidden(page, "lease")} if 'name="lease"' in page.text else {}
        fields = {"token": hidden(page), **held, **fields}
        return self.post(f"/review/items/{number}/{what}", **fields)


def hidden(page, name="token"):
    """The value of a hidden field."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.text)
    assert found, page.text
    return html.unescape(found[1])


def seen(page):
    """A page's text as a person reads it."""
    body = re.sub(r"<(script|style|title)\b.*?</\1>", "", page.text, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", "", body)).split())
