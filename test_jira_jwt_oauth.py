"""The promises of jira_jwt_oauth, in the order of the module, kept over real sockets on loopback."""

from __future__ import annotations

import base64
import collections
import copy
import email.utils
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
import urllib.response
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
        content = {"path": self.path, "bearer": bearer}
        self.reply(200, {**content, "key": "PROJ-2", "fields": {"summary": "As in the README"}})


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
    rbufsize = 0

    def answer_in_the_clear(self, request):
        self.server.clear.append(request)
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    def handle(self):
        line = self.rfile.readline().decode()
        head = list(iter(self.rfile.readline, b"\r\n"))
        if not line.startswith("CONNECT "):
            return self.answer_in_the_clear(line + b"".join(head).decode())
        self.server.tunnels.append(line.split()[1])
        if self.server.refusal:
            self.wfile.write(self.server.refusal)
            return
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.connection.recv(1, socket.MSG_PEEK) != b"\x16":  # how TLS begins
            return self.answer_in_the_clear(self.connection.recv(65536).decode())
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
def any_server():
    """A stand-in for properties, which need not start one for each example."""
    server = StandIn()
    yield server
    server.close()


@pytest.fixture(scope="session")
def tls(tmp_path_factory):
    """The contexts of a server and of a client that trusts it."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    file.write_text(PRIVATE_KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(file))
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
    assert SECRET not in text
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


def test_base64url_keeps_whatever_character_comes_last():
    for last in range(256):
        data = bytes([0, 0, last])
        assert base64.b64decode(jjo._base64url(data), altchars="-_") == data


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
    ("claims", "secret", "error", "told"),
    [
        ({"a": float("nan")}, "s", ValueError, "not JSON compliant"),
        ({"a": float("inf")}, "s", ValueError, "not JSON compliant"),
        ({"a": "\ud800"}, "s", ValueError, "^claims cannot be encoded as UTF-8"),
        ({"a": object()}, "s", TypeError, "not JSON serializable"),
        ({}, None, TypeError, "^secret must be str, not NoneType"),
        ({}, 5, TypeError, "^secret must be str, not int"),
    ],
)
def test_what_cannot_be_encoded_is_refused(claims, secret, error, told):
    with pytest.raises(error, match=told):
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
        (dict.fromkeys(["a", "b"]), "A B"),
        ("a  b\t+c", "A B C"),
        ([], ""),
    ],
)
def test_scopes_are_upper_cased_and_joined_by_one_space_in_their_order(scopes, formatted):
    assert jjo.format_scopes(scopes) == formatted


@given(st.lists(st.text(st.characters(min_codepoint=0x20))))
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


@pytest.mark.parametrize(
    "subject",
    ["urn:atlassian:connect:userkey:admin@example.com", f"urn:atlassian:connect:x:{SUBJECT}"],
)
def test_a_subject_that_is_a_whole_urn_is_sent_as_it_is(subject):
    assert Config(**{**SITE, "subject": subject}).claims().sub == subject


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/wiki/", "https://a.example/wiki"),
        ("https://a.example/wiki", "https://a.example/wiki"),
        ("https://A.example:8443", "https://A.example:8443"),
        ("https://a.example/X", "https://a.example/X"),
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


BAD_URLS = [
    "",
    "mycompany.atlassian.net",
    "//a.example",
    "ftp://a.example",
    "https://",
    "https:///wiki",
    "https://:443",
    "https://a.example?x=1",
    "https://a.example/#top",
    "https://me@a.example",
    "https://me:pw@a.example",
    "https://a.example:",
    "https://a.example:0",
    "https://a.example:65536",
    "https://a.example:0443",
    "https://a.example:+80",
    "https://a.example:80:80",
    "https://a.example\\b",
    "https://a.example/\\b",
    "https://a.example/ b",
    " https://a.example",
    "https://a.example\n",
    "https://a.example/\x7f",
    "https://exämple.net",
    "https://a.example/ä",
    "https://a.example:٤٤٣",
    "https://a%2eexample",
    "https://[::1",
    "https://a]",
    "https://[a.example]",
    "https://[1]",
    "https://[1.2.3.4]",
    "http://a.example",
    "http://localhost.example",
    "http://127.0.0.1.example",
    "http://127.1",
    "http://[::2]",
]


@pytest.mark.parametrize("url", BAD_URLS)
@pytest.mark.parametrize("name", ["base_url", "token_url"])
def test_a_bad_url_is_refused_by_name_and_shown(name, url):
    changes = {"base_url": url}
    if name == "token_url":
        changes = {"endpoint": Endpoint("https://as.example", url)}
    with pytest.raises(ValueError, match=f"^{name} must be https://HOST") as caught:
        Config(**{**SITE, **changes})
    shown = "..." if "@" in url else re.sub("[?#].*", lambda cut: f"{cut[0][0]}...", url)
    told = f", http for localhost, 127.0.0.1, [::1]; it is {shown!r}"
    assert str(caught.value).endswith(told)


@pytest.mark.parametrize(
    "url",
    [
        "https://me:hush@a.example",
        "https://hush@a.example/x?y",
        "https://a.example/?token=hush",
        "https://a.example#hush",
        "https://me:x/?#hush@a.example",
        "https://a.example/?token=p@hush",
        "https://a.example/#token=hush@p",
        "https://me:hu\nsh@a.example#hu\nsh",
    ],
)
def test_what_may_be_a_secret_in_a_bad_url_is_not_shown(url):
    with pytest.raises(ValueError, match="base_url must be") as caught:
        Config(**{**SITE, "base_url": url})
    assert "hu" not in str(caught.value)


def test_a_long_url_is_refused_without_delay():
    started = time.monotonic()
    with pytest.raises(ValueError, match="base_url must be"):
        Config.from_installation({**INSTALLATION, "baseUrl": "x" * 200000}, subject=SUBJECT)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"subject": ""}, ValueError, "subject must be printable, with no space, not empty: ''"),
        ({"subject": "a b"}, ValueError, "subject must be printable.*: 'a b'"),
        ({"subject": "a\n"}, ValueError, r"subject must be printable.*: 'a\\n'"),
        ({"subject": "a\u2028b"}, ValueError, "subject must be printable"),
        ({"subject": "a\ud800"}, ValueError, "subject must be printable"),
        ({"subject": "me@a.example"}, ValueError, "subject must be an account ID.*'me@a.example'"),
        ({"client_id": ""}, ValueError, "client_id must be printable.*: ''"),
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
        ({"base_url": None}, TypeError, "base_url must be str, not NoneType"),
        ({"base_url": b"https://a.example"}, TypeError, "base_url must be str, not bytes"),
        ({"subject": 5}, TypeError, "subject must be str, not int"),
        ({"client_id": None}, TypeError, "client_id must be str, not NoneType"),
        ({"client_secret": None}, TypeError, "client_secret must be str, not NoneType"),
        ({"client_secret": bytearray(b"x")}, TypeError, "client_secret must be str"),
        ({"scopes": 5}, TypeError, "scopes must be a str or an iterable of str"),
        ({"endpoint": "https://a"}, TypeError, "endpoint must be Endpoint, not str"),
        ({"endpoint": Endpoint(b"a", "https://a")}, TypeError, "auth_url must be str, not bytes"),
        ({"endpoint": Endpoint("a", None)}, TypeError, "token_url must be str, not NoneType"),
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


def test_a_config_does_not_show_its_secret():
    assert SECRET not in repr(Config(**SITE))


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


@pytest.mark.parametrize("name", ENVIRONMENT)
@pytest.mark.parametrize("is_missing", [False, True])
def test_a_missing_or_empty_variable_is_named(name, is_missing):
    environment = {**ENVIRONMENT, name: ""}
    if is_missing:
        del environment[name]
    with pytest.raises(ValueError, match=f"^{name} must "):
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


@pytest.mark.parametrize(
    "form",
    [
        dict,
        json.dumps,
        lambda payload: json.dumps(payload).encode(),
        lambda payload: "\ufeff" + json.dumps(payload),
        lambda payload: json.dumps(payload).encode("utf-8-sig"),
    ],
)
def test_settings_come_from_the_installation_parsed_or_as_it_was_posted(form):
    config = Config.from_installation(form(INSTALLATION), subject=SUBJECT)
    assert config.assertion(1700000000) == VECTOR


def test_an_installation_takes_scopes_and_an_endpoint():
    endpoint = Endpoint("a", "https://a.example")
    config = Config.from_installation(INSTALLATION, subject="s", scopes="read", endpoint=endpoint)
    assert (config.scopes, config.endpoint, config.subject) == ("READ", endpoint, "s")


@pytest.mark.parametrize("name", ["base_url", "client_id", "client_secret"])
def test_what_an_installation_gives_cannot_be_given_twice(name):
    with pytest.raises(TypeError, match=name):
        Config.from_installation(INSTALLATION, subject=SUBJECT, **{name: "another"})


@pytest.mark.parametrize("key", ["baseUrl", "oauthClientId", "sharedSecret"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_an_installation_lacks_is_named(key, value):
    hint = "; the app needs the ACT_AS_USER scope" if key == "oauthClientId" else ""
    with pytest.raises(ValueError, match=f"^payload must have {key}{hint}$"):
        Config.from_installation({**INSTALLATION, key: value}, subject=SUBJECT)


@pytest.mark.parametrize("payload", ["", "[1]", b"\xff", "null", "5", '"\ud800"'])
def test_an_installation_that_is_no_json_object_lacks_everything(payload):
    with pytest.raises(ValueError, match="payload must have baseUrl"):
        Config.from_installation(payload, subject=SUBJECT)


@pytest.mark.parametrize("payload", [None, [], 5])
def test_an_installation_of_another_type_is_refused(payload):
    with pytest.raises(TypeError, match="payload must be dict, not "):
        Config.from_installation(payload, subject=SUBJECT)


# The exchange


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"timeout": 0}, ValueError, "timeout must be finite, > 0"),
        ({"timeout": -1}, ValueError, "timeout must be"),
        ({"timeout": float("nan")}, ValueError, "timeout must be"),
        ({"timeout": float("inf")}, ValueError, "timeout must be"),
        ({"leeway": -1}, ValueError, "timeout must be finite, > 0; leeway >= 0: 30.0, -1"),
        ({"leeway": float("nan")}, ValueError, "timeout must be"),
        (
            {"token": Token("hush\n")},
            ValueError,
            "token must have an access_token of visible ASCII$",
        ),
        ({"token": Token("hush€")}, ValueError, "token must have an access_token of visible"),
        ({"token": Token("")}, ValueError, "token must have an access_token of visible"),
    ],
)
def test_bad_options_are_refused(options, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Config(**SITE).token_source(**options)


def test_the_token_request_is_as_documented_and_names_the_library(server):
    token = server.config(scopes="read write").token_source().token()
    (post,) = server.posts
    assert post.line == "POST /oauth2/token HTTP/1.1"
    assert post.headers["Accept"] == "application/json"
    assert post.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert post.headers["User-Agent"] == f"jira-jwt-oauth/{jjo.__version__}"
    assert post.headers["Authorization"] is None
    assert list(post.form) == ["grant_type", "assertion", "scope"]
    assert post.form["grant_type"] == jjo.GRANT_TYPE
    assert post.body.startswith(
        b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&"
    )
    assert post.body.endswith(b"&scope=READ+WRITE")
    assert post.claims["tnt"] == server.url
    assert token.token_type == "Bearer"


def test_scopes_that_are_none_are_left_out(server):
    server.config().token_source().token()
    assert list(server.posts[0].form) == ["grant_type", "assertion"]


def test_a_lifetime_counts_from_before_the_request_was_sent(server, clock):
    def slowly(handler):
        clock.moved += 20
        grant()(handler)

    server.script.append(slowly)
    before = time.time()
    assert server.config().token_source().token().expires_at <= before + 901


def test_a_valid_token_is_reused_until_its_leeway(server, clock):
    source = server.config().token_source(leeway=60)
    first = source.token()
    clock.moved += 830
    assert source.token() is first
    clock.moved += 15
    assert source.token() != first
    assert len(server.posts) == 2


@pytest.mark.parametrize(
    ("options", "left"), [({}, 10), ({"leeway": 0}, 0), ({"leeway": 0.5}, 0.5)]
)
def test_a_held_token_is_good_until_its_leeway(server, monkeypatch, options, left):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    for more, posts in ((0.25, 0), (0, 1)):
        server.config().token_source(token=Token("abc", 1000 + left + more), **options).token()
        assert len(server.posts) == posts


@pytest.mark.parametrize(
    "lifetime", [{}, {"expires_in": None}, {"expires_in": 0}, {"expires_in": "0"}]
)
def test_a_token_without_a_lifetime_is_reused(server, clock, lifetime):
    server.script.append(answer(200, {"access_token": "abc", **lifetime}))
    source = server.config().token_source()
    assert source.token() == Token("abc")
    clock.moved += 10**6
    assert source.token() == Token("abc")


def test_a_saved_token_is_where_to_start_from(server):
    token = Token("saved", time.time() + 100)
    source = server.config().token_source(token=token)
    assert source.token() is token
    source.invalidate(token)
    assert source.token() != token
    assert len(server.posts) == 1


def test_only_the_token_that_is_held_can_be_dropped(server):
    source = server.config().token_source()
    held = source.token()
    source.invalidate(Token("another"))
    assert source.token() is held
    source.invalidate(Token(*held))
    assert source.token() is not held


def test_sixty_four_threads_without_a_token_cause_one_request(server):
    server.pause = 0.1
    tokens = in_threads(64, server.config().token_source().token)
    assert len(server.posts) == 1
    assert len({id(token) for token in tokens}) == 1


def test_a_valid_token_is_had_without_a_lock(server):
    source = server.config().token_source(token=Token("abc"))
    got = []
    with source._lock, source._next[0]:
        thread = threading.Thread(target=lambda: got.append(source.token()), daemon=True)
        thread.start()
        thread.join(10)
    assert got == [Token("abc")]


def test_no_thread_waits_for_another_exchange_than_the_one_that_it_came_upon(server):
    server.script.append(silence)
    source = server.config().token_source(timeout=0.5)
    outcomes = []
    first, second = (
        threading.Thread(target=lambda: outcomes.append(refused(source)), daemon=True)
        for _ in range(2)
    )
    first.start()
    while not server.posts:
        time.sleep(0.01)
    second.start()
    first.join(10)
    with source._next[0]:  # as if the next exchange were under way
        second.join(10)
        assert len(outcomes) == 2


def test_threads_that_waited_take_even_a_token_that_is_short_lived(server):
    server.pause = 0.2
    server.script.extend([grant(expires_in=1)] * 64)
    tokens = in_threads(16, server.config().token_source().token)
    assert len(server.posts) == 1
    assert len(set(tokens)) == 1


def test_threads_that_waited_share_a_failure_each_in_an_exception_of_its_own(server):
    server.pause = 0.2
    server.script.append(answer(400, {"error": "invalid_grant"}))
    source = server.config().token_source()
    errors = in_threads(16, source.token)
    assert len(server.posts) == 1
    assert {type(error) for error in errors} == {TokenError}
    assert len({id(error) for error in errors}) == 16
    assert {(e.status, e.error, str(e)) for e in errors} == {(400, "invalid_grant", str(errors[0]))}


def test_a_failure_is_not_remembered(server):
    server.script.append(answer(400, {"error": "invalid_grant"}))
    source = server.config().token_source()
    refused(source)
    assert source.token().access_token


def test_an_interrupt_leaves_the_source_of_use(server, monkeypatch):
    source = server.config().token_source()
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            source.token()
    assert source.token().access_token


def test_an_interrupt_after_an_exchange_leaves_no_outcome_behind(server, monkeypatch):
    class Interrupted:
        def __init__(self):
            self.lock = threading.Lock()

        def __enter__(self):
            return self.lock.__enter__()

        def __exit__(self, *_):
            self.lock.release()
            raise KeyboardInterrupt

    source = server.config().token_source()
    with monkeypatch.context() as patch:
        patch.setattr(source, "_lock", Interrupted())
        with pytest.raises(KeyboardInterrupt):
            source.token()
    for _ in range(2):
        source.invalidate(source.token())
    assert len(server.posts) == 2


# What a token endpoint may answer


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"access_token": "abc"}, Token("abc")),
        ({"access_token": "abc", "token_type": "bEARER", "expires_in": None}, Token("abc")),
        ({"access_token": "abc", "error": None}, Token("abc")),
    ],
)
def test_a_good_answer_is_a_token(server, content, expected):
    server.script.append(answer(200, content))
    assert server.config().token_source().token() == expected


@pytest.mark.parametrize("status", [200, 201])
@pytest.mark.parametrize("expires_in", [60, 60.0, "60", "60.0", "6e1", 6e1])
def test_an_expiry_is_a_number_or_such_a_string(server, monkeypatch, status, expires_in):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    content = json.dumps({"access_token": "abc", "expires_in": expires_in}).encode()
    server.script.append(answer(status, b"\xef\xbb\xbf" + content))
    assert server.config().token_source().token().expires_at == 1060.0


NONSENSE = [
    b"",
    b"null",
    b"[]",
    b'"abc"',
    b"{",
    b"[" * 60000,
    b"\xff\xfe\x00",
    b"<html>",
    b"{}",
    b'{"access_token": null}',
    b'{"access_token": ""}',
    b'{"access_token": 5}',
    b'{"access_token": ["abc"]}',
    b'{"access_token": "a b"}',
    b'{"access_token": "abc\\r\\nX: y"}',
    b'{"access_token": "abc\\n"}',
    b'{"access_token": "\\u00e4"}',
    b'{"access_token": "\\ud800"}',
    b'{"access_token": "abc", "token_type": "mac"}',
    b'{"access_token": "abc", "token_type": ""}',
    b'{"access_token": "abc", "token_type": 5}',
    b'{"access_token": "abc", "expires_in": -1}',
    b'{"access_token": "abc", "expires_in": "-1"}',
    b'{"access_token": "abc", "expires_in": NaN}',
    b'{"access_token": "abc", "expires_in": Infinity}',
    b'{"access_token": "abc", "expires_in": 1e999}',
    b'{"access_token": "abc", "expires_in": "1e999"}',
    b'{"access_token": "abc", "expires_in": 1' + b"0" * 400 + b"}",
    b'{"access_token": "abc", "expires_in": 1' + b"0" * 9000 + b"}",
    b'{"access_token": "abc", "expires_in": true}',
    b'{"access_token": "abc", "expires_in": ""}',
    b'{"access_token": "abc", "expires_in": "soon"}',
    b'{"access_token": "abc", "expires_in": " 5"}',
    b'{"access_token": "abc", "expires_in": "\\u0665"}',
    b'{"access_token": "abc", "expires_in": []}',
    b'{"access_token": "abc", "expires_in": {}}',
    b'{"access_token": "abc", "error": "no"}',
    b'{"access_token": "abc", "error": 5}',
]


@pytest.mark.parametrize("body", NONSENSE)
def test_nonsense_is_a_token_error_with_a_status_and_without_the_body(server, body):
    server.script.append(answer(200, body))
    error = refused(server.config().token_source())
    assert (error.status, error.body) == (200, b"")
    assert error.__cause__ is not None
    assert "abc" not in str(error)
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"access_token": "a b"}, "no usable access_token"),
        ({"token_type": "mac"}, "a token_type that is not Bearer"),
        ({"expires_in": "soon"}, "an expires_in that is no number of seconds"),
    ],
)
def test_nonsense_is_named(server, changes, told):
    server.script.append(grant(**changes))
    assert str(refused(server.config().token_source())).endswith(f": HTTP 200, {told}")


def test_a_2xx_answer_with_an_error_is_a_refusal(server):
    server.script.append(answer(200, {"error": "unauthorized_client", "error_description": "no"}))
    error = refused(server.config().token_source())
    assert (error.status, error.error, error.error_description) == (
        200,
        "unauthorized_client",
        "no",
    )
    assert "HTTP 200" in str(error) and "unauthorized_client, no" in str(error)


def test_a_2xx_refusal_keeps_no_token(server):
    server.script.append(answer(200, {"error": "no", "access_token": "abc"}))
    error = refused(server.config().token_source())
    assert error.body == error.__cause__.read() == b""


def test_a_refusal_says_where_and_why_and_keeps_its_body(server):
    body = b'{"error": "invalid_grant", "error_description": "Subject is unknown."}'
    server.script.append(answer(400, body, Retry_After="7"))
    error = refused(server.config().token_source())
    assert error.status == 400
    assert (error.error, error.error_description) == ("invalid_grant", "Subject is unknown.")
    assert (error.body, error.retry_after) == (body, 7.0)
    url = f"{server.url}/oauth2/token"
    why = "HTTP 400, Bad Request, invalid_grant, Subject is unknown."
    assert str(error) == f"no access token from {url}: {why}"


def test_a_refusal_is_caused_by_the_answer(server):
    server.script.append(answer(418, X_Why="tea"))
    cause = refused(server.config().token_source()).__cause__
    assert isinstance(cause, urllib.error.HTTPError)
    assert (cause.code, cause.headers["X-Why"]) == (418, "tea")
    assert cause.geturl() == f"{server.url}/oauth2/token"


@pytest.mark.parametrize("status", [300, 400, 599])
def test_the_token_of_a_refusal_is_not_taken(server, status):
    body = b'{"access_token": "abc"}'
    server.script.append(answer(status, body))
    error = refused(server.config().token_source())
    assert (error.status, error.body) == (status, body)


def test_a_status_that_nobody_knows_is_told(server):
    server.script.append(answer(599))
    assert str(refused(server.config().token_source())).endswith(": HTTP 599, unknown")


@pytest.mark.parametrize("said", [5, None, ["x"], {"a": 1}, True])
def test_words_of_a_refusal_that_are_no_strings_are_left_out(server, said):
    server.script.append(answer(400, {"error": said, "error_description": said}))
    error = refused(server.config().token_source())
    assert (error.error, error.error_description) == (None, None)
    assert str(error).endswith(": HTTP 400, Bad Request")


def test_words_of_a_refusal_are_cut_and_escaped(server):
    said = "\x1b[31m\r\nSet-Cookie: \u2028\ud800" + "x" * 300
    server.script.append(answer(400, {"error": said, "error_description": said}))
    error = refused(server.config().token_source())
    assert str(error).isprintable() and str(error).isascii()
    assert str(error).count("x") < 400
    assert r"\x1b[31m\r\nSet-Cookie: \u2028\ud800" in str(error)
    assert error.error == said


def test_a_refusal_is_read_although_it_is_not_utf_8(server):
    server.script.append(answer(400, b'{"error": "no", "error_description": "n\xf6"}'))
    assert refused(server.config().token_source()).error == "no"


def test_words_of_a_refusal_are_told_in_any_script(server):
    server.script.append(answer(400, {"error": "ungültig", "error_description": "無効"}))
    assert str(refused(server.config().token_source())).endswith(", ungültig, 無効")


def test_two_hundred_characters_of_each_word_are_told(server):
    server.script.append(answer(400, {"error": "x" * 300, "error_description": "y" * 201}))
    told = ", " + "x" * 200 + ", " + "y" * 200
    assert str(refused(server.config().token_source())).endswith(told)


def test_an_assertion_that_is_echoed_loses_its_signature(server):
    def echo(handler):
        assertion = handler.server.posts[-1].form["assertion"]
        handler.send_response(400, assertion)
        handler.end_headers()
        handler.wfile.write(
            json.dumps({"error": assertion, "error_description": assertion}).encode()
        )

    server.script.append(echo)
    error = refused(server.config().token_source())
    signature = server.posts[0].form["assertion"].rpartition(".")[2]
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    assert signature not in "".join(lines)


@pytest.mark.parametrize("words", ["{}", "bad signature {}.", "{} {}", "a.b.{}", "x" * 180 + " {}"])
def test_a_signature_is_not_shown_wherever_it_is_echoed(server, words):
    def echo(handler):
        signature = handler.server.posts[-1].form["assertion"].rpartition(".")[2]
        said = words.format(signature, signature)
        handler.reply(400, {"error": said, "error_description": said})

    server.script.append(echo)
    error = refused(server.config().token_source())
    signature = server.posts[0].form["assertion"].rpartition(".")[2]
    assert signature[:20] not in str(error)
    assert words.format("...", "...")[:200] in str(error)


@pytest.mark.parametrize("status_line", ["{}", "HTTP/1.1 {}", "HTTP/{} 200 OK"])
@pytest.mark.parametrize("start", [0, -43])
def test_an_assertion_that_is_echoed_where_http_should_be_loses_its_signature(
    server, status_line, start
):
    def echo(handler):
        assertion = handler.server.posts[-1].form["assertion"][start:]
        raw(status_line.format(assertion).encode() + b"\r\n\r\n")(handler)

    server.script.append(echo)
    error = refused(server.config().token_source())
    signature = server.posts[0].form["assertion"].rpartition(".")[2]
    lines = traceback.format_exception(type(error), error, error.__traceback__)
    assert signature not in "".join(lines)


HEADER_NAMES = st.sampled_from(["Date", "Retry-After", "Content-Type", "WWW-Authenticate", "X"])
HEADER_VALUES = st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF), max_size=30)
SHAPED = st.fixed_dictionaries(
    {},
    optional={
        "access_token": JSON | st.just("abc"),
        "token_type": JSON | st.just("bearer"),
        "expires_in": JSON,
        "error": JSON,
        "error_description": JSON,
    },
).map(lambda content: json.dumps(content).encode())


@settings(max_examples=60)
@given(
    st.integers(200, 599).filter(lambda status: status not in (204, 304)),
    st.dictionaries(HEADER_NAMES, HEADER_VALUES),
    st.binary(max_size=200) | SHAPED,
)
def test_any_answer_is_a_token_or_a_token_error_that_tells_no_secret(
    any_server, status, headers, body
):
    with pytest.MonkeyPatch.context() as patch:
        Clock(patch)
        any_server.script.clear()
        any_server.script.extend([answer(status, body, **headers)] * 4)
        source = any_server.config().token_source()
        try:
            token = source.token()
        except TokenError as error:
            assert error.status == status
            signature = any_server.posts[-1].form["assertion"].rpartition(".")[2]
            assert SECRET not in str(error) and signature not in str(error)
            assert str(error).isprintable()
        else:
            assert re.fullmatch("[!-~]+", token.access_token)
            assert token.expires_at is None or token.expires_at >= 0
            assert 200 <= status < 300


def mutated(body, moves):
    body = bytearray(body)
    for at, kind, byte in moves:
        at %= len(body) + 1
        if kind == 0:
            body[at:at] = bytes([byte])
        elif kind == 1:
            del body[at : at + 1]
        else:
            body[at : at + 1] = bytes([byte])
    return bytes(body)


GRANT = b'{"access_token":"abc","expires_in":9,"token_type":"bearer"}'
GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(GRANT), GRANT)
MOVES = st.lists(st.tuples(st.integers(0, 200), st.integers(0, 2), st.integers(0, 255)))


@settings(max_examples=60)
@given(MOVES)
def test_a_good_answer_that_was_tampered_with_is_a_token_or_a_token_error(any_server, moves):
    with pytest.MonkeyPatch.context() as patch:
        Clock(patch)
        any_server.script.clear()
        any_server.script.extend([raw(mutated(GOOD, moves))] * 4)
        try:
            assert isinstance(any_server.config().token_source(timeout=5).token(), Token)
        except TokenError as error:
            assert str(error).isprintable()


# When the network, the server or the clock do not hold


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_tried_again_with_a_fresh_assertion(server, clock, status):
    server.script.append(answer(status, b"busy"))
    server.config().token_source().token()
    first, second = server.posts
    assert 0.5 <= clock.naps[0] <= 0.75
    server.script.extend([answer(status)] * 3)
    clock.moved += 1000
    error = refused(server.config().token_source())
    assert error.status == status
    assert len(server.posts) == 2 + 3
    assert 0.5 <= clock.naps[1] <= 0.75 and 1 <= clock.naps[2] <= 1.5
    assert server.posts[4].claims["iat"] > server.posts[2].claims["iat"]


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
def test_a_transient_error_is_tried_again(server, clock, status, error):
    server.script.append(answer(status, {"error": error}))
    assert server.config().token_source().token()
    assert len(server.posts) == 2


@pytest.mark.parametrize("status", [300, 304, 400, 401, 403, 404, 405, 413, 418, 501, 505])
def test_another_refusal_is_final(server, clock, status):
    server.script.append(answer(status))
    assert refused(server.config().token_source()).status == status
    assert len(server.posts) == 1


def test_the_waits_differ(server, clock):
    server.script.extend([answer(503)] * 6)
    refused(server.config().token_source())
    refused(server.config().token_source())
    assert len(set(clock.naps)) == 4


def test_retry_after_is_honoured(server, clock):
    server.script.append(answer(503, Retry_After="12"))
    server.config().token_source().token()
    assert clock.naps == [12.0]


def test_a_retry_after_of_zero_is_honoured(server, clock):
    server.script.append(answer(429, Retry_After="0"))
    server.config().token_source().token()
    assert clock.naps == [0.0]


@pytest.mark.parametrize("seconds", ["31", "9" * 22, "9" * 5000])
def test_a_retry_after_that_does_not_fit_raises_at_once(server, clock, seconds):
    server.script.append(answer(503, Retry_After=seconds))
    error = refused(server.config().token_source())
    assert (error.retry_after, clock.naps, len(server.posts)) == (float(seconds), [], 1)


@pytest.mark.parametrize(
    "value", ["\xb2", "-1", "1.5", "soon", "", "1e3", "Wed, 21 Oct 2026 07:28:00 GMT"]
)
def test_a_retry_after_that_is_no_number_of_seconds_is_passed_over(server, clock, value):
    server.script.append(answer(503, Retry_After=value))
    server.config().token_source().token()
    assert 0.5 <= clock.naps[0] <= 0.75


@pytest.mark.parametrize(
    "failure",
    [
        raw(),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
        raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        raw(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 99\r\n\r\n{"),
    ],
)
def test_a_connection_that_breaks_is_tried_again(server, clock, failure):
    server.script.append(failure)
    assert server.config().token_source().token()
    assert len(server.posts) == 2
    server.script.extend([failure] * 3)
    error = refused(server.config().token_source())
    assert (error.status, error.body) == (None, b"")
    assert len(server.posts) == 5


def test_a_connection_that_is_refused_is_tried_again_and_named(server, clock):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = "http://127.0.0.1:{}".format(closed.getsockname()[1])
    config = server.config(endpoint=Endpoint("a", url))
    error = refused(config.token_source())
    assert len(clock.naps) == 2
    assert (error.status, error.retry_after) == (None, None)
    assert isinstance(error.__cause__, urllib.error.URLError)
    assert str(error).startswith(f"no access token from {url}: ConnectionRefusedError(")


def test_what_came_instead_of_an_answer_is_told(server):
    server.script.append(raw(b"SSH-2.0-OpenSSH_9.6\r\n"))
    assert "SSH-2.0-OpenSSH_9.6" in str(refused(server.config().token_source()))


@pytest.mark.parametrize(
    "nonsense",
    [
        raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
        raw(b"\x00\xff" * 100 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 300 + b"\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70000 + b"\r\n\r\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n{}"),
    ],
)
def test_what_is_no_answer_is_an_error_at_once(server, clock, nonsense):
    server.script.append(nonsense)
    assert "no access token from " in str(refused(server.config().token_source()))
    assert len(server.posts) == 1


def test_a_bad_chunk_is_an_error(server, clock):
    bad = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n")
    server.script.extend([bad] * 3)
    assert refused(server.config().token_source()).status is None


def test_no_more_than_64_kib_of_an_answer_are_read(server):
    content = json.dumps({"access_token": "abc"}).encode()
    server.script.append(answer(200, content.ljust(65536)))
    assert server.config().token_source().token() == Token("abc")
    server.script.append(answer(400, content.ljust(3 << 20)))
    assert len(refused(server.config().token_source()).body) == 65536
    server.script.append(answer(200, b" " * 65536 + content))
    assert refused(server.config().token_source()).status == 200


def test_a_body_without_end_is_cut_off(server):
    head = b"HTTP/1.1 400 No\r\n\r\n"
    server.script.append(drip(head, b"x" * 65536, every=0))
    assert len(refused(server.config().token_source()).body) == 65536


def test_whatever_the_body_an_exchange_takes_less_than_eight_mebibytes(server, clock):
    tracemalloc = pytest.importorskip("tracemalloc")  # which PyPy has not
    bodies = [b"[" + b"{}," * 22000, b'{"a":[' + b"[]," * 21000 + b"[]]}", b"x" * (32 << 20)]
    server.script.extend([answer(200, body) for body in bodies])
    source = server.config().token_source()
    tracemalloc.start()
    try:
        for _ in bodies:
            refused(source)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "behaviour",
    [
        silence,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
        drip(b"HTTP/1.1 503 Busy\r\n\r\n", b" "),
    ],
)
def test_the_exchange_ends_within_twice_its_timeout(server, behaviour):
    server.script.extend([behaviour] * 4)
    started = time.monotonic()
    error = refused(server.config().token_source(timeout=0.5))
    assert time.monotonic() - started < 1
    assert error.status is None
    assert len(server.posts) == 1


def test_a_body_that_does_not_end_in_time_or_ends_early_is_told(server, clock):
    server.script.append(drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "))
    late = refused(server.config().token_source(timeout=0.2))
    assert "TimeoutError('the answer did not end in time')" in str(late)
    server.script.extend([raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")] * 3)
    short = refused(server.config().token_source())
    assert "ConnectionError('the answer ended 98 bytes early')" in str(short)


def test_a_second_attempt_has_only_what_is_left_of_the_timeout(server):
    def late(handler):
        handler.server.released.wait(0.7)
        handler.reply(503, Retry_After="0")

    server.script.extend([late, silence])
    started = time.monotonic()
    refused(server.config().token_source(timeout=1))
    assert time.monotonic() - started < 1.6
    assert len(server.posts) == 2


def test_sixty_four_threads_at_a_silent_server_are_back_in_time(server):
    server.script.extend([silence] * 64)
    started = time.monotonic()
    errors = in_threads(64, server.config().token_source(timeout=1).token)
    assert time.monotonic() - started < 5
    assert {type(error) for error in errors} == {TokenError}
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("status", "where"),
    [
        *((status, "/rest") for status in (301, 302, 303, 307, 308)),
        *((302, where) for where in ("/oauth2/token", "file:///etc/passwd", "http://localhost:9/")),
    ],
)
@pytest.mark.parametrize("handlers", [[], [urllib.request.HTTPRedirectHandler]])
def test_a_token_request_follows_no_redirect(server, where, status, handlers):
    server.script.append(answer(status, Location=where))
    error = refused(server.config().token_source(*handlers))
    assert error.status == status
    assert len(server.posts) == 1 and not server.calls


def test_a_redirect_handler_that_wants_to_be_first_is_not_asked_either(server):
    class First(urllib.request.HTTPRedirectHandler):
        handler_order = -1

    server.script.append(answer(302, Location="/rest"))
    assert refused(server.config().token_source(First)).status == 302
    assert not server.calls


def test_an_error_processor_of_the_callers_follows_no_redirect_either(server):
    class ThirdWay(urllib.request.HTTPErrorProcessor):
        handler_order = 1

    server.script.append(answer(307, Location="/rest"))
    assert refused(server.config().token_source(ThirdWay())).status == 307
    assert not server.calls


def test_a_refused_assertion_is_not_answered_with_a_password(server):
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, server.url, "me", "hush")
    server.script.append(answer(401, WWW_Authenticate='Basic realm="x"'))
    basic = urllib.request.HTTPBasicAuthHandler(passwords)
    assert refused(server.config().token_source(basic)).status == 401
    assert [post.headers["Authorization"] for post in server.posts] == [None]


@pytest.mark.parametrize("status", [302, 400, 503])
def test_a_refusal_is_one_also_when_a_handler_lets_it_pass(server, clock, status):
    class Silent(urllib.request.HTTPErrorProcessor):
        def http_response(self, request, response):
            return response

    server.script.extend([answer(status, {"access_token": "abc", "error": "why"})] * 3)
    error = refused(server.config().token_source(Silent))
    assert (error.status, error.error) == (status, "why")
    assert json.loads(error.body)["error"] == "why"


def test_a_certificate_that_does_not_verify_is_not_tried_again(tls_server, clock):
    error = refused(
        tls_server.config().token_source(HTTPSHandler(context=ssl.create_default_context()))
    )
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert clock.naps == []


def test_a_proxy_that_refuses_the_tunnel_is_asked_once(tls_server, clock):
    proxy = Proxy(refusal=b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
    error = refused(tls_server.config().token_source(ProxyHandler({"https": proxy.url})))
    proxy.close()
    assert "Tunnel connection failed: 407" in str(error)
    assert len(proxy.tunnels) == 1


@pytest.mark.parametrize(
    "thrown",
    [LookupError("broken"), urllib.error.HTTPError("https://a", 400, "no", None, io.BytesIO())],
)
def test_an_exception_of_a_handler_is_a_token_error_too(server, thrown):
    class Broken(urllib.request.BaseHandler):
        handler_order = 100

        def http_open(self, req):
            raise thrown

    error = refused(server.config().token_source(Broken))
    assert error.__cause__ is thrown
    assert error.status is None


def test_an_answer_that_a_handler_thought_up_may_have_no_headers(server):
    class Inventive(urllib.request.BaseHandler):
        handler_order = 100

        def http_open(self, req):
            answer = urllib.response.addinfourl(io.BytesIO(b"why"), None, req.full_url, 400)
            answer.msg = "No"
            return answer

    assert refused(server.config().token_source(Inventive)).body == b"why"


def test_an_answer_that_a_handler_thought_up_may_have_headers_of_another_type(server):
    class Inventive(urllib.request.BaseHandler):
        handler_order = 100

        def http_open(self, req):
            headers = {"Retry-After": 5, "Date": 5}
            answer = urllib.response.addinfourl(io.BytesIO(b""), headers, req.full_url, 400)
            answer.msg = "No"
            return answer

    assert refused(server.config().token_source(Inventive)).retry_after == 5


def strict(clock, ahead=0.0, **more):
    """Refuse what is not signed at the server's time; else grant a token."""

    def step(handler):
        now = clock.server_time() + ahead
        claims = handler.server.posts[-1].claims
        if claims["iat"] - 3 <= now < claims["exp"]:
            grant()(handler)
        else:
            handler.reply(400, {"error": "invalid_grant"}, Date=clock.date(ahead), **more)

    return step


@pytest.mark.parametrize("wrong", [-600, 600, 10**8, -(10**8)])
@pytest.mark.parametrize("status", [400, 401])
def test_a_wrong_clock_is_corrected_once_and_for_all(server, clock, wrong, status):
    clock.wrong = wrong
    server.script.append(answer(status, {"error": "invalid_grant"}, Date=clock.date()))
    server.script.extend([strict(clock)] * 3)
    source = server.config().token_source()
    assert source.token().expires_at > time.time()
    assert len(server.posts) == 2
    clock.moved += 1000
    source.token()
    assert len(server.posts) == 3


def test_a_clock_that_is_repaired_later_does_no_harm(server, clock):
    clock.wrong = -600
    server.script.extend([strict(clock)] * 5)
    source = server.config().token_source()
    source.token()
    clock.wrong = 0
    clock.moved += 1000
    source.token()
    assert len(server.posts) == 4


@pytest.mark.parametrize("status", [400, 401])
@pytest.mark.parametrize(("wrong", "told"), [(-600, "-600 s"), (600, "+600 s")])
def test_how_far_off_the_clock_is_is_told_when_its_correction_does_not_help(
    server, monkeypatch, wrong, told, status
):
    monkeypatch.setattr(time, "time", lambda: 1700000000.0 + wrong)
    date = email.utils.formatdate(1700000000, usegmt=True)
    server.script.extend([answer(status, {"error": "invalid_grant"}, Date=date)] * 3)
    error = refused(server.config().token_source())
    assert str(error).endswith(f", this machine's clock is off by {told}")
    assert len(server.posts) == 2


@pytest.mark.parametrize(("ahead", "posts"), [(-6, 2), (-5, 1), (5, 1), (6, 2)])
def test_a_clock_that_is_five_seconds_off_is_right_enough(server, monkeypatch, ahead, posts):
    monkeypatch.setattr(time, "time", lambda: 1700000000.0)
    date = email.utils.formatdate(1700000000 + ahead, usegmt=True)
    server.script.extend([answer(400, {"error": "invalid_grant"}, Date=date)] * 3)
    refused(server.config().token_source())
    assert len(server.posts) == posts


def test_a_correction_is_for_the_assertion_alone(server, monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1700000000.0)
    date = email.utils.formatdate(1700000600, usegmt=True)
    server.script.append(answer(400, {"error": "invalid_grant"}, Date=date))
    assert server.config().token_source().token().expires_at == 1700000900.0
    assert server.posts[1].claims["iat"] == 1700000600


@pytest.mark.parametrize("status", [403, 500])
def test_a_clock_is_not_measured_at_another_status(server, clock, status):
    server.script.extend([answer(status, Date=clock.date(600))] * 3)
    assert "clock" not in str(refused(server.config().token_source()))
    assert abs(server.posts[-1].claims["iat"] - time.time()) < 5


def test_a_clock_that_is_right_is_left_alone(server, clock):
    server.script.append(answer(400, {"error": "invalid_grant"}, Date=clock.date(-3)))
    assert "clock" not in str(refused(server.config().token_source()))
    assert len(server.posts) == 1


@pytest.mark.parametrize("wrong", [0, 600])
def test_a_server_that_is_slow_does_not_make_the_clock_wrong(server, clock, wrong):
    def slowly(handler):
        clock.moved += 7
        date = clock.date()
        clock.moved += 7
        handler.reply(400, {"error": "invalid_grant"}, Date=date)

    source = server.config().token_source()
    clock.wrong = wrong
    server.script.append(strict(clock))
    source.invalidate(source.token())
    server.script.append(slowly)
    before = len(server.posts)
    refused(source)
    assert len(server.posts) == before + 1
    source.token()
    assert abs(server.posts[-1].claims["iat"] - clock.server_time()) < 3


def test_the_try_for_the_clock_is_beside_the_three_attempts(server, clock):
    server.script.extend([answer(503), answer(503)])
    server.script.append(answer(400, Date=clock.date(600)))
    server.script.append(grant())
    assert server.config().token_source().token()
    assert len(server.posts) == 4


@pytest.mark.parametrize(
    "date",
    [
        "nonsense",
        "",
        "Tue, 99 Foo 2026 99:99:99 GMT",
        "0",
        "\xff" * 40,
        "1 Jan 99999999999 0:0:0 GMT",
        "Mon, 20 Nov 1995 19:12:08 +" + "9" * 400,
    ],
)
def test_a_date_of_nonsense_is_passed_over(server, clock, date):
    server.script.append(answer(400, {"error": "invalid_grant"}, Date=date))
    assert refused(server.config().token_source()).error == "invalid_grant"
    assert len(server.posts) == 1


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the time zone cannot be changed here")
def test_a_date_without_a_zone_is_not_of_this_machines(server, clock, monkeypatch):
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        date = time.asctime(time.gmtime(clock.server_time()))  # as RFC 9110 wants it understood
        server.script.append(answer(400, {"error": "invalid_grant"}, Date=date))
        assert "clock" not in str(refused(server.config().token_source()))
    finally:
        monkeypatch.undo()
        time.tzset()
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
def test_each_form_of_a_date_corrects_the_clock(server, clock, form):
    clock.wrong = -600
    date = time.strftime(form, time.gmtime(clock.server_time()))
    server.script.append(answer(400, {"error": "invalid_grant"}, Date=date))
    server.config().token_source().token()
    assert abs(server.posts[1].claims["iat"] - clock.server_time()) < 3


def test_a_date_in_the_year_9999_is_survived(server, clock):
    date = "Fri, 31 Dec 9999 23:59:59 GMT"
    server.script.extend([answer(400, {"error": "invalid_grant"}, Date=date), strict(clock)])
    source = server.config().token_source()
    assert refused(source).error == "invalid_grant"
    assert server.posts[1].claims["iat"] == 253402300799
    server.script.append(strict(clock))
    assert source.token()


class Model(RuleBasedStateMachine):
    """A token source beside a model of it: what is held, until when, and how the server is."""

    @initialize()
    def start(self):
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(self.patch)
        self.server = StandIn()
        self.source = self.server.config().token_source()
        self.held, self.expires_at, self.corrected = None, 0.0, 0.0

    def teardown(self):
        self.patch.undo()
        self.server.close()

    def ask(self, *script):
        """Ask for a token; return what comes and how many requests it took."""
        self.server.script.clear()
        self.server.script.extend(script)
        before = len(self.server.posts)
        try:
            outcome = self.source.token()
        except TokenError as error:
            outcome = error
        return outcome, len(self.server.posts) - before

    @property
    def is_fresh(self):
        return self.held is not None and self.expires_at - 10 > time.time() + 0.001

    @rule(lifetime=st.integers(1, 2000))
    def a_token_is_reused_while_it_is_fresh_and_fetched_otherwise(self, lifetime):
        if abs(self.expires_at - 10 - time.time()) < 1:
            return
        fresh = self.is_fresh
        token, posts = self.ask(grant(expires_in=lifetime))
        assert posts == (0 if fresh else 1)
        assert (token is self.held) == fresh
        if not fresh:
            self.held, self.expires_at = token, token.expires_at

    @rule(status=st.sampled_from([400, 403, 404]))
    def a_refusal_is_final(self, status):
        if self.is_fresh:
            return
        error, posts = self.ask(answer(status, {"error": "invalid_grant"}))
        assert (error.status, posts) == (status, 1)
        self.held = None

    @rule(failures=st.integers(1, 3))
    def an_outage_is_got_over_by_the_third_attempt(self, failures):
        if self.is_fresh:
            return
        outcome, posts = self.ask(*[answer(503)] * failures, grant())
        assert posts == min(failures + 1, 3)
        assert isinstance(outcome, Token) == (failures < 3)
        self.held = outcome if failures < 3 else None
        self.expires_at = getattr(outcome, "expires_at", 0.0)

    @rule(wrong=st.sampled_from([-3600, -600, 0, 600, 3600]))
    def a_wrong_clock_costs_one_more_request(self, wrong):
        self.clock.wrong = wrong
        if self.is_fresh:
            return
        token, posts = self.ask(strict(self.clock), strict(self.clock))
        assert posts == (1 if wrong == self.corrected else 2)
        self.held, self.expires_at, self.corrected = token, token.expires_at, wrong

    @rule(seconds=st.integers(1, 1500))
    def time_passes(self, seconds):
        self.clock.moved += seconds

    @rule()
    def the_held_token_is_dropped(self):
        if self.held is not None:
            self.source.invalidate(self.held)
        self.held = None

    @rule()
    def another_token_is_not_dropped(self):
        self.source.invalidate(Token("another"))

    @invariant()
    def a_fresh_token_costs_nothing(self):
        if self.is_fresh:
            assert self.ask() == (self.held, 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=20)


# The handler


def test_a_call_to_the_site_bears_the_token(server):
    heard = opened(server.config().opener(), f"{server.url}/rest/api/3/myself?x=1")
    assert heard["path"] == "/rest/api/3/myself?x=1"
    assert heard["bearer"][7:] in server.valid


def test_a_call_keeps_its_method_body_and_headers(server):
    request = Request(
        f"{server.url}/rest", b"{}", {"X-Own": "1", "User-Agent": "mine"}, method="PUT"
    )
    seen = []

    class Spy(urllib.request.BaseHandler):
        handler_order = 900

        def http_request(self, req):
            seen.append((req.get_method(), req.data, dict(req.header_items())))
            return req

    opened(server.config().opener(Spy), request)
    method, data, headers = seen[-1]
    assert (method, data) == ("PUT", b"{}")
    assert (headers["X-own"], headers["User-agent"]) == ("1", "mine")


def test_the_callers_request_is_never_changed(server):
    request = Request(f"{server.url}/rest", b"{}", {"X-Own": "1"})
    request.timeout = 10
    before = copy.deepcopy(vars(request))
    opener = server.config().opener(token=Token("revoked"))
    for _ in range(2):
        opened(opener, request)
    assert [bearer for _, bearer, _ in server.calls][0] == "Bearer revoked"
    assert vars(request) == before


ORIGIN = "https://a.example"


def bears(base_url, url):
    """Tell whether a request for `url` would bear the token of `base_url`'s origin."""
    source = Config(**{**SITE, "base_url": base_url}).token_source(token=Token("abc"))
    request = jjo.HTTPBearerAuthHandler(source).http_request(Request(url))
    carrier = types.SimpleNamespace(url=url, headers={})
    jjo.BearerAuth(source)(carrier)
    assert request.has_header("Authorization") == ("Authorization" in carrier.headers)
    return request.has_header("Authorization")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (ORIGIN, "https://a.example"),
        (ORIGIN, "https://a.example/x"),
        (ORIGIN, "https://a.example?x"),
        (ORIGIN, "https://a.example#x"),
        (ORIGIN, "https://a.example:443/x"),
        (ORIGIN, "HTTPS://A.EXAMPLE/x"),
        (ORIGIN + ":443", "https://a.example/x"),
        (ORIGIN + "/wiki", "https://a.example/rest"),
        (ORIGIN + ":8443", "https://A.example:8443/"),
        ("https://[::A]:1", "https://[::a]:1/"),
        ("http://localhost", "http://localhost:80/"),
        ("http://127.0.0.1:80", "http://127.0.0.1/"),
        ("https://K.example", "https://k.example/"),
    ],
)
def test_what_is_at_the_origin_bears_the_token(base_url, url):
    assert bears(base_url, url)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (ORIGIN, "http://a.example/"),
        (ORIGIN, "https://a.example:8443/"),
        (ORIGIN, "https://a.example:80/"),
        (ORIGIN, "https://a.example:/"),
        (ORIGIN, "https://a.example.evil.example/"),
        (ORIGIN, "https://evil.example/https://a.example/"),
        (ORIGIN, "https://b.a.example/"),
        (ORIGIN, "https://axexample/"),
        (ORIGIN, "https://a.example@evil.example/"),
        (ORIGIN, "https://me@a.example/"),
        (ORIGIN, "https://me:pw@a.example/"),
        (ORIGIN, "https://evil.example\\@a.example/"),
        (ORIGIN, "https://a.example\\@evil.example/"),
        (ORIGIN, "https://a.example./"),
        (ORIGIN, "https://a%2eexample/"),
        (ORIGIN, "https://a.example%00.evil.example/"),
        (ORIGIN, "https://a.example\t.evil.example/"),
        (ORIGIN, "https://a.example\n/"),
        (ORIGIN, "https:a.example/"),
        (ORIGIN, "https:///a.example/"),
        (ORIGIN, "ftp://a.example/"),
        (ORIGIN, "data:,a.example"),
        (ORIGIN + ":8443", "https://a.example/"),
        (ORIGIN + ":8443", "https://a.example:443/"),
        ("https://k.example", "https://\u212a.example/"),
        ("https://s.example", "https://\u017f.example/"),
        ("http://localhost:80", "https://localhost:80/"),
        ("http://localhost", "http://127.0.0.1/"),
        ("http://localhost", "http://localhost:443/"),
    ],
)
def test_what_is_not_at_the_origin_passes_untouched(base_url, url):
    assert not bears(base_url, url)


HOSTS = st.sampled_from(["a.example", "A.Example", "b.example", "a.example.b.example", "[::1]"])
PORTS = st.sampled_from(["", ":443", ":80", ":8443"])
TRICKS = st.sampled_from(
    ["", "/", "/x@y", "?x", "#x", "@b.example", "\\", ".", "%2e", ":", "\tx", ";"]
)


@given(
    HOSTS,
    PORTS,
    st.sampled_from(["https", "HTTPS", "http"]),
    HOSTS,
    PORTS,
    TRICKS,
    st.text(max_size=5),
)
def test_origins_are_equal_exactly_when_scheme_host_and_port_are(
    base, base_port, scheme, host, port, trick, rest
):
    rest = rest if trick[:1] in ("/", "?", "#") else ""
    same_host = base.lower() == host.lower() and trick in ("", "/", "/x@y", "?x", "#x")
    number = port or {"https": ":443", "http": ":80"}[scheme.lower()]
    expected = same_host and scheme.lower() == "https" and (base_port or ":443") == number
    assert bears(f"https://{base}{base_port}", f"{scheme}://{host}{port}{trick}{rest}") == expected


def test_another_host_gets_no_token_and_the_token_endpoint_is_not_asked(server):
    assert opened(server.config().opener(), f"{server.foreign_url}/rest")["bearer"] is None
    assert not server.posts


def test_an_authorization_header_of_the_callers_is_kept(server):
    request = Request(f"{server.url}/rest", headers={"Authorization": "Basic eDp5"})
    with pytest.raises(urllib.error.HTTPError):
        opened(server.config().opener(), request)
    assert [bearer for _, bearer, _ in server.calls] == ["Basic eDp5"]
    assert not server.posts


def via(*urls):
    """Return the URL that redirects to the next, which redirects to the next."""
    *urls, last = urls
    for url in reversed(urls):
        last = f"{url}/redirect?{urllib.parse.quote(last, safe='')}"
    return last


def bearers(server):
    return [bearer is not None for _, bearer, _ in server.calls]


def test_a_redirect_elsewhere_carries_no_token(server):
    opened(server.config().opener(), via(server.url, server.foreign_url + "/x"))
    assert bearers(server) == [True, False]


def test_a_redirect_that_comes_back_carries_the_token(server):
    opened(server.config().opener(), via(server.url, server.foreign_url, server.url + "/x"))
    assert bearers(server) == [True, False, True]


def test_a_redirect_within_the_site_carries_the_token(server):
    opened(server.config().opener(), via(server.url, server.url + "/x"))
    assert bearers(server) == [True, True]


def test_a_foreign_host_cannot_aim_the_token(server):
    opened(server.config().opener(), via(server.foreign_url, server.url + "/x"))
    assert bearers(server) == [False, False]
    opened(server.config().opener(), via(server.foreign_url, server.url, server.url + "/x"))
    assert not any(bearers(server)) and not server.posts


def test_only_what_was_aimed_by_a_foreign_host_bears_no_token():
    handler = jjo.HTTPBearerAuthHandler(Config(**SITE).token_source(token=Token("abc")))
    for unverifiable in (False, True):
        request = Request(SITE["base_url"], origin_req_host="x.y", unverifiable=unverifiable)
        assert handler.http_request(request).has_header("Authorization") is not unverifiable


def test_an_installed_opener_serves_urlopen(server):
    urllib.request.install_opener(server.config().opener())
    try:
        with urllib.request.urlopen(f"{server.url}/rest", timeout=10) as response:
            assert json.loads(response.read())["bearer"]
        with urllib.request.urlopen(f"{server.foreign_url}/rest", timeout=10) as response:
            assert json.loads(response.read())["bearer"] is None
    finally:
        urllib.request.install_opener(None)


def test_no_token_means_that_the_call_raises_a_token_error(server):
    server.script.append(answer(400))
    with pytest.raises(TokenError):
        opened(server.config().opener(), f"{server.url}/rest")
    assert not server.calls


def test_handlers_serve_the_token_request_and_the_calls_alike(tls_server, tls):
    opener = tls_server.config().opener(HTTPSHandler(context=tls[1]))
    assert opened(opener, f"{tls_server.url}/rest")["bearer"]


def test_each_opener_has_a_copy_of_a_handler_and_they_share_its_cookies(server):
    cookies = urllib.request.HTTPCookieProcessor()
    opener = server.config().opener(cookies)
    server.script.append(answer(200, {"access_token": "abc"}, Set_Cookie="seen=yes"))
    server.valid.add("abc")
    opened(opener, f"{server.url}/rest")
    assert [cookie.name for cookie in cookies.cookiejar] == ["seen"]
    assert not hasattr(cookies, "parent")


def test_openers_with_the_same_handlers_do_not_mix_up_their_users(server):
    server.valid.update(["alice", "bob"])
    redirects = urllib.request.HTTPRedirectHandler()
    alice = server.config().opener(redirects, token=Token("alice"))
    server.config().opener(redirects, token=Token("bob"))
    assert opened(alice, via(server.url, server.url + "/x"))["bearer"] == "Bearer alice"


def test_a_proxy_that_speaks_tls_gets_the_call_once(server, tls_server, tls):
    tls_server.valid.update(["abc", "own"])
    handlers = ProxyHandler({"http": tls_server.url}), HTTPSHandler(context=tls[1])
    opener = server.config().opener(*handlers, token=Token("abc"))
    assert opened(opener, f"{server.url}/1")["bearer"] == "Bearer abc"
    own = Request(f"{server.url}/2", headers={"Authorization": "Bearer own"})
    assert opened(opener, own)["bearer"] == "Bearer own"
    assert [call[0] for call in tls_server.calls] == [f"{server.url}/1", f"{server.url}/2"]


def test_a_proxy_handler_may_choose_its_proxy_by_itself(server):
    class Own(ProxyHandler):
        def __init__(self):
            pass

    assert opened(server.config().opener(Own()), f"{server.url}/rest")["bearer"]


def test_a_proxy_serves_what_is_not_for_the_site_too(server):
    proxy = Proxy()
    opener = server.config().opener(ProxyHandler({"ftp": proxy.url}))
    opener.open("ftp://other.example/file", timeout=10).close()
    proxy.close()
    assert "GET ftp://other.example/file" in proxy.clear[0] and not server.posts


def test_a_plain_proxy_gets_the_call_with_its_token(server):
    proxy = Proxy()
    opener = server.config().opener(ProxyHandler({"http": proxy.url}), token=Token("abc"))
    request = Request(f"{server.url}/rest")
    for _ in range(3):
        opener.open(request, timeout=10).close()
    proxy.close()
    assert len(proxy.clear) == 3
    assert all(
        f"GET {server.url}/rest" in c and "Authorization: Bearer abc" in c for c in proxy.clear
    )


def through(proxy, tls):
    return ProxyHandler({"https": proxy.url}), HTTPSHandler(context=tls[1])


def test_urllib_alone_sends_a_request_that_is_opened_again_in_the_clear(tls_server, proxy, tls):
    opener = urllib.request.build_opener(*through(proxy, tls))
    request = Request("https://site.example/rest", headers={"X-Secret": "hush"})
    for _ in range(3):
        opener.open(request, timeout=10).close()
    assert proxy.tunnels == ["site.example:443", "site.example:443", "site.example:80"]
    assert "X-Secret: hush" in proxy.clear[0]


def test_a_request_that_is_opened_three_times_behind_a_proxy_stays_encrypted(
    tls_server, proxy, tls
):
    config = tls_server.config(base_url="https://site.example")
    opener = config.opener(*through(proxy, tls))
    request = Request("https://site.example/rest")
    for _ in range(3):
        assert opened(opener, request)["bearer"]
    assert proxy.clear == []
    assert proxy.tunnels[1:] == ["site.example:443"] * 3


def test_a_request_that_another_opener_sent_through_a_proxy_stays_encrypted(tls_server, proxy, tls):
    request = Request("https://site.example/rest")
    urllib.request.build_opener(*through(proxy, tls)).open(request, timeout=10).close()
    opener = tls_server.config(base_url="https://site.example").opener(*through(proxy, tls))
    assert opened(opener, request)["path"] == "/rest"
    assert proxy.clear == []


def test_a_request_that_went_through_a_proxy_before_goes_straight_without_one(server):
    request = Request(f"{server.url}/rest")
    proxy = Proxy()
    via_proxy = urllib.request.build_opener(ProxyHandler({"http": proxy.url}))
    via_proxy.open(request, timeout=10).close()
    proxy.close()
    assert opened(server.config().opener(), request)["path"] == "/rest"


def test_a_request_with_a_header_of_its_own_stays_encrypted_too(tls_server, proxy, tls):
    config = tls_server.config(base_url="https://site.example")
    tls_server.valid.add("own")
    opener = config.opener(*through(proxy, tls))
    request = Request("https://site.example/rest", headers={"Authorization": "Bearer own"})
    for _ in range(3):
        assert opened(opener, request)["bearer"] == "Bearer own"
    assert proxy.clear == []


def test_a_request_with_a_header_of_its_own_that_was_opened_before_stays_encrypted(
    tls_server, proxy, tls
):
    request = Request("https://site.example/rest", headers={"Authorization": "Bearer own"})
    tls_server.valid.add("own")
    for _ in range(2):
        urllib.request.build_opener(*through(proxy, tls)).open(request, timeout=10).close()
    opener = tls_server.config(base_url="https://site.example").opener(*through(proxy, tls))
    assert opened(opener, request)["bearer"] == "Bearer own"
    assert proxy.clear == []


def test_a_replay_through_a_proxy_stays_encrypted(tls_server, proxy, tls):
    config = tls_server.config(base_url="https://site.example")
    opener = config.opener(*through(proxy, tls), token=Token("revoked"))
    request = Request("https://site.example/rest", b"body")
    for _ in range(2):
        assert opened(opener, request)["bearer"] != "Bearer revoked"
    assert proxy.clear == []
    assert [body for _, _, body in tls_server.calls] == [b"body"] * 3


def test_a_handler_that_tries_again_sends_nothing_in_the_clear(tls_server, proxy, tls):
    class TryAgain(urllib.request.BaseHandler):
        tries = 1

        def https_response(self, request, response):
            self.tries += 1
            return self.parent.open(request) if self.tries <= 3 else response

    config = tls_server.config(base_url="https://site.example")
    tls_server.valid.add("abc")
    opener = config.opener(*through(proxy, tls), TryAgain(), token=Token("abc"))
    assert opened(opener, "https://site.example/rest")["path"] == "/rest"
    assert proxy.clear == []
    assert proxy.tunnels == ["site.example:443"] * 3
    assert all(bearer for _, bearer, _ in tls_server.calls)


# A 401 from the site


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_a_401_renews_the_token_and_sends_the_request_again(server, body):
    opener = server.config().opener(token=Token("revoked"))
    assert opened(opener, f"{server.url}/rest", body)["bearer"][7:] in server.valid
    assert [call[1:] for call in server.calls] == [
        ("Bearer revoked", body),
        (server.calls[1][1], body),
    ]
    assert len(server.posts) == 1


def test_a_401_that_is_answered_with_another_try_is_closed(server):
    seen = []

    class Spy(urllib.request.BaseHandler):
        def http_response(self, request, response):
            seen.append(response)
            return response

    opened(server.config().opener(Spy, token=Token("revoked")), f"{server.url}/rest")
    assert seen[0].code == 401 and seen[0].isclosed()


def test_a_401_without_a_challenge_renews_the_token_too(server):
    class NoChallenge(urllib.request.BaseHandler):
        handler_order = 900

        def http_response(self, request, response):
            del response.headers["WWW-Authenticate"]
            return response

    opener = server.config().opener(NoChallenge, token=Token("revoked"))
    assert opened(opener, f"{server.url}/rest")["bearer"]


def unauthorized(opener, url, data=None):
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(url, data, timeout=10)
    assert caught.value.code == 401
    return caught.value.read()


def test_a_401_is_never_answered_in_a_loop(server):
    server.script.extend([answer(200, {"access_token": f"useless-{n}"}) for n in range(20)])
    opener = server.config().opener()
    assert unauthorized(opener, f"{server.url}/rest") == b"who are you?"
    assert len(server.calls) == 2
    assert len(server.posts) == 2


def test_a_resource_that_refuses_everybody_costs_one_exchange_a_minute(server, clock):
    server.script.extend([answer(200, {"access_token": f"useless-{n}"}) for n in range(20)])
    opener = server.config().opener()
    for _ in range(10):
        assert unauthorized(opener, f"{server.url}/rest") == b"who are you?"
    clock.moved += 58
    unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 2
    clock.moved += 2.5
    for _ in range(10):
        unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 3


def test_a_renewal_that_gives_the_same_token_again_is_no_loop_either(server):
    server.script.extend([answer(200, {"access_token": "same", "expires_in": 900})] * 9)
    opener = server.config().opener()
    for _ in range(3):
        unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 2


def test_sixty_four_threads_whose_token_was_revoked_cause_one_exchange(server):
    server.pause = 0.1
    opener = server.config().opener(token=Token("revoked"))
    heard = in_threads(64, lambda: opened(opener, f"{server.url}/rest"))
    assert len(server.posts) == 1
    assert {type(answer) for answer in heard} == {dict}


def test_a_token_that_another_thread_has_renewed_is_used(server):
    source = server.config().token_source()
    opener = urllib.request.build_opener(jjo.HTTPBearerAuthHandler(source))

    held = source.token()
    server.valid.clear()

    class Quicker(urllib.request.BaseHandler):
        def http_response(self, request, response):
            source.invalidate(held)
            source.token()
            return response

    opener.add_handler(Quicker())
    assert opened(opener, f"{server.url}/rest")["bearer"] == source.token().authorization
    assert len(server.posts) == 2


def upload(url):
    return Request(url, io.BytesIO(b"body"), {"Content-Length": "4"})


def test_a_body_that_cannot_be_replayed_drops_the_token_and_causes_no_exchange(server):
    opener = server.config().opener(token=Token("revoked"))
    assert unauthorized(opener, upload(f"{server.url}/rest")) == b"who are you?"
    assert not server.posts
    assert opened(opener, f"{server.url}/rest")["bearer"]
    assert (len(server.posts), len(server.calls)) == (1, 2)


def test_uploads_that_are_always_refused_cost_one_exchange_a_minute_too(server):
    server.script.extend([answer(200, {"access_token": f"useless-{n}"}) for n in range(20)])
    opener = server.config().opener(token=Token("revoked"))
    for _ in range(10):
        unauthorized(opener, upload(f"{server.url}/rest"))
    assert len(server.posts) == 1


def test_a_request_is_sent_again_once_even_if_others_renew_the_token_all_the_time(server):
    source = server.config().token_source(token=Token("revoked"))

    class Others(urllib.request.BaseHandler):
        def http_response(self, request, response):
            server.valid.clear()
            source.invalidate(source.token())
            server.script.append(answer(200, {"access_token": f"useless-{next(ISSUED)}"}))
            source.token()
            return response

    opener = urllib.request.build_opener(Others, jjo.HTTPBearerAuthHandler(source))
    assert unauthorized(opener, f"{server.url}/rest") == b"who are you?"
    assert len(server.calls) == 2


def test_a_token_that_expires_at_once_is_not_renewed_more_often_either(server):
    server.script.extend(
        [answer(200, {"access_token": f"useless-{n}", "expires_in": 5}) for n in range(20)]
    )
    opener = server.config().opener()
    for _ in range(5):
        unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 6


def test_a_handler_leaves_the_401_of_another_handlers_token_alone(server):
    first = Config(**SITE).token_source(token=Token("abc"))
    second = server.config().token_source(token=Token("revoked"))
    handlers = map(jjo.HTTPBearerAuthHandler, (first, second))
    opener = urllib.request.build_opener(*handlers)
    assert opened(opener, f"{server.url}/rest")["bearer"] == second.token().authorization
    assert len(server.posts) == 1


def test_a_401_for_the_callers_own_authorization_is_the_callers(server):
    opener = server.config().opener(token=Token("abc"))
    request = Request(f"{server.url}/rest", headers={"Authorization": "Basic eDp5"})
    assert unauthorized(opener, request) == b"who are you?"
    assert not server.posts


def test_a_renewal_that_fails_is_a_token_error(server):
    server.script.append(answer(400, {"error": "invalid_grant"}))
    opener = server.config().opener(token=Token("revoked"))
    with pytest.raises(TokenError, match="invalid_grant"):
        opener.open(f"{server.url}/rest", timeout=10)


def test_a_replay_keeps_the_timeout_of_the_call(server):
    timeouts = []

    class Spy(urllib.request.BaseHandler):
        handler_order = 900

        def http_request(self, req):
            timeouts.append(req.timeout)
            return req

    opened(server.config().opener(Spy, token=Token("revoked")), f"{server.url}/rest", timeout=7)
    assert timeouts[0] == timeouts[-1] == 7


# requests and httpx


def test_bearer_auth_sets_the_header_whatever_stood_there_and_returns_the_request(server):
    auth = server.config().auth(timeout=5)
    request = types.SimpleNamespace(url=f"{server.url}/rest", headers={"Authorization": "Basic x"})
    assert auth(request) is request
    assert request.headers["Authorization"][7:] in server.valid
    assert auth.source.config.base_url == server.url


def test_bearer_auth_takes_handlers_and_options(tls_server, tls):
    auth = tls_server.config().auth(HTTPSHandler(context=tls[1]))
    request = types.SimpleNamespace(url=f"{tls_server.url}/rest", headers={})
    assert auth(request).headers["Authorization"][7:] in tls_server.valid
    auth = tls_server.config().auth(token=Token("saved"))
    assert auth(request).headers["Authorization"] == "Bearer saved"


def test_bearer_auth_leaves_other_hosts_alone(server):
    auth = server.config().auth()
    request = types.SimpleNamespace(url=f"{server.foreign_url}/rest", headers={})
    assert auth(request).headers == {}
    assert not server.posts


def test_bearer_auth_takes_urls_that_are_no_strings(server):
    class URL:
        def __str__(self):
            return f"{server.url}/rest"

    request = types.SimpleNamespace(url=URL(), headers={})
    assert server.config().auth()(request).headers["Authorization"]


# The command line


def quiet(more):
    return {**os.environ, "PYTHONWARNINGS": "ignore", **more}


def environment(server, **changes):
    config = {**ENVIRONMENT, "JIRA_BASE_URL": server.url}
    return {**config, "JIRA_TOKEN_URL": f"{server.url}/oauth2/token", **changes}


@pytest.fixture
def in_environment(server, monkeypatch):
    for name, value in environment(server).items():
        monkeypatch.setenv(name, value)


def status_of(*arguments):
    """Run the command line in this process; return its exit status."""
    try:
        jjo.main(list(arguments))
    except SystemExit as done:
        return done.code
    return 0


DEMO = """\
1. The claim set says which app asks, for which user, at which site, until when:

{
  "iss": "urn:atlassian:connect:clientid:demo",
  "sub": "urn:atlassian:connect:useraccountid:557058:1",
  "tnt": "http://127.0.0.1:PORT",
  "aud": "https://as.example",
  "exp": SECONDS,
  "iat": SECONDS
}

2. Signed with the shared secret it is an assertion:

ASSERTION

3. The token request, as the token endpoint gets it and verifies it:

POST /oauth2/token HTTP/1.1
Accept-Encoding: identity
Content-Type: application/x-www-form-urlencoded
Content-Length: LENGTH
Host: 127.0.0.1:PORT
Accept: application/json
User-Agent: jira-jwt-oauth/VERSION
Connection: close

grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ASSERTION&scope=READ

4. The access token in the answer:

{
  "access_token": "TOKEN",
  "expires_at": SECONDS,
  "token_type": "Bearer"
}

5. An API call that bears it, as the site gets it, and the site's answer:

GET /rest/api/3/myself HTTP/1.1
Accept-Encoding: identity
Authorization: Bearer TOKEN
Host: 127.0.0.1:PORT
User-Agent: Python-urllib/VERSION
Connection: close


{"displayName": "Mia"}

6. Once it has expired, a call gets another first:

POST /oauth2/token HTTP/1.1
Accept-Encoding: identity
Content-Type: application/x-www-form-urlencoded
Content-Length: LENGTH
Host: 127.0.0.1:PORT
Accept: application/json
User-Agent: jira-jwt-oauth/VERSION
Connection: close

grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=ASSERTION&scope=READ
GET /rest/api/3/myself HTTP/1.1
Accept-Encoding: identity
Authorization: Bearer TOKEN
Host: 127.0.0.1:PORT
User-Agent: Python-urllib/VERSION
Connection: close


{"displayName": "Mia"}

"""


def test_the_demo_shows_each_step_of_the_protocol(capfd):
    assert status_of("demo") == 0
    shown = capfd.readouterr().out
    tokens = re.findall("Bearer ([0-9a-f]{32})\n", shown)
    assert len(set(tokens)) == 2 and f'"{tokens[0]}"' in shown
    lifetime = float(re.findall('"expires_at": (.+),', shown)[0]) - time.time()
    assert 890 < lifetime <= 900
    for pattern, name in (
        (r"(?<=127\.0\.0\.1:)\d+", "PORT"),
        (r"\beyJ[\w-]+\.[\w-]+\.[\w-]{43}(?![\w-])", "ASSERTION"),
        (r"\b[0-9a-f]{32}\b", "TOKEN"),
        (r"\b1\d{9}\b(\.\d+)?", "SECONDS"),
        (r"(oauth|urllib)/[\d.]+", r"\1/VERSION"),
        (r"(?<=Content-Length: )\d+", "LENGTH"),
    ):
        shown = re.sub(pattern, name, shown)
    assert shown == DEMO


def test_the_demo_needs_no_settings_and_no_proxy(monkeypatch, capfd):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("JIRA_BASE_URL", "nonsense")
    assert status_of("demo") == 0
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "tampered",
    [
        lambda claims, secret: jjo.encode_jwt(claims, b"another secret"),
        lambda claims, secret: jjo.encode_jwt({**claims, "exp": claims["exp"] + 60}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "exp": claims["iat"] - 60}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "iat": claims["iat"] + 60}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "tnt": "https://other.example"}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "aud": "https://other.example"}, secret),
    ],
)
def test_the_stand_in_of_the_demo_checks_signature_and_claims(monkeypatch, capfd, tampered):
    def assertion(self, now=None):
        return tampered(self.claims(now)._asdict(), self.client_secret)

    monkeypatch.setattr(Config, "assertion", assertion)
    assert status_of("demo") == 1
    assert "HTTP 401, Unauthorized, invalid_grant" in capfd.readouterr().err


def test_the_stand_in_of_the_demo_wants_the_token(monkeypatch, capfd):
    monkeypatch.setattr(Token, "authorization", property(lambda self: "Bearer of bad news"))
    assert status_of("demo") == 1
    assert "401" in capfd.readouterr().err


def test_a_demo_leaves_no_thread_behind_also_when_it_fails(monkeypatch, capfd):
    threads = set(threading.enumerate())
    assert status_of("demo") == 0
    monkeypatch.setattr(Config, "assertion", lambda self, now=None: VECTOR)
    assert status_of("demo") == 1
    assert set(threading.enumerate()) <= threads


def test_a_demo_that_is_interrupted_ends_although_a_connection_stays_open(monkeypatch, capfd):
    connect = socket.create_connection

    def interrupted(*args, **options):
        connection = connect(*args, **options)
        raise KeyboardInterrupt(connection)

    monkeypatch.setattr(socket, "create_connection", interrupted)
    statuses = []
    demo = threading.Thread(target=lambda: statuses.append(status_of("demo")), daemon=True)
    demo.start()
    demo.join(10)
    assert statuses == [1]


def test_the_command_assertion_prints_a_signed_jwt_and_asks_nobody(in_environment, server, capfd):
    assert status_of("assertion") == 0
    assert verify(capfd.readouterr().out.strip())["tnt"] == server.url
    assert not server.posts


def test_a_command_leaves_standard_output_open(in_environment, capfd):
    assert status_of("assertion") == status_of("assertion") == 0
    first, second = capfd.readouterr().out.split()
    assert verify(first) and verify(second)


def test_the_command_token_prints_an_access_token(in_environment, server, capfd):
    assert status_of("token") == 0
    assert capfd.readouterr().out.strip() in server.valid


def test_the_command_token_prints_the_whole_token_as_json(in_environment, server, capfd):
    assert status_of("token", "--json") == 0
    assert Token(**json.loads(capfd.readouterr().out)).access_token in server.valid


@pytest.mark.parametrize("url", ["/rest/x?y=1", "{}/rest/x?y=1"])
def test_the_command_get_writes_the_body_of_a_path_or_a_url(in_environment, server, capfd, url):
    assert status_of("get", url.format(server.url)) == 0
    assert json.loads(capfd.readouterr().out)["path"] == "/rest/x?y=1"


def test_the_command_get_waits_for_half_a_minute(in_environment, monkeypatch):
    waited = []

    def open_(url, timeout=None):
        waited.append(timeout)
        raise urllib.error.URLError("timed out")

    monkeypatch.setattr(Config, "opener", lambda self: types.SimpleNamespace(open=open_))
    assert status_of("get", "/rest") == 1
    assert waited == [30]


def test_the_command_get_appends_a_path_to_the_base_url(server, monkeypatch, capfd):
    for name, value in environment(server, JIRA_BASE_URL=f"{server.url}/wiki/").items():
        monkeypatch.setenv(name, value)
    assert status_of("get", "/rest/api/space") == 0
    assert json.loads(capfd.readouterr().out)["path"] == "/wiki/rest/api/space"


@pytest.mark.parametrize(
    "url", ["https://other.example/", "rest", "@other.example", "/x y", "/\n", "/ä", ""]
)
def test_the_command_get_refuses_what_is_not_at_the_origin(in_environment, server, capfd, url):
    assert status_of("get", url) == 2
    assert "' is not a URL at the origin of JIRA_BASE_URL\n" in capfd.readouterr().err
    assert not server.posts


@pytest.mark.parametrize(
    "where",
    ["http://[bad/", "http://" + "a" * 70 + ".example/", "http://127.0.0.1:" + "9" * 25 + "/"],
)
def test_a_redirect_to_nowhere_is_no_wrong_usage(in_environment, server, capfd, where):
    assert status_of("get", f"/redirect?{urllib.parse.quote(where, safe='')}") == 1
    assert "usage" not in capfd.readouterr().err


@pytest.mark.parametrize(("text", "told"), [("nö".encode(), "nö"), (b"n\xf6", "n\ufffd")])
def test_an_http_error_is_told_with_its_status_and_text(
    in_environment, server, capfd, monkeypatch, text, told
):
    monkeypatch.setattr(StandInHandler, "site", lambda handler, _: handler.reply(404, text))
    assert status_of("get", "/nothing") == 1
    out, error = capfd.readouterr()
    assert out == ""
    assert "404" in error and told in error


def test_a_body_that_breaks_off_is_told(in_environment, server, capfd, monkeypatch):
    short = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")
    monkeypatch.setattr(StandInHandler, "site", lambda handler, _: short(handler))
    assert status_of("get", "/x") == 1
    assert "Traceback" not in capfd.readouterr().err


def test_a_body_that_is_shorter_than_announced_is_told(in_environment, server, capfd, monkeypatch):
    short = raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab")
    monkeypatch.setattr(StandInHandler, "site", lambda handler, _: short(handler))
    assert status_of("get", "/x") == 1
    assert "2 bytes read, 7 more expected" in capfd.readouterr().err


@pytest.mark.parametrize("length", [9, 10**20])
def test_an_error_whose_body_breaks_off_is_told(in_environment, server, capfd, monkeypatch, length):
    short = raw(b"HTTP/1.1 404 No\r\nContent-Length: %d\r\n\r\nab" % length)
    monkeypatch.setattr(StandInHandler, "site", lambda handler, _: short(handler))
    assert status_of("get", "/x") == 1
    assert "HTTP Error 404: No\nab" in capfd.readouterr().err


@pytest.mark.parametrize(
    "head", [b"Content-Length: 9" + b"0" * 15, b"Content-Length: 9" + b"0" * 25]
)
def test_a_body_beyond_all_memory_is_told_in_one_line(
    in_environment, server, capfd, monkeypatch, head
):
    huge = raw(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n\r\nab")
    monkeypatch.setattr(StandInHandler, "site", lambda handler, _: huge(handler))
    assert status_of("get", "/x") == 1
    assert re.fullmatch(r"[\w.]+: .+\n", capfd.readouterr().err)


def test_a_refused_token_is_told_in_one_line(in_environment, server, capfd):
    server.script.append(answer(400, {"error": "invalid_grant"}))
    assert status_of("token") == 1
    told = capfd.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 1)
    assert "HTTP 400, Bad Request, invalid_grant" in told.err


def test_an_interrupt_ends_a_command_quietly(in_environment, monkeypatch, capfd):
    monkeypatch.setattr(Config, "assertion", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
    assert status_of("assertion") == 1
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "changes", "told"),
    [
        ([], {}, "the following arguments are required: COMMAND"),
        (["nonsense"], {}, "nonsense"),
        (["get"], {}, "url"),
        (["token"], {"JIRA_SUBJECT": ""}, "JIRA_SUBJECT"),
        (["assertion"], {"JIRA_CLIENT_SECRET": SECRET + "\n"}, "JIRA_CLIENT_SECRET"),
        (["get", "/x"], {"JIRA_BASE_URL": "mycompany"}, "JIRA_BASE_URL"),
    ],
)
def test_wrong_usage_and_settings_exit_with_2_and_name_what_is_wrong(
    in_environment, monkeypatch, capfd, arguments, changes, told
):
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert status_of(*arguments) == 2
    error = capfd.readouterr().err
    assert told in error and SECRET not in error


HELP = [
    "COMMAND demo show the whole flow, without settings or a network "
    "assertion print a signed JWT, without a network "
    "token print an access token; --json: the whole token "
    "get GET a URL or a path after the base URL, write the body",
    "environment variables; one that is empty counts as unset. "
    "JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID, JIRA_CLIENT_SECRET; "
    "optional JIRA_SCOPES, JIRA_AUTH_URL, JIRA_TOKEN_URL.",
    "usage: ",
    "--version",
]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--help"], HELP),
        (["token", "--help"], ["--json print the whole token"]),
        (["get", "--help"], ["url at the site; one that starts with / goes after the base URL"]),
        (["--version"], [jjo.__version__]),
    ],
)
def test_help_names_the_commands_and_the_variables(monkeypatch, capfd, arguments, told):
    monkeypatch.setenv("COLUMNS", "300")
    assert status_of(*arguments) == 0
    shown = " ".join(capfd.readouterr().out.split())
    for words in told:
        assert words in shown


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no device that is full")
def test_a_full_disk_is_no_traceback(server):
    with open("/dev/full", "w") as full:
        process = subprocess.Popen(
            [sys.executable, str(MODULE), "assertion"],
            env=quiet(environment(server)),
            stdout=full,
            stderr=subprocess.PIPE,
        )
        told = process.communicate(timeout=30)[1].decode()
    assert process.returncode == 1
    assert "Traceback" not in told and "Exception" not in told


@pytest.mark.parametrize("arguments", [["demo"], ["assertion"], ["get", "/x"], ["--help"]])
def test_a_closed_pipe_is_no_traceback(server, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        [sys.executable, str(MODULE), *arguments],
        env=quiet(environment(server)),
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert process.communicate(timeout=30)[1] == b""
    assert process.returncode == 1


# The module as a file, and the README


def test_six_lines_beside_a_copy_of_the_file_get_an_authorised_answer(server, tmp_path):
    (tmp_path / "jira_jwt_oauth.py").write_bytes(MODULE.read_bytes())
    script = tmp_path / "script.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from jira_jwt_oauth import Config, Endpoint\n"
        f"site = {server.url!r}\n"
        f"config = Config(base_url=site, subject='s', client_id='c', client_secret={SECRET!r},\n"
        "    endpoint=Endpoint('https://as.example', site + '/oauth2/token'))\n"
        "print(config.opener().open(site + '/rest').read().decode())\n"
    )
    done = subprocess.run([sys.executable, "-I", str(script)], stdout=subprocess.PIPE, timeout=30)
    assert json.loads(done.stdout)["bearer"][7:] in server.valid


def test_the_command_line_may_be_cut_off(server):
    source = MODULE.read_text(encoding="utf-8")
    rest, line, _ = source.partition("# All from here to the end is the command line")
    assert line
    module = types.ModuleType("cut")
    sys.modules["cut"] = module
    exec(compile(rest, str(MODULE), "exec"), vars(module))
    config = module.Config(**SITE)
    assert config.assertion(1700000000) == VECTOR
    assert config.opener() and config.auth()


def test_importing_the_module_imports_nothing_that_only_the_command_line_needs():
    folder = str(MODULE.parent)
    program = (
        f"import sys; sys.path.insert(0, {folder!r}); import jira_jwt_oauth; print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], stdout=subprocess.PIPE, timeout=30
    )
    loaded = done.stdout.decode().split()
    assert not {"argparse", "http.server", "dataclasses"} & set(loaded)


README = MODULE.with_name("README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
CLIENT = """
import json, types
from urllib.request import Request, urlopen

def get(auth, url):
    request = auth(types.SimpleNamespace(url=url, headers={}))
    body = urlopen(Request(request.url, headers=request.headers), timeout=10).read()
    return types.SimpleNamespace(json=lambda: json.loads(body.decode()))

class Session:
    def get(self, url, timeout):
        return get(self.auth, url)

class Client:
    def __init__(self, auth):
        self.auth = auth
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def get(self, url):
        return get(self.auth, url)
"""


PYTHON3 = f'python3() {{ {shlex.quote(sys.executable)} "$@"; }}\n'


@pytest.fixture
def newcomer(server, tmp_path):
    """A folder with a copy of the file that knows the stand-in for Atlassian, and credentials."""

    def aimed(text):
        text = text.replace("https://mycompany.atlassian.net", server.url)
        return text.replace(
            "https://oauth-2-authorization-server.services.atlassian.com", server.url
        )

    files = {
        "jira_jwt_oauth.py": aimed(MODULE.read_text(encoding="utf-8")),
        "requests.py": CLIENT,
        "httpx.py": CLIENT,
        "installed.json": json.dumps({**INSTALLATION, "baseUrl": server.url}),
        "company-ca.pem": CERTIFICATE,
        "secret.txt": SECRET + "\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    def run(program, text):
        return subprocess.run(
            [*program, aimed(text)],
            cwd=str(tmp_path),
            env={"PATH": os.environ["PATH"]},  # nobody else's settings
            stdout=subprocess.PIPE,
            timeout=60,
        )

    run.folder = tmp_path
    return run


@pytest.mark.parametrize(
    "block",
    [
        text
        for kind, text in BLOCKS
        if kind == "python" and not re.search("PROJ-1|token.json", text)
    ],
)
def test_every_python_block_of_the_readme_runs(server, newcomer, block):
    done = newcomer([sys.executable, "-c"], block)
    assert done.returncode == 0
    if "from_installation" in block:
        assert done.stdout.decode().strip() == server.url
    else:
        assert len(server.posts) == 1
    for _, bearer, _ in server.calls:
        assert bearer[7:] in server.valid


def test_the_complete_example_of_the_readme_reads_an_issue_and_creates_one(server, newcomer):
    (block,) = [text for kind, text in BLOCKS if "PROJ-1" in text]
    assert newcomer([sys.executable, "-c"], block).stdout.decode().split("\n")[:2] == [
        "As in the README",
        "PROJ-2",
    ]
    (_, _, none), (path, _, body) = server.calls
    assert (none, path) == (None, "/rest/api/3/issue")
    assert json.loads(body)["fields"]["summary"] == "From a script"


def test_the_token_of_the_readme_is_kept_where_only_its_owner_reads_it(server, newcomer):
    (block,) = [text for kind, text in BLOCKS if "token.json" in text]
    for _ in range(2):
        assert newcomer([sys.executable, "-c"], block).returncode == 0
    assert len(server.posts) == 1
    assert (newcomer.folder / "token.json").stat().st_mode & 0o077 == 0


def test_the_command_line_of_the_readme_runs(server, newcomer):
    (block,) = [text for kind, text in BLOCKS if "JIRA_CLIENT_SECRET" in text and kind == "sh"]
    done = newcomer(["sh", "-euc"], PYTHON3 + block)
    assert done.returncode == 0
    assertion, token, whole, *answers = done.stdout.decode().split("\n")
    assert verify(assertion)["tnt"] == server.url
    assert token in server.valid
    assert Token(**json.loads(whole)).access_token in server.valid
    assert len(server.calls) == 2


def test_the_commands_of_the_readme_that_take_figures_run(newcomer):
    (block,) = [text for kind, text in BLOCKS if "timeit" in text]
    done = newcomer(["sh", "-euc"], PYTHON3 + block)
    assert done.returncode == 0
    assert b"per loop" in done.stdout


def test_the_first_commands_of_the_readme_are_the_demo_and_the_tests():
    demo, tests = [text for kind, text in BLOCKS if kind == "sh"][:2]
    assert demo == "python3 jira_jwt_oauth.py demo\n"
    assert tests.count("\n") == 1 and "-m pytest" in tests
