"""A gateway that holds what says "bomb" for a person, and people with keys who look at it."""

import contextlib
import json

import msgspec
import pytest
import sqlalchemy as sa

from offmap.gateway.config import Actions, Audit, Review
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.store.tables import REVIEW

from .people import PEOPLE, SITE, Person, Pointer


@pytest.fixture
def keys():
    made = {name: new_key(name, role) for name, role in PEOPLE.items()}
    return {name: key for name, (key, _) in made.items()}, Keys(tuple(record for _, record in made.values()))


@pytest.fixture
def gateway(configured, keys):
    """A function that runs a gateway: its client, and ``client.person(name)`` for somebody who has signed in."""
    from litestar.testing import TestClient

    from offmap.gateway.app import create_app
    from offmap.gateway.service import Service

    with contextlib.ExitStack() as stack:

        def opened(capture="full", review=Review(), known=None, monitor=None, **options):  # noqa: B008
            actions = Actions(unsafe="escalate", unknown="allow")
            base = configured(actions=actions, **options)
            config = msgspec.structs.replace(base, audit=Audit(capture=capture), review=review)
            known = keys[1] if known is None else known
            service = Service(config, monitors={"fake": monitor or Pointer()}, keys=known)
            app = create_app(config, service=service)

            def browser(**options):
                client = TestClient(app, base_url=SITE, raise_server_exceptions=False, **options)
                client.service = service
                return client

            def person(name):
                somebody = Person(browser(), keys[0].get(name, ""))
                assert somebody.sign_in().status_code == 200
                return somebody

            client = stack.enter_context(browser())
            client.person, client.browser = person, browser
            return client

        yield opened


@pytest.fixture
def escalate(keys):
    """A function that has something said, at the stage "response"; the id of its decision."""

    def escalated(client, text="a bomb here", caller="robot", **fields):
        messages = [{"role": "user", "content": "hello"}, {"role": "assistant", "content": text}]
        body = {"stage": "response", "conversation": {"messages": messages}, **fields}
        headers = {"x-api-key": keys[0][caller], "content-type": "application/json"}
        answer = client.post("/v1/decisions", content=json.dumps(body, ensure_ascii=False).encode(), headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()["id"]

    return escalated


@pytest.fixture
def change():
    """A function that sets columns of the review queue: time passes, a lease ends."""

    def changed(client, **values):
        with client.service.store.write() as connection:
            connection.execute(sa.update(REVIEW).values(**values))

    return changed
