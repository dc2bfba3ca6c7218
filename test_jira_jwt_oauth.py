"""The promises of jira_jwt_oauth, in the order of the module, kept over real sockets on loopback.

`Server` stands in for Atlassian. By default it behaves well; a test appends to `server.answers`
what the token endpoint is to do instead, one entry for each token request:

    server.answers += [reply(503), grant(expires_in=5)]

Such an answer is a function of the request handler, made by `grant`, `reply`, `raw` or `drip`.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import email.message
import email.utils
import hashlib
import http.client
import http.server
import inspect
import io
import itertools
import json
import os
import pickle
import re
import select
import shlex
import shutil
import signal
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
from urllib.request import (
    BaseHandler,
    HTTPDigestAuthHandler,
    HTTPHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
)

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import jira_jwt_oauth as jjo
from jira_jwt_oauth import Config, Endpoint, Token, TokenError, TokenSource

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any", patient)
settings.register_profile("ci", patient, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "any")

MODULE = Path(jjo.__file__).resolve()
SECRET = "shared-secret-key"
ACCOUNT = "557058:12345678-1234-1234-1234-123456789abc"
ARGUMENTS = {
    "base_url": "https://mycompany.atlassian.net",
    "subject": ACCOUNT,
    "client_id": "oauth-client-id",
    "client_secret": SECRET,
}
VECTOR = (  # of ARGUMENTS, issued at 1700000000
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


# The stand-ins


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


class Server(http.server.ThreadingHTTPServer):
    """A token endpoint at /oauth2/token, and a site everywhere else.

    The token endpoint verifies the assertion, notes the request in `posts` and does what is next
    in `answers`; if nothing is, it grants a token, and adds it to `valid`. The site notes each
    request in `calls` and echoes it as JSON. It answers 401 to a token that is not in `valid`,
    but takes requests without a token; /redirect?URL redirects, /status?503 answers 503.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, context=None):
        super().__init__(("127.0.0.1", 0), ServerHandler)
        self.scheme = "https" if context else "http"
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.posts, self.calls, self.valid = [], [], set()
        self.answers = collections.deque()
        self.is_closing = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def server_bind(self):
        socketserver.TCPServer.server_bind(self)  # http.server's own looks up the host's name

    def handle_error(self, request, client_address):
        pass  # many of these tests are about clients that go away

    @property
    def url(self):
        return f"{self.scheme}://127.0.0.1:{self.server_address[1]}"

    @property
    def other_host(self):
        """The same server by another name, and so another origin."""
        return f"{self.scheme}://localhost:{self.server_address[1]}"

    def close(self):
        self.is_closing.set()
        self.shutdown()
        self.server_close()

    def config(self, **changes):
        endpoint = Endpoint("https://as.example", f"{self.url}/oauth2/token")
        return Config(**{**ARGUMENTS, "base_url": self.url, "endpoint": endpoint, **changes})

    def source(self, *handlers, **options):
        return TokenSource(self.config(), *handlers, **options)


class ServerHandler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def reply(self, status, body=b"", **headers):
        body = json.dumps(body).encode() if isinstance(body, dict) else body
        self.send_response_only(status)
        for name, value in {"Content-Length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path != "/oauth2/token":
            return self.site(body)
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        post = types.SimpleNamespace(headers=self.headers, body=body, form=form)
        post.claims = verify(form["assertion"])
        self.server.posts.append(post)
        answer = self.server.answers.popleft() if self.server.answers else grant()
        answer(self)

    def do_GET(self):
        self.site(None)

    do_PUT = do_POST

    def site(self, body):
        bearer = self.headers["Authorization"]
        call = {"method": self.command, "path": self.path, "bearer": bearer}
        self.server.calls.append(call)
        path, _, query = self.path.partition("?")
        if path == "/status":
            return self.reply(int(query), b"as asked")
        if path == "/redirect":
            return self.reply(302, Location=urllib.parse.unquote(query))
        if bearer and bearer[7:] not in self.server.valid:
            return self.reply(401, b"who are you?", WWW_Authenticate='Bearer realm="site"')
        content = {
            **call,
            "body": body if body is None else body.decode(),
            "headers": dict(self.headers),
        }
        example = {"key": "PROJ-2", "fields": {"summary": "As in the README"}, "results": []}
        self.reply(200, {**content, **example})


ISSUED = itertools.count(1)


def grant(**changes):
    """Grant a token, with changes to the answer."""

    def answer(handler):
        token = f"token-{next(ISSUED)}"
        handler.server.valid.add(token)
        content = {"access_token": token, "expires_in": 900, "token_type": "Bearer"}
        handler.reply(200, {**content, **changes})

    return answer


def reply(status, body=b"", **headers):
    """Answer with a status, a body (bytes, or a dict to be JSON) and headers."""
    return lambda handler: handler.reply(status, body, **headers)


def raw(data):
    """Write what HTTP may not allow, and close the connection."""
    return lambda handler: handler.wfile.write(data)


def drip(head, piece, every=0.02):
    """Write a piece again and again, for as long as somebody listens."""

    def answer(handler):
        handler.wfile.write(head)
        while not handler.server.is_closing.wait(every):
            handler.wfile.write(piece)

    return answer


def silence(handler):
    """Never answer."""
    handler.server.is_closing.wait()


class Proxy(socketserver.ThreadingTCPServer):
    """An HTTP proxy: `tunnels` lists the hosts of CONNECT, `clear` what it could read."""

    daemon_threads = True

    def __init__(self, target=None, refusal=b""):
        super().__init__(("127.0.0.1", 0), ProxyConnection)
        self.target, self.refusal, self.tunnels, self.clear = target, refusal, [], []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def address(self):
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def handler(self):
        return ProxyHandler({"http": f"http://{self.address}", "https": f"http://{self.address}"})

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
            return None
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        if self.connection.recv(1, socket.MSG_PEEK) != b"\x16":  # how TLS begins
            return self.answer_in_the_clear(self.connection.recv(65536).decode())
        with socket.create_connection(self.server.target) as upstream:
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return None
                    ends[end].sendall(data)


class Recorder(HTTPHandler, HTTPSHandler):
    """Stands where urllib connects: notes where a request goes, and answers 200.

    `sent` lists (scheme, host, Authorization). `answers` may hold URLs to redirect to.
    """

    def __init__(self, *answers):
        HTTPSHandler.__init__(self)
        self.sent, self.answers = [], list(answers)

    def http_open(self, req):
        self.sent.append((req.type, req.host, req.get_header("Authorization")))
        location = self.answers.pop(0) if self.answers else None
        headers = email.message.Message()
        if location:
            headers["Location"] = location
        code = 302 if location else 200
        response = urllib.response.addinfourl(io.BytesIO(b"{}"), headers, req.full_url, code)
        response.msg = "as told"
        return response

    https_open = http_open


class Clock:
    """The time as the module sees it: real, but moved on by hand and by `time.sleep`.

    `ahead` is how many seconds the clock of this machine is fast; servers are always right.
    """

    def __init__(self, monkeypatch):
        real_time, real_monotonic = time.time, time.monotonic
        self.moved, self.ahead, self.naps = 0.0, 0.0, []
        monkeypatch.setattr(time, "time", lambda: real_time() + self.moved + self.ahead)
        monkeypatch.setattr(time, "monotonic", lambda: real_monotonic() + self.moved)
        monkeypatch.setattr(time, "sleep", self.sleep)
        self.server_time = lambda: real_time() + self.moved

    def sleep(self, seconds):
        self.naps.append(seconds)
        self.moved += seconds

    def date(self):
        return email.utils.formatdate(self.server_time(), usegmt=True)


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
    server = Server()
    yield server
    server.close()


@pytest.fixture(scope="session")
def shared_server():
    """For properties, which must not start a server for each example."""
    server = Server()
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
def trust(tls):
    """A handler that trusts the TLS server."""
    return HTTPSHandler(context=tls[1])


@pytest.fixture
def tls_server(tls):
    server = Server(tls[0])
    yield server
    server.close()


@pytest.fixture
def proxy(tls_server):
    proxy = Proxy(tls_server.server_address)
    yield proxy
    proxy.close()


def call(opener, url, data=None, timeout=10):
    """Return what the site says it received."""
    with opener.open(url, data, timeout=timeout) as response:
        return json.loads(response.read())


def in_threads(count, function):
    """Return what a function gives or raises in each of so many threads that start at once."""
    barrier = threading.Barrier(count)
    outcomes = []

    def run():
        barrier.wait()
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(outcomes) == count
    return outcomes


def error_of(source):
    """Return the TokenError that a source raises, after a look for secrets in its traceback."""
    with pytest.raises(TokenError) as caught:
        source.token()
    error = caught.value
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert SECRET not in shown
    assert str(error) == error.reason
    assert str(error).isprintable()
    return error


# Values


def test_a_token_expires_leeway_seconds_early(clock):
    token = Token("t", time.time() + 100)
    clock.moved += 89
    assert not token.is_expired()
    clock.moved += 2
    assert token.is_expired()
    assert not token.is_expired(leeway=0)
    clock.moved += 10
    assert token.is_expired(leeway=0)


def test_a_token_is_expired_at_the_second_of_its_expiry(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert Token("t", 1000.0).is_expired(leeway=0)
    assert Token("t", 1010.0).is_expired()


def test_a_token_without_an_expiry_does_not_expire():
    assert not Token("t").is_expired(leeway=10**9)


def test_a_token_gives_the_authorization_header():
    assert Token("abc").authorization == "Bearer abc"


def test_a_token_does_not_show_itself():
    assert repr(Token("hush", 5.0)) == "Token(access_token=..., expires_at=5.0)"


def test_a_token_survives_json():
    token = Token("abc", 1700000000.5)
    assert Token(**json.loads(json.dumps(token._asdict()))) == token


def test_a_token_error_is_a_url_error_with_a_plain_text():
    error = TokenError("all that is to say")
    assert isinstance(error, urllib.error.URLError)
    assert str(error) == error.reason == "all that is to say"
    assert (error.status, error.error, error.error_description) == (None, None, None)
    assert (error.body, error.retry_after) == (b"", None)


@pytest.mark.parametrize("twin", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_token_error_can_be_copied_and_pickled(twin):
    error = TokenError("no")
    error.status = 400
    assert (str(twin(error)), twin(error).status) == ("no", 400)


def test_the_module_exports_what_the_readme_lists():
    exported = {name for name in jjo.__all__ if hasattr(jjo, name)}
    values = {"GRANT_TYPE", "ATLASSIAN", "ATLASSIAN_GOVERNMENT", "Endpoint", "ClaimSet", "Token"}
    actors = {"Config", "TokenSource", "HTTPBearerAuthHandler", "BearerAuth", "TokenError"}
    assert exported == values | actors | {"encode_jwt", "format_scopes"}


# Signing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)
TEXT = st.text(st.characters(blacklist_categories=["Cs"]))
SECRETS = TEXT | st.binary()


@pytest.mark.parametrize(
    ("claims", "secret", "words"),
    [
        ([], "x", "claims must be Mapping, not list"),
        ({}, None, "secret must be str or bytes, not NoneType"),
        ({}, "\ud800", "secret contains a character that UTF-8 cannot encode"),
    ],
)
def test_the_words_of_messages_about_signing(claims, secret, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        jjo.encode_jwt(claims, secret)
    assert str(caught.value) == words


def test_an_assertion_is_what_the_design_says():
    assert Config(**ARGUMENTS).assertion(now=1700000000) == VECTOR


@given(st.dictionaries(TEXT, JSON | TEXT), SECRETS)
def test_a_jwt_verifies_and_holds_its_claims(claims, secret):
    assert verify(jjo.encode_jwt(claims, secret), secret) == claims


@given(st.dictionaries(TEXT, st.integers()))
def test_a_jwt_keeps_the_order_of_its_claims(claims):
    assert list(verify(jjo.encode_jwt(claims, "x"), "x")) == list(claims)


@given(st.dictionaries(TEXT, TEXT), SECRETS)
def test_a_jwt_is_base64url_without_padding(claims, secret):
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]{43}", jjo.encode_jwt(claims, secret), re.ASCII)


def test_a_jwt_holds_compact_utf_8():
    payload = jjo.encode_jwt({"a": "ü<&>", "b": 1}, "x").split(".")[1]
    assert payload == unpadded('{"a":"ü<&>","b":1}'.encode())


@given(SECRETS, SECRETS)
def test_another_secret_gives_another_signature(one, other):
    as_bytes = [text if isinstance(text, bytes) else text.encode() for text in (one, other)]
    keys = [key.rstrip(b"\0") for key in as_bytes]  # HMAC pads a key with zeros
    if keys[0] != keys[1] and max(map(len, as_bytes)) <= 64:
        assert jjo.encode_jwt({}, one) != jjo.encode_jwt({}, other)


@pytest.mark.parametrize(
    ("claims", "secret", "error"),
    [
        ({"exp": float("nan")}, "x", ValueError),
        ({"exp": {1}}, "x", TypeError),
        ({"sub": "\ud800"}, "x", ValueError),
        ([("sub", "x")], "x", TypeError),
        (jjo.ClaimSet("", "", "", "", 0, 0), "x", TypeError),
        ({}, None, TypeError),
        ({}, bytearray(b"x"), TypeError),
        ({}, "hush\ud800", ValueError),
    ],
)
def test_what_cannot_be_signed_is_refused(claims, secret, error):
    with pytest.raises(error) as caught:
        jjo.encode_jwt(claims, secret)
    assert "hush" not in "".join(traceback.format_exception_only(error, caught.value))
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        ("read", "READ"),
        ("read write", "READ WRITE"),
        ("READ+write", "READ WRITE"),
        (["write", "read", "write"], "WRITE READ WRITE"),
        (("read write", "act_as_user"), "READ WRITE ACT_AS_USER"),
        ({"\tread\n": 1, "": 2, "+": 3}, "READ"),
        ("read:jira-work", "READ:JIRA-WORK"),
    ],
)
def test_scopes_are_split_and_joined_in_upper_case(scopes, expected):
    assert jjo.format_scopes(scopes) == expected


SCOPE = st.text(
    st.sampled_from([chr(c) for c in range(0x21, 0x7F) if chr(c) not in '"\\+']), min_size=1
)


@given(st.lists(SCOPE, min_size=1))
def test_formatting_scopes_twice_changes_nothing(scopes):
    once = jjo.format_scopes(scopes)
    assert once == " ".join(scopes).upper() == jjo.format_scopes(once)


@pytest.mark.parametrize(
    "scopes",
    [
        "",
        " + ",
        [],
        [""],
        "re\\ad",
        'read"',
        "réad",
        "straße",
        "\u017f",
        "read\x00",
        "\x7f",
        "\ud800",
    ],
)
def test_no_scopes_and_scopes_that_oauth_forbids_are_refused(scopes):
    with pytest.raises(ValueError, match="^scopes "):
        jjo.format_scopes(scopes)


@pytest.mark.parametrize("scopes", [None, 5, [5], b"read", [b"read"]])
def test_scopes_that_are_not_strings_are_refused(scopes):
    with pytest.raises(TypeError, match="^scopes "):
        jjo.format_scopes(scopes)


# Settings


def test_the_claims_are_as_configured():
    claims = Config(**ARGUMENTS).claims(now=1700000000.9)
    assert claims == jjo.ClaimSet(
        iss="urn:atlassian:connect:clientid:oauth-client-id",
        sub=f"urn:atlassian:connect:useraccountid:{ACCOUNT}",
        tnt="https://mycompany.atlassian.net",
        aud="https://oauth-2-authorization-server.services.atlassian.com",
        exp=1700000059,
        iat=1700000000,
    )


def test_claims_are_issued_now_unless_told_otherwise(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert Config(**ARGUMENTS).claims().iat == 1234


PRINTABLE = TEXT.filter(lambda text: text.isprintable() and " " not in text and text)


@given(PRINTABLE, TEXT.filter(str.isprintable).map(str.strip).filter(bool), st.integers(0, 2**40))
def test_every_assertion_verifies_with_the_claims_of_its_config(client_id, secret, now):
    changes = {"client_id": client_id, "client_secret": secret}
    config = Config(**{**ARGUMENTS, **changes})
    claims = verify(config.assertion(now), secret)
    assert claims == config.claims(now)._asdict()
    assert list(claims) == ["iss", "sub", "tnt", "aud", "exp", "iat"]
    assert claims["iss"] == f"urn:atlassian:connect:clientid:{client_id}"


def test_a_subject_that_is_a_whole_urn_is_sent_as_it_is():
    urn = "urn:atlassian:connect:userkey:jane@corp/x"
    assert Config(**{**ARGUMENTS, "subject": urn}).claims().sub == urn


@pytest.mark.parametrize(
    ("given_url", "kept"),
    [
        ("https://a.example/", "https://a.example"),
        ("https://a.example/wiki/", "https://a.example/wiki"),
        ("https://a.example/X", "https://a.example/X"),
        ("https://a.example/a@b", "https://a.example/a@b"),
        ("https://A_1.example:8443", "https://A_1.example:8443"),
        ("https://a.example:65535", "https://a.example:65535"),
        ("https://[::1]:1/", "https://[::1]:1"),
        ("HTTPS://a.example", "HTTPS://a.example"),
        ("http://localhost:8080/", "http://localhost:8080"),
        ("http://LOCALHOST:8080", "http://LOCALHOST:8080"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_a_good_base_url_is_kept_without_its_last_slash(server, given_url, kept):
    config = server.config(base_url=given_url)
    assert config.base_url == config.claims().tnt == kept


BAD_URLS = {
    "start with https": ["", "mycompany.atlassian.net", "//a.example", "ftp://a.example"],
    "ASCII": ["https://a.example ", " https://a.example", "https://a.example\n", "https://ä.net"],
    "user name": ["https://me@a.example", "https://me:hush@a.example"],
    "query": ["https://a.example?x=hush", "https://a.example/?x"],
    "fragment": ["https://a.example#hush", "https://a.example/#top"],
    "backslash": ["https://a.example\\b", "https://a.example/\\b"],
    "host": [
        "https://",
        "https:///wiki",
        "https://:443",
        "https://.atlassian.net",
        "https://a..example",
        "https://a.example.",
        "https://*.atlassian.net",
        "https://<site>.atlassian.net",
        "https://a%2eexample",
        "https://[::1",
        "https://a]",
        "https://[a.example]",
        "https://[1]",
        "https://[1.2.3.4]",
    ],
    "port": [
        "https://a.example:",
        "https://a.example:0",
        "https://a.example:65536",
        "https://a.example:0443",
        "https://a.example:+80",
        "https://a.example:80:80",
    ],
    "localhost": [
        "http://a.example",
        "http://localhost.example",
        "http://127.0.0.1.example",
        "http://127.1",
        "http://[::2]",
    ],
}


@pytest.mark.parametrize(("word", "url"), [(w, url) for w in BAD_URLS for url in BAD_URLS[w]])
@pytest.mark.parametrize("name", ["base_url", "token_url"])
def test_a_bad_url_is_refused_with_what_is_wrong_with_it(server, name, word, url):
    endpoint = Endpoint("https://as.example", url)
    changes = {"base_url": url} if name == "base_url" else {"endpoint": endpoint}
    with pytest.raises(ValueError, match=f"^{name} .*{word}") as caught:
        server.config(**changes)
    assert "hush" not in str(caught.value)
    assert repr(url) in str(caught.value) or any(c in url for c in "@?#")


@pytest.mark.parametrize("url", ["https://me:x/?#hush@a", "https://me:hu\nsh@a#hu\nsh", "hush@a"])
def test_what_may_be_a_secret_in_a_bad_url_is_not_shown(url):
    with pytest.raises(ValueError, match="base_url") as caught:
        Config(**{**ARGUMENTS, "base_url": url})
    assert "hu" not in str(caught.value)


def test_a_long_url_is_refused_without_delay():
    started = time.monotonic()
    with pytest.raises(ValueError, match="^base_url"):
        Config(**{**ARGUMENTS, "base_url": "https://" + "x." * 100000})
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("path", ["/jira", "/jira/your-work", "/rest/api/3", "/wiki/home", "/WIKI"])
def test_an_address_from_the_browser_is_no_base_url(path):
    base_url = f"https://mycompany.atlassian.net{path}"
    with pytest.raises(ValueError, match=f"^base_url .*remove '{path}'"):
        Config(**{**ARGUMENTS, "base_url": base_url})


@pytest.mark.parametrize(
    ("base_url", "endpoint"),
    [
        ("https://agency.atlassian-us-gov-mod.net", jjo.ATLASSIAN_GOVERNMENT),
        ("https://AGENCY.ATLASSIAN-US-GOV-MOD.COM/wiki", jjo.ATLASSIAN_GOVERNMENT),
        ("https://agency.atlassian-us-gov-mod.net.example", jjo.ATLASSIAN),
        ("https://atlassian-us-gov-mod.net.example", jjo.ATLASSIAN),
        ("https://mycompany.atlassian.net", jjo.ATLASSIAN),
    ],
)
def test_the_endpoint_is_chosen_by_the_host(base_url, endpoint):
    assert Config(**{**ARGUMENTS, "base_url": base_url}).endpoint == endpoint


def test_the_endpoints_are_atlassians():
    host = "https://oauth-2-authorization-server.services.atlassian"
    gov = f"{host}-us-gov-mod.com"
    assert jjo.ATLASSIAN == Endpoint(f"{host}.com", f"{host}.com/oauth2/token")
    assert jjo.ATLASSIAN_GOVERNMENT == Endpoint(gov, f"{gov}/oauth2/token")


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("subject", "", "letters"),
        ("subject", "Jane Doe", "letters"),
        ("subject", "a\n", "letters"),
        ("subject", "a\ud800", "letters"),
        ("subject", "jane@corp.example", "e-mail"),
        ("subject", "https://x.atlassian.net/jira/people/557058%3A1", "profile page"),
        ("subject", "557058%3A1", "%3A"),
        ("subject", '"557058:1"', "letters"),
        ("subject", "jané", "letters"),
        ("subject", "urn:atlassian:connect:userkey:a b", "spaces"),
        ("client_id", "", "empty"),
        ("client_id", "a\tb", "unprintable"),
        ("client_secret", "", "empty"),
        ("client_secret", b"", "empty"),
        ("client_secret", "hush\n", "white space"),
        ("client_secret", " hush", "white space"),
        ("client_secret", "\ufeffhush", "byte order mark"),
        ("client_secret", "hush\u200b", "unprintable"),
        ("client_secret", "hush\ud800", "UTF-8"),
        ("scopes", "", "at least one"),
        ("scopes", [], "at least one"),
        ("scopes", "read\x00", "visible ASCII"),
    ],
)
def test_a_bad_setting_is_refused_by_its_name(name, value, word):
    with pytest.raises(ValueError, match=f"^{name} .*{word}") as caught:
        Config(**{**ARGUMENTS, name: value})
    shown = "".join(traceback.format_exception_only(ValueError, caught.value))
    assert SECRET not in shown
    assert "hush" not in shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("base_url", None),
        ("base_url", b"https://a.example"),
        ("subject", 5),
        ("client_id", None),
        ("client_secret", None),
        ("client_secret", bytearray(b"x")),
        ("scopes", 5),
        ("endpoint", "https://a.example"),
        ("endpoint", ("a", "https://a.example")),
    ],
)
def test_a_setting_of_a_wrong_type_is_refused_by_its_name(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be"):
        Config(**{**ARGUMENTS, name: value})


WORDS = [
    (
        {"base_url": "https://a.example?x"},
        "base_url must not contain a query or a fragment: remove '?' or '#' and what follows"
        " (not shown, as it may hold a secret)",
    ),
    (
        {"base_url": "http://a.example"},
        "base_url must start with https:// (or be on localhost, 127.0.0.1, [::1]):"
        " 'http://a.example'",
    ),
    (
        {"base_url": "https://a.atlassian.net/jira/your-work"},
        "base_url must have no path, or /wiki for Confluence: remove '/jira/your-work'"
        " from 'https://a.atlassian.net/jira/your-work'",
    ),
    (
        {"subject": "Jane Doe"},
        "subject must be an account ID, made of letters, digits, ':', '-' and '_': 'Jane Doe'",
    ),
    ({"client_id": 5}, "client_id must be str, not int"),
    ({"client_secret": 5}, "client_secret must be str or bytes, not int"),
    ({"scopes": ""}, "scopes must name at least one scope; leave it out to get all of them"),
]


@pytest.mark.parametrize(("changes", "words"), WORDS)
def test_the_words_of_messages_about_settings(changes, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        Config(**{**ARGUMENTS, **changes})
    assert str(caught.value) == words


@pytest.mark.parametrize(
    ("auth_url", "token_url", "error", "name"),
    [
        ("", "https://a.example", ValueError, "auth_url"),
        ("\ud800", "https://a.example", ValueError, "auth_url"),
        (b"a", "https://a.example", TypeError, "auth_url"),
        ("a", None, TypeError, "token_url"),
    ],
)
def test_a_bad_endpoint_is_refused_by_its_part(auth_url, token_url, error, name):
    with pytest.raises(error, match=f"^{name} "):
        Config(**ARGUMENTS, endpoint=Endpoint(auth_url, token_url))


def test_any_audience_will_do():
    endpoint = Endpoint("not a URL at all", "https://as.example/token")
    assert Config(**ARGUMENTS, endpoint=endpoint).claims().aud == "not a URL at all"


@pytest.mark.parametrize("secret", [b"\r\n", b"\xff\x00", b"\xef\xbb\xbfx", "in between"])
def test_other_secrets_are_used_as_they_are(secret):
    config = Config(**{**ARGUMENTS, "client_secret": secret})
    assert verify(config.assertion(), secret)["tnt"] == ARGUMENTS["base_url"]


def test_the_arguments_are_attributes():
    config = Config(**{**ARGUMENTS, "base_url": "https://a.example/"}, scopes=["read", "write"])
    assert (config.base_url, config.subject) == ("https://a.example", ACCOUNT)
    assert (config.client_id, config.client_secret) == ("oauth-client-id", SECRET)
    assert (config.scopes, config.endpoint) == ("READ WRITE", jjo.ATLASSIAN)


@pytest.mark.parametrize("name", ["base_url", "client_secret", "endpoint", "typo"])
def test_a_config_does_not_change(name):
    config = Config(**ARGUMENTS)
    with pytest.raises(AttributeError, match="replace"):
        setattr(config, name, "x")


def test_a_config_shows_everything_but_its_secret():
    shown = repr(Config(**ARGUMENTS, scopes="read"))
    assert SECRET not in shown
    assert SECRET not in repr(Config(**{**ARGUMENTS, "client_secret": SECRET.encode()}))
    for value in (ARGUMENTS["base_url"], ACCOUNT, "oauth-client-id", "READ", repr(jjo.ATLASSIAN)):
        assert value in shown


def test_a_config_can_be_copied():
    config = Config(**ARGUMENTS)
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert repr(twin) == repr(config)
        assert twin.client_secret == SECRET


def test_replace_changes_the_user_and_nothing_else():
    config = Config(**ARGUMENTS, scopes="read")
    other = config.replace(subject="557058:2")
    assert (config.subject, other.subject) == (ACCOUNT, "557058:2")
    assert repr(other) == repr(config).replace(ACCOUNT, "557058:2")
    assert other.client_secret == SECRET


def test_replace_checks_and_chooses_the_endpoint_again():
    config = Config(**ARGUMENTS)
    site = "https://agency.atlassian-us-gov-mod.net"
    assert config.replace(base_url=site).endpoint == jjo.ATLASSIAN_GOVERNMENT
    assert config.replace(endpoint=jjo.ATLASSIAN_GOVERNMENT).replace().endpoint != config.endpoint
    assert config.replace(scopes="read").replace(scopes=None).scopes is None
    with pytest.raises(ValueError, match="^subject"):
        config.replace(subject="jane@corp.example")
    with pytest.raises(TypeError, match="tenant"):
        config.replace(tenant="x")


# Settings from elsewhere

ENVIRONMENT = {f"JIRA_{name.upper()}": value for name, value in ARGUMENTS.items()}
URLS = {"JIRA_AUTH_URL": "https://as.example", "JIRA_TOKEN_URL": "https://as.example/token"}


def environment_for(server):
    """Return this process's environment with the settings for a server."""
    token_url = f"{server.url}/oauth2/token"
    settings = {**ENVIRONMENT, **URLS, "JIRA_BASE_URL": server.url, "JIRA_TOKEN_URL": token_url}
    return {**os.environ, **settings}


def test_settings_come_from_the_environment_of_the_moment(monkeypatch):
    monkeypatch.setattr(os, "environ", {**ENVIRONMENT, "JIRA_SCOPES": ""})
    assert repr(Config.from_env()) == repr(Config(**ARGUMENTS))


def test_optional_settings_come_from_the_environment_too():
    config = Config.from_env({**ENVIRONMENT, **URLS, "JIRA_SCOPES": "read write"})
    assert config.scopes == "READ WRITE"
    assert config.endpoint == ("https://as.example", "https://as.example/token")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, set(ENVIRONMENT)),
        (
            {**ENVIRONMENT, "JIRA_SUBJECT": "", "JIRA_CLIENT_ID": ""},
            {"JIRA_SUBJECT", "JIRA_CLIENT_ID"},
        ),
        ({**ENVIRONMENT, "JIRA_AUTH_URL": "https://as.example"}, {"JIRA_TOKEN_URL"}),
        ({**ENVIRONMENT, "JIRA_TOKEN_URL": "https://as.example"}, {"JIRA_AUTH_URL"}),
    ],
)
def test_all_variables_that_are_missing_are_named_at_once(environment, missing):
    with pytest.raises(ValueError, match="missing") as caught:
        Config.from_env(environment)
    assert set(re.findall("JIRA_[A-Z_]+", str(caught.value))) == missing


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("JIRA_BASE_URL", "x"),
        ("JIRA_SUBJECT", "a b"),
        ("JIRA_CLIENT_ID", "a b"),
        ("JIRA_CLIENT_SECRET", "hush\n"),
        ("JIRA_SCOPES", "+"),
        ("JIRA_TOKEN_URL", "http://as.example"),
    ],
)
def test_a_bad_variable_is_named(name, value):
    with pytest.raises(ValueError, match=f"^{name} must ") as caught:
        Config.from_env({**ENVIRONMENT, **URLS, name: value})
    assert "hush" not in str(caught.value)


def test_help_shows_nothing_of_the_environment(monkeypatch):
    monkeypatch.setenv("JIRA_CLIENT_SECRET", SECRET)
    command = [sys.executable, "-m", "pydoc", "jira_jwt_oauth"]
    done = subprocess.run(command, cwd=MODULE.parent, stdout=subprocess.PIPE, check=True)
    assert b"from_env" in done.stdout
    assert SECRET.encode() not in done.stdout


INSTALLATION = {
    "baseUrl": ARGUMENTS["base_url"],
    "oauthClientId": "oauth-client-id",
    "sharedSecret": SECRET,
    "key": "my-app",
}


def test_settings_come_from_an_installation():
    config = Config.from_installation(INSTALLATION, subject=ACCOUNT, scopes="read")
    assert repr(config) == repr(Config(**ARGUMENTS, scopes="read"))
    endpoint = Endpoint(*URLS.values())
    other = Config.from_installation(INSTALLATION, subject=ACCOUNT, endpoint=endpoint)
    assert (other.endpoint, other.client_secret) == (endpoint, SECRET)


@pytest.mark.parametrize("lacking", ["baseUrl", "sharedSecret", "oauthClientId"])
@pytest.mark.parametrize("value", [None, ""])
def test_what_an_installation_lacks_is_named(lacking, value):
    hint = "; Atlassian sends oauthClientId only to apps with the ACT_AS_USER scope"
    with pytest.raises(ValueError, match="payload lacks") as caught:
        Config.from_installation({**INSTALLATION, lacking: value}, subject=ACCOUNT)
    words = f"payload lacks {lacking}{hint if lacking == 'oauthClientId' else ''}"
    assert str(caught.value) == words


@pytest.mark.parametrize("payload", [json.dumps(INSTALLATION), b"{}", None, [INSTALLATION]])
def test_an_installation_is_a_mapping(payload):
    with pytest.raises(TypeError, match="^payload must be"):
        Config.from_installation(payload, subject=ACCOUNT)


# Options


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("timeout", "30", TypeError),
        ("timeout", None, TypeError),
        ("timeout", (3, 30), TypeError),
        ("timeout", 0, ValueError),
        ("timeout", -1, ValueError),
        ("timeout", float("inf"), ValueError),
        ("timeout", float("nan"), ValueError),
        ("leeway", "10", TypeError),
        ("leeway", -0.5, ValueError),
        ("leeway", float("nan"), ValueError),
        ("token", "eyJ", TypeError),
        ("token", {"access_token": "x"}, TypeError),
        ("token", Token(None), TypeError),
        ("token", Token(""), ValueError),
        ("token", Token("a b"), ValueError),
        ("token", Token("ä"), ValueError),
        ("token", Token("x", "1700000000"), TypeError),
        ("token", Token("x", float("nan")), ValueError),
        ("token", Token("x", float("inf")), ValueError),
    ],
)
def test_a_bad_option_is_refused_by_its_name(name, value, error):
    with pytest.raises(error, match=f"^{name}") as caught:
        Config(**ARGUMENTS).token_source(**{name: value})
    if error is TypeError and not isinstance(value, Token):
        assert str(caught.value).endswith(f", not {type(value).__name__}")


@pytest.mark.parametrize("make", [Config.opener, Config.auth, Config.token_source])
@pytest.mark.parametrize(
    "wrong", ["http://proxy:3128", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), object(), str]
)
def test_what_is_no_handler_is_refused_when_given(make, wrong):
    with pytest.raises(TypeError, match=f"^handlers .* not {type(wrong).__name__}: ") as caught:
        make(Config(**ARGUMENTS), ProxyHandler({}), wrong)
    assert "as ProxyHandler({'https': url}) and" in str(caught.value)
    assert str(caught.value).endswith(" as HTTPSHandler(context=context)")


def test_a_source_takes_a_config_only():
    with pytest.raises(TypeError, match="^config must be"):
        TokenSource(ARGUMENTS)


def test_signatures_show_all_options():
    options = ["token", "timeout", "leeway"]
    assert list(inspect.signature(TokenSource).parameters)[2:] == options
    assert list(inspect.signature(Config.token_source).parameters)[2:] == options
    for function in (TokenSource, Config.token_source):
        defaults = [p.default for p in inspect.signature(function).parameters.values()][2:]
        assert defaults == [None, 30.0, 10.0]


# The token endpoint


def test_the_token_request_is_as_documented(server):
    server.config(scopes="read write").token_source().token()
    (post,) = server.posts
    assert post.body.startswith(
        b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ"
    )
    assert post.body.endswith(b"&scope=READ+WRITE")
    assert post.headers["Accept"] == "application/json"
    assert post.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert post.headers["User-Agent"] == f"jira-jwt-oauth/{jjo.__version__}"
    assert post.headers["Authorization"] is None


def test_without_scopes_the_request_has_none(server):
    server.source().token()
    assert set(server.posts[0].form) == {"grant_type", "assertion"}
    assert server.posts[0].form["grant_type"] == jjo.GRANT_TYPE


def strict(clock, error="invalid_grant"):
    """Grant a token to an assertion that is valid by the server's clock."""

    def answer(handler):
        claims = handler.server.posts[-1].claims
        now = clock.server_time()
        is_valid = claims["iat"] <= now and now < claims["exp"] <= now + 60
        refusal = reply(400, {"error": error}, Date=clock.date())
        (grant() if is_valid else refusal)(handler)

    return answer


@pytest.mark.parametrize("ahead", [-45, -8, 0, 8])
def test_a_strict_server_grants_to_a_clock_that_is_a_little_off(server, clock, ahead):
    clock.ahead = ahead
    server.answers.append(strict(clock))
    server.source().token()
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("ahead", "word"), [(600, "fast"), (13, "fast"), (-600, "slow"), (-13, "slow")]
)
@pytest.mark.parametrize("status", [400, 401])
def test_a_refusal_says_how_far_off_the_clock_is(server, clock, ahead, word, status):
    clock.ahead = ahead
    server.answers.append(reply(status, {"error": "invalid_grant"}, Date=clock.date()))
    told = re.search(rf"clock is (\d+) s {word}", str(error_of(server.source())))
    assert abs(int(told[1]) - abs(ahead)) <= 2
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("status", "ahead"), [(400, 0), (400, 8.5), (400, -8.5), (403, 600), (500, 600)]
)
def test_other_refusals_do_not_blame_the_clock(server, clock, status, ahead):
    clock.ahead = ahead
    server.answers += [reply(status, {"error": "no"}, Date=clock.date())] * 3
    assert "clock" not in str(error_of(server.source()))


def test_a_slow_server_does_not_make_the_clock_wrong(server, clock):
    def answer(handler):
        clock.moved += 15
        handler.reply(400, {"error": "no"}, Date=clock.date())

    server.answers.append(answer)
    assert "clock" not in str(error_of(server.source()))


def test_a_server_that_takes_the_time_first_does_not_make_the_clock_wrong(server, clock):
    def answer(handler):
        date = clock.date()
        clock.moved += 15
        handler.reply(400, {"error": "no"}, Date=date)

    server.answers.append(answer)
    assert "clock" not in str(error_of(server.source()))


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
@pytest.mark.parametrize("zone", ["EAST-9", "WEST+9"])
def test_each_form_of_a_date_is_read_as_gmt(server, clock, form, zone, monkeypatch):
    clock.ahead = 3600
    date = time.strftime(form, time.gmtime(clock.server_time()))
    server.answers.append(reply(400, {"error": "no"}, Date=date))
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        message = str(error_of(server.source()))
    time.tzset()
    assert re.search("clock is (3599|3600|3601) s fast", message)


@pytest.mark.parametrize("date", ["", ",", "soon", "Mon, 1 Jan 99999999999999 0:0:0 GMT"])
def test_a_date_that_makes_no_sense_is_ignored(server, date):
    server.answers.append(reply(400, {"error": "no"}, Date=date))
    assert str(error_of(server.source())).endswith("HTTP 400, 'no'")


def test_a_wrong_date_changes_nothing_for_the_next_request(server, clock):
    year_ahead = email.utils.formatdate(time.time() + 31536000, usegmt=True)
    server.answers += [reply(401, {"error": "no"}, Date=year_ahead), strict(clock)]
    source = server.source()
    assert "s slow" in str(error_of(source))
    source.token()
    assert all(abs(post.claims["iat"] - time.time()) < 60 for post in server.posts)


@pytest.mark.parametrize(
    ("changes", "lifetime"),
    [
        ({}, 900),
        ({"expires_in": "900"}, 900),
        ({"expires_in": 1.5}, 1.5),
        ({"expires_in": "9e2"}, 900),
        ({"expires_in": 0}, None),
        ({"expires_in": "0"}, None),
        ({"expires_in": None}, None),
        ({"token_type": "bearer"}, 900),
        ({"token_type": "BEARER"}, 900),
        ({"token_type": None}, 900),
        ({"error": None}, 900),
        ({"error": ""}, 900),
        ({"error": {"code": 0}}, 900),
        ({"more": [1, {}]}, 900),
    ],
)
def test_a_good_answer_is_a_token(server, changes, lifetime):
    server.answers.append(grant(**changes))
    before = time.time()
    token = server.source().token()
    assert token.access_token in server.valid
    assert token.token_type == "Bearer"
    if lifetime is None:
        assert token.expires_at is None
    else:
        assert before <= token.expires_at - lifetime <= time.time()


def test_a_lifetime_counts_from_before_the_request(server, clock):
    def slow(handler):
        clock.moved += 20
        grant(expires_in=100)(handler)

    server.answers.append(slow)
    before = time.time()
    assert server.source().token().expires_at < before + 101


@pytest.mark.parametrize(
    "changes",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "a b"},
        {"access_token": "abc\r\nX: y"},
        {"access_token": "abc\n"},
        {"access_token": "ä"},
        {"token_type": "mac"},
        {"token_type": ""},
        {"token_type": 5},
        {"expires_in": -1},
        {"expires_in": "-1"},
        {"expires_in": float("nan")},
        {"expires_in": float("inf")},
        {"expires_in": "1e999"},
        {"expires_in": True},
        {"expires_in": ""},
        {"expires_in": "soon"},
        {"expires_in": "\u0665"},
        {"expires_in": []},
        {"error": "no"},
    ],
)
def test_an_answer_without_a_usable_token_is_final(server, changes):
    server.answers.append(grant(**changes))
    error = error_of(server.source())
    assert (error.status, error.body, error.error) == (200, b"", changes.get("error"))
    assert len(server.posts) == 1


NOT_JSON = [b"", b"<html>sign in</html>", b'{"access_token": "ab', b"[]", b"[" * 60000, b"9" * 5000]


@pytest.mark.parametrize("body", NOT_JSON)
def test_an_answer_that_is_no_json_object_is_retried(server, clock, body):
    server.answers += [reply(200, body), reply(200, body, Content_Length=len(body) + 9)]
    assert isinstance(server.source().token(), Token)
    assert len(server.posts) == 3


def test_an_answer_may_begin_with_a_byte_order_mark(server):
    server.answers.append(reply(200, b"\xef\xbb\xbf" + b'{"access_token": "abc"}'))
    assert server.source().token() == Token("abc")


def test_a_refusal_is_told_in_fields(server):
    content = {"error": "invalid_grant", "error_description": "no such user"}
    server.answers.append(reply(400, content, Retry_After="7"))
    error = error_of(server.source())
    assert (error.status, error.error, error.error_description) == (400, *content.values())
    assert json.loads(error.body) == content
    assert error.retry_after == 7.0
    assert error.__cause__ is None


@pytest.mark.parametrize("said", [5, None, [], {"a": 1}, True, ""])
def test_words_that_are_no_strings_are_left_out(server, said):
    server.answers.append(reply(400, {"error": said, "error_description": said}))
    error = error_of(server.source())
    assert (error.error, error.error_description) == (None, None)


def test_the_words_of_messages(server):
    """The one test of wording: what each kind of answer turns into."""
    page = b"<html>\n<title>No required SSL certificate was sent</title>\n"
    expected = [
        (reply(400, {"error": "invalid_grant"}), "HTTP 400, 'invalid_grant'"),
        (
            reply(401, {"error": "invalid_client", "error_description": "Ünknown\nclient"}),
            r"HTTP 401, 'invalid_client', 'Ünknown\nclient'",
        ),
        (reply(401, b'{"code": 401}'), """HTTP 401, '{"code": 401}'"""),
        (reply(400), "HTTP 400, an empty answer"),
        (reply(300), "HTTP 300, a redirect (Location: 'None'), which is not followed"),
        (silence, "TimeoutError: 'timed out'"),
        (drip(b"HTTP/1.1 400 x\r\n\r\n", b"x"), "TimeoutError: 'the answer took too long'"),
        (reply(403, b"n\xf6"), "HTTP 403, 'n\ufffd'"),
        (reply(400, page), f"HTTP 400, {page.decode()!r}"),
        (
            reply(302, Location="https://login.example/?next=1"),
            "HTTP 302, a redirect (Location: 'https://login.example/?next=1'), which is not followed",
        ),
        (
            grant(access_token="a b"),
            "HTTP 200, the access_token is missing or not visible ASCII",
        ),
        (grant(token_type="mac"), "HTTP 200, the token_type is not Bearer"),
        (grant(expires_in="soon"), "HTTP 200, the expires_in is not a number of seconds"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), r"BadStatusLine: 'SSH-2.0-OpenSSH\r\n'"),
    ]
    for answer, words in expected:
        server.answers.append(answer)
        token_url = f"{server.url}/oauth2/token"
        message = str(error_of(server.source(timeout=0.2))).replace(": timeout:", ": TimeoutError:")
        assert message == f"no access token from {token_url}: {words}"
    server.answers += [reply(200, page, Content_Type="text/html")] * 3
    words = "HTTP 200, not a complete JSON object (Content-Type: 'text/html')"
    assert str(error_of(server.source(timeout=0.2))).endswith(f": {words}")


def test_a_long_answer_is_cut_in_the_message(server):
    server.answers.append(reply(400, {"error": "a" * 5000, "error_description": "b" * 5000}))
    error = error_of(server.source())
    assert 200 < len(str(error)) < 600
    assert len(error.error) == 5000


def signature_of(handler):
    return handler.server.posts[-1].form["assertion"].rpartition(".")[2]


ECHOES = {
    "the error": lambda echo: {"error": echo},
    "the description": lambda echo: {"error": "no", "error_description": f"<{echo}>"},
    "something glued to it": lambda echo: {"error": f"abc{echo}def-_"},
    "the body": lambda echo: f"you sent {echo}abc".encode(),
}


@pytest.mark.parametrize("where", ECHOES)
def test_a_refusal_that_echoes_the_assertion_does_not_show_it(server, where):
    def answer(handler):
        echo = handler.server.posts[-1].form["assertion"]
        signatures.append(signature_of(handler))
        handler.reply(400, ECHOES[where](echo))

    signatures = []
    server.answers.append(answer)
    error = error_of(server.source())
    assert signatures[0].encode() in error.body
    assert signatures[0] not in str(error)


@pytest.mark.parametrize("status_line", ["{}", "HTTP/1.1 {}", "HTTP/1.1 302 Go\r\nLocation: /{}"])
def test_an_echo_where_http_should_be_does_not_show_it(server, status_line):
    def answer(handler):
        signatures.append(signature_of(handler))
        handler.wfile.write(f"{status_line.format('x' + signatures[0] + 'y')}\r\n\r\n".encode())

    signatures = []
    server.answers.append(answer)
    error = error_of(server.source())
    shown = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    assert signatures[0] not in shown


FIELDS = st.sampled_from(["access_token", "error", "error_description", "expires_in", "token_type"])
BODIES = st.binary(max_size=100) | st.dictionaries(FIELDS, JSON | st.text(max_size=10)).map(
    lambda d: json.dumps(d).encode()
)


@given(
    st.sampled_from([200, 201, 204, 300, 400, 401, 404]), BODIES, st.text("MonJa 0123456789:,GT-")
)
def test_any_answer_is_a_token_or_a_token_error(shared_server, status, body, date):
    shared_server.answers.clear()
    answer = b"HTTP/1.1 %d x\r\nDate: %s\r\n\r\n%s" % (status, date.encode(), body)
    shared_server.answers += [raw(answer)] * 3
    patch = pytest.MonkeyPatch()
    patch.setattr(time, "sleep", lambda seconds: None)
    try:
        token = shared_server.source().token()
    except TokenError as error:
        assert error.status == status
        assert str(error).isprintable()
        assert error.body == (b"" if status < 300 else body)
    else:
        assert status < 300
        assert re.fullmatch("[!-~]+", token.access_token)
    finally:
        patch.undo()


@given(st.binary(max_size=60))
def test_any_bytes_instead_of_http_are_a_token_error(shared_server, data):
    shared_server.answers.clear()
    shared_server.answers += [raw(data)] * 3
    patch = pytest.MonkeyPatch()
    patch.setattr(time, "sleep", lambda seconds: None)
    with pytest.raises(TokenError), contextlib.ExitStack() as stack:
        stack.callback(patch.undo)
        shared_server.source().token()


# Retries


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_transient_status_is_retried_with_a_fresh_assertion(server, clock, status):
    server.answers += [reply(status), reply(status)]
    server.source().token()
    issued = [post.claims["iat"] for post in server.posts]
    assert len(issued) == 3
    assert issued[0] < issued[2]


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize("error", ["temporarily_unavailable", "server_error"])
def test_a_transient_error_is_retried(server, clock, status, error):
    server.answers += [reply(status, {"error": error, "access_token": "abc"})] * 2
    assert server.source().token().access_token in server.valid


@pytest.mark.parametrize("status", [300, 302, 400, 401, 403, 404, 501, 505])
def test_another_refusal_is_final(server, clock, status):
    server.answers.append(reply(status))
    assert error_of(server.source()).status == status
    assert not clock.naps


def test_the_third_failure_is_raised(server, clock):
    server.answers += [reply(503, b"one"), reply(503, b"two"), reply(503, b"three")]
    assert error_of(server.source()).body == b"three"
    assert len(server.posts) == 3


def test_waits_grow_and_differ(server, clock):
    server.answers += [reply(503)] * 60
    for _ in range(20):
        error_of(server.source())
    first, second = clock.naps[::2], clock.naps[1::2]
    assert all(0.5 <= nap <= 0.75 for nap in first)
    assert all(1.0 <= nap <= 1.5 for nap in second)
    assert len(set(clock.naps)) == 40


@pytest.mark.parametrize("seconds", ["0", "7", "29"])
def test_retry_after_is_honoured(server, clock, seconds):
    server.answers.append(reply(429, Retry_After=seconds))
    server.source().token()
    assert clock.naps == [float(seconds)]


@pytest.mark.parametrize("seconds", ["30", "3600", "9" * 400])
def test_a_retry_after_that_does_not_fit_raises_at_once(server, clock, seconds):
    server.answers.append(reply(429, Retry_After=seconds))
    assert error_of(server.source()).retry_after == float(seconds)
    assert not clock.naps


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "\u0661", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_retry_after_that_is_no_number_is_passed_over(server, clock, value):
    line = f"HTTP/1.1 503 x\r\nRetry-After: {value}\r\n\r\n"
    server.answers.append(raw(line.encode()))
    server.source().token()
    assert 0.5 <= clock.naps[0] <= 0.75


@pytest.mark.parametrize(
    "broken",
    [raw(b""), raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc")],
)
def test_a_connection_that_breaks_is_retried(server, clock, broken):
    server.answers += [broken, broken]
    server.source().token()
    server.answers += [broken] * 3
    error = error_of(server.source())
    assert (error.status, error.body) == (None, b"")


def test_a_connection_that_is_refused_is_retried_and_chained(clock):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = "http://127.0.0.1:{}/token".format(unused.getsockname()[1])
        config = Config(**ARGUMENTS, endpoint=Endpoint("x", url))
        error = error_of(config.token_source())
    assert len(clock.naps) == 2
    assert isinstance(error.__cause__.reason, ConnectionRefusedError)
    assert url in str(error)


@pytest.mark.parametrize(
    "nonsense", [b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9.9 200 x\r\n"]
)
def test_what_is_not_http_is_final(server, clock, nonsense):
    server.answers.append(raw(nonsense))
    assert error_of(server.source()).status is None
    assert len(server.posts) == 1


def test_a_certificate_that_does_not_verify_is_final(tls_server, clock):
    error = error_of(tls_server.source())
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert not clock.naps


@pytest.mark.parametrize(
    ("status", "attempts"), [(401, 1), (403, 1), (407, 1), (502, 3), (503, 3), (504, 3)]
)
def test_a_proxy_that_refuses_a_tunnel_is_named(tls_server, clock, status, attempts):
    proxy = Proxy(refusal=b"HTTP/1.1 %d No\r\n\r\n" % status)
    error = error_of(tls_server.source(proxy.handler))
    assert f"via proxy {proxy.address}" in str(error)
    assert str(status) in str(error)
    assert len(proxy.tunnels) == attempts
    proxy.close()


@pytest.mark.parametrize("scheme", ["http", "socks5"])
def test_a_dead_proxy_is_named(tls_server, clock, monkeypatch, scheme):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = "127.0.0.1:{}".format(unused.getsockname()[1])
        monkeypatch.setenv("https_proxy", f"{scheme}://user:hush@{address}")
        error = error_of(tls_server.source())
    assert f"via proxy {address}:" in str(error)
    assert "hush" not in str(error)


def test_a_proxy_that_answers_in_place_of_the_server_is_named(server, clock):
    proxy = Proxy()
    assert f"via proxy {proxy.address}: HTTP 200" in str(error_of(server.source(proxy.handler)))
    proxy.close()


def test_a_mistyped_proxy_is_told_without_its_password(tls_server, monkeypatch):
    monkeypatch.setenv("https_proxy", "http:/user:hush@127.0.0.1:9")
    error = error_of(tls_server.source())
    assert "127.0.0.1:9" in str(error)
    assert "hush" not in str(error)


def test_a_long_line_instead_of_http_is_told_without_delay(server):
    server.answers.append(raw(b"x" * 65000 + b"\r\n"))
    started = time.monotonic()
    error_of(server.source())
    assert time.monotonic() - started < 1


def test_no_more_than_64_kib_of_an_answer_are_read(server, clock):
    content = json.dumps({"access_token": "abc"}).encode()
    server.answers.append(reply(200, content.ljust(65536)))
    assert server.source().token() == Token("abc")
    server.answers.append(reply(400, content.ljust(3 << 20)))
    assert len(error_of(server.source()).body) == 65536
    server.answers += [reply(200, b" " * 65536 + content)] * 3
    assert error_of(server.source()).status == 200


def test_a_body_without_end_is_cut_off(server):
    server.answers.append(drip(b"HTTP/1.1 400 No\r\n\r\n", b"x" * 65536, every=0))
    assert len(error_of(server.source()).body) == 65536


def test_an_exchange_takes_less_than_eight_mebibytes(server, clock):
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    bodies = [b"[" + b"{}," * 22000, b'{"a":[' + b"[]," * 21000 + b"[]]}", b"x" * (32 << 20)]
    tracemalloc.start()
    try:
        for body in bodies:
            server.answers += [reply(200, body)] * 3
            error_of(server.source())
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
    ],
)
def test_an_exchange_ends_within_twice_its_timeout(server, behaviour):
    server.answers += [behaviour] * 3
    started = time.monotonic()
    error = error_of(server.source(timeout=0.4))
    assert time.monotonic() - started < 0.8 + 0.5  # twice the timeout, and a busy machine
    assert error.status is None


def test_a_second_attempt_has_only_what_is_left_of_the_timeout(server):
    server.answers += [reply(503), silence]
    started = time.monotonic()
    error_of(server.source(timeout=1.2))
    assert time.monotonic() - started < 1.9


def test_a_timeout_may_be_as_long_as_you_like(server):
    assert server.source(timeout=1e300).token()


# The token request and the caller's handlers


class Eager(HTTPRedirectHandler):
    handler_order = 1


def password_handler(handler_class, url):
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, "user", "hush")
    return handler_class(passwords)


@pytest.mark.parametrize("handler", [None, HTTPRedirectHandler(), Eager, Eager()])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_request_follows_no_redirect(server, status, handler):
    server.answers.append(reply(status, Location=f"{server.url}/elsewhere"))
    error = error_of(server.source(*([handler] if handler else [])))
    assert error.status == status
    assert not server.calls


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearer"])
@pytest.mark.parametrize(
    "handler_class", [urllib.request.HTTPBasicAuthHandler, HTTPDigestAuthHandler]
)
def test_the_token_request_answers_no_challenge(server, scheme, handler_class):
    challenge = f'{scheme} realm="x", nonce="y"'
    server.answers.append(reply(401, WWW_Authenticate=challenge))
    error = error_of(server.source(password_handler(handler_class, server.url)))
    assert error.status == 401
    assert len(server.posts) == 1


def test_a_refusal_is_one_if_a_handler_lets_every_answer_pass(server):
    class Lenient(urllib.request.HTTPErrorProcessor):
        def http_response(self, request, response):
            return response

    server.answers.append(reply(403))
    assert error_of(server.source(Lenient)).status == 403


class Broken(BaseHandler):
    """Raises what it is told to when a request is opened."""

    handler_order = 1

    def __init__(self, error):
        self.error = error

    def http_open(self, req):
        raise self.error


@pytest.mark.parametrize(
    "error", [OSError("x"), ValueError("x"), http.client.HTTPException("x"), TokenError("x")]
)
def test_what_the_network_raises_is_a_token_error(server, clock, error):
    assert "x" in str(error_of(server.source(Broken(error))))


@pytest.mark.parametrize("error", [LookupError("x"), AssertionError("x"), KeyboardInterrupt()])
def test_an_exception_of_another_kind_passes_as_it_is(server, error):
    with pytest.raises(type(error)) as caught:
        server.source(Broken(error)).token()
    assert caught.value is error


def test_a_source_and_its_opener_make_one_ssl_context(monkeypatch):
    made = []
    new = ssl.SSLContext.__new__
    monkeypatch.setattr(ssl.SSLContext, "__new__", lambda *a, **k: made.append(1) or new(*a, **k))
    source = Config(**ARGUMENTS).token_source()
    source.opener()
    source.opener()
    assert len(made) <= 1  # none before Python 3.12, which makes one for each connection


def test_the_callers_handlers_are_left_as_they_are(server):
    handlers = [ProxyHandler({}), HTTPHandler(), HTTPRedirectHandler()]
    before = [dict(vars(handler)) for handler in handlers]
    call(server.config().opener(*handlers), f"{server.url}/rest")
    assert [dict(vars(handler)) for handler in handlers] == before


# The token source


def test_a_valid_token_is_reused_until_its_leeway(server, clock):
    server.answers.append(grant(expires_in=100))
    source = server.source()
    first = source.token()
    clock.moved += 89
    assert source.token() is first
    clock.moved += 2
    assert source.token() is not first
    assert len(server.posts) == 2


@pytest.mark.parametrize(
    ("options", "left", "is_reused"),
    [({}, 11, True), ({}, 9, False), ({"leeway": 60}, 61, True), ({"leeway": 60}, 59, False)],
)
def test_a_saved_token_is_used_until_its_leeway(server, options, left, is_reused):
    saved = Token("saved", time.time() + left)
    assert (server.source(token=saved, **options).token() is saved) == is_reused


def test_leeway_may_be_zero(server):
    saved = Token("saved", time.time() + 1)
    assert server.source(token=saved, leeway=0).token() is saved


@pytest.mark.parametrize("lifetime", [None, 0])
def test_a_token_without_a_lifetime_is_reused(server, clock, lifetime):
    server.answers.append(grant(expires_in=lifetime))
    source = server.source()
    first = source.token()
    clock.moved += 10**7
    assert source.token() is first


def test_a_token_is_dropped_by_its_access_token(server):
    source = server.source(token=Token("one", time.time() + 900))
    assert source.invalidate(Token("other")) is False
    assert source.token().access_token == "one"
    assert source.invalidate(Token("one")) is True
    assert source.invalidate(Token("one")) is False
    assert source.token().access_token != "one"


def test_threads_without_a_token_cause_one_exchange(server):
    tokens = in_threads(64, server.source().token)
    assert len(set(tokens)) == len(server.posts) == 1


def raising(error):
    """Return a function that raises an error, whatever it is given."""

    def function(*_):
        raise error

    return function


def gate(answer):
    """Return (answer, begun, go): the answer sets `begun`, and waits for `go`."""
    begun, go = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        go.wait(10)
        answer(handler)

    return wait, begun, go


def during_an_exchange(server, answer, count, function):
    """Call a function in threads while the first of them waits for an answer."""
    wait, begun, go = gate(answer)
    server.answers.append(wait)
    release = threading.Timer(0.3, go.set)
    release.start()
    outcomes = in_threads(count, function)
    release.join()
    assert begun.is_set()
    return outcomes


def test_threads_that_wait_share_a_token_however_short_lived(server):
    tokens = during_an_exchange(server, grant(expires_in=1), 8, server.source().token)
    assert len(set(tokens)) == len(server.posts) == 1


def test_threads_that_wait_share_a_failure_in_exceptions_of_their_own(server):
    source = server.source()
    errors = during_an_exchange(server, reply(400, {"error": "no"}), 8, source.token)
    assert [error.error for error in errors] == ["no"] * 8
    assert len(set(map(id, errors))) == 8
    assert len(server.posts) == 1


def test_a_failure_is_not_remembered(server):
    server.answers.append(reply(400))
    source = server.source()
    error_of(source)
    assert isinstance(source.token(), Token)


def test_after_an_interrupt_another_thread_makes_the_exchange(server, monkeypatch):
    server.answers.append(reply(503))
    source = server.source()
    monkeypatch.setattr(time, "sleep", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        source.token()
    assert isinstance(in_threads(1, source.token)[0], Token)


needs_signals = pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="needs POSIX signals")


def on_signal(stack, function):
    """Call a function when the signal comes, until the test ends."""
    before = signal.signal(signal.SIGUSR1, lambda *_: function())
    stack.callback(signal.signal, signal.SIGUSR1, before)


@pytest.fixture
def cleanup():
    with contextlib.ExitStack() as stack:
        yield stack


def send_signal(then):
    """Send this process a signal, and give the answer a moment later."""

    def answer(handler):
        os.kill(os.getpid(), signal.SIGUSR1)
        handler.server.is_closing.wait(0.1)
        then(handler)

    return answer


@needs_signals
def test_a_signal_handler_may_ask_for_a_token_during_an_exchange(server, cleanup):
    source = server.source()
    tokens = []
    on_signal(cleanup, lambda: tokens.append(source.token()))
    server.answers.append(send_signal(grant()))
    tokens.append(source.token())
    assert len(server.posts) == len(tokens) == 2
    assert source.token() in tokens


class SoftTimeLimit(Exception):
    """As task queues raise it from a signal handler."""


@needs_signals
def test_an_exception_of_a_signal_handler_passes_as_it_is(server, cleanup):
    on_signal(cleanup, raising(SoftTimeLimit()))
    server.answers.append(send_signal(grant()))
    with pytest.raises(SoftTimeLimit):
        server.source().token()
    assert len(server.posts) == 1


@needs_signals
def test_a_timeout_of_a_signal_handler_is_final(server, cleanup):
    on_signal(cleanup, raising(TimeoutError("stop")))
    server.answers.append(send_signal(grant()))
    started = time.monotonic()
    assert "stop" in str(error_of(server.source()))
    assert time.monotonic() - started < 5
    assert len(server.posts) == 1


def test_a_handler_may_call_the_site_during_an_exchange(server):
    class Curious(BaseHandler):
        answers = []

        def http_request(self, req):
            if req.full_url.endswith("/oauth2/token") and not self.answers:
                self.answers.append("asked")
                self.answers.append(call(opener, f"{server.url}/rest")["bearer"])
            return req

    opener = server.config().opener(Curious)
    assert call(opener, f"{server.url}/rest")["path"] == "/rest"
    assert Curious.answers[1].startswith("Bearer token-")


FORK = """
import os, signal, sys, threading
from jira_jwt_oauth import Config
source = Config.from_env().token_source()
threading.Thread(target=source.token).start()
input()  # until the thread is in its exchange
child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1])
signal.alarm(10)
source.token()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_that_is_forked_during_an_exchange_makes_its_own(server):
    answer, begun, go = gate(grant())
    server.answers += [answer, lambda handler: (go.set(), grant()(handler))]
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    options = {"cwd": MODULE.parent, "env": environment_for(server), "stdin": subprocess.PIPE}
    with subprocess.Popen(command, **options) as process:
        begun.wait(10)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    assert len(server.posts) == 2


class Model(RuleBasedStateMachine):
    """A token source beside a model of it: what is held, and until when."""

    @initialize()
    def start(self):
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(self.patch)
        self.server = Server()
        self.source = self.server.source()
        self.held = None

    def teardown(self):
        self.patch.undo()
        self.server.close()

    def ask(self, *answers):
        """Ask for a token; return what comes and how many requests it took."""
        self.server.answers.clear()
        self.server.answers.extend(answers)
        before = len(self.server.posts)
        try:
            outcome = self.source.token()
        except TokenError as error:
            outcome = error
        return outcome, len(self.server.posts) - before

    @property
    def is_fresh(self):
        return self.held is not None and not self.held.is_expired()

    @property
    def is_on_the_brink(self):
        return self.held is not None and abs(self.held.expires_at - 10 - time.time()) < 1

    @precondition(lambda self: not self.is_fresh and not self.is_on_the_brink)
    @rule(lifetime=st.integers(1, 2000))
    def a_token_is_fetched(self, lifetime):
        token, posts = self.ask(grant(expires_in=lifetime))
        assert posts == 1
        assert token is not self.held
        self.held = token

    @precondition(lambda self: not self.is_fresh and not self.is_on_the_brink)
    @rule(status=st.sampled_from([400, 403, 404]))
    def a_refusal_is_final(self, status):
        error, posts = self.ask(reply(status, {"error": "invalid_grant"}))
        assert (error.status, posts) == (status, 1)
        self.held = None

    @precondition(lambda self: not self.is_fresh and not self.is_on_the_brink)
    @rule(failures=st.integers(1, 3))
    def an_outage_costs_at_most_three_attempts(self, failures):
        outcome, posts = self.ask(*[reply(503)] * failures, grant())
        assert posts == min(failures + 1, 3)
        self.held = outcome if failures < 3 else None
        assert isinstance(outcome, Token) == (failures < 3)

    @rule(seconds=st.integers(1, 1500))
    def time_passes(self, seconds):
        self.clock.moved += seconds

    @precondition(lambda self: self.held)
    @rule()
    def the_held_token_is_dropped(self):
        assert self.source.invalidate(Token(self.held.access_token)) is True
        self.held = None

    @rule()
    def another_token_is_not_dropped(self):
        assert self.source.invalidate(Token("another")) is False

    @invariant()
    def a_fresh_token_costs_nothing(self):
        if self.is_fresh and not self.is_on_the_brink:
            assert self.ask() == (self.held, 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=20)


# The handler: where the token goes


def test_a_call_to_the_site_bears_the_token(server):
    heard = call(server.config().opener(), f"{server.url}/rest/api/3/myself?x=1")
    assert heard["bearer"][7:] in server.valid
    assert heard["path"] == "/rest/api/3/myself?x=1"


def test_a_call_keeps_its_method_body_and_headers(server):
    headers = {"Content-Type": "text/plain", "X-Mine": "1", "User-Agent": "my-script"}
    request = Request(f"{server.url}/rest", b"body", headers, method="PUT")
    request.add_unredirected_header("X-Once", "2")
    heard = call(server.config().opener(), request)
    assert (heard["method"], heard["body"]) == ("PUT", "body")
    received = {name.title(): value for name, value in heard["headers"].items()}
    for name, value in {**headers, "X-Once": "2"}.items():
        assert received[name] == value


def test_a_subclass_of_request_keeps_its_method(server):
    class Put(Request):
        def get_method(self):
            return "PUT"

    assert call(server.config().opener(), Put(f"{server.url}/rest"))["method"] == "PUT"


def test_the_callers_request_never_changes(server):
    source = server.source(token=Token("revoked"))
    request = Request(f"{server.url}/rest", headers={"X-Mine": "1"})
    request.timeout = 10
    before = {**vars(request), "headers": {**request.headers}, "unredirected_hdrs": {}}
    call(source.opener(), request)
    assert vars(request) == before


SITE = "https://a.example"


def sent(base_url, url, change=lambda request: None):
    """Return what the handler's opener would send for a URL: (scheme, host, Authorization)."""
    config = Config(**{**ARGUMENTS, "base_url": base_url, "endpoint": Endpoint("x", SITE)})
    recorder = Recorder()
    handler = jjo.HTTPBearerAuthHandler(config.token_source(token=Token("abc")))
    request = Request(url)
    change(request)
    urllib.request.build_opener(ProxyHandler({}), recorder, handler).open(request, timeout=10)
    return recorder.sent[0]


def bears(base_url, url):
    """Return whether a request for a URL bears the token, as urllib and other clients send it."""
    source = Config(
        **{**ARGUMENTS, "base_url": base_url, "endpoint": Endpoint("x", SITE)}
    ).token_source(token=Token("abc"))
    by_urllib = jjo.HTTPBearerAuthHandler(source).http_request(Request(url))
    by_others = jjo.BearerAuth(source)(types.SimpleNamespace(url=url, headers={}))
    assert by_urllib.has_header("Authorization") == ("Authorization" in by_others.headers)
    return by_urllib.has_header("Authorization")


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (SITE, "https://a.example"),
        (SITE, "https://a.example/x"),
        (SITE, "https://a.example?x"),
        (SITE, "https://a.example#x"),
        (SITE, "https://a.example:443/x"),
        (SITE, "HTTPS://A.EXAMPLE/x"),
        (SITE + ":443", "https://a.example/x"),
        (SITE + "/wiki", "https://a.example/rest"),
        (SITE + ":8443", "https://A.example:8443/"),
        ("https://[::A]:1", "https://[::a]:1/"),
        ("http://localhost", "http://localhost:80/"),
        ("http://127.0.0.1:80", "http://127.0.0.1/"),
    ],
)
def test_what_is_at_the_origin_bears_the_token(base_url, url):
    assert bears(base_url, url)


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (SITE, "http://a.example/"),
        (SITE, "https://a.example:8443/"),
        (SITE, "https://a.example:80/"),
        (SITE, "https://a.example.evil.example/"),
        (SITE, "https://evil.example/https://a.example/"),
        (SITE, "https://b.a.example/"),
        (SITE, "https://axexample/"),
        (SITE, "https://a.example@evil.example/"),
        (SITE, "https://me@a.example/"),
        (SITE, "https://evil.example\\@a.example/"),
        (SITE, "https://a.example\\@evil.example/"),
        (SITE, "https://a.example./"),
        (SITE, "https://a%2eexample/"),
        (SITE, "https://a.example%00.evil.example/"),
        (SITE, "https://a.example\t.evil.example/"),
        (SITE, "https:a.example/"),
        (SITE, "https:///a.example/"),
        (SITE, "ftp://a.example/"),
        (SITE, "data:,a.example"),
        (SITE + ":8443", "https://a.example/"),
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
    ["", "/", "/x@y", "?x", "#x", "@b.example", "\\", ".", "%2e", ":", "\t", ";", " ", "<", "\n/"]
)


def destination(scheme, host):
    """Return the scheme, host and port that urllib would connect to."""
    connect = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = connect(host)
    return scheme, connection.host.lower(), connection.port


@given(HOSTS, PORTS, st.sampled_from(["https", "HTTPS", "http"]), HOSTS, PORTS, TRICKS, st.text())
def test_the_token_goes_where_urllib_connects_to_the_origin(
    base, base_port, scheme, host, port, trick, rest
):
    base_url = f"https://{base}{base_port}"
    url = f"{scheme}://{host}{port}{trick}{rest}"
    try:
        went_to = sent(base_url, url)
    except (urllib.error.URLError, http.client.HTTPException, ValueError):
        return  # urllib sends nothing at all
    is_plain = (trick == "" and rest == "") or trick in ("/", "?x", "#x", "/x@y")
    if went_to[2]:
        assert destination(*went_to[:2]) == destination("https", base + base_port)
    elif is_plain:
        assert destination(*went_to[:2]) != destination("https", base + base_port)


def set_host(request):
    request.host = "evil.example"


def set_type(request):
    request.type = "http"


def set_selector(request):
    request.selector = "https://evil.example/"


@pytest.mark.parametrize("change", [set_host, set_type, set_selector])
def test_what_bears_the_token_goes_where_its_url_says(change):
    assert sent(SITE, f"{SITE}/x", change) == ("https", "a.example", "Bearer abc")


def test_another_host_causes_no_exchange(server):
    assert call(server.config().opener(), f"{server.other_host}/rest")["bearer"] is None
    assert not server.posts


@pytest.mark.parametrize("name", ["Authorization", "authorization"])
def test_an_authorization_header_of_the_caller_is_kept(server, name):
    request = Request(f"{server.url}/rest", headers={name: "Basic eDp5"})
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.config().opener().open(request, timeout=10)
    assert caught.value.read() == b"who are you?"
    assert [call["bearer"] for call in server.calls] == ["Basic eDp5"]
    assert not server.posts


def via(*urls):
    """Return a URL that redirects to the next, and so on."""
    first, *rest = urls
    if not rest:
        return first
    return f"{first}/redirect?{urllib.parse.quote(via(*rest), safe='')}"


def bearers(server):
    return [bool(received["bearer"]) for received in server.calls]


def test_a_redirect_to_another_host_carries_no_token(server):
    call(server.config().opener(), via(server.url, f"{server.other_host}/x"))
    assert bearers(server) == [True, False]


def test_a_redirect_within_the_site_carries_the_token(server):
    call(server.config().opener(), via(server.url, f"{server.url}/x"))
    assert bearers(server) == [True, True]


def test_a_redirect_that_comes_back_carries_the_token(server):
    call(server.config().opener(), via(server.url, server.other_host, f"{server.url}/x"))
    assert bearers(server) == [True, False, True]


def test_another_host_cannot_aim_the_token(server):
    call(server.config().opener(), via(server.other_host, f"{server.url}/x"))
    assert bearers(server) == [False, False]


def test_a_redirect_loop_ends(server):
    loop = "/redirect?" + urllib.parse.quote("/redirect?")
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        server.config().opener().open(server.url + loop + loop, timeout=10)
    assert len(server.calls) < 20


def test_a_loop_of_redirects_at_the_site_ends():
    recorder = Recorder(*[f"{SITE}/a", f"{SITE}/b"] * 20)
    source = Config(**{**ARGUMENTS, "base_url": SITE}, endpoint=Endpoint("x", SITE)).token_source(
        recorder, token=Token("abc")
    )
    opener = urllib.request.build_opener(recorder, jjo.HTTPBearerAuthHandler(source))
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        opener.open(f"{SITE}/a", timeout=10)
    assert len(recorder.sent) < 12


def test_an_installed_opener_serves_urlopen(server, monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)
    urllib.request.install_opener(server.config().opener())
    with urllib.request.urlopen(f"{server.url}/rest", timeout=10) as response:
        assert json.load(response)["bearer"]
    with urllib.request.urlopen(f"{server.other_host}/rest", timeout=10) as response:
        assert not json.load(response)["bearer"]


def test_without_a_token_a_call_raises_a_token_error(server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    with pytest.raises(TokenError) as caught:
        server.config().opener().open(f"{server.url}/rest", timeout=10)
    assert caught.value.error == "invalid_grant"
    assert not server.calls


# The handler: beside the caller's other handlers


def test_handlers_serve_the_token_request_and_the_calls(tls_server, trust):
    assert call(tls_server.config().opener(trust), f"{tls_server.url}/rest")["bearer"]


def test_openers_that_share_a_handler_do_not_mix_up_their_users(server):
    redirects = HTTPRedirectHandler()
    sources = [server.source(redirects, token=Token(name)) for name in ("one", "two")]
    server.valid |= {"one", "two"}
    openers = [source.opener() for source in sources]
    for opener, name in zip(openers, ("one", "two")):
        assert call(opener, via(server.url, f"{server.url}/x"))["bearer"] == f"Bearer {name}"


def test_openers_share_a_cookie_jar(server):
    cookies = urllib.request.HTTPCookieProcessor()
    for opener in (server.source(cookies).opener(), server.source(cookies).opener()):
        assert cookies.cookiejar in [getattr(h, "cookiejar", None) for h in opener.handlers]


def test_a_plain_proxy_gets_the_call_with_its_token(server):
    proxy = Proxy()
    opener = server.source(proxy.handler, token=Token("abc")).opener()
    opener.open(f"{server.url}/rest", timeout=10)
    (request,) = proxy.clear
    assert request.startswith(f"GET {server.url}/rest HTTP/1.1")
    assert "Authorization: Bearer abc" in request
    proxy.close()


def test_a_proxy_that_speaks_tls_gets_each_request_once(server, tls_server, trust):
    secure_proxy = ProxyHandler({"http": tls_server.url})
    source = server.source(secure_proxy, trust, token=Token("abc"))
    tls_server.valid.add("abc")
    assert call(source.opener(), f"{server.url}/rest")["path"] == f"{server.url}/rest"
    assert len(tls_server.calls) == 1


def test_a_replay_through_a_proxy_that_speaks_tls_bears_the_new_token(server, tls_server, trust):
    direct = server.source()
    source = server.source(ProxyHandler({"http": tls_server.url}), trust, token=Token("old"))
    tls_server.valid.add(direct.token().access_token)
    source.token = lambda: direct.token() if tls_server.calls else Token("old")
    assert call(source.opener(), f"{server.url}/rest")["bearer"] == direct.token().authorization


def test_a_token_request_through_a_tls_proxy_bears_no_token(server, tls_server, trust):
    secure_proxy = ProxyHandler({"http": tls_server.url})
    source = server.source(secure_proxy, trust)
    source.opener()
    with pytest.raises(TokenError):
        source.token()
    assert bearers(tls_server) == [False]


def test_urllib_alone_leaves_a_tunnel_for_a_request_it_opens_again(tls_server, proxy, trust):
    opener = urllib.request.build_opener(proxy.handler, trust)
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        opener.open(request, timeout=10).close()
    assert proxy.clear  # if this fails, Python has mended what we guard against


def test_a_request_that_is_opened_three_times_stays_in_the_tunnel(tls_server, proxy, trust):
    opener = tls_server.config().opener(proxy.handler, trust)
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        assert call(opener, request)["bearer"]
    assert len(proxy.tunnels) == 4
    assert not proxy.clear


def test_a_replay_stays_in_the_tunnel(tls_server, proxy, trust):
    opener = tls_server.source(proxy.handler, trust, token=Token("revoked")).opener()
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        assert call(opener, request)["bearer"][7:] in tls_server.valid
    assert not proxy.clear


class Retry(BaseHandler):
    """Opens a request that was answered 401 twice more, as handlers do that try again."""

    handler_order = 100
    tries_left = 2

    def http_error_401(self, req, fp, code, msg, headers):
        if not self.tries_left:
            return None
        self.tries_left -= 1
        return self.parent.open(req, timeout=req.timeout)


def test_a_request_that_another_handler_opens_again_is_made_anew(tls_server, proxy, trust):
    source = tls_server.source(proxy.handler, trust, Retry, token=Token("revoked"))
    assert call(source.opener(), f"{tls_server.url}/rest")["bearer"][7:] in tls_server.valid
    assert not proxy.clear


class CopyingRedirects(HTTPRedirectHandler):
    """Redirects by a copy of the request, with all that is in it."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = copy.copy(req)
        new.full_url = newurl
        return new


def test_a_handler_that_sends_our_copy_elsewhere_takes_no_token_along(server):
    opener = server.config().opener(CopyingRedirects)
    call(opener, via(server.url, f"{server.other_host}/x"))
    assert bearers(server) == [True, False]


# The handler: a 401


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_a_401_renews_the_token_and_replays_the_request(server, body):
    opener = server.source(token=Token("revoked")).opener()
    heard = call(opener, f"{server.url}/rest", body)
    assert heard["bearer"][7:] in server.valid
    assert heard["body"] == (body if body is None else body.decode())
    assert bearers(server) == [True, True]
    assert len(server.posts) == 1


def test_a_replay_keeps_the_timeout_of_the_call(server):
    class Spy(BaseHandler):
        timeouts = []

        def http_request(self, req):
            self.timeouts.append(req.timeout)
            return req

    opener = server.source(Spy, token=Token("revoked")).opener()
    call(opener, f"{server.url}/rest", timeout=7)
    assert Spy.timeouts[0] == Spy.timeouts[-1] == 7


def unauthorized(opener, url, data=None):
    """Return the body of the 401 that reaches the caller."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(url, data, timeout=10)
    with caught.value as error:
        assert (error.code, error.msg) == (401, "Unauthorized")
        assert error.url == (url if isinstance(url, str) else url.full_url)
        assert error.headers["WWW-Authenticate"] == 'Bearer realm="site"'
        return error.read()


def useless(number):
    """Grant tokens that the site refuses."""
    return [reply(200, {"access_token": f"useless-{n}"}) for n in range(number)]


def test_a_401_is_replayed_once(server):
    server.answers += useless(5)
    assert unauthorized(server.config().opener(), f"{server.url}/rest") == b"who are you?"
    assert (len(server.posts), len(server.calls)) == (2, 2)


def test_a_resource_that_refuses_everybody_costs_one_exchange_a_minute(server, clock):
    server.answers += useless(20)
    opener = server.config().opener()
    for _ in range(10):
        unauthorized(opener, f"{server.url}/rest")
        clock.moved += 1
    assert len(server.posts) == 2
    clock.moved += 60
    unauthorized(opener, f"{server.url}/rest")
    unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 3


def test_short_lived_tokens_are_not_renewed_more_often_either(server):
    server.answers += [reply(200, {"access_token": f"t{n}", "expires_in": 5}) for n in range(20)]
    opener = server.config().opener()
    for _ in range(5):
        unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) <= 7


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_other_errors_of_the_api_reach_the_caller(server, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.config().opener().open(f"{server.url}/status?{status}", timeout=10)
    with caught.value as error:
        assert (error.code, error.read()) == (status, b"as asked")
    assert (len(server.posts), len(server.calls)) == (1, 1)


def test_a_renewal_that_gives_the_same_token_is_no_loop(server):
    server.answers += [reply(200, {"access_token": "same"})] * 5
    unauthorized(server.config().opener(), f"{server.url}/rest")
    assert (len(server.posts), len(server.calls)) == (2, 1)


def test_threads_whose_token_was_revoked_cause_one_exchange(server):
    opener = server.source(token=Token("revoked")).opener()
    outcomes = in_threads(64, lambda: call(opener, f"{server.url}/rest")["bearer"][7:])
    assert set(outcomes) == server.valid
    assert len(server.posts) == 1


def test_a_token_that_another_thread_has_renewed_is_used(server):
    source = server.source(token=Token("revoked"))

    class Quicker(BaseHandler):
        def http_response(self, request, response):
            if source.invalidate(Token("revoked")):
                source.token()
            return response

    opener = urllib.request.build_opener(Quicker, jjo.HTTPBearerAuthHandler(source))
    assert call(opener, f"{server.url}/rest")["bearer"] == source.token().authorization
    assert len(server.posts) == 1


def upload(url, body=None):
    return Request(url, body or io.BytesIO(b"body"), {"Content-Length": "4"})


@pytest.mark.parametrize("body", [io.BytesIO(b"body"), [b"bo", b"dy"]])
def test_a_401_to_an_upload_drops_the_token_and_is_not_replayed(server, body):
    source = server.source(token=Token("revoked"))
    assert unauthorized(source.opener(), upload(f"{server.url}/rest", body)) == b"who are you?"
    assert (len(server.posts), len(server.calls)) == (0, 1)
    assert call(source.opener(), upload(f"{server.url}/rest"))["body"] == "body"


def test_uploads_that_are_always_refused_drop_one_token_a_minute(server):
    server.answers += useless(20)
    opener = server.config().opener()
    for _ in range(10):
        unauthorized(opener, upload(f"{server.url}/rest"))
    assert len(server.posts) == 2


def test_a_handler_leaves_the_401_of_another_handler_alone(server):
    first = Config(**ARGUMENTS).token_source(token=Token("abc"))
    second = server.source(token=Token("revoked"))
    handlers = map(jjo.HTTPBearerAuthHandler, (first, second))
    opener = urllib.request.build_opener(*handlers)
    assert call(opener, f"{server.url}/rest")["bearer"] == second.token().authorization


def test_a_renewal_that_fails_is_a_token_error(server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    opener = server.source(token=Token("revoked")).opener()
    with pytest.raises(TokenError) as caught:
        opener.open(f"{server.url}/rest", timeout=10)
    assert caught.value.error == "invalid_grant"


@pytest.mark.parametrize(
    "handler_class", [urllib.request.HTTPBasicAuthHandler, HTTPDigestAuthHandler]
)
def test_urllibs_own_authentication_handlers_do_no_harm(server, handler_class):
    passwords = password_handler(handler_class, "https://elsewhere.example")
    opener = server.source(passwords, token=Token("revoked")).opener()
    assert call(opener, f"{server.url}/rest")["bearer"][7:] in server.valid
    server.valid.clear()
    server.answers += useless(2)
    assert unauthorized(opener, f"{server.url}/rest") == b"who are you?"


# requests and httpx


def test_bearer_auth_replaces_a_header_and_returns_the_request(server):
    auth = server.source(token=Token("abc")).auth()
    request = types.SimpleNamespace(url=f"{server.url}/rest", headers={"Authorization": "old"})
    assert auth(request) is request
    assert request.headers == {"Authorization": "Bearer abc"}
    assert auth.source.token() == Token("abc")


def test_requests_sends_the_token_to_the_site_alone(server):
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        session.auth = server.config().auth()
        assert session.get(f"{server.url}/rest").json()["bearer"][7:] in server.valid
        assert session.get(f"{server.other_host}/rest").json()["bearer"] is None
        session.get(via(server.url, f"{server.other_host}/x"))
    assert bearers(server) == [True, False, True, False]


def test_httpx_sends_the_token_to_the_site_alone(server):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(auth=server.config().auth(), follow_redirects=True) as client:
        assert client.get(f"{server.url}/rest").json()["bearer"][7:] in server.valid
        assert client.get(f"{server.other_host}/rest").json()["bearer"] is None
        client.get(via(server.url, f"{server.other_host}/x"))
    assert bearers(server) == [True, False, True, False]


# The command line


def run(*arguments):
    """Run the command line in this process; return its exit status."""
    try:
        jjo.main(list(arguments))
    except SystemExit as done:
        return done.code
    return 0


@pytest.fixture
def configured(server, monkeypatch):
    """Settings for the server, in the environment."""
    for name, value in environment_for(server).items():
        monkeypatch.setenv(name, value)


def left_alive(before):
    """Return the threads that were not there before and do not end within a few seconds."""
    started = set(threading.enumerate()) - before
    for thread in started:
        thread.join(5)
    return [thread for thread in started if thread.is_alive()]


def test_the_demo_shows_each_step_of_the_flow(monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("JIRA_BASE_URL", "nonsense")
    before = set(threading.enumerate())
    assert run("demo") == 0
    shown, complaints = capsys.readouterr()
    steps = re.split(r"^\d\. ", shown, flags=re.MULTILINE)[1:]
    assert len(steps) == 6
    headings = [" ".join(step.partition("\n\n")[0].split()) for step in steps]
    assert headings == [
        "The claim set names the app (iss), the user (sub), the site (tnt), the authorization"
        " server (aud), and for how long it is valid (iat, exp).",
        "The assertion is the claim set, signed with the shared secret (HMAC-SHA256).",
        "The token request carries another assertion, back-dated by 10 seconds in case the"
        " clock is fast. The authorization server checks its signature and claims:",
        "The authorization server answers with an access token, valid for 15 minutes.",
        "An API call carries the access token. The site receives it and answers:",
        "If the token has expired, an API call fetches a new one first:",
    ]
    claims = json.loads(steps[0][steps[0].index("{") :])
    assert list(claims) == ["iss", "sub", "tnt", "aud", "exp", "iat"]
    assert re.search(r"^eyJ[\w-]+\.[\w-]+\.[\w-]{43}$", steps[1], re.MULTILINE)
    assert "POST /oauth2/token" in steps[2]
    assert "scope=READ+WRITE" in steps[2]
    token = json.loads(steps[3][steps[3].index("{") :])["access_token"]
    assert f"Authorization: Bearer {token}\n" in steps[4]
    assert '{"displayName": "Mia"}' in steps[4]
    assert "POST /oauth2/token" in steps[5]
    assert "GET /rest/api/3/myself" in steps[5]
    assert token not in steps[5]
    assert complaints == ""
    assert not left_alive(before)


@pytest.mark.parametrize(
    "tampered",
    [
        lambda claims, secret: jjo.encode_jwt(claims, b"another secret"),
        lambda claims, secret: jjo.encode_jwt({**claims, "exp": claims["exp"] + 60}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "exp": claims["iat"]}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "iat": claims["iat"] + 60}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "iss": "x"}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "sub": "x"}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "tnt": "https://b.example"}, secret),
        lambda claims, secret: jjo.encode_jwt({**claims, "aud": "https://b.example"}, secret),
    ],
)
def test_the_demo_checks_the_assertion(monkeypatch, capsys, tampered):
    def assertion(self, now=None):
        return tampered(self.claims(now)._asdict(), self.client_secret)

    before = set(threading.enumerate())
    monkeypatch.setattr(Config, "assertion", assertion)
    assert run("demo") == 1
    assert "HTTP 401" in capsys.readouterr().err
    assert not left_alive(before)


def test_the_demo_checks_the_token(monkeypatch, capsys):
    monkeypatch.setattr(Token, "authorization", "Bearer of bad news")
    assert run("demo") == 1
    assert "401" in capsys.readouterr().err


def test_the_command_token_prints_an_access_token(configured, server, capsys):
    assert run("token") == 0
    assert {capsys.readouterr().out} == {f"{token}\n" for token in server.valid}


def test_the_command_token_prints_a_whole_token(configured, server, capsys):
    assert run("token", "--json") == 0
    token = Token(**json.loads(capsys.readouterr().out))
    assert token.access_token in server.valid
    assert 800 < token.expires_at - time.time() <= 900


def test_output_goes_where_standard_output_is_redirected(configured, capfd):
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        assert run("token") == 0
    assert output.getvalue().startswith("token-")
    assert capfd.readouterr().out == ""


def test_a_refused_token_is_exit_status_1(configured, server, capsys):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    assert run("token") == 1
    shown, complaint = capsys.readouterr()
    assert shown == ""
    assert "'invalid_grant'" in complaint
    assert complaint.count("\n") == 1


def test_an_interrupt_ends_a_command_quietly(configured, monkeypatch, capsys):
    monkeypatch.setattr(TokenSource, "token", raising(KeyboardInterrupt()))
    assert run("token") == 1
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("arguments", "changes", "word"),
    [
        ([], {}, "COMMAND"),
        (["get", "/rest"], {}, "get"),
        (["demo", "more"], {}, "more"),
        (["token", "--josn"], {}, "--josn"),
        (["token"], {"JIRA_SUBJECT": "", "JIRA_CLIENT_ID": ""}, "JIRA_SUBJECT, JIRA_CLIENT_ID"),
        (["token"], {"JIRA_CLIENT_SECRET": "hush\n"}, "JIRA_CLIENT_SECRET"),
    ],
)
def test_wrong_usage_is_exit_status_2(configured, monkeypatch, capsys, arguments, changes, word):
    for name, value in changes.items():
        monkeypatch.setenv(name, value)
    assert run(*arguments) == 2
    complaint = capsys.readouterr().err
    assert word in complaint
    assert "hush" not in complaint


@pytest.mark.parametrize("arguments", [["--help"], ["token", "--help"]])
def test_help_names_every_variable(capsys, arguments):
    assert run(*arguments) == 0
    shown = capsys.readouterr().out
    assert set(re.findall("JIRA_[A-Z_]+", shown)) == {*ENVIRONMENT, *URLS, "JIRA_SCOPES"}
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (
            ["--help"],
            [
                "OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant.",
                " COMMAND demo show the whole flow, step by step, on this machine alone",
                " token print an access token ",
            ],
        ),
        (
            ["demo", "--help"],
            [
                "Show the whole flow, step by step, against a server on this machine that stands"
                " in for Atlassian. It needs no settings and no network. "
            ],
        ),
        (
            ["token", "--help"],
            [
                "Print an access token. To make a call with it: curl -H"
                ' "Authorization: Bearer $(jira-jwt-oauth token)" \\ $JIRA_BASE_URL/rest/api/3/myself ',
                "--json print the whole token, with its expiry, as JSON ",
            ],
        ),
    ],
)
def test_help_says_what_the_commands_do(capsys, arguments, sentences):
    assert run(*arguments) == 0
    shown = " ".join(capsys.readouterr().out.split())
    for sentence in sentences:
        assert sentence in shown


def test_the_installed_command_is_main():
    project = (MODULE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '\njira-jwt-oauth = "jira_jwt_oauth:main"\n' in project


def test_the_version_is_told(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"{jjo.__version__}\n"


def shell(command, server=None):
    """Run a command line in a shell; return the finished process."""
    environment = environment_for(server) if server else dict(os.environ)
    environment.update(PYTHON=sys.executable, MODULE=str(MODULE))
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.run(
        ["sh", "-c", command],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        universal_newlines=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", ["demo", "token", "token --json", "--help", "--version"])
def test_a_closed_pipe_is_no_traceback(server, arguments):
    command = f'{{ sleep 0.2; "$PYTHON" "$MODULE" {arguments}; echo $? >&2; }} | true'
    complaint = shell(command, server).stderr
    assert complaint.splitlines()[-1] == "1"
    assert "Traceback" not in complaint
    assert "BrokenPipe" not in complaint


@pytest.mark.parametrize("arguments", [["token"], ["--help"]])
def test_a_closed_pipe_is_quietly_exit_status_1(configured, capfd, arguments):
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        assert run(*arguments) == 1
        output.flush()  # as Python does on exit
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_exit_status_1(configured, capfd):
    with open("/dev/full", "w", encoding="utf-8") as output, contextlib.redirect_stdout(output):
        assert run("token") == 1
    complaint = capfd.readouterr().err
    assert complaint.startswith("jira-jwt-oauth: ")
    assert "No space left" in complaint


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_traceback(server):
    done = shell('"$PYTHON" "$MODULE" token > /dev/full', server)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_closed_output_is_no_traceback(server):
    assert "Traceback" not in shell('"$PYTHON" "$MODULE" token >&-', server).stderr


# The file


def test_the_command_line_may_be_deleted(server, monkeypatch):
    source = MODULE.read_text(encoding="utf-8")
    library, command_line, _ = source.partition("# The command line. You may delete everything")
    assert command_line
    module = types.ModuleType("vendored")
    monkeypatch.setitem(sys.modules, "vendored", module)
    exec(compile(library, str(MODULE), "exec"), vars(module))
    endpoint = module.Endpoint("https://as.example", f"{server.url}/oauth2/token")
    config = module.Config(**{**ARGUMENTS, "base_url": server.url}, endpoint=endpoint)
    assert call(config.opener(), f"{server.url}/rest")["bearer"][7:] in server.valid


def test_a_star_import_brings_nothing_else():
    names = {}
    exec("from jira_jwt_oauth import *", names)
    assert set(names) - {"__builtins__"} == set(jjo.__all__)


def test_what_only_commands_need_is_imported_by_them():
    imports = re.findall(r"^(?:from|import) ([\w.]+)", MODULE.read_text(encoding="utf-8"), re.M)
    assert "urllib.request" in imports
    assert not {"argparse", "http.server", "socketserver", "dataclasses"} & set(imports)


# The README

README = (MODULE.parent / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall("^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL_BLOCKS = re.findall("^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SETTINGS = PYTHON_BLOCKS[0].partition("opener =")[0]


@pytest.fixture
def newcomer(server, tmp_path):
    """Return a function that runs a block of the README beside a copy of the file.

    In both, the hosts of Atlassian become the server's.
    """

    def aimed(text):
        for host in ("mycompany.atlassian.net", jjo.ATLASSIAN.auth_url[len("https://") :]):
            text = text.replace(f"https://{host}", server.url)
        return text

    def run(*command):
        return subprocess.run(
            [aimed(part) for part in command],
            cwd=tmp_path,
            env={"PATH": os.environ["PATH"]},  # nobody else's settings
            stdout=subprocess.PIPE,
            timeout=60,
            check=True,
        ).stdout.decode()

    (tmp_path / "jira_jwt_oauth.py").write_text(aimed(MODULE.read_text(encoding="utf-8")))
    (tmp_path / "installed.json").write_text(aimed(json.dumps(INSTALLATION)))
    (tmp_path / "company-ca.pem").write_text(CERTIFICATE)
    return run


@pytest.mark.parametrize("block", PYTHON_BLOCKS, ids=range(1, len(PYTHON_BLOCKS) + 1))
def test_every_python_block_of_the_readme_runs(server, newcomer, block):
    for client in ("requests", "httpx"):
        if f"import {client}\n" in block:
            pytest.importorskip(client)
    if "to_thread" in block and sys.version_info < (3, 9):
        pytest.skip("asyncio.to_thread is new in Python 3.9")
    newcomer(sys.executable, "-c", SETTINGS + block)
    assert bool(server.calls) == ("/rest/" in block)
    assert all(call["bearer"] for call in server.calls)


def test_the_readme_keeps_a_token_for_its_owner_alone(server, newcomer, tmp_path):
    (block,) = (block for block in PYTHON_BLOCKS if "os.replace" in block)
    for content, posts in ((None, 1), (None, 1), ("", 2), ('{"access', 3), ("[]", 4)):
        for file in tmp_path.glob("token-*.json"):
            if content is not None:
                file.write_text(content)
        newcomer(sys.executable, "-c", SETTINGS + block)
        assert len(server.posts) == posts
    (file,) = tmp_path.glob("token-*")
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_commands_of_the_readme_run(server, newcomer):
    demo, check, _tests = SHELL_BLOCKS
    path = f"PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n"
    assert "4. The authorization server answers" in newcomer("sh", "-ec", path + demo)
    if not shutil.which("curl"):
        check = check[: check.index("curl")]
    shown = newcomer("sh", "-ec", path + check)
    assert shown.partition("\n")[0] in server.valid
    assert len(server.calls) == shown.count('"PROJ-2"')


def test_the_reference_of_the_readme_lists_every_public_name():
    reference = README.partition("## Reference")[2].partition("\n## ")[0]
    for name in jjo.__all__:
        assert f"`{name}" in reference


def test_the_readme_quotes_messages_as_they_are():
    symptoms = [
        "environment variables are missing or empty: JIRA_",
        " must not start or end with white space",
        "scopes must name at least one scope",
        "payload lacks oauthClientId",
        "not a complete JSON object (Content-Type: ",
        "a redirect (Location: ",
        "; this machine's clock is ",
    ]
    source = MODULE.read_text(encoding="utf-8").replace('"\n            f"', "")
    for symptom in symptoms:
        assert symptom in README
        assert symptom.replace("JIRA_", "").replace("oauthClientId", "") in source
