import pytest
from litestar.datastructures import Headers

from offmap.gateway.pages.forms import Form, is_https, require_same_site
from offmap.gateway.wire.base import Refused

HOST = {"host": "gateway.example:8400"}


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://gateway.example:8400"},
        {"origin": "https://gateway.example:8400"},
        {"origin": "http://GATEWAY.example:8400", "sec-fetch-site": "same-origin"},
        {"sec-fetch-site": "same-origin"},
    ],
)
def test_what_comes_from_here(headers):
    require_same_site(Headers(HOST | headers))


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "null"},
        {"origin": ""},
        {"origin": "http://gateway.example"},
        {"origin": "http://gateway.example:8401"},
        {"origin": "http://evil.example"},
        {"origin": "http://gateway.example:8400.evil.example"},
        {"origin": "http://gateway.example:8400@evil.example"},
        {"origin": "file://gateway.example:8400"},
        {"origin": "http://[gateway"},
        {"origin": "http://gateway.example:8400", "sec-fetch-site": "cross-site"},
        {"origin": "http://gateway.example:8400", "sec-fetch-site": "same-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "cross-site"},
    ],
)
def test_what_comes_from_elsewhere_or_does_not_say(headers):
    with pytest.raises(Refused) as error:
        require_same_site(Headers(HOST | headers))
    assert error.value.status_code == 403


def test_without_a_host_nothing_comes_from_here():
    with pytest.raises(Refused):
        require_same_site(Headers({"origin": "http://"}))


def test_tls_may_end_before_us():
    assert is_https("https", Headers({}))
    assert is_https("http", Headers({"origin": "https://gateway.example"}))
    assert not is_https("http", Headers({"origin": "http://gateway.example"}))


def test_fields_are_texts_that_every_store_takes():
    form = Form(None, {"note": "a\r\nb\rc\0d", "long": "x" * 5000})
    assert form.text("note") == "a\nb\nc\ufffdd"
    assert (form.text("none"), len(form.text("long")), form.text("note", 3)) == ("", 4096, "a\nb")
