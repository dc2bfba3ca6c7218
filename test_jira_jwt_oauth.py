"""The promises of jira_jwt_oauth, in the order of the module, kept over real sockets on loopback."""

from __future__ import annotations

import base64
import collections
import copy
import email.utils
import functools
import hashlib
import http.client
import http.server
import io
import itertools
import json
import os
import pickle
import re
import select
import shlex
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import traceback
import types
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from urllib.request import HTTPSHandler, ProxyHandler, Request

import hypothesis.strategies as st
import pytest
from hypothesis import assume, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import jira_jwt_oauth as jjo
from jira_jwt_oauth import Config, Endpoint, Token, TokenError, TokenSource

settings.register_profile("any", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "any")

SECRET = "shared-secret-key"
SUBJECT = "557058:12345678-1234-1234-1234-123456789abc"
MODULE = Path(jjo.__file__).resolve()
SITE = {
    "base_url": "https://mycompany.atlassian.net",
    "subject": SUBJECT,
    "client_id": "oauth-client-id",
    "client_secret": SECRET,
}
VECTOR = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ1cm46YXRsYXNzaWFuOmNvbm5lY3Q6Y2xpZW50aWQ6b2"
    "F1dGgtY2xpZW50LWlkIiwic3ViIjoidXJuOmF0bGFzc2lhbjpjb25uZWN0OnVzZXJhY2NvdW50aWQ6NTU3MDU4OjEyM"
    "zQ1Njc4LTEyMzQtMTIzNC0xMjM0LTEyMzQ1Njc4OWFiYyIsInRudCI6Imh0dHBzOi8vbXljb21wYW55LmF0bGFzc2lh"
    "bi5uZXQiLCJhdWQiOiJodHRwczovL29hdXRoLTItYXV0aG9yaXphdGlvbi1zZXJ2ZXIuc2VydmljZXMuYXRsYXNzaWF"
    "uLmNvbSIsImV4cCI6MTcwMDAwMDA1OSwiaWF0IjoxNzAwMDAwMDAwfQ.NxGBkTfYxG2vcZnqumOycu-TYUSwWLnQQ_n"
    "K6h3nmbA"
)

# For site.example, token.example, localhost and 127.0.0.1, until 2126; of use to nobody else.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBzzCCAXagAwIBAgIURzt5jrQ4KIauvPaWigit6W04NowwCgYIKoZIzj0EAwIw
FzEVMBMGA1UEAwwMc2l0ZS5leGFtcGxlMCAXDTI2MTEyNDEwMDI0M1oYDzIxMjYx
MDMxMTAwMjQzWjAXMRUwEwYDVQQDDAxzaXRlLmV4YW1wbGUwWTATBgcqhkjOPQIB
BggqhkjOPQMBBwNCAASnjwltH6nuWIfds4hvBscNGyPOiqdtq5sv32JibRFYbd/V
nAvgpCMFhA2L+8WOmtBQ2bWwHiCKP37J/TjpoJ4bo4GdMIGaMB0GA1UdDgQWBBSL
xIxsBf8B4G3VeH6sEHDoYn/LajAfBgNVHSMEGDAWgBSLxIxsBf8B4G3VeH6sEHDo
Yn/LajA3BgNVHREEMDAuggxzaXRlLmV4YW1wbGWCDXRva2VuLmV4YW1wbGWCCWxv
Y2FsaG9zdIcEfwAAATAPBgNVHRMBAf8EBTADAQH/MA4GA1UdDwEB/wQEAwIChDAK
BggqhkjOPQQDAgNHADBEAiAQDYlmwIbbqDvaKZ5/MVh0j07xeOFwjyv22R1/KX84
WwIgPPX0QE1CcivhClpijVzHZ0S6Craxd421fHEInD2rSsk=
-----END CERTIFICATE-----
"""
PRIVATE_KEY = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg1bsnsywBGhW2LqNx
gHQKIDndxHgJvuMdXBSkkuouS7GhRANCAASnjwltH6nuWIfds4hvBscNGyPOiqdt
q5sv32JibRFYbd/VnAvgpCMFhA2L+8WOmtBQ2bWwHiCKP37J/TjpoJ4b
-----END PRIVATE KEY-----
"""


def unpadded(data):
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def verify(assertion, secret=SECRET):
    """Return the claims of an assertion, verified without the module (RFC 7515, RFC 2104)."""
    header, payload, signature = assertion.split(".")
    assert header == unpadded(b'{"alg":"HS256","typ":"JWT"}')
    key = secret if isinstance(secret, bytes) else secret.encode()
    key = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    inner = hashlib.sha256(bytes(b ^ 0x36 for b in key) + f"{header}.{payload}".encode()).digest()
    outer = hashlib.sha256(bytes(b ^ 0x5C for b in key) + inner).digest()
    assert signature == unpadded(outer)
    return json.loads(base64.b64decode(payload + "==", altchars="-_").decode())


class StandIn(http.server.ThreadingHTTPServer):
    """A site and its token endpoint, which says what `script` has next, or grants a token.

    What it was asked is in `posts` and `calls`; `valid` holds the tokens that the site accepts.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), StandInHandler)
        self.scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.posts, self.calls, self.script, self.valid = [], [], collections.deque(), set()
        self.released = threading.Event()
        self.pause = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # http.server's own looks up the host's name

    def handle_error(self, request, client_address):
        pass  # a client that goes away is what many of these tests are about

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def foreign_url(self):
        return f"{self.scheme}://localhost:{self.server_address[1]}"

    def close(self):
        self.released.set()
        self.shutdown()
        self.server_close()

    def config(self, **changes):
        endpoint = Endpoint("https://as.example", f"{self.url}/oauth2/token")
        return Config(**{**SITE, "base_url": self.url, "endpoint": endpoint, **changes})


class StandInHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response_only(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not self.path.startswith("/oauth2/"):
            return self.site(body)
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        post = types.SimpleNamespace(
            line=self.requestline, headers=self.headers, body=body, form=form, at=time.monotonic()
        )
        post.claims = verify(form["assertion"])
        self.server.posts.append(post)
        self.server.released.wait(self.server.pause)
        step = self.server.script.popleft() if self.server.script else grant()
        step(self)

    def do_GET(self):
        self.site(None)

    do_PUT = do_GET

    def site(self, body):
        bearer = self.headers["Authorization"]
        self.server.calls.append((self.path, bearer, body))
        path, _, query = self.path.partition("?")
        if path == "/redirect":
            return self.reply(302, Location=urllib.parse.unquote(query))
        if bearer and bearer[7:] not in self.server.valid:
            return self.reply(401, b"who are you?", WWW_Authenticate='Bearer realm="site"')
        self.reply(200, {"path": self.path, "bearer": bearer})


ISSUED = itertools.count(1)


def grant(**changes):
    """Grant a token, with `changes` to the answer."""

    def step(handler):
        token = f"token-{next(ISSUED)}"
        handler.server.valid.add(token)
        handler.reply(
            200, {"access_token": token, "expires_in": 900, "token_type": "Bearer", **changes}
        )

    return step


def answer(status, body=b"", **headers):
    return lambda handler: handler.reply(status, body, **headers)


def raw(*pieces):
    """Write what HTTP may not allow, and close."""

    def step(handler):
        for piece in pieces:
            handler.wfile.write(piece)

    return step


def drip(head, piece, every=0.02):
    """Write `piece` for as long as somebody listens."""

    def step(handler):
        handler.wfile.write(head)
        while not handler.server.released.wait(every):
            handler.wfile.write(piece)

    return step


def silence(handler):
    handler.server.released.wait()


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy that takes every tunnel to `target`; `clear` has what came to it in the clear."""

    daemon_threads = True

    def __init__(self, target=None, refusal=b""):
        super().__init__(("127.0.0.1", 0), ProxyConnection)
        self.target, self.refusal, self.tunnels, self.clear = target, refusal, [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def close(self):
        self.shutdown()
        self.server_close()


class ProxyConnection(socketserver.StreamRequestHandler):
    def handle(self):
        line = self.rfile.readline().decode()
        head = list(iter(self.rfile.readline, b"\r\n"))
        if not line.startswith("CONNECT "):
            self.server.clear.append(line + b"".join(head).decode())
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            return
        self.server.tunnels.append(line.split()[1])
        if self.server.refusal:
            self.wfile.write(self.server.refusal)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(self.server.target) as upstream:
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)


class Clock:
    """The time, as far as the module sees it: real, and moved on by hand and by `time.sleep`."""

    def __init__(self, monkeypatch):
        real_time, real_monotonic = time.time, time.monotonic
        self.moved, self.wrong, self.naps = 0.0, 0.0, []
        monkeypatch.setattr(time, "time", lambda: real_time() + self.moved + self.wrong)
        monkeypatch.setattr(time, "monotonic", lambda: real_monotonic() + self.moved)
        monkeypatch.setattr(time, "sleep", self.sleep)
        self.server_time = lambda: real_time() + self.moved

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.moved += seconds

    def date(self, ahead=0.0):
        """The Date of a server whose clock is right, or `ahead` of it."""
        return email.utils.formatdate(self.server_time() + ahead, usegmt=True)


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch):
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("JIRA_"):
            monkeypatch.delenv(name)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def server():
    server = StandIn()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """The contexts of a server and of a client that trusts it."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_text(PRIVATE_KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context, ssl.create_default_context(cadata=CERTIFICATE)


@pytest.fixture
def tls_server(tls):
    server = StandIn(tls[0])
    yield server
    server.close()


@pytest.fixture
def proxy(tls_server):
    proxy = Proxy(tls_server.server_address)
    yield proxy
    proxy.close()


def opened(opener, url, data=None, timeout=10):
    with opener.open(url, data, timeout=timeout) as response:
        return json.loads(response.read())


def in_threads(count, call):
    """Return what `call` gives or raises in each of so many threads that start at once."""
    barrier = threading.Barrier(count)
    outcomes = []

    def run():
        barrier.wait()
        try:
            outcomes.append(call())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == count
    return outcomes


def refused(source):
    """Return the TokenError that `source` raises, having seen that it tells no secret."""
    with pytest.raises(TokenError) as caught:
        source.token()
    error = caught.value
    text = "".join(traceback.format_exception(type(error), error, error.__traceback__)) + repr(
        error
    )
    for secret in (SECRET, "SIGNATURE"):
        assert secret not in text
    assert str(error) == error.reason and "\n" not in str(error)
    assert not isinstance(error, urllib.error.HTTPError)
    return error


# Values


def test_a_token_counts_as_expired_ten_seconds_before_it_does(clock):
    token = Token("t", time.time() + 100)
    clock.moved += 89
    assert not token.is_expired()
    clock.moved += 2
    assert token.is_expired()
    assert not token.is_expired(leeway=0)
    clock.moved += 10
    assert token.is_expired(leeway=0)


def test_a_token_is_expired_at_the_very_second_of_its_expiry(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert Token("t", 1000.0).is_expired(leeway=0)
    assert Token("t", 1010.0).is_expired()


def test_a_token_without_an_expiry_never_counts_as_expired():
    assert not Token("t").is_expired(leeway=10**9)


def test_a_token_gives_the_header_and_hides_itself():
    token = Token("abc", 5.0)
    assert token.authorization == "Bearer abc"
    assert repr(token) == "Token(access_token=..., expires_at=5.0)"
    assert "abc" not in str([token])


def test_a_token_survives_being_saved_as_json():
    token = Token("abc", 1700000000.5)
    assert Token(**json.loads(json.dumps(token._asdict()))) == token


def test_a_token_error_is_a_url_error_that_can_be_copied_and_pickled():
    error = TokenError("no access token")
    error.status, error.body = 400, b"body"
    for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert isinstance(again, urllib.error.URLError)
        assert (str(again), again.reason) == ("no access token", "no access token")
        assert (again.status, again.body, again.error) == (400, b"body", None)


# Encoding


def test_the_vector_is_signed_byte_for_byte():
    assert Config(**SITE).assertion(1700000000) == VECTOR


def test_the_secret_may_be_bytes():
    assert Config(**{**SITE, "client_secret": SECRET.encode()}).assertion(1700000000) == VECTOR


@given(st.binary())
def test_base64url_is_of_its_alphabet_without_padding_and_decodes_to_what_it_was(data):
    text = jjo._base64url(data).decode()
    assert re.fullmatch("[A-Za-z0-9_-]*", text)
    assert base64.b64decode(text + "=" * (-len(text) % 4), altchars="-_") == data


TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner),
    max_leaves=5,
)


@given(st.dictionaries(TEXT, JSON), TEXT | st.binary(max_size=100))
def test_any_claims_under_any_secret_verify_and_keep_their_order(claims, secret):
    verified = verify(jjo.encode_jwt(claims, secret), secret)
    assert verified == claims
    assert list(verified) == list(claims)


def test_claims_are_utf_8_without_escapes_or_spaces():
    payload = jjo.encode_jwt({"sub": "Zoë <&>", "n": [1, 2]}, "s").split(".")[1]
    assert payload == unpadded('{"sub":"Zoë <&>","n":[1,2]}'.encode())


@pytest.mark.parametrize(
    ("claims", "secret", "error"),
    [
        ({"a": float("nan")}, "s", ValueError),
        ({"a": float("inf")}, "s", ValueError),
        ({"a": "\ud800"}, "s", ValueError),
        ({"a": object()}, "s", TypeError),
        ({}, None, TypeError),
        ({}, 5, TypeError),
    ],
)
def test_what_cannot_be_encoded_is_refused(claims, secret, error):
    with pytest.raises(error):
        jjo.encode_jwt(claims, secret)


def test_a_secret_that_cannot_be_encoded_is_not_in_the_traceback():
    with pytest.raises(ValueError, match="secret cannot be encoded as UTF-8") as caught:
        jjo.encode_jwt({}, "hush\udc80")
    assert caught.value.__cause__ is None
    assert "hush" not in "".join(traceback.format_exception_only(ValueError, caught.value))


@pytest.mark.parametrize(
    ("scopes", "formatted"),
    [
        ("read", "READ"),
        ("read write", "READ WRITE"),
        (["read", "write"], "READ WRITE"),
        (["write", "READ"], "WRITE READ"),
        (("read+write", " act_as_user\n"), "READ WRITE ACT_AS_USER"),
        ((name for name in ["a", "b"]), "A B"),
        ("a  b\t+c", "A B C"),
        ([], ""),
    ],
)
def test_scopes_are_upper_cased_and_joined_by_one_space_in_their_order(scopes, formatted):
    assert jjo.format_scopes(scopes) == formatted


@given(st.lists(st.text()))
def test_formatting_scopes_twice_changes_nothing(scopes):
    once = jjo.format_scopes(scopes)
    assert jjo.format_scopes(once) == jjo.format_scopes([once]) == once
    assert once.split() == once.split(" ") or once == ""
    assert once == " ".join(part.upper() for s in scopes for part in s.replace("+", " ").split())


@pytest.mark.parametrize("scopes", [None, 5, [1], [None], b"read", [b"read"]])
def test_scopes_that_are_no_strings_are_refused_by_name(scopes):
    with pytest.raises(TypeError, match="scopes must be a str or an iterable of str"):
        jjo.format_scopes(scopes)


# Configuration


def test_the_claims_are_as_configured():
    claims = Config(**SITE).claims(1700000000.9)
    assert claims._asdict() == {
        "iss": "urn:atlassian:connect:clientid:oauth-client-id",
        "sub": f"urn:atlassian:connect:useraccountid:{SUBJECT}",
        "tnt": "https://mycompany.atlassian.net",
        "aud": "https://oauth-2-authorization-server.services.atlassian.com",
        "exp": 1700000059,
        "iat": 1700000000,
    }
    assert list(claims._asdict()) == ["iss", "sub", "tnt", "aud", "exp", "iat"]


def test_claims_are_made_now_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert Config(**SITE).claims()[-2:] == (1293, 1234)
    assert Config(**SITE).claims(0)[-2:] == (59, 0)
    assert verify(Config(**SITE).assertion())["iat"] == 1234


PRINTABLE = st.text(
    st.characters(blacklist_categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Zp", "Cn", "Co"]), min_size=1
)


@given(PRINTABLE, PRINTABLE, st.binary(min_size=1), st.integers(0, 10**11))
def test_every_assertion_verifies_with_its_claims_as_configured(client_id, subject, secret, now):
    assume("@" not in subject and secret.strip() == secret)
    assume(not subject.startswith("urn:atlassian:connect:"))
    assume(client_id.isprintable() and subject.isprintable())
    changes = {"client_id": client_id, "subject": subject, "client_secret": secret}
    claims = verify(Config(**{**SITE, **changes}).assertion(now), secret)
    assert claims["iss"] == f"urn:atlassian:connect:clientid:{client_id}"
    assert claims["sub"] == f"urn:atlassian:connect:useraccountid:{subject}"
    assert (claims["iat"], claims["exp"] - claims["iat"]) == (now, 59)


@pytest.mark.parametrize("subject", ["urn:atlassian:connect:userkey:admin@example.com"])
def test_a_subject_that_is_a_whole_urn_is_sent_as_it_is(subject):
    assert Config(**{**SITE, "subject": subject}).claims().sub == subject


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/wiki/", "https://a.example/wiki"),
        ("https://a.example/wiki", "https://a.example/wiki"),
        ("https://A.example:8443", "https://A.example:8443"),
        ("https://a.example:65535", "https://a.example:65535"),
        ("https://a.example/a@b", "https://a.example/a@b"),
        ("https://[::1]:1/", "https://[::1]:1"),
        ("HTTPS://a.example", "HTTPS://a.example"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_good_base_url_is_kept_and_named_as_the_tenant_without_a_slash_at_its_end(given, kept):
    config = Config(**{**SITE, "base_url": given})
    assert config.base_url == config.claims().tnt == kept


BAD_URLS = {
    "": "https://HOST",
    "mycompany.atlassian.net": "https://HOST",
    "//a.example": "https://HOST",
    "ftp://a.example": "https://HOST",
    "https://": "https://HOST",
    "https:///wiki": "https://HOST",
    "https://:443": "https://HOST",
    "https://a.example?x=1": "no user info, query or fragment",
    "https://a.example/#top": "no user info, query or fragment",
    "https://me@a.example": "no user info, query or fragment",
    "https://me:pw@a.example": "no user info, query or fragment",
    "https://a.example:": "https://HOST",
    "https://a.example:0": "https://HOST",
    "https://a.example:65536": "https://HOST",
    "https://a.example:+80": "https://HOST",
    "https://a.example:80:80": "https://HOST",
    "https://a.example\\b": "without a backslash",
    "https://a.example/\\b": "without a backslash",
    "https://a.example/ b": "visible ASCII",
    " https://a.example": "visible ASCII",
    "https://a.example\n": "visible ASCII",
    "https://a.example/\x7f": "visible ASCII",
    "https://exämple.net": "visible ASCII",
    "https://a.example/ä": "visible ASCII",
    "https://a.example:٤٤٣": "visible ASCII",
    "https://a%2eexample": "https://HOST",
    "https://[::1": "https://HOST",
    "https://a]": "https://HOST",
    "https://[a.example]": "https://HOST",
    "http://a.example": "http is for localhost",
    "http://localhost.example": "http is for localhost",
    "http://127.0.0.1.example": "http is for localhost",
    "http://127.1": "http is for localhost",
    "http://[::2]": "http is for localhost",
}


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("name", ["base_url", "token_url"])
def test_a_bad_url_is_refused_by_name_and_shown(name, url):
    changes = {"base_url": url}
    if name == "token_url":
        changes = {"endpoint": Endpoint("https://as.example", url)}
    with pytest.raises(ValueError, match=f"^{name} must be .*{BAD_URLS[url]}.*; it is '") as caught:
        Config(**{**SITE, **changes})
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hush@a.example",
        "https://hush@a.example/x?y",
        "https://a.example/?token=hush",
        "https://a.example#hush",
        "https://me:x/?#hush@a.example",
        "https://me:hu\nsh@a.example#hu\nsh",
    ],
)
def test_what_may_be_a_secret_in_a_bad_url_is_not_shown(url):
    with pytest.raises(ValueError, match="base_url must be") as caught:
        Config(**{**SITE, "base_url": url})
    assert "hu" not in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"subject": ""}, ValueError, "subject must be printable, not empty.*; it is ''"),
        ({"subject": "a b"}, ValueError, "subject must be printable.*; it is 'a b'"),
        ({"subject": "a\n"}, ValueError, r"subject must be printable.*; it is 'a\\n'"),
        ({"subject": "a\u2028b"}, ValueError, "subject must be printable"),
        ({"subject": "a\ud800"}, ValueError, "subject must be printable"),
        ({"subject": "me@a.example"}, ValueError, "subject must be an account ID.*'me@a.example'"),
        ({"client_id": ""}, ValueError, "client_id must be printable, not empty"),
        ({"client_id": "a\tb"}, ValueError, "client_id must be printable"),
        ({"client_secret": ""}, ValueError, "client_secret must not be empty"),
        ({"client_secret": b""}, ValueError, "client_secret must not be empty"),
        ({"client_secret": SECRET + "\n"}, ValueError, "client_secret must not.* white space"),
        ({"client_secret": " " + SECRET}, ValueError, "client_secret must not.* white space"),
        ({"client_secret": b"\r" + SECRET.encode()}, ValueError, "client_secret .* white space"),
        ({"client_secret": SECRET + "\ud800"}, ValueError, "client_secret cannot be encoded"),
        ({"scopes": ""}, ValueError, "scopes must be printable and not empty"),
        ({"scopes": []}, ValueError, "scopes must be printable and not empty"),
        ({"scopes": " + "}, ValueError, "scopes must be printable and not empty"),
        ({"scopes": "read\x00"}, ValueError, "scopes must be printable"),
        ({"scopes": "read\ud800"}, ValueError, "scopes must be printable"),
        ({"endpoint": Endpoint("", "https://a")}, ValueError, "auth_url must not be empty"),
        ({"endpoint": Endpoint("\ud800", "https://a")}, ValueError, "auth_url cannot be encoded"),
        ({"base_url": None}, TypeError, "base_url must be a str, not NoneType"),
        ({"base_url": b"https://a.example"}, TypeError, "base_url must be a str, not bytes"),
        ({"subject": 5}, TypeError, "subject must be a str, not int"),
        ({"client_id": None}, TypeError, "client_id must be a str, not NoneType"),
        ({"client_secret": None}, TypeError, "client_secret must be a str, not NoneType"),
        ({"client_secret": bytearray(b"x")}, TypeError, "client_secret must be a str"),
        ({"scopes": 5}, TypeError, "scopes must be a str or an iterable of str"),
        ({"endpoint": "https://a"}, TypeError, "endpoint must be an Endpoint, not str"),
        ({"endpoint": Endpoint(b"a", "https://a")}, TypeError, "auth_url must be a str, not bytes"),
        ({"endpoint": Endpoint("a", None)}, TypeError, "token_url must be a str, not NoneType"),
    ],
)
def test_bad_settings_are_refused_by_name_without_the_secret(changes, error, message):
    with pytest.raises(error, match=f"^{message}") as caught:
        Config(**{**SITE, **changes})
    text = "".join(traceback.format_exception_only(error, caught.value))
    assert SECRET not in text
    assert caught.value.__cause__ is None or "secret" not in message


def test_any_audience_will_do():
    endpoint = Endpoint("not a URL at all", "https://as.example/token")
    assert Config(**{**SITE, "endpoint": endpoint}).claims().aud == "not a URL at all"


def test_the_arguments_are_attributes_normalised():
    config = Config(**{**SITE, "base_url": "https://a.example/"}, scopes=["read", "write"])
    assert (config.base_url, config.subject) == ("https://a.example", SUBJECT)
    assert (config.client_id, config.client_secret) == ("oauth-client-id", SECRET)
    assert (config.scopes, config.endpoint) == ("READ WRITE", jjo.ATLASSIAN)
    assert Config(**SITE).scopes is None


@pytest.mark.parametrize("name", ["base_url", "scopes", "client_secret", "typo"])
def test_a_config_does_not_change(name):
    config = Config(**SITE)
    with pytest.raises(AttributeError, match=f"{name} cannot be set.*make another"):
        setattr(config, name, "x")


def test_a_config_shows_itself_without_its_secret():
    shown = repr(Config(**SITE))
    assert shown.startswith("Config(base_url='https://mycompany.atlassian.net', subject='557058:")
    assert shown.endswith("client_secret=...)")
    assert SECRET not in shown


def test_a_config_can_be_copied():
    assert copy.deepcopy(Config(**SITE)).assertion(1700000000) == VECTOR


ENVIRONMENT = {f"JIRA_{name.upper()}": value for name, value in SITE.items()}


def test_settings_come_from_the_environment(monkeypatch):
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JIRA_SCOPES", "")
    config = Config.from_env()
    assert config.assertion(1700000000) == VECTOR
    assert (config.scopes, config.endpoint) == (None, jjo.ATLASSIAN)


def test_optional_settings_come_from_the_environment_too():
    optional = {"JIRA_SCOPES": "read+write", "JIRA_AUTH_URL": "https://as.example"}
    config = Config.from_env({**ENVIRONMENT, **optional, "JIRA_TOKEN_URL": "https://as.example/t"})
    assert config.scopes == "READ WRITE"
    assert config.endpoint == Endpoint("https://as.example", "https://as.example/t")
    only = Config.from_env({**ENVIRONMENT, "JIRA_AUTH_URL": "other"})
    assert only.endpoint == Endpoint("other", jjo.ATLASSIAN.token_url)


def test_every_missing_variable_is_named():
    environment = {**ENVIRONMENT, "JIRA_SUBJECT": ""}
    del environment["JIRA_CLIENT_SECRET"]
    with pytest.raises(ValueError, match="^JIRA_SUBJECT, JIRA_CLIENT_SECRET must be set"):
        Config.from_env(environment)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JIRA_BASE_URL", "a.example"),
        ("JIRA_SUBJECT", "me@a.example"),
        ("JIRA_CLIENT_SECRET", SECRET + "\n"),
        ("JIRA_SCOPES", "+"),
        ("JIRA_TOKEN_URL", "http://a.example"),
    ],
)
def test_a_bad_variable_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must ") as caught:
        Config.from_env({**ENVIRONMENT, name: value})
    assert SECRET not in str(caught.value)


INSTALLATION = {
    "baseUrl": SITE["base_url"],
    "oauthClientId": SITE["client_id"],
    "sharedSecret": SECRET,
    "eventType": "installed",
}


@pytest.mark.parametrize("form", [dict, json.dumps, lambda payload: json.dumps(payload).encode()])
def test_settings_come_from_the_installation_parsed_or_as_it_was_posted(form):
    config = Config.from_installation(form(INSTALLATION), subject=SUBJECT)
    assert config.assertion(1700000000) == VECTOR


def test_an_installation_takes_scopes_and_an_endpoint():
    endpoint = Endpoint("a", "https://a.example")
    config = Config.from_installation(INSTALLATION, subject="s", scopes="read", endpoint=endpoint)
    assert (config.scopes, config.endpoint, config.subject) == ("READ", endpoint, "s")


@pytest.mark.parametrize("key", ["baseUrl", "oauthClientId", "sharedSecret"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_an_installation_lacks_is_named(key, value):
    with pytest.raises(ValueError, match=f"payload must have {key}") as caught:
        Config.from_installation({**INSTALLATION, key: value}, subject=SUBJECT)
    assert SECRET not in str(caught.value)
    assert ("ACT_AS_USER" in str(caught.value)) == (key == "oauthClientId")


@pytest.mark.parametrize("payload", ["", "[1]", b"\xff", "null"])
def test_an_installation_that_is_no_json_object_lacks_everything(payload):
    with pytest.raises(ValueError, match="payload must have baseUrl"):
        Config.from_installation(payload, subject=SUBJECT)


@pytest.mark.parametrize("payload", [None, [], 5])
def test_an_installation_of_another_type_is_refused(payload):
    with pytest.raises(TypeError, match="payload must be a mapping or its JSON"):
        Config.from_installation(payload, subject=SUBJECT)
