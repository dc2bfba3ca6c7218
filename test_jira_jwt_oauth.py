"""What jira_jwt_oauth promises, in the order of the module, over real sockets on loopback.

`Server` stands in for Atlassian: a token endpoint at /oauth2/token, and a site everywhere else.
It behaves well until a test says otherwise. Each entry of `server.answers` is the answer to one
token request. When none is left, the token endpoint grants a token:

    server.answers += [reply(503), grant(expires_in=5)]

Afterwards, `server.posts` holds the token requests and `server.calls` the requests to the site.
"""

from __future__ import annotations

import asyncio
import base64
import collections
import contextlib
import copy
import email.utils
import hashlib
import http.client
import http.server
import inspect
import io
import itertools
import json
import math
import os
import pickle
import re
import select
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
    HTTPBasicAuthHandler,
    HTTPCookieProcessor,
    HTTPDigestAuthHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPPasswordMgrWithDefaultRealm,
    HTTPRedirectHandler,
    HTTPSHandler,
    ProxyHandler,
    Request,
)

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import jira_jwt_oauth as jjo
from jira_jwt_oauth import Config, Endpoint, Token, TokenError, TokenSource

no_deadline = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("any", no_deadline)
settings.register_profile("ci", no_deadline, derandomize=True)
settings.load_profile("ci" if "CI" in os.environ else "any")

MODULE = Path(jjo.__file__).resolve()
NAN, INFINITY, TOO_LARGE = float("nan"), float("inf"), 10**400
SITE = "https://mycompany.atlassian.net"
SECRET = "shared-secret-key"
ACCOUNT = "557058:12345678-1234-1234-1234-123456789abc"
ARGUMENTS = {
    "base_url": SITE,
    "subject": ACCOUNT,
    "client_id": "oauth-client-id",
    "client_secret": SECRET,
}
VECTOR = (  # the assertion of ARGUMENTS, issued at 1700000000
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJ1cm46YXRsYXNzaWFuOmNvbm5lY3Q6Y2xpZW50aWQ6b2"
    "F1dGgtY2xpZW50LWlkIiwic3ViIjoidXJuOmF0bGFzc2lhbjpjb25uZWN0OnVzZXJhY2NvdW50aWQ6NTU3MDU4OjEyM"
    "zQ1Njc4LTEyMzQtMTIzNC0xMjM0LTEyMzQ1Njc4OWFiYyIsInRudCI6Imh0dHBzOi8vbXljb21wYW55LmF0bGFzc2lh"
    "bi5uZXQiLCJhdWQiOiJodHRwczovL29hdXRoLTItYXV0aG9yaXphdGlvbi1zZXJ2ZXIuc2VydmljZXMuYXRsYXNzaWF"
    "uLmNvbSIsImV4cCI6MTcwMDAwMDA1OSwiaWF0IjoxNzAwMDAwMDAwfQ.NxGBkTfYxG2vcZnqumOycu-TYUSwWLnQQ_n"
    "K6h3nmbA"
)

# A certificate for 127.0.0.1 and localhost, for these tests only.
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


class Listener(socketserver.ThreadingTCPServer):
    """A server on a loopback port of its own, in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        poll = 0.002  # seconds, so that close() is quick
        threading.Thread(target=self.serve_forever, args=(poll,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass  # many tests are about clients that go away

    def close(self):
        self.shutdown()
        self.server_close()


class Server(Listener):
    """Stands in for Atlassian.

    The token endpoint verifies the assertion, keeps the request in `posts`, and gives the next of
    `answers`, or grants a token. The site keeps each request in `calls`, and sends it back as
    JSON, unless the request has a token that is not in `valid`: then it answers 401. The token
    endpoint adds the tokens that it grants to `valid`.

    /redirect?URL redirects, /loop redirects to itself, and /status?503 answers 503.
    """

    def __init__(self, context=None):
        self.posts, self.calls, self.valid = [], [], set()
        self.answers = collections.deque()
        self.is_closing = threading.Event()
        super().__init__(ServerHandler)
        self.url = f"http://{self.address}"
        if context:
            self.url = f"https://{self.address}"
            self.socket = context.wrap_socket(self.socket, server_side=True)
        # The same server under another name, and so another origin.
        self.other_host = self.url.replace("127.0.0.1", "localhost")

    @property
    def bearers(self):
        """Whether each call had a token."""
        return [bool(received["token"]) for received in self.calls]

    def close(self):
        self.is_closing.set()
        super().close()

    def config(self, **changes):
        endpoint = Endpoint("https://as.example", f"{self.url}/oauth2/token")
        return make_config(**{"base_url": self.url, "endpoint": endpoint, **changes})

    def source(self, *handlers, **options):
        return TokenSource(self.config(), *handlers, **options)

    def opener(self, *handlers, **options):
        return self.source(*handlers, **options).opener()


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
        # A proxy gets a whole URL in place of a path.
        if urllib.parse.urlsplit(self.path).path != "/oauth2/token":
            return self.site(body)
        form = dict(urllib.parse.parse_qsl(body.decode(), strict_parsing=True))
        claims = verify(form["assertion"])
        post = types.SimpleNamespace(headers=self.headers, body=body, form=form, claims=claims)
        self.server.posts.append(post)
        answer = self.server.answers.popleft() if self.server.answers else grant()
        answer(self)

    def do_GET(self):
        self.site(None)

    do_PUT = do_POST

    def site(self, body):
        token = (self.headers["Authorization"] or "").replace("Bearer ", "")
        received = {"method": self.command, "path": self.path, "token": token}
        self.server.calls.append(received)
        path, _, query = self.path.partition("?")
        if path == "/status":
            return self.reply(int(query), b"as asked")
        if path == "/redirect":
            return self.reply(302, Location=urllib.parse.unquote(query))
        if path == "/loop":
            return self.reply(302, Location=path)
        if token and token not in self.server.valid:
            return self.reply(401, b"who are you?", WWW_Authenticate='Bearer realm="site"')
        text = body if body is None else body.decode()
        headers = dict(self.headers)
        self.reply(200, {**received, "body": text, "headers": headers, "key": "for the README"})


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
    """Answer with a status, a body (bytes, or a dict to send as JSON) and headers."""
    return lambda handler: handler.reply(status, body, **headers)


def raw(data):
    """Write what HTTP may not allow, and close the connection."""
    return lambda handler: handler.wfile.write(data)


def drip(head, piece, every=0.02):
    """Write a head, and then a piece again and again, until the client has gone."""

    def answer(handler):
        handler.wfile.write(head)
        for _ in range(1000):
            handler.wfile.write(piece)
            handler.server.is_closing.wait(every)

    return answer


def silence(handler):
    """Do not answer."""
    handler.server.is_closing.wait(10)


def gate(answer):
    """Return (answer, begun, go). The answer sets `begun`, and waits until `go` is set."""
    begun, go = threading.Event(), threading.Event()

    def wait(handler):
        begun.set()
        go.wait(10)
        answer(handler)

    return wait, begun, go


class Proxy(Listener):
    """An HTTP proxy.

    CONNECT opens a tunnel to `target`. If `refusal` is set, CONNECT gets that answer instead.
    `tunnels` lists the hosts of CONNECT. `clear` lists the unencrypted requests, which the proxy
    answers itself.
    """

    def __init__(self, target):
        super().__init__(ProxyConnection)
        self.target, self.refusal, self.tunnels, self.clear = target, b"", [], []
        url = f"http://{self.address}"
        self.handler = ProxyHandler({"http": url, "https": url})


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
    """Takes the place of a connection: keeps each request, and answers 200."""

    def __init__(self):
        self.requests = []

    def http_open(self, req):
        self.requests.append(req)
        response = urllib.response.addinfourl(io.BytesIO(b"{}"), http.client.HTTPMessage(), "", 200)
        response.msg = "OK"
        return response

    https_open = http_open


class Hook(BaseHandler):
    """Calls a function with each request before it is sent, and one with each response."""

    handler_order = 1

    def __init__(self, before=lambda request: None, after=lambda response: None):
        self.before, self.after = before, after

    def http_request(self, req):
        self.before(req)
        return req

    def http_response(self, req, response):
        self.after(response)
        return response


class Clock:
    """The time as the module sees it: real time, moved on by hand and by `time.sleep`.

    `ahead`: how many seconds the clock of this machine is fast. It does not affect `server_time`.
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
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)  # it takes long to load real certificates


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def server():
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture(scope="session")
def shared_server():
    """For tests by Hypothesis, which must not start a server for each example."""
    with contextlib.closing(Server()) as server:
        yield server


@pytest.fixture
def tls_server(tmp_path):
    file = tmp_path / "server.pem"
    file.write_text(PRIVATE_KEY + CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(str(file))
    with contextlib.closing(Server(context)) as server:
        yield server


@pytest.fixture
def trust():
    """A handler that trusts the TLS server."""
    return HTTPSHandler(context=ssl.create_default_context(cadata=CERTIFICATE))


@pytest.fixture
def proxy(tls_server):
    with contextlib.closing(Proxy(tls_server.server_address)) as proxy:
        yield proxy


class MyProxyHandler(ProxyHandler):
    pass


@pytest.fixture(params=[ProxyHandler, MyProxyHandler])
def tls_proxy(request, tls_server):
    """A handler that uses the TLS server as the proxy for http. The server answers itself."""
    return request.param({"http": tls_server.url})


@pytest.fixture
def closed_port():
    """The address of a port where nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{unused.getsockname()[1]}"


def make_config(**changes):
    return Config(**{**ARGUMENTS, **changes})


def call(opener, url, data=None, timeout=10):
    """Return what the site has received."""
    with opener.open(url, data, timeout=timeout) as response:
        return json.loads(response.read())


def unauthorized(opener, request):
    """Return the body of the 401 that reaches the caller, after checking that it is the site's."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        opener.open(request, timeout=10)
    with caught.value as error:
        assert (error.code, error.msg) == (401, "Unauthorized")
        assert error.url == (request if isinstance(request, str) else request.full_url)
        assert error.headers["WWW-Authenticate"] == 'Bearer realm="site"'
        return error.read()


def in_threads(count, function):
    """Call a function in threads that start together. Return what each returns or raises."""
    barrier = threading.Barrier(count)
    outcomes = []

    def work():
        barrier.wait()
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    end = time.perf_counter() + 30
    for thread in threads:
        thread.join(max(end - time.perf_counter(), 0))
    assert len(outcomes) == count
    return outcomes


def raising(error):
    """Return a function that raises an error, whatever it is given."""

    def function(*_):
        raise error

    return function


def shown(error):
    """Return an error as Python prints it, with its traceback."""
    return "".join(traceback.format_exception(type(error), error, error.__traceback__))


def error_of(source):
    """Return the TokenError of a source, after checking that it is one line without the secret."""
    with pytest.raises(TokenError) as caught:
        source.token()
    error = caught.value
    assert SECRET not in shown(error)
    assert str(error) == error.reason
    assert str(error).isprintable()
    return error


def each(*rows):
    """Turn (a, [x, y]) into (a, x) and (a, y), for each of the rows."""
    return [(*row[:-1], value) for row in rows for value in row[-1]]


# Values


@pytest.mark.parametrize(
    ("expires_at", "leeway", "is_expired"),
    [
        (1010.5, 10.0, False),
        (1010.0, 10.0, True),
        (1000.5, 0, False),
        (1000.0, 0, True),
        (None, 10**9, False),
    ],
)
def test_a_token_counts_as_expired_within_its_leeway(monkeypatch, expires_at, leeway, is_expired):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert Token("t", expires_at).is_expired(leeway) == is_expired


def test_a_token_expires_ten_seconds_early_by_default(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert Token("t", 1010.0).is_expired()
    assert not Token("t", 1010.5).is_expired()


def test_the_repr_of_a_token_does_not_show_it():
    assert repr(Token("hush", 5.0)) == "Token(access_token=..., expires_at=5.0)"


def test_a_token_error_is_a_url_error_with_a_plain_text():
    error = TokenError("what went wrong")
    assert isinstance(error, urllib.error.URLError)
    assert str(error) == error.reason == "what went wrong"
    assert (error.status, error.error, error.error_description) == (None, None, None)
    assert (error.body, error.retry_after) == (b"", None)


@pytest.mark.parametrize("twin", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_token_error_can_be_copied_and_pickled(twin):
    error = TokenError("no")
    error.status = 400
    assert (str(twin(error)), twin(error).status) == ("no", 400)


# Signing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def test_an_assertion_matches_the_known_vector():
    assert make_config().assertion(now=1700000000) == VECTOR


@given(st.dictionaries(st.text(), JSON | st.text()), st.text() | st.binary())
@example({}, "s" * 65)  # longer than a block of SHA-256
@example({}, b"s" * 64)
def test_any_jwt_verifies_and_keeps_the_order_of_its_claims(claims, secret):
    jwt = jjo.encode_jwt(claims, secret)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]{43}", jwt, re.ASCII)
    assert list(verify(jwt, secret).items()) == list(claims.items())


def test_a_jwt_holds_compact_utf_8():
    payload = jjo.encode_jwt({"a": "ü<&>", "b": 1}, "x").split(".")[1]
    assert payload == unpadded('{"a":"ü<&>","b":1}'.encode())


@pytest.mark.parametrize(
    ("error", "claims", "secret"),
    [
        (ValueError, {"exp": NAN}, "x"),
        (ValueError, {"sub": "\ud800"}, "x"),
        (TypeError, {"exp": {1}}, "x"),
        (TypeError, [("sub", "x")], "x"),
        (TypeError, jjo.ClaimSet("", "", "", "", 0, 0), "x"),
        (TypeError, {}, None),
        (TypeError, {}, bytearray(b"x")),
    ],
)
def test_what_cannot_be_signed_is_refused(error, claims, secret):
    with pytest.raises(error, match="^claims must|^secret must|JSON|utf-8"):
        jjo.encode_jwt(claims, secret)


def test_a_chained_error_does_not_show_a_bad_secret():
    with pytest.raises(ValueError, match="^secret contains") as caught:
        jjo.encode_jwt({}, "\ud800")
    assert "UnicodeEncodeError" not in shown(caught.value)


SCOPES = each(
    ("READ", ["read", ["read"], ("\tread\n", "", "+")]),
    ("READ WRITE", ["read write", "READ+write"]),
    ("WRITE READ WRITE", [["write", "read", "write"]]),
    ("READ WRITE ACT_AS_USER", [("read write", "act_as_user")]),
    ("READ:JIRA-WORK", ["read:jira-work"]),
)


@pytest.mark.parametrize(("expected", "scopes"), SCOPES)
def test_scopes_are_split_and_joined_in_upper_case(expected, scopes):
    assert jjo.format_scopes(scopes) == expected


SCOPE_CHARACTERS = sorted({chr(code) for code in range(0x21, 0x7F)} - {'"', "\\", "+"})


@given(st.lists(st.text(SCOPE_CHARACTERS, min_size=1), min_size=1))
def test_formatting_scopes_twice_changes_nothing(scopes):
    once = jjo.format_scopes(scopes)
    assert once == " ".join(scopes).upper() == jjo.format_scopes(once)


# Settings


def test_the_claims_come_from_the_settings():
    claims = make_config().claims(now=1700000000.9)
    assert claims == jjo.ClaimSet(
        iss="urn:atlassian:connect:clientid:oauth-client-id",
        sub=f"urn:atlassian:connect:useraccountid:{ACCOUNT}",
        tnt="https://mycompany.atlassian.net",
        aud="https://oauth-2-authorization-server.services.atlassian.com",
        exp=1700000059,
        iat=1700000000,
    )


def test_claims_are_issued_at_the_current_time(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1234.5)
    assert make_config().claims().iat == 1234


PRINTABLE = st.text(st.characters(whitelist_categories=["L", "N", "P", "S"]), min_size=1)


@given(PRINTABLE, PRINTABLE, st.integers(0, 2**40))
def test_any_assertion_verifies_with_the_claims_of_its_config(client_id, secret, now):
    config = make_config(client_id=client_id, client_secret=secret)
    claims = verify(config.assertion(now), secret)
    assert claims == config.claims(now)._asdict()
    assert list(claims) == ["iss", "sub", "tnt", "aud", "exp", "iat"]
    assert claims["iss"] == f"urn:atlassian:connect:clientid:{client_id}"


def test_a_subject_that_is_a_whole_urn_is_sent_unchanged():
    urn = "urn:atlassian:connect:userkey:jane@corp/x"
    assert make_config(subject=urn).claims().sub == urn


GOOD_URLS = """
    https://a.example  https://a.example/  https://a.example/wiki/  https://a.example/X
    https://a.example/a@b  https://A_1.example:8443  https://a.example:65535  https://[::1]:1/
    HTTPS://a.example  http://localhost:8080/  http://LOCALHOST:8080  http://127.0.0.1
    http://[::1]:80
""".split()


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_good_base_url_is_kept_without_its_last_slash(server, url):
    config = server.config(base_url=url)
    assert config.base_url == config.claims().tnt == url.rstrip("/")


BAD_URLS = each(
    ("start with https", ["", "mycompany.atlassian.net", "//a.example", "hush@a"]),
    ("ASCII", ["https://a.example ", " https://a.example", "https://ä.net", "https://x@a#hu\nsh"]),
    ("user name", ["https://me@a.example", "https://me:hush@a.example"]),
    ("query", ["https://a.example?x=hush", "https://a.example/?x", "https://me:x/?#hush@a"]),
    ("fragment", ["https://a.example#hush", "https://a.example/#top"]),
    ("backslash", ["https://a.example\\b", "https://a.example/\\b"]),
    ("localhost", "http://a.example http://localhost.example http://127.0.0.1.example".split()),
    ("localhost", "http://127.1 http://[::2] http://0.0.0.0".split()),
    (
        "host",
        "https:// https:///wiki https://:443 https://.atlassian.net https://a..example".split(),
    ),
    ("host", "https://a.example. https://*.atlassian.net https://<site>.atlassian.net".split()),
    ("host", "https://a%2eexample https://[::1 https://a] https://[a.example] https://[1]".split()),
    ("port", "https://a.example: https://a.example:0 https://a.example:65536".split()),
    ("port", "https://a.example:0443 https://a.example:+80 https://a.example:80:80".split()),
)


@pytest.mark.parametrize(("word", "url"), BAD_URLS)
@pytest.mark.parametrize("name", ["base_url", "token_url"])
def test_an_error_says_what_is_wrong_with_a_url(server, name, word, url):
    endpoint = Endpoint("https://as.example", url)
    changes = {"base_url": url} if name == "base_url" else {"endpoint": endpoint}
    with pytest.raises(ValueError, match=f"^{name} .*{word}") as caught:
        server.config(**changes)
    is_shown = repr(url) in str(caught.value)
    may_hold_a_secret = bool(re.search("[@?#]", url))
    assert is_shown != may_hold_a_secret
    assert "hu" not in str(caught.value)


def test_a_long_url_is_refused_without_delay():
    started = time.monotonic()
    with pytest.raises(ValueError, match="^base_url"):
        make_config(base_url="https://" + "x." * 100000)
    assert time.monotonic() - started < 1


@pytest.mark.parametrize("path", ["/jira", "/jira/your-work", "/rest/api/3", "/wiki/home", "/WIKI"])
@pytest.mark.parametrize("endpoint", [None, jjo.ATLASSIAN, jjo.ATLASSIAN_GOVERNMENT])
def test_an_address_from_the_browser_is_not_a_base_url(path, endpoint):
    with pytest.raises(ValueError, match=f"^base_url must be {SITE} .*, not '{SITE}{path}'$"):
        make_config(base_url=SITE + path, endpoint=endpoint)


@pytest.mark.parametrize(
    ("base_url", "endpoint"),
    [
        ("https://agency.atlassian-us-gov-mod.net", jjo.ATLASSIAN_GOVERNMENT),
        ("https://AGENCY.ATLASSIAN-US-GOV-MOD.COM/wiki", jjo.ATLASSIAN_GOVERNMENT),
        ("https://agency.atlassian-us-gov-mod.net.example", jjo.ATLASSIAN),
        ("https://not-atlassian-us-gov-mod.net", jjo.ATLASSIAN),
        ("https://mycompany.atlassian.net", jjo.ATLASSIAN),
    ],
)
def test_the_host_chooses_the_endpoint(base_url, endpoint):
    assert make_config(base_url=base_url).endpoint == endpoint


def test_the_endpoints_are_the_ones_of_atlassian():
    host = "https://oauth-2-authorization-server.services.atlassian"
    government = f"{host}-us-gov-mod.com"
    assert jjo.ATLASSIAN == Endpoint(f"{host}.com", f"{host}.com/oauth2/token")
    assert jjo.ATLASSIAN_GOVERNMENT == Endpoint(government, f"{government}/oauth2/token")


BAD_SETTINGS = each(
    ("base_url", TypeError, "must be str", [None, b"https://a.example"]),
    ("subject", TypeError, "must be str", [5]),
    ("subject", ValueError, "letters", ["", "Jane Doe", "a\n", "a\ud800", '"557058:1"', "jané"]),
    ("subject", ValueError, "e-mail", ["jane@corp.example"]),
    ("subject", ValueError, "profile page", ["https://x.atlassian.net/jira/people/557058%3A1"]),
    ("subject", ValueError, "%3A", ["557058%3A1"]),
    ("subject", ValueError, "spaces", ["urn:atlassian:connect:userkey:a b"]),
    ("client_id", TypeError, "must be str", [None]),
    ("client_id", ValueError, "empty", [""]),
    ("client_id", ValueError, "unprintable", ["a\tb"]),
    ("client_secret", TypeError, "must be str or bytes", [None, bytearray(b"x")]),
    ("client_secret", ValueError, "empty", ["", b""]),
    ("client_secret", ValueError, "white space", ["hush\n", " hush"]),
    ("client_secret", ValueError, "unprintable", ["\ufeffhush", "hush\u200b"]),
    ("client_secret", ValueError, "UTF-8", ["hush\ud800"]),
    ("scopes", TypeError, "must be", [5, [5], b"read", [b"read"]]),
    ("scopes", ValueError, "at least one", ["", " + ", [], [""]]),
    ("scopes", ValueError, "visible ASCII", ["re\\ad", 'read"', "réad", "straße", "\u017f"]),
    ("scopes", ValueError, "visible ASCII", ["read\x00", "\x7f", "\ud800"]),
    ("endpoint", TypeError, "must be Endpoint", [SITE, ("a", SITE)]),
    ("auth_url", ValueError, "empty", [Endpoint("", SITE)]),
    ("auth_url", ValueError, "UTF-8", [Endpoint("\ud800", SITE)]),
    ("auth_url", TypeError, "must be str", [Endpoint(b"a", SITE)]),
    ("token_url", TypeError, "must be str", [Endpoint("a", None)]),
)


@pytest.mark.parametrize(("name", "error", "word", "value"), BAD_SETTINGS)
def test_an_error_names_a_bad_setting(name, error, word, value):
    changes = {"endpoint": value} if isinstance(value, Endpoint) else {name: value}
    with pytest.raises(error, match=f"^{name} .*{word}") as caught:
        make_config(**changes)
    assert SECRET not in shown(caught.value)
    assert "hush" not in str(caught.value)


WORDS = [
    (
        {"base_url": "https://a.example?x"},
        "base_url must not contain a query or a fragment: remove '?' or '#' and what follows"
        " (the URL is not shown, as it may hold a secret)",
    ),
    (
        {"base_url": "http://a.example"},
        "base_url must start with https:// (or be on localhost, 127.0.0.1, [::1]):"
        " 'http://a.example'",
    ),
    (
        {"base_url": "https://a.atlassian.net/jira/your-work"},
        "base_url must be https://a.atlassian.net for Jira, or https://a.atlassian.net/wiki for"
        " Confluence, not 'https://a.atlassian.net/jira/your-work'",
    ),
    (
        {"subject": "Jane Doe"},
        "subject must be an account ID, made of letters, digits, ':', '-' and '_': 'Jane Doe'",
    ),
    ({"client_id": 5}, "client_id must be str, not int"),
    ({"client_secret": 5}, "client_secret must be str or bytes, not int"),
    ({"client_secret": "\ud800"}, "client_secret contains a character that UTF-8 cannot encode"),
    ({"scopes": ""}, "scopes must name at least one scope; to get all scopes, leave it out"),
]


@pytest.mark.parametrize(("changes", "words"), WORDS)
def test_errors_about_settings_are_worded_like_this(changes, words):
    with pytest.raises((TypeError, ValueError)) as caught:
        make_config(**changes)
    assert str(caught.value) == words


@pytest.mark.parametrize("secret", [b"\r\n", b"\xff\x00", b"\xef\xbb\xbfx", "a space"])
def test_bytes_and_inner_spaces_are_kept_in_a_secret(secret):
    assert verify(make_config(client_secret=secret).assertion(), secret)["tnt"] == SITE


def test_any_audience_is_accepted():
    endpoint = Endpoint("not a URL at all", "https://as.example/token")
    assert make_config(endpoint=endpoint).claims().aud == "not a URL at all"


def test_the_arguments_are_attributes():
    config = make_config(base_url="https://a.example/", scopes=["read", "write"])
    assert (config.base_url, config.subject) == ("https://a.example", ACCOUNT)
    assert (config.client_id, config.client_secret) == ("oauth-client-id", SECRET)
    assert (config.scopes, config.endpoint) == ("READ WRITE", jjo.ATLASSIAN)


@pytest.mark.parametrize("name", ["base_url", "client_secret", "endpoint", "typo"])
def test_an_attribute_of_a_config_cannot_be_set(name):
    with pytest.raises(AttributeError, match=rf"config.replace\({name}="):
        setattr(make_config(), name, "x")


@pytest.mark.parametrize("secret", [SECRET, SECRET.encode()])
def test_the_repr_of_a_config_shows_everything_but_the_secret(secret):
    text = repr(make_config(client_secret=secret, scopes="read"))
    assert SECRET not in text
    for value in (SITE, ACCOUNT, "oauth-client-id", "READ", repr(jjo.ATLASSIAN)):
        assert value in text


def test_a_config_can_be_copied_and_pickled():
    config = make_config()
    for twin in (copy.copy(config), copy.deepcopy(config), pickle.loads(pickle.dumps(config))):
        assert repr(twin) == repr(config)
        assert twin.client_secret == SECRET


def test_replace_changes_only_what_it_is_given():
    config = make_config(scopes="read")
    other = config.replace(subject="5b10a2844c20165700ede21G")
    assert config.subject == ACCOUNT
    assert repr(other) == repr(config).replace(ACCOUNT, "5b10a2844c20165700ede21G")
    assert other.client_secret == SECRET
    assert config.replace(scopes=None).scopes is None


def test_replace_chooses_the_endpoint_again_unless_you_gave_one():
    config = make_config()
    agency = "https://agency.atlassian-us-gov-mod.net"
    assert config.replace(base_url=agency).endpoint == jjo.ATLASSIAN_GOVERNMENT
    explicit = config.replace(endpoint=jjo.ATLASSIAN)
    assert explicit.replace(base_url=agency).endpoint == jjo.ATLASSIAN


def test_replace_checks_the_settings():
    with pytest.raises(ValueError, match="^subject"):
        make_config().replace(subject="jane@corp.example")
    with pytest.raises(TypeError, match="tenant"):
        make_config().replace(tenant="x")


# Settings from elsewhere

ENVIRONMENT = {f"JIRA_{name.upper()}": value for name, value in ARGUMENTS.items()}
URLS = {"JIRA_AUTH_URL": "https://as.example", "JIRA_TOKEN_URL": "https://as.example/token"}


def environment_for(server):
    """Return the environment of this process, with the settings for a server."""
    token_url = f"{server.url}/oauth2/token"
    changes = {"JIRA_BASE_URL": server.url, "JIRA_TOKEN_URL": token_url}
    return {**os.environ, **ENVIRONMENT, **URLS, **changes}


def test_settings_come_from_the_current_environment(monkeypatch):
    monkeypatch.setattr(
        os, "environ", {**ENVIRONMENT, "JIRA_SCOPES": "", "JIRA_AUTH_URL": "", "JIRA_TOKEN_URL": ""}
    )
    assert repr(Config.from_env()) == repr(make_config())


def test_optional_settings_come_from_the_environment_too():
    config = Config.from_env({**ENVIRONMENT, **URLS, "JIRA_SCOPES": "read write"})
    assert config.scopes == "READ WRITE"
    assert config.endpoint == ("https://as.example", "https://as.example/token")


@pytest.mark.parametrize(
    ("environment", "missing"),
    [
        ({}, "JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID, JIRA_CLIENT_SECRET"),
        ({**ENVIRONMENT, "JIRA_SUBJECT": "", "JIRA_CLIENT_ID": ""}, "JIRA_SUBJECT, JIRA_CLIENT_ID"),
        ({**ENVIRONMENT, "JIRA_AUTH_URL": "https://as.example"}, "JIRA_TOKEN_URL"),
        ({**ENVIRONMENT, "JIRA_TOKEN_URL": "https://as.example"}, "JIRA_AUTH_URL"),
    ],
)
def test_an_error_names_all_missing_variables_at_once(environment, missing):
    with pytest.raises(ValueError, match=f"missing or empty: {missing}$"):
        Config.from_env(environment)


BAD_VARIABLES = """
    JIRA_BASE_URL=x  JIRA_SUBJECT=jané  JIRA_CLIENT_ID=a\u200bb  JIRA_CLIENT_SECRET=\ufeffhush
    JIRA_SCOPES=+  JIRA_TOKEN_URL=http://as.example
""".split()


@pytest.mark.parametrize("variable", BAD_VARIABLES)
def test_an_error_names_a_bad_variable(variable):
    name, _, value = variable.partition("=")
    with pytest.raises(ValueError, match=f"^{name} must ") as caught:
        Config.from_env({**ENVIRONMENT, **URLS, name: value})
    assert "hush" not in str(caught.value)


INSTALLATION = {
    "baseUrl": SITE,
    "oauthClientId": "oauth-client-id",
    "sharedSecret": SECRET,
    "key": "my-app",
}


def test_settings_come_from_an_installation():
    endpoint = Endpoint(*URLS.values())
    options = {"scopes": "read", "endpoint": endpoint}
    config = Config.from_installation(INSTALLATION, subject=ACCOUNT, **options)
    assert repr(config) == repr(make_config(**options))
    assert config.client_secret == SECRET


@pytest.mark.parametrize("key", ["baseUrl", "sharedSecret", "oauthClientId"])
@pytest.mark.parametrize("value", [None, ""])
def test_an_error_names_what_an_installation_lacks(key, value):
    hint = "; .* ACT_AS_USER scope" if key == "oauthClientId" else ""
    with pytest.raises(ValueError, match=f"^payload lacks {key}{hint}$"):
        Config.from_installation({**INSTALLATION, key: value}, subject=ACCOUNT)


def test_an_error_names_all_that_an_installation_lacks():
    with pytest.raises(ValueError, match="^payload lacks baseUrl, sharedSecret$"):
        Config.from_installation({"oauthClientId": "x"}, subject=ACCOUNT)


@pytest.mark.parametrize("payload", [json.dumps(INSTALLATION), b"{}", None, [INSTALLATION]])
def test_an_installation_must_be_parsed(payload):
    with pytest.raises(TypeError, match="^payload must be"):
        Config.from_installation(payload, subject=ACCOUNT)


# Options


def test_the_options_reach_the_source(server, clock):
    saved = Token("saved", time.time() + 59)
    source = server.config().token_source(token=saved, timeout=5, leeway=60)
    server.answers.append(reply(429, Retry_After="6"))  # longer than the timeout
    assert error_of(source).status == 429
    assert not clock.naps


BAD_OPTIONS = each(
    ("timeout", TypeError, ["30", None, (3, 30)]),
    ("timeout", ValueError, [0, -1, INFINITY, NAN, TOO_LARGE]),
    ("leeway", TypeError, ["10"]),
    ("leeway", ValueError, [-0.5, NAN, TOO_LARGE]),
    ("token", TypeError, ["eyJ", {"access_token": "x"}, Token(None), Token("x", "1700000000")]),
    ("token", ValueError, [Token(""), Token("a b"), Token("ä"), Token("x", NAN)]),
    ("token", ValueError, [Token("x", INFINITY), Token("x", -TOO_LARGE)]),
    ("config", TypeError, [ARGUMENTS]),
)


@pytest.mark.parametrize(("name", "error", "value"), BAD_OPTIONS)
def test_an_error_names_a_bad_option(name, error, value):
    with pytest.raises(error, match=f"^{name}[ .]"):
        TokenSource(**{"config": make_config(), name: value})


@pytest.mark.parametrize("make", [Config.opener, Config.auth, Config.token_source])
@pytest.mark.parametrize(
    "wrong", ["http://proxy:3128", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), object(), str]
)
def test_an_error_says_how_to_pass_a_proxy_and_a_context(make, wrong):
    with pytest.raises(TypeError) as caught:
        make(make_config(), ProxyHandler({}), wrong)
    assert str(caught.value) == (
        f"handlers must be urllib handlers, not {type(wrong).__name__}: pass a proxy as"
        " ProxyHandler({'https': url}) and an SSL context as HTTPSHandler(context=context)"
    )


@pytest.mark.parametrize("function", [TokenSource, Config.token_source])
def test_function_signatures_show_all_options(function):
    options = list(inspect.signature(function).parameters.values())[2:]
    defaults = {option.name: option.default for option in options}
    assert defaults == {"token": None, "timeout": 30.0, "leeway": 10.0}


# The token endpoint


def test_the_token_request_has_the_documented_form(server):
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


def test_without_scopes_the_token_request_has_none(server):
    server.source().token()
    assert set(server.posts[0].form) == {"grant_type", "assertion"}
    assert server.posts[0].form["grant_type"] == jjo.GRANT_TYPE


def strict(clock):
    """Grant a token if the assertion is valid by the clock of the server."""

    def answer(handler):
        claims = handler.server.posts[-1].claims
        now = clock.server_time()
        is_valid = claims["iat"] <= now < claims["exp"] <= now + 60
        (grant() if is_valid else reply(400))(handler)

    return answer


@pytest.mark.parametrize("ahead", [-45, 0, 9.5])
def test_a_strict_server_accepts_a_clock_that_is_a_little_off(server, clock, ahead):
    clock.ahead = ahead
    server.answers.append(strict(clock))
    server.source().token()
    assert len(server.posts) == 1


CLOCKS = each(
    (400, "fast", [600, 13]),
    (400, "slow", [-600, -13]),
    (401, "fast", [600]),
    (401, "slow", [-13]),
    (400, None, [0, 8.5, -8.5]),
    (403, None, [600]),
    (500, None, [600]),
)


@pytest.mark.parametrize(("status", "word", "ahead"), CLOCKS)
def test_a_refusal_says_how_far_off_the_clock_is(server, clock, status, word, ahead):
    clock.ahead = ahead
    server.answers += [reply(status, {"error": "no"}, Date=clock.date())] * 3
    message = str(error_of(server.source()))
    if word is None:
        assert message.endswith(f"HTTP {status}, 'no'")
    else:
        said = re.search(rf"; this machine's clock is (\d+) s {word}$", message)
        assert abs(int(said[1]) - abs(ahead)) <= 2


@pytest.mark.parametrize("is_dated_first", [True, False])
def test_a_slow_server_is_not_mistaken_for_a_wrong_clock(server, clock, is_dated_first):
    def answer(handler):
        date = clock.date()
        clock.moved += 15
        handler.reply(400, {"error": "no"}, Date=date if is_dated_first else clock.date())

    server.answers.append(answer)
    assert "clock" not in str(error_of(server.source()))


@pytest.fixture(params=["EAST-9", "WEST+9"])
def time_zone(request, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setenv("TZ", request.param)
        time.tzset()
        yield
    time.tzset()


@pytest.mark.parametrize("form", ["%a, %d %b %Y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"])
def test_a_date_is_read_as_gmt(server, clock, time_zone, form):
    clock.ahead = 3600
    date = time.strftime(form, time.gmtime(clock.server_time()))
    server.answers.append(reply(400, {"error": "no"}, Date=date))
    assert re.search(r"clock is 36\d\d s fast|clock is 3599 s fast", str(error_of(server.source())))


@pytest.mark.parametrize(
    "date",
    [
        "",
        ",",
        "soon",
        "Mon, 1 Jan 99999999999999 0:0:0 GMT",
        f"Mon, {'9' * 400} Jan 2020 0:0:0 GMT",
    ],
)
def test_a_date_that_makes_no_sense_is_ignored(server, date):
    server.answers.append(reply(400, {"error": "no"}, Date=date))
    assert str(error_of(server.source())).endswith("HTTP 400, 'no'")


def test_a_wrong_date_does_not_spoil_the_next_call(server, clock):
    year_ahead = email.utils.formatdate(time.time() + 31536000, usegmt=True)
    server.answers += [reply(401, {"error": "no"}, Date=year_ahead), strict(clock)]
    source = server.source()
    assert "s slow" in str(error_of(source))
    assert isinstance(source.token(), Token)


GOOD_ANSWERS = each(
    ("expires_in", 900, [900, "900", "9e2"]),
    ("expires_in", 1.5, [1.5]),
    ("expires_in", None, [None, 0, "0"]),
    ("token_type", 900, ["bearer", "BEARER", None]),
    ("error", 900, [None, "", {"code": 0}]),
    ("more", 900, [[1, {}]]),
)


@pytest.mark.parametrize(("name", "lifetime", "value"), GOOD_ANSWERS)
def test_a_good_answer_becomes_a_token(server, name, lifetime, value):
    server.answers.append(grant(**{name: value}))
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


def test_an_answer_in_pieces_is_read_whole(server):
    def answer(handler):
        handler.wfile.write(b'HTTP/1.1 200 OK\r\n\r\n{"access_token": ')
        handler.server.is_closing.wait(0.1)
        handler.wfile.write(b'"abc"}')

    server.answers.append(answer)
    assert server.source().token() == Token("abc")


def test_an_answer_may_begin_with_a_byte_order_mark(server):
    server.answers.append(reply(200, b"\xef\xbb\xbf" + b'{"access_token": "abc"}'))
    assert server.source().token() == Token("abc")


BAD_ANSWERS = each(
    ("access_token", [None, "", 5, "a b", "abc\r\nX: y", "abc\n", "ä"]),
    ("token_type", ["mac", "", 5]),
    ("expires_in", [-1, "-1", NAN, INFINITY, "1e999", True, "", "soon", "\u0665", []]),
    ("error", ["no"]),
)


@pytest.mark.parametrize(("name", "value"), BAD_ANSWERS)
def test_an_answer_without_a_usable_token_is_an_error(server, name, value):
    server.answers.append(grant(**{name: value}))
    error = error_of(server.source())
    assert (error.status, error.body) == (200, b"")
    assert error.error == (value if name == "error" else None)
    assert len(server.posts) == 1


def test_the_fields_of_an_error_hold_what_the_server_sent(server):
    content = {"error": "invalid_grant", "error_description": "no such user"}
    server.answers.append(reply(400, content, Retry_After="7"))
    error = error_of(server.source())
    assert (error.status, error.error, error.error_description) == (400, *content.values())
    assert json.loads(error.body) == content
    assert error.retry_after == 7.0
    assert error.__cause__ is None


def test_headers_that_python_cannot_parse_are_a_token_error(server):
    content_type = "multipart/x; boundary*=utf-8''a; boundary*0=b"
    server.answers.append(reply(400, {"error": "no"}, Content_Type=content_type))
    assert "TypeError: " in str(error_of(server.source()))


@pytest.mark.parametrize("value", [5, None, [], {"a": 1}, True, ""])
def test_an_error_code_that_is_not_a_string_is_left_out(server, value):
    server.answers.append(reply(400, {"error": value, "error_description": value}))
    error = error_of(server.source())
    assert (error.error, error.error_description) == (None, None)


def test_errors_about_answers_are_worded_like_this(server, clock):
    """The exact words. Other tests look for single ones."""
    page = b"<html>\n<title>No required SSL certificate was sent</title>\n"
    no_json = reply(200, page, Content_Type="text/html")
    expected = [
        ([reply(400, {"error": "invalid_grant"})], "HTTP 400, 'invalid_grant'"),
        (
            [reply(401, {"error": "invalid_client", "error_description": "Ünknown\nclient"})],
            r"HTTP 401, 'invalid_client', 'Ünknown\nclient'",
        ),
        ([reply(401, b'{"code": 401}')], """HTTP 401, '{"code": 401}'"""),
        ([reply(400)], "HTTP 400, an empty answer"),
        ([reply(403, b"n\xf6")], "HTTP 403, 'n\ufffd'"),
        ([reply(400, page)], f"HTTP 400, {page.decode()!r}"),
        (
            [reply(302, Location="https://a.example/?next=1")],
            "HTTP 302, a redirect (Location: 'https://a.example/?next=1'), which is not followed",
        ),
        ([reply(300)], "HTTP 300, a redirect (Location: ''), which is not followed"),
        ([grant(access_token="")], "HTTP 200, access_token is missing or not visible ASCII"),
        ([grant(token_type="mac")], "HTTP 200, token_type is not Bearer"),
        ([grant(expires_in="soon")], "HTTP 200, expires_in is not a number of seconds"),
        ([no_json] * 3, "HTTP 200, not a complete JSON object (Content-Type: 'text/html')"),
        ([reply(200)] * 3, "HTTP 200, not a complete JSON object (Content-Type: '')"),
        ([raw(b"SSH-2.0-OpenSSH\r\n")], r"BadStatusLine: 'SSH-2.0-OpenSSH\r\n'"),
    ]
    for answers, words in expected:
        server.answers += answers
        message = str(error_of(server.source()))
        assert message == f"no access token from {server.url}/oauth2/token: {words}"


def test_a_message_shows_200_characters_of_each_part(server):
    server.answers.append(reply(400, {"error": "a" * 5000, "error_description": "b" * 5000}))
    error = error_of(server.source())
    assert str(error).endswith(f"HTTP 400, '{'a' * 200}', '{'b' * 200}'")
    assert len(error.error) == 5000


ECHOES = {
    "error": lambda echo: reply(400, {"error": echo}),
    "description": lambda echo: reply(400, {"error": "no", "error_description": echo}),
    "body": lambda echo: reply(400, echo.encode()),
    "location": lambda echo: reply(302, Location=echo),
    "status line": lambda echo: raw(f"HTTP/1.1 {echo}\r\n\r\n".encode()),
    "not HTTP": lambda echo: raw(f"{echo}\r\n\r\n".encode()),
}


@pytest.mark.parametrize("where", ECHOES)
def test_a_message_does_not_show_an_echo_of_the_signature(server, where):
    def answer(handler):
        signature = server.posts[0].form["assertion"].rpartition(".")[2]
        ECHOES[where](f"abc{signature}def")(handler)

    server.answers.append(answer)
    error = error_of(server.source())
    assert "abc...def" in str(error)
    assert server.posts[0].form["assertion"].rpartition(".")[2] not in shown(error)


FIELDS = st.sampled_from(["access_token", "error", "error_description", "expires_in", "token_type"])
OBJECTS = st.dictionaries(FIELDS, JSON | st.text(max_size=10)).map(json.dumps).map(str.encode)
STATUSES = st.sampled_from([b"200", b"201", b"204", b"300", b"400", b"401", b"404"])


def outcome_of(server, answer):
    """Return the Token or the TokenError that comes of these bytes."""
    server.answers.clear()
    server.answers += [raw(answer)] * 3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "sleep", lambda seconds: None)
        try:
            return server.source().token()
        except TokenError as error:
            return error


@given(STATUSES, st.binary(max_size=100) | OBJECTS, st.text("MonJa 0123456789:,GT-"))
def test_any_answer_becomes_a_token_or_a_token_error(shared_server, status, body, date):
    head = b"HTTP/1.1 %s x\r\nDate: %s\r\n\r\n" % (status, date.encode())
    outcome = outcome_of(shared_server, head + body)
    if isinstance(outcome, Token):
        assert status[:1] == b"2"
        assert re.fullmatch("[!-~]+", outcome.access_token)
    else:
        assert str(outcome).isprintable()
        assert outcome.status == int(status)
        assert outcome.body == (b"" if status[:1] == b"2" else body)


@given(st.binary(max_size=60))
def test_any_bytes_become_a_token_error(shared_server, data):
    assert str(outcome_of(shared_server, data)).isprintable()


# Retries

TOO_DEEP, TOO_LONG = b"[" * 60000, b"9" * 5000
NOT_JSON = [b"", b"<html>sign in</html>", b'{"access_token": "ab', b"[]", TOO_DEEP, TOO_LONG]
TRANSIENT_ERRORS = ["temporarily_unavailable", "server_error"]
TRANSIENT = [
    *[reply(status) for status in (408, 429, 500, 502, 503, 504)],
    *[reply(200, {"error": error, "access_token": "abc"}) for error in TRANSIENT_ERRORS],
    *[reply(400, {"error": error}) for error in TRANSIENT_ERRORS],
    *[reply(200, body) for body in NOT_JSON],
    *[reply(200, body, Content_Length=len(body) + 9) for body in NOT_JSON],
    raw(b""),
    raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc"),
]
FINAL = [
    *[reply(status) for status in (300, 302, 400, 401, 403, 404, 501, 505)],
    *[raw(data) for data in (b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b"HTTP/9.9 200 x\r\n")],
]


@pytest.mark.parametrize("answer", TRANSIENT)
def test_a_transient_failure_is_retried_twice(server, clock, answer):
    server.answers += [answer, answer]
    assert server.source().token().access_token in server.valid
    assert len(server.posts) == 3


def test_each_attempt_has_a_fresh_assertion(server, clock):
    server.answers += [reply(429, Retry_After="2")] * 2
    server.source().token()
    issued = [post.claims["iat"] for post in server.posts]
    assert issued == sorted(set(issued))


@pytest.mark.parametrize("answer", FINAL)
def test_a_lasting_failure_is_not_retried(server, clock, answer):
    server.answers.append(answer)
    error_of(server.source())
    assert len(server.posts) == 1
    assert not clock.naps


def test_the_third_failure_is_raised(server, clock):
    server.answers += [reply(503, b"one"), reply(503, b"two"), reply(503, b"three")]
    assert error_of(server.source()).body == b"three"
    assert len(server.posts) == 3


def test_the_waits_between_attempts_grow_and_vary(server, clock):
    server.answers += [reply(503)] * 60
    for _ in range(20):
        error_of(server.source())
    first, second = clock.naps[::2], clock.naps[1::2]
    assert all(0.5 <= nap <= 0.75 for nap in first)
    assert all(1.0 <= nap <= 1.5 for nap in second)
    assert len(set(clock.naps)) == 40


IGNORED = ["soon", "-1", "1.5", "\xb2", "Wed, 21 Oct 2026 07:28:00 GMT"]


@pytest.mark.parametrize(
    ("value", "shortest", "longest"),
    [("0", 0, 0), ("7", 7, 7), ("29", 29, 29), *[(value, 0.5, 0.75) for value in IGNORED]],
)
def test_retry_after_is_read_in_whole_seconds_only(server, clock, value, shortest, longest):
    server.answers.append(reply(429, Retry_After=value))
    server.source().token()
    assert shortest <= clock.naps[0] <= longest


@pytest.mark.parametrize("seconds", ["30", "3600", "9" * 400])
def test_a_retry_after_beyond_the_timeout_raises_at_once(server, clock, seconds):
    server.answers.append(reply(429, Retry_After=seconds))
    assert error_of(server.source()).retry_after == float(seconds)
    assert not clock.naps


def test_a_refused_connection_is_retried_and_chained(clock, closed_port):
    url = f"http://{closed_port}/token"
    error = error_of(make_config(endpoint=Endpoint("x", url)).token_source())
    assert len(clock.naps) == 2
    assert isinstance(error.__cause__.reason, ConnectionRefusedError)
    assert url in str(error)
    assert (error.status, error.body) == (None, b"")


def test_a_certificate_that_does_not_verify_is_final(tls_server, clock):
    error = error_of(tls_server.source())
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert not clock.naps


@pytest.mark.parametrize(
    ("status", "attempts"), [(401, 1), (403, 1), (407, 1), (502, 3), (503, 3), (504, 3)]
)
def test_an_error_names_a_proxy_that_refuses_a_tunnel(tls_server, proxy, clock, status, attempts):
    proxy.refusal = b"HTTP/1.1 %d No\r\n\r\n" % status
    message = str(error_of(tls_server.source(proxy.handler)))
    assert f"via proxy {proxy.address}: OSError: 'Tunnel connection failed: {status}" in message
    assert len(proxy.tunnels) == attempts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:hush@{}", "via proxy {}: ConnectionRefusedError: "),
        ("socks5://user:hush@{}", "via proxy {}: ConnectionRefusedError: "),
        ("http://{}\n", r"via proxy {}\n: ConnectionRefusedError: "),
        ("http:/user:hush@{}", "'http:/...@{}'"),
    ],
)
def test_an_error_names_a_dead_or_mistyped_proxy(
    tls_server, clock, monkeypatch, closed_port, url, words
):
    monkeypatch.setenv("https_proxy", url.format(closed_port))
    message = str(error_of(tls_server.source()))
    assert words.format(closed_port) in message
    assert "hush" not in message


def test_an_error_names_a_proxy_that_answers_for_the_server(server, proxy, clock):
    assert f"via proxy {proxy.address}: HTTP 200" in str(error_of(server.source(proxy.handler)))


# Bounds


@pytest.mark.parametrize("character", [b"x", b"/"])
def test_a_long_line_instead_of_http_is_reported_without_delay(server, character):
    server.answers.append(raw(character * 65000 + b"\r\n"))
    started = time.monotonic()
    error_of(server.source())
    assert time.monotonic() - started < 2


def test_at_most_64_kib_of_an_answer_are_read(server, clock):
    content = json.dumps({"access_token": "abc"}).encode()
    server.answers.append(reply(200, content.ljust(65536)))
    assert server.source().token() == Token("abc")
    server.answers.append(reply(400, content.ljust(3 << 20)))
    assert len(error_of(server.source()).body) == 65536
    server.answers += [reply(200, b" " * 65536 + content)] * 3
    assert error_of(server.source()).status == 200


@pytest.mark.parametrize(
    "body",
    [b"[" + b"{}," * 22000, b'{"a":[' + b"[]," * 21000 + b"[]]}", b"x" * (32 << 20)],
    ids=["many objects", "many lists", "32 MiB"],
)
def test_an_exchange_needs_less_than_8_mib_of_memory(server, clock, body):
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    server.answers += [reply(200, body)] * 3
    tracemalloc.start()
    try:
        error_of(server.source())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "answer",
    [
        silence,
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n"),
    ],
)
def test_an_exchange_ends_within_twice_its_timeout(server, answer):
    server.answers += [answer] * 3
    started = time.monotonic()
    error = error_of(server.source(timeout=0.4))
    assert time.monotonic() - started < 0.8 + 1  # a second for a busy machine
    assert re.search("imeout.*: '(timed out|the answer took too long)'$", str(error))


def test_the_last_attempt_has_only_what_is_left_of_the_timeout(server, clock):
    server.answers += [reply(503), reply(503), silence]
    started = time.perf_counter()  # the Clock does not move it
    error_of(server.source(timeout=3))
    assert time.perf_counter() - started < 2.5
    assert len(server.posts) == 3


def test_a_timeout_may_be_as_long_as_you_like(server):
    assert server.source(timeout=1e300).token()


# The token request and the handlers of the caller


class Eager(HTTPRedirectHandler):
    handler_order = 1


class Lenient(HTTPErrorProcessor):
    """Lets every answer pass."""

    def http_response(self, request, response):
        return response


def password_handler(handler_class, url):
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, "user", "hush")
    return handler_class(passwords)


@pytest.mark.parametrize("handlers", [[], [HTTPRedirectHandler()], [Eager], [Eager(), Lenient]])
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_request_follows_no_redirect(server, status, handlers):
    server.answers.append(reply(status, Location=f"{server.url}/elsewhere"))
    assert error_of(server.source(*handlers)).status == status
    assert not server.calls


@pytest.mark.parametrize("scheme", ["Basic", "Digest", "Bearer"])
@pytest.mark.parametrize("handler_class", [HTTPBasicAuthHandler, HTTPDigestAuthHandler])
def test_the_token_request_answers_no_challenge(server, scheme, handler_class):
    challenge = f'{scheme} realm="x", nonce="y"'
    server.answers.append(reply(401, WWW_Authenticate=challenge))
    assert error_of(server.source(password_handler(handler_class, server.url))).status == 401
    assert len(server.posts) == 1


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError("x"), "OSError: 'x'"),
        (ValueError("x"), "ValueError: 'x'"),
        (http.client.HTTPException("x"), "HTTPException: 'x'"),
        (urllib.error.URLError("x"), "'x'"),
        (urllib.error.URLError(OSError("x")), "OSError: 'x'"),
    ],
)
def test_an_exception_of_the_network_becomes_a_token_error(server, clock, error, words):
    assert str(error_of(server.source(Hook(raising(error))))).endswith(f"/oauth2/token: {words}")


@pytest.mark.parametrize("error", [LookupError("x"), AssertionError("x"), KeyboardInterrupt()])
def test_an_exception_of_another_kind_propagates_unchanged(server, error):
    with pytest.raises(type(error)) as caught:
        server.source(Hook(raising(error))).token()
    assert caught.value is error


def test_a_source_and_its_openers_load_the_certificates_once(monkeypatch):
    made = []
    load = ssl.SSLContext.load_default_certs

    def count(self, *arguments):
        made.append(self)
        load(self, *arguments)

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", count)
    source = make_config().token_source()
    source.opener()
    source.opener()
    # Before Python 3.12, they are loaded for each connection, and not in advance.
    assert len(made) == (1 if sys.version_info >= (3, 12) else 0)


def test_the_handlers_of_the_caller_do_not_change(server):
    handlers = [ProxyHandler({}), HTTPHandler(), HTTPRedirectHandler()]
    before = [dict(vars(handler)) for handler in handlers]
    call(server.opener(*handlers), f"{server.url}/rest")
    assert [dict(vars(handler)) for handler in handlers] == before


def test_the_token_request_and_the_calls_share_a_cookie_jar(server):
    cookie = reply(200, {"access_token": "abc"}, Set_Cookie="seen=1; Path=/")
    server.answers.append(cookie)
    server.valid.add("abc")
    received = call(server.opener(HTTPCookieProcessor()), f"{server.url}/rest")
    assert received["headers"]["Cookie"] == "seen=1"


def test_handlers_reach_the_token_request_and_the_calls(tls_server, trust):
    config = tls_server.config()
    assert call(config.opener(trust), f"{tls_server.url}/rest")["token"] in tls_server.valid
    assert config.auth(trust).source.token().access_token in tls_server.valid


# The token source


@pytest.mark.parametrize(
    ("options", "left", "is_reused"),
    [
        ({}, 15, True),
        ({}, 9, False),
        ({"leeway": 60}, 65, True),
        ({"leeway": 60}, 59, False),
        ({"leeway": 0}, 5, True),
    ],
)
def test_a_saved_token_is_used_until_its_leeway(server, options, left, is_reused):
    saved = Token("saved", time.time() + left)
    assert (server.source(token=saved, **options).token() is saved) == is_reused


@pytest.mark.parametrize("lifetime", [None, 0])
def test_a_token_without_a_lifetime_is_reused(server, clock, lifetime):
    server.answers.append(grant(expires_in=lifetime))
    source = server.source()
    first = source.token()
    clock.moved += 10**7
    assert source.token() is first


def test_invalidate_drops_the_token_that_is_held(server):
    source = server.source(token=Token("one", time.time() + 900))
    assert source.invalidate(Token("other")) is False
    assert source.token().access_token == "one"
    assert source.invalidate(Token("one")) is True
    assert source.invalidate(Token("one")) is False
    assert source.token().access_token != "one"


def test_threads_without_a_token_share_one_exchange(server):
    tokens = in_threads(64, server.source().token)
    assert len(set(tokens)) == len(server.posts) == 1


def during_an_exchange(server, answer, function):
    """Call a function in eight threads, and give the answer when all of them have started."""
    wait, begun, go = gate(answer)
    server.answers.append(wait)
    started = threading.Barrier(9)

    def work():
        started.wait()
        return function()

    def release():
        started.wait()
        begun.wait(10)
        time.sleep(0.3)  # for the others to reach the lock
        go.set()

    threading.Thread(target=release, daemon=True).start()
    return in_threads(8, work)


def test_waiting_threads_share_a_token_however_short_lived(server):
    tokens = during_an_exchange(server, grant(expires_in=1), server.source().token)
    assert len(set(tokens)) == len(server.posts) == 1


def test_waiting_threads_each_get_an_exception_of_their_own(server):
    errors = during_an_exchange(server, reply(400, {"error": "no"}), server.source().token)
    assert [error.error for error in errors] == ["no"] * 8
    assert len(set(map(id, errors))) == 8
    assert len(server.posts) == 1


def test_after_an_interrupt_another_thread_makes_the_exchange(server, monkeypatch):
    server.answers.append(reply(503))
    source = server.source()
    monkeypatch.setattr(time, "sleep", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        source.token()
    assert isinstance(in_threads(1, source.token)[0], Token)


def test_a_urllib_handler_may_call_the_site_during_an_exchange(server):
    token_requests = []

    def call_the_site(request):
        if request.full_url.endswith("/oauth2/token"):
            token_requests.append(request)
            if len(token_requests) == 1:
                call(opener, f"{server.url}/rest")

    opener = server.opener(Hook(call_the_site))
    in_threads(1, lambda: call(opener, f"{server.url}/rest"))
    assert server.bearers == [True, True]


@pytest.fixture
def on_signal():
    """Choose what SIGUSR1 calls. A test that hangs ends with an AssertionError."""
    if not hasattr(signal, "SIGUSR1"):
        pytest.skip("needs POSIX signals")
    before = signal.getsignal(signal.SIGUSR1)
    signal.signal(signal.SIGALRM, raising(AssertionError("it hangs")))
    signal.alarm(10)
    yield lambda function: signal.signal(signal.SIGUSR1, lambda *_: function())
    signal.alarm(0)
    signal.signal(signal.SIGUSR1, before)


def send_signal(handler):
    """Send the main thread a signal, and grant a token a moment later."""
    signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
    handler.server.is_closing.wait(0.1)
    grant()(handler)


def test_a_signal_handler_may_ask_for_a_token_during_an_exchange(server, on_signal):
    source = server.source()
    tokens = []
    on_signal(lambda: tokens.append(source.token()))
    server.answers.append(send_signal)
    tokens.append(source.token())
    assert len(server.posts) == len(tokens) == 2
    assert source.token() in tokens


@pytest.mark.parametrize(
    ("raised", "caught_as"),
    [(LookupError("stop"), LookupError), (TimeoutError("stop"), TokenError)],
)
def test_an_exception_of_a_signal_handler_ends_the_exchange(server, on_signal, raised, caught_as):
    on_signal(raising(raised))
    server.answers.append(send_signal)
    with pytest.raises(caught_as, match="stop"):
        server.source().token()
    assert len(server.posts) == 1


FORK = """
import os, signal, sys, threading
from jira_jwt_oauth import Config
source = Config.from_env().token_source()
threading.Thread(target=source.token).start()
input()  # until the thread is in its exchange
child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1] != 0)
signal.alarm(10)
source.token()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_forked_during_an_exchange_makes_its_own(server):
    wait, begun, go = gate(grant())

    def release_the_other(handler):
        go.set()
        grant()(handler)

    server.answers += [wait, release_the_other]
    command = [sys.executable, "-W", "ignore", "-c", FORK]
    options = {"cwd": MODULE.parent, "env": environment_for(server), "stdin": subprocess.PIPE}
    with subprocess.Popen(command, **options) as process:
        begun.wait(10)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    assert len(server.posts) == 2


class Model(RuleBasedStateMachine):
    """A token source beside a model of it, which knows only the token that is held."""

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
        """Ask for a token. Return what comes, and how many requests it took."""
        self.server.answers.clear()
        self.server.answers.extend(answers)
        before = len(self.server.posts)
        try:
            outcome = self.source.token()
        except TokenError as error:
            outcome = error
        return outcome, len(self.server.posts) - before

    def seconds_left(self):
        """Return how long the held token is good for.

        Near 0, it may expire during a step. So no rule asks for a token within a second of that.
        """
        return self.held.expires_at - 10 - time.time() if self.held else -math.inf

    def needs_a_token(self):
        return self.seconds_left() < -1

    @precondition(needs_a_token)
    @rule(lifetime=st.integers(1, 2000))
    def fetch_a_token(self, lifetime):
        token, posts = self.ask(grant(expires_in=lifetime))
        assert posts == 1
        assert token is not self.held
        self.held = token

    @precondition(needs_a_token)
    @rule(status=st.sampled_from([400, 403, 404]))
    def a_refusal_is_final(self, status):
        error, posts = self.ask(reply(status, {"error": "invalid_grant"}))
        assert (error.status, posts) == (status, 1)
        self.held = None

    @precondition(needs_a_token)
    @rule(failures=st.integers(1, 3))
    def an_outage_costs_at_most_three_attempts(self, failures):
        outcome, posts = self.ask(*[reply(503)] * failures, grant())
        assert posts == min(failures + 1, 3)
        assert isinstance(outcome, Token) == (failures < 3)
        self.held = outcome if failures < 3 else None

    @rule(seconds=st.integers(1, 1500))
    def time_passes(self, seconds):
        self.clock.moved += seconds

    @precondition(lambda self: self.held)
    @rule()
    def drop_the_held_token(self):
        assert self.source.invalidate(Token(self.held.access_token)) is True
        self.held = None

    @rule()
    def another_token_is_not_dropped(self):
        assert self.source.invalidate(Token("another")) is False

    @invariant()
    def a_valid_token_costs_nothing(self):
        if self.seconds_left() > 1:
            assert self.ask() == (self.held, 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=20)


# The handler: where the token goes


def test_a_call_to_the_site_bears_the_token(server):
    received = call(server.opener(), f"{server.url}/rest/api/3/myself?x=1")
    assert received["token"] in server.valid
    assert received["path"] == "/rest/api/3/myself?x=1"


def test_a_call_keeps_its_method_body_and_headers(server):
    class Put(Request):
        def get_method(self):
            return "PUT"

    headers = {"Content-Type": "text/plain", "X-Mine": "1", "User-Agent": "my-script"}
    request = Put(f"{server.url}/rest", b"body", headers)
    request.add_unredirected_header("X-Once", "2")
    received = call(server.opener(), request)
    assert (received["method"], received["body"]) == ("PUT", "body")
    received_headers = {name.title(): value for name, value in received["headers"].items()}
    assert {**headers, "X-Once": "2"}.items() <= received_headers.items()


def test_the_headers_of_an_opener_are_for_calls_only(server):
    opener = server.opener()
    opener.addheaders = [("User-Agent", "my-script")]
    assert call(opener, f"{server.url}/rest")["headers"]["User-Agent"] == "my-script"
    assert server.posts[0].headers["User-Agent"].startswith("jira-jwt-oauth/")


def test_the_request_of_the_caller_does_not_change(server):
    request = Request(f"{server.url}/rest", headers={"X-Mine": "1"})
    request.timeout = 10
    before = copy.deepcopy(vars(request))
    call(server.opener(token=Token("revoked")), request)
    assert vars(request) == before


def source_for(base_url, *handlers):
    """Return a source that holds a token for a site that is never called."""
    config = make_config(base_url=base_url, endpoint=Endpoint("x", SITE))
    return config.token_source(*handlers, token=Token("abc"))


def sent(base_url, url, **changes):
    """Return the request that an opener sends for a request with these changes."""
    recorder = Recorder()
    request = Request(url)
    for name, value in changes.items():
        setattr(request, name, value)
    source_for(base_url, ProxyHandler({}), recorder).opener().open(request, timeout=10)
    return recorder.requests[0]


def bears_the_token(base_url, url):
    """Return whether a request bears the token. urllib and other clients must agree."""
    source = source_for(base_url)
    by_urllib = jjo.HTTPBearerAuthHandler(source).http_request(Request(url))
    by_others = source.auth()(types.SimpleNamespace(url=url, headers={}))
    assert by_urllib.has_header("Authorization") == ("Authorization" in by_others.headers)
    return by_urllib.has_header("Authorization")


AT_THE_ORIGIN = each(
    ("https://a.example", "https://a.example https://a.example/x https://a.example?x".split()),
    ("https://a.example", "https://a.example#x https://a.example:443/x HTTPS://A.EXAMPLE/".split()),
    ("https://a.example:443", ["https://a.example/x"]),
    ("https://a.example/wiki", ["https://a.example/rest"]),
    ("https://a.example:8443", ["https://A.example:8443/"]),
    ("https://[::A]:1", ["https://[::a]:1/"]),
    ("http://localhost", ["http://localhost:80/"]),
    ("http://127.0.0.1:80", ["http://127.0.0.1/"]),
)
ELSEWHERE = """
    http://a.example/  https://a.example:8443/  https://a.example:80/  https://a.example./
    https://a.example.evil.example/  https://evil.example/https://a.example/
    https://b.a.example/  https://axexample/  https://a%2eexample/
    https://a.example@evil.example/  https://me@a.example/
    https://evil.example\\@a.example/  https://a.example\\@evil.example/
    https://a.example%00.evil.example/  https:a.example/  https:///a.example/
    ftp://a.example/  data:,a.example
""".split()
NOT_AT_THE_ORIGIN = each(
    ("https://a.example", [*ELSEWHERE, "https://a.example\t.evil.example/"]),
    ("https://a.example:8443", ["https://a.example/"]),
    ("https://k.example", ["https://\u212a.example/"]),
    ("https://s.example", ["https://\u017f.example/"]),
    ("http://localhost:80", ["https://localhost:80/"]),
    ("http://localhost", ["http://127.0.0.1/", "http://localhost:443/"]),
)


@pytest.mark.parametrize(("base_url", "url"), AT_THE_ORIGIN)
def test_a_request_to_the_origin_bears_the_token(base_url, url):
    assert bears_the_token(base_url, url)


@pytest.mark.parametrize(("base_url", "url"), NOT_AT_THE_ORIGIN)
def test_a_request_to_another_origin_does_not_bear_the_token(base_url, url):
    assert not bears_the_token(base_url, url)


HOSTS = st.sampled_from(["a.example", "A.Example", "b.example", "a.example.b.example", "[::1]"])
PORTS = st.sampled_from(["", ":443", ":80", ":8443"])
PLAIN_ENDS = ["", "/", "?x", "#x", "/x@y"]
TRICKS = ["@b.example", "\\", ".", "%2e", ":", "\t", ";", " ", "<", "\n/"]
ENDS = st.sampled_from(PLAIN_ENDS) | st.tuples(st.sampled_from(TRICKS), st.text()).map("".join)


def origin_of_connection(request):
    """Return the scheme, host and port that urllib connects to."""
    is_secure = request.type == "https"
    connect = http.client.HTTPSConnection if is_secure else http.client.HTTPConnection
    connection = connect(request.host)
    return request.type, connection.host.lower(), connection.port


@given(HOSTS, PORTS, st.sampled_from(["https", "HTTPS", "http"]), HOSTS, PORTS, ENDS)
def test_only_a_request_that_reaches_the_origin_bears_the_token(
    base_host, base_port, scheme, host, port, end
):
    base = base_host + base_port
    try:
        request = sent(f"https://{base}", f"{scheme}://{host}{port}{end}")
        is_origin = origin_of_connection(request) == origin_of_connection(
            Request(f"https://{base}")
        )
    except (urllib.error.URLError, http.client.HTTPException, ValueError):
        return  # urllib sends nothing
    if request.has_header("Authorization"):
        assert is_origin
    elif end in PLAIN_ENDS:
        assert not is_origin


@pytest.mark.parametrize(
    "change", [{"host": "evil.example"}, {"type": "http"}, {"selector": "https://evil.example/"}]
)
def test_a_request_that_bears_the_token_goes_where_its_url_says(change):
    request = sent(SITE, f"{SITE}/x", **change)
    assert (request.type, request.host) == ("https", "mycompany.atlassian.net")
    assert request.selector == "/x"
    assert request.get_header("Authorization") == "Bearer abc"


def test_a_copy_keeps_what_the_cookie_policy_needs():
    host = "mycompany.atlassian.net"
    assert sent(SITE, SITE, origin_req_host="other.example").origin_req_host == "other.example"
    assert sent(SITE, SITE, unverifiable=True, origin_req_host=host).unverifiable is True


def test_a_call_to_another_host_causes_no_exchange(server):
    assert call(server.opener(), f"{server.other_host}/rest")["token"] == ""
    assert not server.posts


@pytest.mark.parametrize("add", [Request.add_header, Request.add_unredirected_header])
def test_an_authorization_header_of_the_caller_is_kept(server, add):
    request = Request(f"{server.url}/rest")
    add(request, "authorization", "Basic eDp5")
    assert unauthorized(server.opener(), request) == b"who are you?"
    assert [received["token"] for received in server.calls] == ["Basic eDp5"]
    assert not server.posts


def test_openers_and_auth_of_a_source_share_its_token(server):
    source = server.source()
    request = types.SimpleNamespace(url=server.url, headers={})
    source.auth()(request)
    received = call(source.opener(), f"{server.url}/rest")
    assert request.headers["Authorization"] == f"Bearer {received['token']}"
    assert received["token"] == source.token().access_token
    assert len(server.posts) == 1


def redirects(first, *rest):
    """Return a URL at the first server that redirects to the next, and so on."""
    if not rest:
        return f"{first}/x"
    return f"{first}/redirect?{urllib.parse.quote(redirects(*rest), safe='')}"


@pytest.mark.parametrize(
    ("hops", "bearers"),
    [
        (["site", "site"], [True, True]),
        (["site", "other"], [True, False]),
        (["site", "other", "site"], [True, False, True]),
        (["other", "site"], [False, False]),  # the redirects began at another host
    ],
)
def test_a_redirect_bears_the_token_if_it_began_at_the_host(server, hops, bearers):
    urls = {"site": server.url, "other": server.other_host}
    call(server.opener(), redirects(*[urls[hop] for hop in hops]))
    assert server.bearers == bearers


def test_a_redirect_loop_ends(server):
    with pytest.raises(urllib.error.HTTPError, match="infinite loop"):
        server.opener().open(f"{server.url}/loop", timeout=10)
    assert len(server.calls) < 12


def test_an_installed_opener_serves_urlopen(server, monkeypatch):
    monkeypatch.setattr(urllib.request, "_opener", None)
    urllib.request.install_opener(server.opener())
    for host in (server.url, server.other_host):
        urllib.request.urlopen(f"{host}/rest", timeout=10).close()
    assert server.bearers == [True, False]


def test_without_a_token_a_call_raises_a_token_error(server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    with pytest.raises(TokenError) as caught:
        server.opener().open(f"{server.url}/rest", timeout=10)
    assert caught.value.error == "invalid_grant"
    assert not server.calls


# The handler: beside other handlers


def test_openers_that_share_a_handler_keep_their_users_apart(server):
    shared = HTTPRedirectHandler()
    server.valid |= {"one", "two"}
    one = server.opener(shared, token=Token("one"))
    two = server.opener(shared, token=Token("two"))
    for opener, token in ((one, "one"), (two, "two")):
        assert call(opener, redirects(server.url, server.url))["token"] == token


def test_a_plain_proxy_gets_the_call_with_its_token(server, proxy):
    server.opener(proxy.handler, token=Token("abc")).open(f"{server.url}/rest", timeout=10)
    (request,) = proxy.clear
    assert request.startswith(f"GET {server.url}/rest HTTP/1.1")
    assert "Authorization: Bearer abc" in request


@pytest.mark.parametrize(("token", "calls"), [("valid", 1), ("revoked", 2)])
def test_a_proxy_that_speaks_tls_gets_each_request_once(
    server, tls_server, tls_proxy, trust, token, calls
):
    tls_server.valid.add("valid")
    received = call(server.opener(tls_proxy, trust, token=Token(token)), f"{server.url}/rest")
    assert received["path"] == f"{server.url}/rest"
    assert received["token"] in tls_server.valid
    assert tls_server.bearers == [True] * calls
    assert not any(post.headers["Authorization"] for post in tls_server.posts)


def test_plain_urllib_sends_the_third_request_in_the_clear(tls_server, proxy, trust):
    opener = urllib.request.build_opener(proxy.handler, trust)
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        opener.open(request, timeout=10).close()
    assert proxy.clear  # if this fails, Python has fixed what the module guards against


@pytest.mark.parametrize("token", [None, Token("revoked")])
def test_a_request_opened_three_times_stays_in_the_tunnel(tls_server, proxy, trust, token):
    opener = tls_server.opener(proxy.handler, trust, token=token)
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        assert call(opener, request)["token"] in tls_server.valid
    assert len(proxy.tunnels) == len(tls_server.posts) + len(tls_server.calls)
    assert not proxy.clear


class Retry(BaseHandler):
    """After a 401, opens the request again, up to twice."""

    handler_order = 100
    tries_left = 2

    def http_error_401(self, req, fp, code, msg, headers):
        if not self.tries_left:
            return None
        self.tries_left -= 1
        return self.parent.open(req, timeout=req.timeout)


def test_a_retry_by_another_handler_stays_in_the_tunnel(tls_server, proxy, trust):
    opener = tls_server.opener(proxy.handler, trust, Retry, token=Token("revoked"))
    assert call(opener, f"{tls_server.url}/rest")["token"] in tls_server.valid
    assert not proxy.clear


class CopyingRedirects(HTTPRedirectHandler):
    """Redirects with a copy of the request and all its headers."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):
        new = copy.copy(req)
        new.full_url = newurl
        return new


def test_a_copied_request_takes_no_token_to_another_host(server):
    call(server.opener(CopyingRedirects), redirects(server.url, server.other_host))
    assert server.bearers == [True, False]


# The handler: a 401


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_a_401_renews_the_token_and_replays_the_request(server, body):
    responses = []
    opener = server.opener(Hook(after=responses.append), token=Token("revoked"))
    received = call(opener, f"{server.url}/rest", body)
    assert [response.isclosed() for response in responses] == [True] * 3
    assert received["token"] in server.valid
    assert received["body"] == (body if body is None else body.decode())
    assert server.bearers == [True, True]
    assert len(server.posts) == 1


def test_a_401_after_a_redirect_is_replayed(server):
    opener = server.opener(token=Token("revoked"))
    assert call(opener, redirects(server.url, server.url))["token"] in server.valid
    assert server.bearers == [True, True, True]


def test_a_replay_keeps_the_timeout_of_the_call(server):
    timeouts = []
    watch = Hook(lambda request: timeouts.append(request.timeout))
    call(server.opener(watch, token=Token("revoked")), f"{server.url}/rest", timeout=7)
    first, token_request, replay = timeouts
    assert first == replay == 7
    assert 29 < token_request <= 30


def useless(number):
    """Return answers with tokens that the site refuses."""
    return [reply(200, {"access_token": f"useless-{n}"}) for n in range(number)]


def test_a_401_is_replayed_once(server):
    server.answers += useless(5)
    assert unauthorized(server.opener(), f"{server.url}/rest") == b"who are you?"
    assert (len(server.posts), len(server.calls)) == (2, 2)


def plain(server):
    return Request(f"{server.url}/rest")


def upload(server, body=None):
    return Request(f"{server.url}/rest", body or io.BytesIO(b"body"), {"Content-Length": "4"})


@pytest.mark.parametrize("make_request", [plain, upload])
def test_endless_401s_cost_one_exchange_a_minute(server, clock, make_request):
    server.answers += useless(20)
    opener = server.opener()
    for _ in range(10):
        unauthorized(opener, make_request(server))
        clock.moved += 5.9  # 59 seconds in all
    assert len(server.posts) == 2
    clock.moved += 2
    for _ in range(2):
        unauthorized(opener, make_request(server))
    assert len(server.posts) == 3


@pytest.mark.parametrize("status", [400, 403, 404, 429, 500, 503])
def test_other_errors_of_the_api_reach_the_caller(server, status):
    with pytest.raises(urllib.error.HTTPError) as caught:
        server.opener().open(f"{server.url}/status?{status}", timeout=10)
    with caught.value as error:
        assert (error.code, error.read()) == (status, b"as asked")
    assert (len(server.posts), len(server.calls)) == (1, 1)


def test_a_renewal_that_gives_the_same_token_is_not_replayed(server):
    server.answers += [reply(200, {"access_token": "same"})] * 5
    unauthorized(server.opener(), f"{server.url}/rest")
    assert (len(server.posts), len(server.calls)) == (2, 1)


def test_threads_whose_token_was_revoked_share_one_exchange(server):
    opener = server.opener(token=Token("revoked"))
    tokens = in_threads(64, lambda: call(opener, f"{server.url}/rest")["token"])
    assert set(tokens) == server.valid
    assert len(server.posts) == 1


def opener_beside_another_thread(server):
    """Return (opener, source). A hook acts as another thread: it renews the revoked token."""
    source = server.source(token=Token("revoked"))

    def renew(response):
        if source.invalidate(Token("revoked")):
            source.token()

    opener = urllib.request.build_opener(Hook(after=renew), jjo.HTTPBearerAuthHandler(source))
    return opener, source


def test_a_token_renewed_meanwhile_is_used_for_the_replay(server):
    opener, source = opener_beside_another_thread(server)
    assert call(opener, f"{server.url}/rest")["token"] == source.token().access_token
    assert len(server.posts) == 1


def test_a_request_is_replayed_once_whoever_renews_the_token(server):
    server.answers += useless(5)
    opener, _ = opener_beside_another_thread(server)
    unauthorized(opener, f"{server.url}/rest")
    assert len(server.calls) == 2


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_401_to_an_upload_drops_the_token_without_a_replay(server, is_stream):
    opener = server.opener(token=Token("revoked"))
    body = io.BytesIO(b"body") if is_stream else [b"bo", b"dy"]
    assert unauthorized(opener, upload(server, body)) == b"who are you?"
    assert (len(server.posts), len(server.calls)) == (0, 1)
    assert call(opener, upload(server))["body"] == "body"


def test_a_handler_ignores_a_401_to_the_token_of_another(server):
    first = source_for("https://a.example")
    second = server.source(token=Token("revoked"))
    opener = urllib.request.build_opener(*map(jjo.HTTPBearerAuthHandler, (first, second)))
    assert call(opener, f"{server.url}/rest")["token"] == second.token().access_token


def test_a_renewal_that_fails_is_a_token_error(server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    responses = []
    opener = server.opener(Hook(after=responses.append), token=Token("revoked"))
    with pytest.raises(TokenError) as caught:
        opener.open(f"{server.url}/rest", timeout=10)
    assert caught.value.error == "invalid_grant"
    refusal, answer = responses
    assert refusal.isclosed()
    assert answer.isclosed()


@pytest.mark.parametrize("handler_class", [HTTPBasicAuthHandler, HTTPDigestAuthHandler])
def test_a_401_is_handled_before_basic_and_digest(server, handler_class):
    passwords = password_handler(handler_class, "https://elsewhere.example")
    opener = server.opener(passwords, token=Token("revoked"))
    assert call(opener, f"{server.url}/rest")["token"] in server.valid
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


@contextlib.contextmanager
def client_of(library, auth):
    """Return a client of requests or httpx, if it is installed."""
    module = pytest.importorskip(library)
    if library == "httpx":
        client = module.Client(auth=auth, follow_redirects=True, trust_env=False)
    else:
        client = module.Session()
        client.auth = auth
    with client:
        yield client


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_another_client_sends_the_token_only_to_the_site(server, library):
    with client_of(library, server.config().auth()) as client:
        for url in (server.url, server.other_host, redirects(server.url, server.other_host)):
            client.get(url, timeout=10).raise_for_status()
    assert server.bearers == [True, False, True, False]


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_another_client_gets_a_401_until_the_token_is_dropped(server, library):
    source = server.source(token=Token("revoked"))
    with client_of(library, source.auth()) as client:
        assert client.get(server.url, timeout=10).status_code == 401
        source.invalidate(source.token())
        assert client.get(server.url, timeout=10).status_code == 200
    assert len(server.calls) == 2


@pytest.mark.parametrize("library", ["requests", "httpx"])
def test_another_client_raises_the_token_error_unchanged(server, library):
    server.answers.append(reply(400, {"error": "no"}))
    with client_of(library, server.config().auth()) as client, pytest.raises(TokenError):
        client.get(f"{server.url}/rest", timeout=10)


def test_an_async_client_of_httpx_sends_the_token(server):
    httpx = pytest.importorskip("httpx")

    async def get():
        async with httpx.AsyncClient(auth=server.config().auth(), trust_env=False) as client:
            return await client.get(f"{server.url}/rest")

    assert asyncio.run(get()).json()["token"] in server.valid


# The command line


def run(*arguments):
    """Run the command line in this process. Return its exit status."""
    try:
        jjo.main(list(arguments))
    except SystemExit as done:
        return done.code
    return 0


@pytest.fixture
def configured(server, monkeypatch):
    """Put the settings for the server into the environment."""
    for name, value in environment_for(server).items():
        monkeypatch.setenv(name, value)


HEADINGS = [
    "The claim set names the app (iss), the user (sub), the site (tnt), the authorization"
    " server (aud), and for how long it is valid (iat, exp).",
    "The assertion is the claim set, signed with the shared secret (HMAC-SHA256).",
    "The token request carries such an assertion, but dated 10 seconds earlier, in case"
    " the clock is fast. The authorization server checks its signature and claims.",
    "The authorization server answers with an access token, valid for 15 minutes.",
    "An API call carries the access token. The site receives it and answers.",
    "If the token has expired, an API call fetches a new one first.",
]


def test_the_demo_shows_each_step_of_the_flow(monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("JIRA_BASE_URL", "nonsense")
    assert run("demo") == 0
    output = capsys.readouterr()
    assert output.err == ""
    steps = [step.split("\n\n", 1) for step in re.split(r"^\d\. ", output.out, flags=re.M)[1:]]
    assert [" ".join(heading.split()) for heading, _ in steps] == HEADINGS
    claims, assertion, request, token, answer, renewal = [content for _, content in steps]
    assert list(json.loads(claims)) == list(jjo.ClaimSet._fields)
    assert re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]{43}", assertion.strip())
    assert "POST /oauth2/token" in request
    assert "scope=READ+WRITE" in request
    token = Token(**json.loads(token))
    assert 800 < token.expires_at - time.time() <= 900
    assert f"Authorization: {token.authorization}\n" in answer
    assert '{"displayName": "Mia"}' in answer
    assert re.search("POST /oauth2/token.*GET /rest/api/3/myself", renewal, re.DOTALL)
    assert token.access_token not in renewal


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("exp", 60),
        ("exp", -59),
        ("iat", 60),
        ("iss", "x"),
        ("sub", "x"),
        ("tnt", "x"),
        ("aud", "x"),
    ],
)
def test_the_demo_checks_the_claims(monkeypatch, capsys, name, change):
    def assertion(self, now=None):
        claims = self.claims(now)._asdict()
        return jjo.encode_jwt({**claims, name: claims[name] + change}, self.client_secret)

    monkeypatch.setattr(Config, "assertion", assertion)
    assert run("demo") == 1
    assert "HTTP 401" in capsys.readouterr().err


def test_the_demo_checks_the_signature(monkeypatch, capsys):
    wrong = make_config().assertion()
    monkeypatch.setattr(Config, "assertion", lambda self, now=None: wrong)
    assert run("demo") == 1
    assert "HTTP 401" in capsys.readouterr().err


def test_the_demo_checks_the_token(monkeypatch, capsys):
    monkeypatch.setattr(Token, "authorization", "Bearer wrong")
    assert run("demo") == 1
    assert "401" in capsys.readouterr().err


def test_the_command_token_prints_an_access_token(configured, server, capsys):
    assert run("token") == 0
    assert capsys.readouterr().out == f"{server.valid.pop()}\n"


def test_the_command_token_prints_the_whole_token_as_json(configured, server, capsys):
    assert run("token", "--json") == 0
    token = Token(**json.loads(capsys.readouterr().out))
    assert token.access_token in server.valid
    assert 800 < token.expires_at - time.time() <= 900


def test_a_refused_token_is_exit_status_1(configured, server, capsys):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    assert run("token") == 1
    output = capsys.readouterr()
    assert output.out == ""
    assert "'invalid_grant'" in output.err
    assert output.err.count("\n") == 1


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
def test_help_names_every_variable_and_fits_a_terminal(capsys, arguments):
    assert run(*arguments) == 0
    output = capsys.readouterr().out
    assert set(re.findall("JIRA_[A-Z_]+", output)) == {*ENVIRONMENT, *URLS, "JIRA_SCOPES"}
    assert "\n  1  failure\n" in output
    assert max(map(len, output.splitlines())) <= 80


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "--help",
            " COMMAND ... OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant. ",
        ),
        ("--help", " COMMAND demo show the whole flow, step by step, without a network "),
        ("--help", " token print an access token "),
        (
            "demo --help",
            " Show the whole flow, step by step, against a server on this machine that stands",
        ),
        ("demo --help", " in for Atlassian. It needs no settings and no network. "),
        ("token --help", " Print an access token. To make a call with it: "),
        (
            "token --help",
            ' curl -H "Authorization: Bearer TOKEN" "$JIRA_BASE_URL/rest/api/3/myself" ',
        ),
        ("token --help", " --json print the whole token, with its expiry, as JSON "),
        ("--version", f" {jjo.__version__} "),
    ],
)
def test_help_says_what_each_command_does(capsys, command, words):
    assert run(*command.split()) == 0
    assert words in f" {' '.join(capsys.readouterr().out.split())} "


def run_script(server, *arguments, **options):
    """Run the file in another process. Return its exit status and its standard error."""
    environment = environment_for(server)
    environment.pop("PYTHONUNBUFFERED", None)
    command = [sys.executable, str(MODULE), *arguments]
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, timeout=60, **options)
    return done.returncode, done.stderr.decode()


@pytest.fixture
def closed_pipe():
    """A file that writes to a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), open(writer, "w", encoding="utf-8") as file:
        yield file


@pytest.mark.parametrize("command", ["demo", "token", "token --json", "--help", "--version"])
def test_a_closed_pipe_prints_no_traceback(server, closed_pipe, command):
    status, complaint = run_script(server, *command.split(), stdout=closed_pipe)
    assert status == 1
    assert "Error" not in complaint


def test_a_closed_pipe_is_exit_status_1_without_a_message(configured, closed_pipe, capfd):
    with contextlib.redirect_stdout(closed_pipe):
        assert run("token") == 1
        closed_pipe.flush()  # as Python does on exit
    assert capfd.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_exit_status_1_with_a_message(configured, capfd):
    with open("/dev/full", "w", encoding="utf-8") as full, contextlib.redirect_stdout(full):
        assert run("token") == 1
    assert capfd.readouterr().err == "jira-jwt-oauth: [Errno 28] No space left on device\n"


def test_a_closed_output_prints_no_traceback(server):
    _, complaint = run_script(server, "token", preexec_fn=lambda: os.close(1))
    assert "Traceback" not in complaint


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
    assert call(config.opener(), f"{server.url}/rest")["token"] in server.valid


def test_only_the_commands_import_argparse_and_servers():
    imports = re.findall(r"^(?:from|import) ([\w.]+)", MODULE.read_text(encoding="utf-8"), re.M)
    assert "urllib.request" in imports
    assert not {"argparse", "http.server", "socketserver"} & set(imports)


def test_the_installed_command_is_main():
    project = (MODULE.parent / "pyproject.toml").read_text(encoding="utf-8")
    assert '\njira-jwt-oauth = "jira_jwt_oauth:main"\n' in project


# The README

README = (MODULE.parent / "README.md").read_text(encoding="utf-8")
PYTHON_BLOCKS = re.findall("^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SHELL_BLOCKS = re.findall("^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
SETTINGS = PYTHON_BLOCKS[0].partition("with opener")[0]


@pytest.fixture
def newcomer(server, tmp_path):
    """Return a function that runs a block of the README beside a copy of the file.

    In both, the hosts of Atlassian become the server's.
    """

    def aimed(text):
        for url in (SITE, jjo.ATLASSIAN.auth_url):
            text = text.replace(url, server.url)
        return text

    def run(*command):
        return subprocess.run(
            [aimed(part) for part in command],
            cwd=tmp_path,
            env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
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
    assert all(server.bearers)


@pytest.mark.parametrize(("content", "posts"), [(None, 1), ("", 2), ('{"access', 2), ("[]", 2)])
def test_the_readme_keeps_a_token_between_runs(server, newcomer, tmp_path, content, posts):
    (block,) = (block for block in PYTHON_BLOCKS if "os.replace" in block)
    newcomer(sys.executable, "-c", SETTINGS + block)
    (file,) = tmp_path.glob("token-*.json")
    if content is not None:
        file.write_text(content)
    newcomer(sys.executable, "-c", SETTINGS + block)
    assert len(server.posts) == posts
    assert file.stat().st_mode & 0o777 == 0o600


def test_the_commands_of_the_readme_run(server, newcomer):
    demo, check, _tests = SHELL_BLOCKS
    assert "4. The authorization server answers" in newcomer("sh", "-ec", demo)
    if not shutil.which("curl"):
        check = check[: check.index("curl")]
    output = newcomer("sh", "-ec", check)
    assert output.partition("\n")[0] in server.valid
    assert len(server.calls) == output.count('"path": "/rest/api/3/myself"')


def test_the_module_exports_what_the_readme_lists():
    names = {}
    exec("from jira_jwt_oauth import *", names)
    reference = README.partition("## Reference")[2].partition("\nThe options")[0]
    listed = re.findall(r"`([A-Z]\w+|\w+_\w+)[`(]", reference)
    assert set(names) - {"__builtins__"} == set(jjo.__all__) == set(listed)


def test_the_readme_names_the_wheel_of_this_version():
    assert f"jira_jwt_oauth-{jjo.__version__}-py3-none-any.whl" in README


def message_of(function):
    with pytest.raises((TokenError, ValueError)) as caught:
        function()
    return str(caught.value)


def test_the_readme_quotes_real_messages(server, tls_server, proxy, clock):
    clock.ahead = 600
    proxy.refusal = b"HTTP/1.1 407 No\r\n\r\n"
    server.answers += [reply(200, b"<html>", Content_Type="text/html")] * 3
    server.answers.append(reply(302, Location="https://login.example/"))
    server.answers.append(reply(400, Date=clock.date()))
    no_client_id = {**INSTALLATION, "oauthClientId": ""}
    causes = {
        "environment variables are missing or empty: JIRA_": lambda: Config.from_env({}),
        " must not start or end with white space": lambda: make_config(client_secret="x\n"),
        "scopes must name at least one scope": lambda: make_config(scopes=[]),
        "payload lacks oauthClientId": lambda: Config.from_installation(no_client_id, subject="x"),
        "HTTP 200, not a complete JSON object (Content-Type: 'text/html')": server.source().token,
        "HTTP 302, a redirect (Location: 'https://login.example/": server.source().token,
        "; this machine's clock is 60": server.source().token,
        "OSError: 'Tunnel connection failed: 407": tls_server.source(proxy.handler).token,
    }
    for symptom, cause in causes.items():
        assert symptom in README
        assert symptom in message_of(cause)
