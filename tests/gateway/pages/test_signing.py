"""Who gets in, what a form has to bring, and what the gate lets through to a page."""

import re

import pytest

from offmap.gateway.keys import Keys, new_key
from offmap.gateway.pages import signing
from offmap.gateway.security import MAX_FORM_BYTES
from offmap.gateway.store import Counts, counts

from .people import SITE, Person, hidden, seen

FORMS = (
    "/review/next",
    "/review/sign-out",
    "/review/items/1/decide",
    "/review/items/1/take",
    "/review/items/1/release",
)
PAGES = ("/review", "/review/items/1")


@pytest.mark.parametrize("name", ["anna", "ada"])
def test_a_reviewer_and_an_admin_sign_in_and_out(gateway, name):
    person = gateway().person(name)
    page = person.get("/review")
    assert f"signed in as {name}" in seen(page)
    out = person.post("/review/sign-out", token=hidden(page))
    assert (out.status_code, out.url.path) == (200, "/review/sign-in")
    assert person.get("/review").url.path == "/review/sign-in"


def test_the_cookie_is_for_this_browser_only_and_a_stolen_one_ends_with_the_session(gateway, keys):
    client = gateway()
    person = client.person("anna")
    cookie = person.client.cookies["offmap_review"]
    assert keys[0]["anna"] not in cookie
    answer = person.post("/review/next", token=hidden(person.get("/review")), follow_redirects=False)
    (set_cookie,) = [each for each in answer.headers.get_list("set-cookie") if each.startswith("offmap_review=")]
    assert {"HttpOnly", "Path=/review", "SameSite=strict"} <= set(set_cookie.split("; "))
    assert "Secure" not in set_cookie
    stolen = client.browser(cookies={"offmap_review": cookie})
    assert stolen.get("/review", follow_redirects=False).status_code == 200
    person.post("/review/sign-out", token=hidden(person.get("/review")))
    assert stolen.get("/review", follow_redirects=False).status_code == 303


def test_nobody_signs_with_the_name_of_who_used_the_browser_before(gateway, escalate, keys):
    """Anna takes an item and signs out; ben signs in in the same browser, with her lease at hand."""
    client = gateway()
    escalate(client)
    person = client.person("anna")
    page = person.take()
    cookie, token = person.client.cookies["offmap_lease"], hidden(page, "lease")
    person.post("/review/sign-out", token=hidden(page))
    assert "offmap_lease" not in person.client.cookies
    person.client.cookies.set("offmap_lease", cookie, domain="127.0.0.1", path="/review")
    assert person.sign_in(keys[0]["ben"]).status_code == 200
    assert "offmap_lease" not in person.client.cookies
    person.client.cookies.set("offmap_lease", cookie, domain="127.0.0.1", path="/review")
    look = person.get("/review/items/1")
    assert ("Held by anna" in seen(look), hidden(look, "lease")) == (True, "")
    mine = hidden(look)
    for what in ("decide", "release", "take"):
        answer = person.post(f"/review/items/1/{what}", token=mine, lease=token, verdict="safe")
        assert (answer.status_code, "anna holds it now" in seen(answer)) == (409, True)
    assert counts(client.service.store, client.service.log._clock()) == Counts(leased=1)


def test_behind_tls_cookies_are_secure(gateway, keys):
    person = Person(gateway(), keys[0]["anna"])
    headers = {"origin": SITE.replace("http:", "https:")}
    token = hidden(person.get("/review/sign-in"))
    answer = person.post("/review/sign-in", headers, False, key=person.key, token=token)
    assert answer.status_code == 303
    assert "; Secure" in answer.headers["set-cookie"]


def test_other_keys_do_not_sign_in_and_are_not_told_apart(gateway, keys):
    person = Person(gateway(), keys[0]["anna"])
    for given in ("", "wrong-key", keys[0]["robot"], "ä" * 300, keys[0]["anna"] + "\0"):
        answer = person.post("/review/sign-in", key=given, token=hidden(person.get("/review/sign-in")))
        assert answer.status_code == 403
        assert "This is no API key of a reviewer or an admin." in seen(answer)
        assert not given or given not in answer.text
        assert person.get("/review").url.path == "/review/sign-in"


def test_without_a_session_pages_lead_to_the_form_and_back(gateway, keys, escalate):
    client = gateway()
    escalate(client)
    for path in PAGES:
        person = Person(client.browser(), keys[0]["anna"])
        page = person.get(path)
        assert (page.url.path, hidden(page, "next")) == ("/review/sign-in", path)
        answer = person.post("/review/sign-in", key=person.key, token=hidden(page), next=hidden(page, "next"))
        assert (answer.status_code, answer.url.path) == (200, path)


def test_nobody_is_sent_elsewhere(gateway, keys):
    client = gateway()
    for address in ("//evil.example", "https://evil.example", "/review/..//evil", "/v1/x", "/review\n"):
        answer = Person(client.browser(), keys[0]["anna"]).sign_in(next=address, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, "/review")


def test_forged_cookies_are_nobody_s(gateway):
    client = gateway()
    for cookie in ("", "x", "x.y", "e30.e30", "é"):
        headers = {"cookie": f"offmap_review={cookie}".encode()}
        assert client.get("/review", headers=headers, follow_redirects=False).status_code == 303
        answer = client.post("/review/next", data={"note": "words"}, headers={**headers, "origin": SITE})
        assert answer.status_code == 401


def test_a_session_that_has_run_out_leads_to_the_form_and_the_note_is_not_lost(gateway, escalate):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    page = person.take()
    assert page.url.path == "/review/items/1"
    person.client.cookies.delete("offmap_review")
    answer = person.send(page, "decide", verdict="unsafe", note='my "note" <b>\u202e')
    assert answer.status_code == 401
    assert "my &#34;note&#34; &lt;b&gt;\u202e</textarea>" in answer.text
    assert "nothing was recorded" in seen(answer)
    assert person.post("/review/sign-in", key=person.key, token=hidden(answer)).url.path == "/review"


def test_a_form_without_the_session_s_token_is_refused(gateway):
    client = gateway()
    anna, ben = client.person("anna"), client.person("ben")
    for path in FORMS:
        for token in ("", "x", "é", hidden(ben.get("/review"))):
            answer = anna.post(path, token=token, verdict="safe")
            assert (answer.status_code, "of another session" in seen(answer)) == (403, True)
        assert anna.post(path, verdict="safe").status_code == 403


ELSEWHERE = (
    {},
    {"origin": "null"},
    {"origin": "http://evil.example"},
    {"origin": "http://127.0.0.1:81"},
    {"origin": SITE, "sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
)


def test_a_form_that_comes_from_elsewhere_is_refused(gateway):
    person = gateway().person("anna")
    fields = {"token": hidden(person.get("/review")), "key": person.key, "verdict": "safe"}
    for path in (*FORMS, "/review/sign-in"):
        for headers in ELSEWHERE:
            answer = person.post(path, headers, **fields)
            assert answer.status_code == 403
            assert "not sent by a page of this gateway" in seen(answer)


def test_the_form_to_sign_in_is_bound_to_the_browser_too(gateway, keys):
    client = gateway()
    anna, other = (Person(client.browser(), keys[0]["anna"]) for _ in range(2))
    token = hidden(anna.get("/review/sign-in"))
    other.get("/review/sign-in")
    answer = other.post("/review/sign-in", key=other.key, token=token)
    assert (answer.status_code, "The form had run out" in seen(answer)) == (403, True)
    assert anna.post("/review/sign-in", key=anna.key, token=token).status_code == 200
    assert anna.client.cookies["offmap_review"] != other.client.cookies["offmap_review"]


def test_an_api_key_opens_no_page_and_a_session_no_route(gateway, keys):
    client = gateway()
    key = {"authorization": f"Bearer {keys[0]['ada']}"}
    assert client.get("/review", headers=key, follow_redirects=False).status_code == 303
    person = client.person("ada")
    assert person.get("/metrics").status_code == 401
    assert person.client.post("/v1/moderations", json={"input": "x"}).status_code == 401


def test_a_key_that_is_taken_back_ends_its_sessions(gateway, keys):
    client = gateway()
    person = client.person("anna")
    sessions = person.get("/review")
    assert sessions.url.path == "/review"
    other = gateway(known=Keys(tuple(each for each in keys[1].records if each.name != "anna")))
    moved = other.browser(cookies={"offmap_review": person.client.cookies["offmap_review"]})
    assert moved.get("/review", follow_redirects=False).status_code == 303


def test_wrong_keys_are_limited_and_a_right_one_is_never_refused(gateway, keys, monkeypatch):
    monkeypatch.setattr(signing, "TRIES_PER_MINUTE", 2)
    person = Person(gateway(), keys[0]["anna"])
    assert [person.sign_in("wrong").status_code for _ in range(2)] == [403, 403]
    answer = person.sign_in("wrong")
    assert (answer.status_code, "Too many tries from this address." in seen(answer)) == (429, True)
    assert int(answer.headers["retry-after"]) >= 1
    assert person.sign_in().status_code == 200


def test_forms_without_a_token_of_ours_count_as_no_tries(gateway, keys, monkeypatch):
    monkeypatch.setattr(signing, "TRIES_PER_MINUTE", 2)
    client = gateway()
    junk = [client.post("/review/sign-in", data={"key": "junk"}, headers={"origin": SITE}) for _ in range(5)]
    assert {each.status_code for each in junk} == {403}
    assert Person(client.browser(), keys[0]["anna"]).sign_in("wrong").status_code == 403


def refusals(client, status):
    """How many the metrics count."""
    return client.service.telemetry.registry.get_sample_value("offmap_gateway_refused_total", {"status": str(status)})


def test_who_came_and_who_did_not_get_in_is_logged_without_what_was_typed(gateway, keys, caplog):
    caplog.set_level("INFO", "offmap.gateway.pages")
    client = gateway()
    person = Person(client.browser(), keys[0]["anna"])
    for key in ("zebra", keys[0]["robot"], keys[0]["anna"]):
        person.sign_in(key)
    person.post("/review/sign-out", token=hidden(person.get("/review")))
    told = [(record.levelname, record.getMessage()) for record in caplog.records]
    assert told == [
        ("WARNING", "a sign-in to the pages failed: no key of ours"),
        ("WARNING", "a sign-in to the pages failed: the key robot may not review"),
        ("INFO", "anna signed in to the pages"),
        ("INFO", "anna signed out of the pages"),
    ]
    assert refusals(client, 403) == 2


def test_what_pages_refuse_is_counted_once(gateway, keys):
    client = gateway()
    person = client.person("anna")
    token = hidden(person.get("/review"))
    assert person.post("/review/next", {}, token=token).status_code == 403
    assert person.post("/review/thresholds/propose", token=token).status_code == 403
    assert person.get("/review/items/99").status_code == 404
    assert person.client.post("/review/next", json={}, headers={"origin": SITE}).status_code == 415
    assert client.browser().post("/review/next", data={"token": ""}, headers={"origin": SITE}).status_code == 401
    assert {status: refusals(client, status) for status in (401, 403, 404, 415)} == {401: 1, 403: 2, 404: 1, 415: 1}


def test_pages_count_for_a_key_s_rate(gateway):
    from offmap.gateway.config import Limits

    person = gateway(limits=Limits(requests_per_minute=3)).person("anna")
    assert [person.get("/review").status_code for _ in range(4)][-1] == 429


@pytest.mark.parametrize("roles", [(), ("caller",)])
def test_where_nobody_may_review_the_page_says_how_to_make_a_key(gateway, roles):
    known = Keys(tuple(new_key(role, role)[1] for role in roles))
    client = gateway(known=known)
    page = client.get("/review")
    assert page.status_code == 200
    assert "offmap key NAME --role reviewer" in seen(page)
    assert 'name="key"' not in page.text
    answer = client.post("/review/next", data={"token": ""}, headers={"origin": SITE})
    assert answer.status_code == 401


def test_without_keys_pages_too_are_for_this_machine_only(gateway):
    client = gateway(known=Keys())
    for path in ("/review", "/review/sign-in", "/review/static/review.css"):
        assert client.get(path, headers={"host": "evil.example"}).status_code == 403


def test_forms_are_small_and_are_forms(gateway):
    person = gateway().person("anna")
    token = hidden(person.get("/review"))
    assert person.post("/review/next", token=token, note="x" * MAX_FORM_BYTES).status_code == 413
    for options in ({"json": {"token": token}}, {"content": b"token=x", "headers": {"content-type": "text/plain"}}):
        options["headers"] = {"origin": SITE} | options.get("headers", {})
        assert person.client.post("/review/next", **options).status_code == 415
    files = {"token": (None, token)}
    assert person.client.post("/review/next", files=files, headers={"origin": SITE}).status_code == 415


def test_forms_that_arrive_slowly_are_in_nobody_else_s_way(gateway, monkeypatch, keys):
    monkeypatch.setattr("offmap.gateway.security.MAX_FORMS", 0)
    client = gateway()
    form = client.post("/review/sign-in", data={"key": "x"}, headers={"origin": SITE})
    assert form.status_code == 503
    asked = client.post("/v1/moderations", json={"input": "x"}, headers={"x-api-key": keys[0]["robot"]})
    assert asked.status_code == 200


def test_every_page_forbids_what_is_not_ours(gateway, escalate):
    client = gateway()
    escalate(client)
    person = client.person("anna")
    pages = [person.get(path) for path in ("/review", "/review/items/1", "/review/items/9")]
    for page in [*pages, client.browser().get("/review/sign-in"), person.post("/review/next", note="x")]:
        policy = dict(each.split(" ", 1) for each in page.headers["content-security-policy"].split("; "))
        assert policy == {
            "default-src": "'none'",
            **dict.fromkeys(("script-src", "style-src", "img-src", "connect-src", "form-action"), "'self'"),
            **dict.fromkeys(("base-uri", "frame-ancestors"), "'none'"),
        }
        assert page.headers["cache-control"] == "no-store"
        assert page.headers["x-frame-options"] == "DENY"
        assert page.headers["referrer-policy"] == "same-origin"
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', page.text)
        for address in re.findall(r'(?:src|href)="(/review/static/[^"]+)"', page.text):
            answer = client.get(address)
            assert answer.status_code == 200
            assert "immutable" in answer.headers["cache-control"]


def test_nothing_else_is_a_static_file(gateway):
    client = gateway()
    for name in ("../desk.py", "..%2fdesk.py", "nothing.css", "queue.html.j2", "%00"):
        assert client.get(f"/review/static/{name}").status_code == 404


def test_pages_are_not_part_of_the_description(gateway, keys):
    described = gateway().get("/openapi.json", headers={"x-api-key": keys[0]["robot"]}).json()
    assert not [path for path in described["paths"] if path.startswith("/review")]
