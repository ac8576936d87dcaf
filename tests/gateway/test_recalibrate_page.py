"""The page of thresholds: who sees it, who may change something, what it shows, and that it really changes it."""

import re

import msgspec
import pytest

from offmap.gateway.config import Actions
from offmap.gateway.decision import Decision, Finding
from offmap.gateway.keys import Keys, new_key
from offmap.gateway.policy import Bands, bands
from offmap.gateway.store import verify
from offmap.gateway.store.capture import canonical
from offmap.gateway.store.promotions import Draft, add_proposal, proposals
from offmap.gateway.tuning import recalibration
from offmap.gateway.tuning.compare import Change, Comparison, Side
from offmap.gateway.tuning.proposal import Proposal, Rates
from offmap.rates import Rate

PLACE = "/review/thresholds"
HERE = {"origin": "http://127.0.0.1"}
HOSTILE = "<script>alert(1)</script>\u202e"


@pytest.fixture
def keys():
    made = {role: new_key(f"{role}-key", role) for role in ("caller", "reviewer", "admin")}
    return {role: key for role, (key, _) in made.items()}, Keys(tuple(record for _, record in made.values()))


@pytest.fixture
def client(serve, keys):
    return serve(keys=keys[1], actions=Actions(unknown="allow"))


def token(page):
    return re.search(r'name="token" value="([^"]+)"', page.text)[1]


def sign_in(client, keys, role):
    page = client.get("/review/sign-in")
    sent = {"key": keys[0][role], "token": token(page)}
    return client.post("/review/sign-in", data=sent, headers=HERE, follow_redirects=True)


def side(share):
    rate = Rate(share, share / 2, share * 2, 100)
    return Side(rate, Rate(0.0, 0.0, 0.0, 100), rate, Rate(None, None, None, 0))


def add(client, cut, note=HOSTILE):
    live = client.service.live
    steps = (Bands("fake", (cut, cut), (0.005, 0.005)),)
    made = Proposal("response", steps, 0.01, "stopped", Rates(0.01, 0.0, (1.0,)), 321, notes=(note,))
    changes = (Change("allow", "allow", 90), Change("block", "allow", 7))
    compared = Comparison(100, 3, changes, side(0.04), side(0.01))
    draft = Draft("response", live.policy, {"fake": "fake-1"}, canonical(made), canonical(compared))
    return add_proposal(live.store, draft, 5.0)


def send(client, what, headers=HERE, **fields):
    page = client.get(PLACE)
    seen = re.search(r'name="seen" value="(\d+)"', page.text)
    sent = {"token": token(page), "seen": seen[1] if seen else "0"}
    return client.post(f"{PLACE}/{what}", data=sent | fields, headers=headers)


def cut(client):
    return bands(client.service.engine.gateway.stages["response"])[0].unsafe[0]


def test_only_reviewers_see_it_and_only_admins_change_something(client, keys):
    number = add(client, 0.2)
    assert "sign-in" in str(client.get(PLACE).url)
    sign_in(client, keys, "caller")
    assert "sign-in" in str(client.get(PLACE).url)
    sign_in(client, keys, "reviewer")
    page = client.get(PLACE)
    assert page.status_code == 200
    assert "Only an admin" in page.text
    assert f"{PLACE}/promote" not in page.text
    for what in ("promote", "reject", "propose"):
        assert send(client, what, proposal=number, stage="response").status_code == 403
    assert cut(client) == 0.005
    assert [each.state for each in proposals(client.service.store)] == ["promoted", "proposed"]


def test_a_form_of_another_site_or_another_session_changes_nothing(client, keys):
    number = add(client, 0.2)
    sign_in(client, keys, "admin")
    assert send(client, "promote", headers={"origin": "http://evil.example"}, proposal=number).status_code == 403
    assert send(client, "promote", headers={}, proposal=number).status_code == 403
    stale = client.post(f"{PLACE}/promote", data={"token": "x", "proposal": number}, headers=HERE)
    assert stale.status_code == 403
    assert cut(client) == 0.005


def test_an_admin_promotes_and_goes_back(client, keys):
    first, second = add(client, 0.2), add(client, 0.3)
    sign_in(client, keys, "admin")
    own = proposals(client.service.store)[0].id
    seen = []
    for number in (first, second, first, own):
        page = send(client, "promote", proposal=number)
        assert page.status_code == 200
        seen.append((cut(client), len(re.findall(r"in force</strong>", page.text))))
    assert seen == [(0.2, 1), (0.3, 1), (0.2, 1), (0.005, 1)]
    assert page.text.count("Go back to these") == 2
    assert send(client, "reject", proposal=second).status_code == 200
    page = send(client, "promote", proposal=second)
    assert page.status_code == 409
    assert "Not done: proposal" in page.text
    assert "found it rejected by admin-key" in page.text
    assert cut(client) == 0.005
    assert verify(client.service.store).n == 5
    found = {each.id: each for each in proposals(client.service.store)}
    assert (found[first].decided_by, found[second].state) == ("admin-key", "rejected")


def test_a_promotion_from_a_page_that_is_old_is_refused(client, keys):
    first, second, third = (add(client, cut) for cut in (0.2, 0.3, 0.4))
    sign_in(client, keys, "admin")
    assert send(client, "promote", proposal=first).status_code == 200
    old = re.search(r'name="seen" value="(\d+)"', client.get(PLACE).text)[1]
    assert send(client, "promote", proposal=second).status_code == 200
    page = send(client, "promote", proposal=third, seen=old)
    assert page.status_code == 409
    assert "somebody else has promoted or rejected a proposal since" in page.text
    assert cut(client) == 0.3
    assert send(client, "promote", proposal=third, seen="").status_code == 400
    assert send(client, "promote", proposal=third).status_code == 200
    assert cut(client) == 0.4


def test_one_proposal_is_made_at_a_time(client, keys):
    sign_in(client, keys, "admin")
    with recalibration._AT_WORK:
        page = send(client, "propose", stage="response")
    assert page.status_code == 409
    assert "another proposal is being made" in page.text
    assert "found no decision" in send(client, "propose", stage="response").text


def test_it_shows_bands_rates_changes_and_notes_and_escapes_all(client, keys):
    add(client, 0.2)
    sign_in(client, keys, "reviewer")
    page = client.get(PLACE).text
    for wanted in ("0.005", "<strong>0.2</strong>", "set from 321 rows", "On 100 past decisions", "of 3 it cannot be"):
        assert wanted in page
    assert "7 decisions: block would be allow" in page
    assert "90 decisions" not in page
    assert "4 %" in page
    assert "(2 to 8)" in page
    assert "not known" in page
    assert "&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert " style=" not in page


def test_what_is_drawn_is_where_the_rates_are(client, keys):
    """Both on one scale from 0 to the largest end: (2, 4, 8) and (.5, 1, 2) of 8 % on 240."""
    add(client, 0.2)
    sign_in(client, keys, "reviewer")
    page = client.get(PLACE).text
    drawn = re.findall(r'x1="([\d.]+)" x2="([\d.]+)" y1="\d+" y2="\d+" stroke="currentColor" stroke-width', page)
    middles = re.findall(r'circle cx="([\d.]+)"', page)
    wanted = [(60.0, 240.0), (15.0, 60.0)]
    assert [tuple(map(float, each)) for each in drawn] == wanted + [(0.0, 0.0)] * 2 + wanted
    assert [float(each) for each in middles] == [120.0, 30.0, 0.0, 0.0, 120.0, 30.0]


def test_a_proposal_that_cannot_be_read_does_not_take_the_page_with_it(client, keys):
    live = client.service.live
    add_proposal(live.store, Draft("response", live.policy, {}, "{}", "{}"), 5.0)
    number = add(client, 0.2)
    sign_in(client, keys, "admin")
    page = client.get(PLACE)
    assert page.status_code == 200
    assert "This cannot be read:" in page.text
    assert f"Proposal {number}" in page.text


@pytest.mark.parametrize("number", ["", "x", "1.0", "-1", "9" * 20, "²"])
def test_a_form_that_names_no_proposal(client, keys, number):
    sign_in(client, keys, "admin")
    assert send(client, "promote", proposal=number).status_code == 400


def test_too_few_labels_are_told_on_the_page(client, keys):
    service = client.service
    finding = Finding("fake", "fake-1", "scored", 0.5, 0.5, 0.5)
    row = Decision("id", 1.0, "response", "allow", "allow", "enforced", "r", service.engine.policy, findings=(finding,))
    service.log.submit(row).result()
    sign_in(client, keys, "admin")
    page = send(client, "propose", stage="response")
    assert page.status_code == 409
    assert "none of the random sample" in page.text
    assert send(client, "propose", stage="elsewhere").status_code == 409
    assert proposals(service.store) == []


def test_comparisons_are_read_as_they_were_written():
    compared = Comparison(1, 0, (Change("allow", "block", 1),), side(0.1), side(0.2))
    assert msgspec.json.decode(canonical(compared), type=Comparison) == compared
