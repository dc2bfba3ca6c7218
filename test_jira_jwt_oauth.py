"""What jira_jwt_oauth promises, in the order of the module, over real sockets on loopback.

`Server` stands in for Atlassian: a token endpoint at /oauth2/token, and a site everywhere else.
It grants each token request, until a test says how to answer the next ones:

    server.answers += [reply(503), grant(expires_in=5), examine]

`examine` verifies the token request, and answers 400 with the reason if it is wrong. Afterwards,
`server.posts` holds the token requests, and `server.calls` the requests to the site.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import email.utils
import gc
import hashlib
import hmac
import http.client
import http.server
import inspect
import io
import itertools
import json
import os
import re
import select
import shutil
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
import weakref
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
    """Return the claims of an assertion, verified without the module (RFC 7515)."""
    header, payload, signature = assertion.split(".")
    assert header == unpadded(b'{"alg":"HS256","typ":"JWT"}'), "the JWT header is wrong"
    key = secret if isinstance(secret, bytes) else secret.encode()
    expected = hmac.new(key, f"{header}.{payload}".encode(), hashlib.sha256).digest()
    assert signature == unpadded(expected), "the signature is wrong"
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

    The token endpoint keeps each request in `posts`, and gives the next of `answers`, or grants a
    token, which it adds to `valid`. The site keeps each request in `calls`, and sends it back as
    JSON, unless the request has a token that is not in `valid`: then it answers 401.

    /redirect?URL redirects, and /status?503 answers 503.
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
        form = dict(urllib.parse.parse_qsl(body.decode()))
        self.server.posts.append(types.SimpleNamespace(headers=self.headers, body=body, form=form))
        answer = self.server.answers.popleft() if self.server.answers else grant()
        answer(self)

    def do_GET(self):
        self.site(None)

    def site(self, body):
        token = (self.headers["Authorization"] or "").replace("Bearer ", "")
        received = {"method": self.command, "path": self.path, "token": token}
        self.server.calls.append(received)
        path, _, query = self.path.partition("?")
        if path == "/status":
            return self.reply(int(query), b"as asked")
        if path == "/redirect":
            return self.reply(302, Location=urllib.parse.unquote(query))
        if token and token not in self.server.valid:
            return self.reply(401, b"who are you?", WWW_Authenticate='Bearer realm="site"')
        text = body if body is None else body.decode()
        headers = dict(self.headers)
        readme = dict.fromkeys(["displayName", "key", "results"], "for the README")
        self.reply(200, {**received, "body": text, "headers": headers, **readme})


ISSUED = itertools.count(1)


def grant(**changes):
    """Grant a token, with changes to the answer."""

    def answer(handler):
        token = f"token-{next(ISSUED)}"
        handler.server.valid.add(token)
        content = {"access_token": token, "expires_in": 900, "token_type": "Bearer"}
        handler.reply(200, {**content, **changes})

    return answer


TOKEN_REQUEST_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": f"jira-jwt-oauth/{jjo.__version__}",
    "Authorization": None,
}


def examine(handler, now=time.time):
    """Grant a token if the token request is as documented, or answer 400 with the reason."""
    post = handler.server.posts[-1]
    try:
        claims = verify(post.form["assertion"])
        assert list(claims) == ["iss", "sub", "tnt", "aud", "exp", "iat"], "the claims are wrong"
        assert claims["tnt"] == handler.server.url, "tnt is wrong"
        assert claims["exp"] - claims["iat"] <= 60, "exp is more than 60 s after iat"
        assert claims["iat"] <= now() < claims["exp"], "the assertion is not valid now"
        form = b"grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion=eyJ"
        assert post.body.startswith(form), "grant_type is wrong"
        assert post.body.partition(b"&scope=")[2] in (b"", b"READ+WRITE"), "scope is wrong"
        for name, value in TOKEN_REQUEST_HEADERS.items():
            assert post.headers[name] == value, f"{name} is wrong"
    except AssertionError as reason:
        error = {"error": "invalid_grant", "error_description": str(reason).partition("\n")[0]}
        return handler.reply(400, error)
    return grant()(handler)


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
    """An HTTP proxy that opens a tunnel to `target` for CONNECT, and answers nothing else.

    If `refusal` is set, CONNECT gets that answer instead. `tunnels` lists the hosts of CONNECT.
    """

    def __init__(self, target):
        super().__init__(ProxyConnection)
        self.target, self.refusal, self.tunnels = target, b"", []
        self.handler = ProxyHandler({"https": f"http://{self.address}"})


class ProxyConnection(socketserver.StreamRequestHandler):
    rbufsize = 0

    def handle(self):
        method, host, _ = self.rfile.readline().decode().split()
        if method != "CONNECT":
            return
        list(iter(self.rfile.readline, b"\r\n"))
        self.server.tunnels.append(host)
        self.wfile.write(self.server.refusal or b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(self.server.target) as upstream:
            ends = {self.connection: upstream, upstream: self.connection}
            while not self.server.refusal:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
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

    def __init__(self, before=lambda request: None, after=lambda request, response: None):
        self.before, self.after = before, after

    def http_request(self, req):
        self.before(req)
        return req

    def http_response(self, req, response):
        self.after(req, response)
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
    """Return the body of the 401 that reaches the caller."""
    with pytest.raises(urllib.error.HTTPError, match="401: Unauthorized") as caught:
        opener.open(request, timeout=10)
    with caught.value as error:
        assert error.url.endswith("/rest")
        assert error.headers["WWW-Authenticate"] == 'Bearer realm="site"'
        return error.read()


def in_threads(count, function):
    """Call a function in threads. Return what each returns or raises."""
    outcomes = []

    def work():
        try:
            outcomes.append(function())
        except Exception as error:
            outcomes.append(error)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
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
    assert "None" not in str(error)
    assert "''" not in str(error)
    return error


def each(*rows):
    """Turn (a, [x, y]) into (a, x) and (a, y), for each of the rows."""
    return [(*row[:-1], value) for row in rows for value in row[-1]]


# Signing

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


def test_an_assertion_matches_the_known_vector():
    assert make_config().assertion(now=1700000000) == VECTOR


def test_a_number_that_json_cannot_hold_is_not_signed():
    with pytest.raises(ValueError, match="JSON"):
        jjo.encode_jwt({"exp": NAN}, SECRET)


@given(st.dictionaries(st.text(), JSON | st.text()), st.text() | st.binary())
@example({}, "s" * 65)  # longer than a block of SHA-256
@example({}, b"s" * 64)
def test_any_jwt_verifies_and_keeps_the_order_of_its_claims(claims, secret):
    jwt = jjo.encode_jwt(claims, secret)
    assert re.fullmatch(r"[\w-]+\.[\w-]+\.[\w-]{43}", jwt, re.ASCII)
    assert list(verify(jwt, secret).items()) == list(claims.items())


# Settings

SCOPES = {
    "READ": ["read", ["read"], ("\tread\n", "", "+")],
    "READ WRITE": ["read write", "READ+write", "read,write", ["read", "write"]],
    "WRITE READ WRITE ACT_AS_USER": [["write", "read, write", "act_as_user"]],
}


def test_scopes_are_split_and_joined_in_upper_case():
    for expected, forms in SCOPES.items():
        assert [jjo.format_scopes(scopes) for scopes in forms] == [expected] * len(forms)


SCOPE_CHARACTERS = sorted({chr(code) for code in range(0x21, 0x7F)} - set('"\\+,'))


@given(st.lists(st.text(SCOPE_CHARACTERS, min_size=1), min_size=1))
def test_formatting_scopes_twice_changes_nothing(scopes):
    once = jjo.format_scopes(scopes)
    assert once == " ".join(scopes).upper() == jjo.format_scopes(once)


VISIBLE = st.text([chr(code) for code in range(0x21, 0x7F)], min_size=1)


@given(VISIBLE, st.lists(VISIBLE, min_size=1).map(" ".join), st.integers(0, 2**40))
def test_any_assertion_verifies_with_the_claims_of_its_config(client_id, secret, now):
    config = make_config(client_id=client_id, client_secret=secret)
    claims = verify(config.assertion(now), secret)
    assert claims == config.claims(now)._asdict()
    assert list(claims) == ["iss", "sub", "tnt", "aud", "exp", "iat"]
    assert claims["iss"] == f"urn:atlassian:connect:clientid:{client_id}"


def test_a_subject_that_is_a_whole_urn_is_sent_unchanged_as_utf_8():
    urn = "urn:atlassian:connect:useraccountid:jané@corp/x"
    config = make_config(subject=urn)
    payload = base64.urlsafe_b64decode(config.assertion().split(".")[1] + "==")
    assert f'"sub":"{urn}"'.encode() in payload


GOOD_URLS = """
    https://a.example  https://a.example/  https://a.example/wiki  https://a.example/wiki/
    https://A_1.example:8443  https://a.example:65535  https://192.0.2.1  HTTPS://MyCo.Example/
    http://localhost:8080/  http://LOCALHOST:8080  http://127.0.0.1  http://[::1]:80
""".split()


@pytest.mark.parametrize("url", GOOD_URLS)
def test_a_base_url_is_kept_in_lower_case_without_its_last_slash(url):
    config = make_config(base_url=url)
    assert config.base_url == config.claims().tnt == url.lower().rstrip("/")


BAD_ORIGINS = """
    mycompany.atlassian.net  //a.example  http://a.example  http://localhost.example  http://127.1
    http://[::2]  https://[::1]  https://  https://:443  https://.example  https://a..example
    https://a.example.  https://*.example  https://a%2eexample  https://a.example:  https://ä.net
    https://a.example:0  https://a.example:65536  https://a.example:85536  https://a.example:0443
    https://me:hush@a.example  https://hush@a.example  https://a.example\\b
""".split()
BAD_PATHS = "/jira /jira/your-work /wiki/home /rest/api/3 /ex/jira/1324a887 // /?a=b /#top".split()


@pytest.mark.parametrize("url", ["", f" {SITE}", f"{SITE}\n", *BAD_ORIGINS])
def test_a_url_that_does_not_say_where_a_credential_goes_is_refused(url):
    with pytest.raises(ValueError, match="^base_url .*\ntoken_url .*") as caught:
        make_config(base_url=url, endpoint=Endpoint("x", f"{url}/token" if url else ""))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_an_address_from_the_browser_is_not_a_base_url(path):
    with pytest.raises(ValueError, match="^base_url ") as caught:
        make_config(base_url=f"https://api.atlassian.com{path}")
    # The message must not advise to use the host alone.
    assert str(caught.value).count("api.atlassian.com") == 1


BAD_SETTINGS = each(
    ("subject", ["Jane Doe", "a\n", '"557058:1"', "jané", "jane@corp.example", "557058%3A1"]),
    ("subject", ["urn:atlassian:connect:userkey:a b", "urn:atlassian:connect:userkey:\ud800"]),
    ("client_id", ["a\tb", "a b", "ä"]),
    ("client_secret", ["hush\n", " hush", "\ufeffhush", "hush\u200b", "hush\ud800", "“hush”"]),
    ("scopes", ["re\\ad", 'read"', "réad", "straße", "\u017f", "read\x00", "\ud800"]),
    ("auth_url", ["a b", "ä", "\ud800"]),
    ("token_url", [SITE, f"{SITE}/token?x=1", f"{SITE}/token#x", f"{SITE}/a b"]),
)


def with_setting(name, value):
    """Return the arguments of a Config with one setting changed, which may be of the endpoint."""
    endpoint = Endpoint("https://as.example", f"{SITE}/token")
    if name in endpoint._fields:
        return {**ARGUMENTS, "endpoint": endpoint._replace(**{name: value})}
    return {**ARGUMENTS, name: value}


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS)
def test_an_error_names_a_setting_that_breaks_its_rule(name, value):
    with pytest.raises(ValueError, match=rf"^{name} \(JIRA_{name.upper()}\) must be ") as caught:
        Config(**with_setting(name, value))
    assert "hush" not in shown(caught.value)
    assert SECRET not in shown(caught.value)
    assert str(caught.value).isprintable()


WRONG_TYPES = each(
    ("base_url", [5, b"https://a.example"]),
    ("client_secret", [b"hush", bytearray(b"hush")]),
    ("scopes", [5, [5], b"read"]),
    ("endpoint", [SITE, ("a", SITE)]),
    ("token_url", [b"x"]),
)


@pytest.mark.parametrize(("name", "value"), WRONG_TYPES)
def test_an_error_names_an_argument_of_a_wrong_type(name, value):
    with pytest.raises(TypeError, match=f"^{name} must be ") as caught:
        Config(**with_setting(name, value))
    assert "hush" not in shown(caught.value)


def test_one_error_names_all_wrong_settings_like_this():
    endpoint = Endpoint("", "http://as.example/token")
    wrong = {"base_url": f"{SITE}/jira/your-work", "subject": "jane@corp.example", "client_id": ""}
    with pytest.raises(ValueError) as caught:
        Config(**wrong, client_secret="hush\n", scopes=[], endpoint=endpoint)
    assert str(caught.value).split("\n") == [
        "base_url (JIRA_BASE_URL) must be the address of your site, such as "
        "https://mycompany.atlassian.net, with nothing after it except /wiki for Confluence; it "
        "is 'https://mycompany.atlassian.net/jira/your-work'",
        "subject (JIRA_SUBJECT) must be the account ID of a user, such as "
        "557058:12345678-1234-1234-1234-123456789abc; it is 'jane@corp.example'",
        "client_id (JIRA_CLIENT_ID) must be the oauthClientId that Atlassian sends when your app "
        "is installed, without spaces (only apps with the ACT_AS_USER scope get one); it is "
        "missing",
        "client_secret (JIRA_CLIENT_SECRET) must be the sharedSecret that Atlassian sends when "
        "your app is installed, in visible ASCII, without spaces or line breaks around it; it is "
        "'...'",
        "scopes (JIRA_SCOPES) must be one or more scopes, such as READ, in visible ASCII without "
        '" or \\ (leave it out to get all the scopes of your app); it is missing',
        'auth_url (JIRA_AUTH_URL) must be the "aud" claim that the authorization server expects, '
        "in visible ASCII (auth_url and token_url go together); it is missing",
        "token_url (JIRA_TOKEN_URL) must be an https URL with a path and no query, such as "
        "https://auth.example/oauth2/token (auth_url and token_url go together); it is "
        "'http://as.example/token'",
    ]


def test_the_host_chooses_the_endpoint():
    def endpoint(host):
        return make_config(base_url=f"https://{host}").endpoint

    url = "https://oauth-2-authorization-server.services.atlassian.com"
    atlassian = Endpoint(url, f"{url}/oauth2/token")
    government = Endpoint(*[part.replace(".com", "-us-gov-mod.com") for part in atlassian])
    assert endpoint("agency.atlassian-us-gov-mod.net") == jjo.ATLASSIAN_GOVERNMENT == government
    assert endpoint("A.ATLASSIAN-US-GOV-MOD.COM:443/wiki") == government
    assert endpoint("agency.atlassian-us-gov-mod.net.example") == jjo.ATLASSIAN == atlassian
    assert endpoint("not-atlassian-us-gov-mod.net") == atlassian


@pytest.mark.parametrize("name", ["base_url", "client_secret", "endpoint", "typo"])
def test_an_attribute_of_a_config_cannot_be_set(name):
    with pytest.raises(AttributeError, match=rf"config.replace\({name}="):
        setattr(make_config(), name, "x")


OTHER = {
    "base_url": "https://other.example",
    "subject": "another",
    "client_id": "other-id",
    "client_secret": "other-secret",
    "scopes": "READ",
    "endpoint": Endpoint("other", "https://as.example/token"),
}


def test_each_setting_is_known_everywhere():
    parameters = inspect.signature(Config).parameters
    assert list(parameters) == list(OTHER) == list(vars(make_config()))
    config = make_config()
    for name, value in OTHER.items():
        other = config.replace(**{name: value})
        assert getattr(other, name) == value
        assert other.replace(subject=other.subject).__dict__ == other.__dict__
        assert (repr(value) in repr(other)) == (name != "client_secret")
    variables = {f"JIRA_{name.upper()}" for name in parameters} - {"JIRA_ENDPOINT"}
    variables |= {f"JIRA_{name.upper()}" for name in Endpoint._fields}
    environ = collections.defaultdict(str)
    with pytest.raises(ValueError, match="base_url"):
        Config.from_env(types.SimpleNamespace(get=lambda name: environ[name]))
    assert set(environ) == variables
    assert set(re.findall("`(JIRA_[A-Z_]+)`", README)) == variables


def test_replace_chooses_the_endpoint_of_atlassian_again():
    agency = {"base_url": "https://agency.atlassian-us-gov-mod.net"}
    government = make_config().replace(**agency)
    assert government.endpoint == jjo.ATLASSIAN_GOVERNMENT
    assert government.replace(base_url=SITE).endpoint == jjo.ATLASSIAN
    other = make_config(endpoint=OTHER["endpoint"])
    assert other.replace(**agency).endpoint == OTHER["endpoint"]


ENVIRONMENT = {f"JIRA_{name.upper()}": value for name, value in ARGUMENTS.items()}
URLS = {"JIRA_AUTH_URL": "https://as.example", "JIRA_TOKEN_URL": "https://as.example/token"}


def environment_for(server):
    """Return the settings for a server as environment variables."""
    token_url = f"{server.url}/oauth2/token"
    return {**ENVIRONMENT, **URLS, "JIRA_BASE_URL": server.url, "JIRA_TOKEN_URL": token_url}


def test_settings_come_from_the_current_environment(monkeypatch):
    empty = dict.fromkeys(["JIRA_SCOPES", *URLS], "")
    monkeypatch.setattr(os, "environ", {**ENVIRONMENT, **empty})
    assert vars(Config.from_env()) == vars(make_config())
    monkeypatch.setattr(os, "environ", {**ENVIRONMENT, **URLS, "JIRA_SCOPES": "read write"})
    assert Config.from_env().scopes == "READ WRITE"
    assert Config.from_env().endpoint == tuple(URLS.values())


@pytest.mark.parametrize("half", [{}, {"JIRA_AUTH_URL": "https://as.example"}])
def test_an_error_names_all_missing_variables_at_once(half):
    with pytest.raises(ValueError) as caught:
        Config.from_env(half)
    named = re.findall(r"\((JIRA_\w+)\) .*; it is missing$", str(caught.value), re.M)
    assert named == [*ENVIRONMENT, "JIRA_TOKEN_URL"][: 4 + len(half)]


# Tokens


def test_a_token_counts_as_expired_within_its_leeway(monkeypatch):
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    assert [Token("t", 1000.0 + left).is_expired() for left in (10.0, 10.5)] == [True, False]
    assert [Token("t", 1000.0 + left).is_expired(0) for left in (0.0, 0.5)] == [True, False]
    assert not Token("t").is_expired(10**9)


def test_the_repr_of_a_token_does_not_show_it():
    assert repr(Token("hush", 5.0)) == "Token(access_token=..., expires_at=5.0)"


# The token endpoint


@pytest.mark.parametrize("scopes", [None, "read write"])
def test_a_strict_server_accepts_the_token_request(server, scopes):
    server.answers.append(examine)
    token = TokenSource(server.config(scopes=scopes)).token()
    assert token.access_token in server.valid
    assert ("scope" in server.posts[0].form) == (scopes is not None)


@pytest.mark.parametrize("ahead", [-45, 9.5])
def test_a_strict_server_accepts_a_clock_that_is_a_little_off(server, clock, ahead):
    clock.ahead = ahead
    server.answers.append(lambda handler: examine(handler, clock.server_time))
    assert server.source().token().access_token in server.valid


def test_each_attempt_has_a_fresh_assertion(server, clock):
    server.answers += [reply(429, Retry_After="2")] * 2
    server.source().token()
    issued = [verify(post.form["assertion"])["iat"] for post in server.posts]
    assert issued == sorted(set(issued))


CLOCKS = [
    *[(400, "fast", 600), (400, "slow", -13), (200, "slow", -600), (503, "fast", 600)],
    *[(400, None, ahead) for ahead in (0, 7.5, -7.5)],
]


@pytest.mark.parametrize(("status", "word", "ahead"), CLOCKS)
def test_an_error_says_how_far_off_the_clock_is(server, clock, status, word, ahead):
    clock.ahead = ahead
    server.answers += [reply(status, {"error": "no"}, Date=clock.date())] * 3
    message = str(error_of(server.source()))
    if word is None:
        assert message.endswith("'no'")
    else:
        said = re.search(rf"; this machine's clock is (\d+) s {word}$", message)
        assert abs(int(said[1]) - abs(ahead)) <= 5  # the Date is in whole seconds, and waits pass


GOOD_ANSWERS = each(
    ("expires_in", 900, [900, "900", "9e2"]),
    ("expires_in", 1.5, [1.5, "1.5"]),
    ("expires_in", None, [None, 0, "0"]),
    ("token_type", 900, ["bearer", "BEARER", None]),
    ("error", 900, [None, "", 0, {}]),
)


@pytest.mark.parametrize(("name", "lifetime", "value"), GOOD_ANSWERS)
def test_a_good_answer_becomes_a_token(server, name, lifetime, value):
    server.answers.append(grant(**{name: value}))
    before = time.time()
    token = server.source().token()
    assert token.access_token in server.valid
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


BAD_ANSWERS = each(
    ("access_token", [None, "", 5, "a b", "abc\r\nX: y", "abc\n", "ä"]),
    ("token_type", ["mac", "", 5]),
    ("expires_in", [-1, "-1", NAN, INFINITY, "1e999", TOO_LARGE, True, "", "soon", "\u0665", []]),
    ("error", ["no", 5, ["no"]]),
)


@pytest.mark.parametrize(("name", "value"), BAD_ANSWERS)
def test_an_answer_without_a_usable_token_is_an_error(server, name, value):
    server.answers.append(grant(**{name: value}))
    error = error_of(server.source())
    assert (error.status, error.is_transient) == (200, False)
    assert error.error == ("no" if value == "no" else None)
    assert len(server.posts) == 1


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 60000, b"9" * 5000, b"\xff"])
def test_an_answer_that_is_no_json_object_is_an_error(server, body):
    server.answers.append(reply(200, body))
    assert error_of(server.source()).status == 200
    assert len(server.posts) == 1


def test_errors_about_answers_are_worded_like_this(server):
    html = {"Content_Type": "text/html"}
    error = {"error": "invalid_client", "error_description": "Ünknown\nclient"}
    no_token = "HTTP 200, access_token is missing or not visible ASCII"
    expected = [
        (
            reply(401, error, **html),
            r"HTTP 401, error 'invalid_client', error_description 'Ünknown\nclient'",
        ),
        (reply(300, {"access_token": "abc"}), """HTTP 300, body '{"access_token": "abc"}'"""),
        (reply(403, b"<p>\xf6", **html), "HTTP 403, Content-Type 'text/html', body '<p>\ufffd'"),
        (reply(302, Location="https://a.example/?x"), "HTTP 302, Location 'https://a.example/?x'"),
        (reply(200, b"<p>", **html), f"{no_token}, Content-Type 'text/html'"),
        (grant(token_type="mac"), "HTTP 200, token_type is not Bearer"),
        (grant(expires_in="soon"), "HTTP 200, expires_in is not a number of seconds"),
        (raw(b"SSH-2.0-OpenSSH\r\n"), "BadStatusLine"),
    ]
    for answer, words in expected:
        server.answers.append(answer)
        message = str(error_of(server.source()))
        assert message == f"no access token from {server.url}/oauth2/token: {words}"


OPAQUE = "0123456789abcdefABCDEF0123456789"
PLACES = {
    "error": lambda text: reply(400, {"error": text}),
    "description": lambda text: reply(400, {"error": "no", "error_description": text}),
    "body": lambda text: reply(400, text.encode()),
    "location": lambda text: reply(302, Location=text),
    "not HTTP": lambda text: raw(f"{text}\r\n\r\n".encode()),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_message_does_not_show_a_credential(server, clock, place):
    def signature():
        return server.posts[0].form["assertion"].rpartition(".")[2]

    # An echo of the first assertion, in the answer to the second.
    server.answers += [
        reply(503),
        lambda handler: PLACES[place](f"//me:p@hush@a {OPAQUE} {signature()}")(handler),
    ]
    text = shown(error_of(server.source()))
    assert not any(credential in text for credential in ("hush", OPAQUE, signature()))


@given(st.text(), st.sampled_from(["-", ".", "x", "a" * 40, "a" * 960 + " "]), st.text())
def test_no_piece_of_a_signature_is_shown_wherever_a_text_is_cut(shared_server, before, pad, after):
    signature = VECTOR.rpartition(".")[2]
    body = f"{before}{pad}{signature}{after * 99}".encode(errors="replace")
    message = str(outcome_of(shared_server, b"HTTP/1.1 400 x\r\n\r\n" + body))
    assert not any(signature[i : i + 12] in message for i in range(len(signature) - 11))
    assert len(message) < 80 + 200 * 10  # each may become an escape of 10 characters


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


# Retries

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ATTEMPTS = [
    *[(reply(status), 3) for status in (408, 429, 500, 502, 503, 504)],
    (raw(b""), 3),
    *[(raw(head + b"5\r\nabc"), 3) for head in (PLAIN, CHUNKED)],
    *[(reply(status), 1) for status in (200, 300, 302, 400, 401, 403, 404, 501, 505)],
    (reply(200, {"error": "temporarily_unavailable"}), 1),
    *[(raw(data), 1) for data in (b"hello\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n")],
]


@pytest.mark.parametrize(("answer", "attempts"), ATTEMPTS)
def test_what_is_transient_is_tried_three_times(server, clock, answer, attempts):
    server.answers += [answer] * 4
    assert error_of(server.source()).is_transient == (attempts == 3)
    assert len(server.posts) == attempts
    assert clock.naps == [0.5, 1.0][: attempts - 1]


IGNORED = ["0", "soon", "-1", "1.5", "\xb2", "Wed, 21 Oct 2099 07:28:00 GMT"]


@pytest.mark.parametrize(
    ("value", "nap"), [("1", 1), ("7", 7), ("29", 29), *[(value, 0.5) for value in IGNORED]]
)
def test_retry_after_is_read_in_whole_seconds_only(server, clock, value, nap):
    server.answers.append(reply(429, Retry_After=value))
    server.source().token()
    assert clock.naps == [nap]


@pytest.mark.parametrize("seconds", ["30", "9" * 400])
def test_a_retry_after_beyond_the_timeout_raises_at_once(server, clock, seconds):
    content = {"error": "slow", "error_description": "down"}
    server.answers.append(reply(429, content, Retry_After=seconds))
    error = error_of(server.source())
    assert (error.status, error.error, error.error_description) == (429, "slow", "down")
    assert (error.retry_after, error.is_transient) == (float(seconds), True)
    assert not clock.naps


def test_retries_end_with_the_timeout(server, clock):
    timeouts = []
    server.answers += [reply(429, Retry_After="20")] * 3
    error_of(server.source(Hook(lambda request: timeouts.append(round(request.timeout)))))
    assert (clock.naps, timeouts) == ([20.0], [30, 10])


def test_a_refused_connection_is_retried_and_chained(clock, closed_port):
    url = f"http://{closed_port}/token"
    error = error_of(TokenSource(make_config(endpoint=Endpoint("x", url))))
    assert len(clock.naps) == 2
    assert isinstance(error.__cause__, OSError)
    assert f"{url}: ConnectionRefusedError: " in str(error)
    assert (error.status, error.is_transient) == (None, True)


def test_a_certificate_that_does_not_verify_is_final(tls_server, clock):
    error = error_of(tls_server.source())
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert not error.is_transient
    assert not clock.naps


@pytest.mark.parametrize(("status", "attempts"), [(401, 1), (403, 1), (407, 1), (502, 3)])
def test_an_error_names_a_proxy_that_refuses_a_tunnel(tls_server, proxy, clock, status, attempts):
    proxy.refusal = f"HTTP/1.1 {status} {OPAQUE}\r\n\r\n".encode()
    message = str(error_of(tls_server.source(proxy.handler)))
    assert f"via proxy {proxy.address}: OSError: 'Tunnel connection failed: {status}" in message
    assert OPAQUE not in message
    assert len(proxy.tunnels) == attempts


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://user:hush@{}", "via proxy {}: ConnectionRefusedError: "),
        ("http://user:hush%40{}", "via proxy ...@{}: "),
        ("http:/user:hush@{}", "/token: ValueError"),
    ],
)
def test_an_error_names_a_dead_or_mistyped_proxy(tls_server, clock, closed_port, url, words):
    error = error_of(tls_server.source(ProxyHandler({"https": url.format(closed_port)})))
    assert words.format(closed_port) in str(error)
    assert "hush" not in shown(error)


# Bounds


def test_a_long_line_instead_of_http_is_reported_without_delay(server):
    server.answers += [raw(b"/" * 65000 + b"\r\n"), reply(400, b"//" * 32000)]
    started = time.monotonic()
    error_of(server.source())
    error_of(server.source())
    assert time.monotonic() - started < 2


def test_at_most_64_kib_of_an_answer_are_read(server):
    content = json.dumps({"access_token": "abc"}).encode()
    server.answers += [reply(200, content.ljust(65536)), reply(200, b" " * 65536 + content)]
    assert server.source().token() == Token("abc")
    assert error_of(server.source()).status == 200


def test_an_exchange_needs_less_than_8_mib_of_memory(server):
    tracemalloc = pytest.importorskip("tracemalloc")  # PyPy has none
    server.answers.append(reply(200, b"[" * (32 << 20)))
    tracemalloc.start()
    try:
        error_of(server.source())
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("answer", [silence, drip(PLAIN, b" "), drip(CHUNKED, b"1\r\n \r\n")])
def test_a_silent_or_dripping_answer_ends_in_time(server, answer):
    server.answers += [answer] * 3
    started = time.monotonic()
    error = error_of(server.source(timeout=0.4))
    assert time.monotonic() - started < 0.8 + 1  # a second for a busy machine
    assert re.search("imeout.*: '(timed out|the answer took too long)'$", str(error))
    assert (error.is_transient, len(server.posts)) == (True, 1)


def test_an_answer_is_used_however_long_it_took_to_connect(server, clock):
    def connect_slowly(request):
        clock.moved += 60

    assert server.source(Hook(connect_slowly)).token().access_token in server.valid


# The token request and the handlers of the caller


class Lenient(HTTPErrorProcessor):
    """Lets every answer pass."""

    def http_response(self, request, response):
        return response


def password_handler(handler_class, url):
    passwords = HTTPPasswordMgrWithDefaultRealm()
    passwords.add_password(None, url, "user", "hush")
    return handler_class(passwords)


def tempting(server):
    """Return lists of handlers that might do too much."""
    kinds = HTTPBasicAuthHandler, HTTPDigestAuthHandler
    passwords = [password_handler(kind, server.url) for kind in kinds]
    return [[], [HTTPRedirectHandler()], [Lenient], *[[handler] for handler in passwords]]


@pytest.mark.parametrize("handlers", range(5))
@pytest.mark.parametrize("status", [302, 307, "Basic", "Digest", "Bearer"])
def test_the_token_request_follows_no_redirect_and_answers_no_challenge(server, status, handlers):
    answer = reply(status, Location=f"{server.url}/elsewhere")
    if isinstance(status, str):
        answer = reply(401, WWW_Authenticate=f'{status} realm="x", nonce="y"')
    server.answers.append(answer)
    error = error_of(server.source(*tempting(server)[handlers]))
    assert error.status == (401 if isinstance(status, str) else status)
    assert (len(server.posts), len(server.calls)) == (1, 0)


@pytest.mark.parametrize(
    ("error", "words", "naps"),
    [
        (OSError("x"), "OSError: 'x'", 2),
        (urllib.error.URLError(OSError("x")), "OSError: 'x'", 2),
        (urllib.error.URLError("x"), "URLError: '<urlopen error x>'", 2),
        (TimeoutError("x"), "TimeoutError: 'x'", 0),
        (ValueError("hush"), "ValueError", 0),
        (http.client.HTTPException("hush"), "HTTPException", 0),
    ],
)
def test_an_exception_of_the_network_becomes_a_token_error(server, clock, error, words, naps):
    token_error = error_of(server.source(Hook(raising(error))))
    assert str(token_error).endswith(f"/oauth2/token: {words}")
    assert "hush" not in shown(token_error)
    assert isinstance(token_error.__cause__, OSError) == isinstance(error, OSError)
    assert len(clock.naps) == naps


@pytest.mark.parametrize("error", [LookupError("x"), KeyboardInterrupt()])
def test_an_exception_of_another_kind_ends_the_exchange_of_its_own_thread(server, error):
    errors = [error]
    source = server.source(Hook(lambda request: errors and raising(errors.pop())()))
    with pytest.raises(type(error)) as caught:
        source.token()
    assert caught.value is error
    assert isinstance(in_threads(1, source.token)[0], Token)


# The token source

BAD_OPTIONS = each(
    ("timeout", TypeError, ["30", None]),
    ("timeout", ValueError, [0, -1, 86401, INFINITY, NAN, TOO_LARGE]),
    ("leeway", TypeError, ["10"]),
    ("leeway", ValueError, [-0.5, 86401, NAN]),
    ("token", TypeError, [{"access_token": "x"}, Token(None), Token("x", "1700"), Token("x", "")]),
    ("token", ValueError, [Token(""), Token("a b"), Token("x", NAN), Token("x", TOO_LARGE)]),
)


@pytest.mark.parametrize(("name", "error", "value"), BAD_OPTIONS)
def test_an_error_names_a_bad_option(name, error, value):
    with pytest.raises(error, match=f"^{name}[ .]"):
        TokenSource(make_config(), **{name: value})


@pytest.mark.parametrize(
    "wrong", ["http://proxy:3128", ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), object(), str]
)
def test_an_error_says_how_to_pass_a_proxy_and_a_context(wrong):
    with pytest.raises(TypeError, match=rf" {type(wrong).__name__}: .*ProxyHandler.*HTTPSHandler"):
        TokenSource(make_config(), ProxyHandler({}), wrong)


def test_a_source_and_its_openers_load_the_certificates_once(monkeypatch):
    made = []
    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", lambda self, *_: made.append(self))
    source = TokenSource(make_config())
    source.opener()
    source.opener()
    # Before Python 3.12, they are loaded for each connection, and not in advance.
    assert len(made) == (1 if sys.version_info >= (3, 12) else 0)


def test_a_token_request_may_go_through_a_proxy_that_speaks_tls(server, tls_server, trust):
    proxy = ProxyHandler({"http": tls_server.url})
    assert server.source(proxy, trust).token().access_token in tls_server.valid


def test_handlers_reach_the_token_request_and_the_calls(tls_server, trust, proxy, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://{proxy.address}")
    opener = tls_server.opener(trust, HTTPCookieProcessor())
    tls_server.answers.append(reply(200, {"access_token": "abc"}, Set_Cookie="seen=1; Path=/"))
    tls_server.valid.add("abc")
    assert call(opener, f"{tls_server.url}/rest")["headers"]["Cookie"] == "seen=1"
    assert len(proxy.tunnels) == 2


def test_a_saved_token_is_used_until_its_leeway(server):
    saved = Token("saved", time.time() + 30)
    assert server.source(token=saved, leeway=0, timeout=86400).token() is saved
    assert server.source(token=saved).token() is saved
    assert server.source(token=saved, leeway=35).token() is not saved


def test_invalidate_drops_the_token_that_is_held(server):
    source = server.source(token=Token("one", time.time() + 900))
    assert source.invalidate(Token("other")) is False
    assert source.token().access_token == "one"
    assert source.invalidate(Token("one")) is True
    assert source.invalidate(Token("one")) is False
    assert source.token().access_token != "one"


def during_an_exchange(server, answer, function):
    """Call a function in eight threads, and give the answer when all of them wait."""
    wait, begun, go = gate(answer)
    server.answers.append(wait)

    def release():
        begun.wait(10)
        time.sleep(0.3)  # for the others to reach the lock
        go.set()

    threading.Thread(target=release, daemon=True).start()
    return in_threads(8, function)


def test_waiting_threads_share_a_token_however_short_lived(server):
    source = server.source(token=Token("expired", 1.0))
    tokens = during_an_exchange(server, grant(expires_in=1), source.token)
    assert len(set(tokens)) == len(server.posts) == 1


def test_waiting_threads_each_get_an_exception_of_their_own(server):
    source = server.source()
    errors = during_an_exchange(server, reply(400, {"error": "no"}), source.token)
    assert [error.error for error in errors] == ["no"] * 8
    assert len(set(map(id, errors))) == 8
    assert len({error.__traceback__.tb_frame for error in errors}) == 8
    assert len(server.posts) == 1
    assert source.token()


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="counts references")
@pytest.mark.parametrize("answer", [reply(400), raw(b""), raw(b"no HTTP")])
def test_a_failed_renewal_keeps_no_local_variable_alive(server, clock, answer):
    def fail(source):
        local = set()
        with contextlib.suppress(TokenError):
            source.token()
        return weakref.ref(local)

    server.answers += [answer] * 3
    source = server.source()
    gc.collect()
    gc.disable()
    try:
        assert fail(source)() is None
    finally:
        gc.enable()


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


FORK = """
import os, signal, sys, threading
from jira_jwt_oauth import Config, TokenSource
source = TokenSource(Config.from_env())
threading.Thread(target=source.token).start()
input()  # until the thread is in its exchange
child = os.fork()
if child:
    sys.exit(os.waitpid(child, 0)[1] != 0)
signal.alarm(10)
source.invalidate(source.token())
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
    environment = {**os.environ, **environment_for(server)}
    options = {"cwd": MODULE.parent, "env": environment, "stdin": subprocess.PIPE}
    with subprocess.Popen(command, **options) as process:
        begun.wait(10)
        process.communicate(b"\n", timeout=20)
    assert process.returncode == 0
    assert len(server.posts) == 3


class Model(RuleBasedStateMachine):
    """A token source beside a model of it, which knows only the token that is held.

    Real time passes during a step, so no rule acts within a second of a limit.
    """

    @initialize()
    def start(self):
        self.patch = pytest.MonkeyPatch()
        self.clock = Clock(self.patch)
        self.server = Server()
        self.source = self.server.source()
        self.held, self.seconds_left, self.to_next_drop = None, 0, 0

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

    @precondition(lambda self: self.seconds_left < -1 or not self.held)
    @rule(lifetime=st.integers(1, 2000), failures=st.integers(0, 3))
    def fetch_a_token(self, lifetime, failures):
        outcome, posts = self.ask(*[reply(503)] * failures, grant(expires_in=lifetime))
        assert posts == min(failures + 1, 3)
        assert isinstance(outcome, Token) == (failures < 3)
        self.held = outcome if failures < 3 else None
        self.seconds_left = lifetime - 10

    @rule(seconds=st.integers(1, 1500))
    def time_passes(self, seconds):
        self.clock.moved += seconds
        self.seconds_left -= seconds
        self.to_next_drop -= seconds

    @precondition(lambda self: self.held and abs(self.to_next_drop) > 1)
    @rule()
    def drop_the_held_token(self):
        is_dropped = self.source.invalidate(Token(self.held.access_token))
        assert is_dropped == (self.to_next_drop < 0)
        if is_dropped:
            self.held, self.to_next_drop = None, 60

    @invariant()
    def a_valid_token_costs_nothing(self):
        if self.held and self.seconds_left > 1:
            assert self.ask() == (self.held, 0)


TestModel = Model.TestCase
TestModel.settings = settings(max_examples=25, stateful_step_count=20)


# The handler: where the token goes


def test_what_the_caller_gives_does_not_change(server):
    request = Request(f"{server.url}/rest", headers={"X-Mine": "1"})
    request.timeout = 10
    given = [request, ProxyHandler({}), HTTPHandler(), HTTPRedirectHandler()]
    before = [copy.deepcopy(vars(one)) for one in given]
    call(server.opener(*given[1:], token=Token("revoked")), request)
    assert [vars(one) for one in given] == before


def test_handlers_may_keep_things_on_a_request(server):
    kept = []

    def keep(request):
        request.mine = "kept"

    def look(request, response):
        kept.append((request.mine, round(request.timeout)))

    opener = server.opener(Hook(keep, look), token=Token("revoked"))
    call(opener, f"{server.url}/rest", timeout=7)
    assert kept == [("kept", 7), ("kept", 30), ("kept", 7)]


def source_for(base_url, *handlers):
    """Return a source that holds a token for a site that is never called."""
    config = make_config(base_url=base_url, endpoint=Endpoint("x", f"{SITE}/token"))
    return TokenSource(config, *handlers, token=Token("abc"))


def sent(base_url, request):
    """Return the request that an opener sends for a request."""
    recorder = Recorder()
    source_for(base_url, ProxyHandler({}), recorder).opener().open(request, timeout=10)
    return recorder.requests[0]


def bears_the_token(base_url, url):
    """Return whether a request bears the token. urllib and other clients must agree."""
    source = source_for(base_url)
    by_urllib = jjo.HTTPBearerAuthHandler(source).http_request(Request(url))
    request = types.SimpleNamespace(url=url, headers={"Authorization": "old"})
    assert source.authorize(request) is request
    by_others = request.headers["Authorization"]
    assert by_urllib.get_header("Authorization", "old") == by_others
    return by_others == "Bearer abc"


ELSEWHERE = """
    http://a.example/  https://a.example:8443/  https://a.example:80/  https://a.example./
    https://a.example.evil.example/  https://evil.example/https://a.example/
    https://b.a.example/  https://axexample/  https://a%2eexample/  https://a.example:65979/
    https://a.example@evil.example/  https://me@a.example/
    https://evil.example\\@a.example/  https://a.example\\@evil.example/
    https://a.example%00.evil.example/  https:a.example/  https:///a.example/
    ftp://a.example/  data:,a.example
"""
A = "https://a.example"
URLS_AND_ORIGINS = each(
    (True, A, [A, f"{A}/x", f"{A}?x", f"{A}#x", f"{A}:443", "HTTPS://A.EXAMPLE/"]),
    (True, "https://a.example:443/wiki", ["https://a.example/rest"]),
    (True, "http://[::1]:80", ["http://[::1]/"]),
    (False, A, [*ELSEWHERE.split(), "https://a.example\t.evil.example/"]),
    (False, "https://a.example:8443", ["https://a.example/"]),
    (False, "https://k.example", ["https://\u212a.example/"]),
    (False, "http://localhost", ["https://localhost:80/", "http://127.0.0.1/"]),
)


@pytest.mark.parametrize(("is_at_the_origin", "base_url", "url"), URLS_AND_ORIGINS)
def test_only_a_request_to_the_origin_bears_the_token(is_at_the_origin, base_url, url):
    assert bears_the_token(base_url, url) == is_at_the_origin


HOSTS = st.sampled_from(["a.example", "A.Example", "b.example", "a.example.b.example"])
PORTS = st.sampled_from(["", ":443", ":80", ":8443", ":65979"])
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
def test_urllib_connects_to_the_origin_if_a_request_bears_the_token(
    base_host, base_port, scheme, host, port, end
):
    base_url = f"https://{base_host}{base_port}"
    if base_port == ":65979":
        return  # not a base URL
    try:
        request = sent(base_url, Request(f"{scheme}://{host}{port}{end}"))
        is_origin = origin_of_connection(request) == origin_of_connection(Request(base_url))
    except (urllib.error.URLError, http.client.HTTPException, ValueError):
        return  # urllib sends nothing
    if request.has_header("Authorization"):
        assert is_origin
    elif end in PLAIN_ENDS:
        assert not is_origin


def test_a_call_keeps_what_the_caller_set():
    class Put(Request):
        def get_method(self):
            return "PUT"

    request = Put(f"{SITE}/x", b"body", {"X-Mine": "1"}, "origin.example", unverifiable=True)
    request.add_unredirected_header("X-Once", "2")
    copied = sent(SITE, request)
    assert (copied.get_method(), copied.data) == ("PUT", b"body")
    assert (copied.get_header("X-mine"), copied.get_header("X-once")) == ("1", "2")
    assert (copied.origin_req_host, copied.unverifiable) == ("origin.example", True)


def test_a_request_that_bears_the_token_goes_where_its_url_says():
    changed = Request(f"{SITE}/x")
    changed.host, changed.type, changed.selector = "evil.example", "http", "https://evil.example/"
    request = sent(SITE, changed)
    assert (f"{request.type}://{request.host}", request.selector) == (SITE, "/x")
    assert request.get_header("Authorization") == "Bearer abc"


@pytest.mark.parametrize("add", [Request.add_header, Request.add_unredirected_header])
def test_an_authorization_header_of_the_caller_is_kept(server, add):
    request = Request(f"{server.url}/rest")
    add(request, "authorization", "Basic eDp5")
    assert unauthorized(server.opener(), request) == b"who are you?"
    assert [received["token"] for received in server.calls] == ["Basic eDp5"]
    assert not server.posts


def redirects(first, *rest):
    """Return a URL at the first server that redirects to the next, and so on."""
    if not rest:
        return f"{first}/x"
    return f"{first}/redirect?{urllib.parse.quote(redirects(*rest), safe='')}"


@pytest.mark.parametrize(
    ("hops", "bearers"),
    [
        ("site site site", [True, True, True]),
        ("site other", [True, False]),
        # Another host has chosen the last URL, or the first.
        ("site other site site", [True, False, False, False]),
        ("other site site", [False, False, False]),
    ],
)
def test_a_redirect_bears_the_token_if_only_the_site_has_redirected(server, hops, bearers):
    urls = {"site": server.url, "other": server.other_host}
    call(server.opener(), redirects(*map(urls.get, hops.split())))
    assert server.bearers == bearers


# The handler: beside other handlers


def test_two_sites_live_in_one_opener(server):
    sites = server.url, server.other_host
    configs = [server.config(base_url=site) for site in sites]
    sources = [TokenSource(config, token=Token("revoked")) for config in configs]
    opener = urllib.request.build_opener(*map(jjo.HTTPBearerAuthHandler, sources))
    for site, source in zip(sites, sources):
        assert call(opener, f"{site}/rest")["token"] == source.token().access_token
    assert (len(server.posts), len(server.calls)) == (2, 4)


class Retry(BaseHandler):
    """Opens a request again after a 401 or a 503, up to twice, and counts on the request."""

    handler_order = 100

    def http_error_503(self, req, fp, code, msg, headers):
        req.tries = getattr(req, "tries", 0) + 1
        return self.parent.open(req, timeout=req.timeout) if req.tries <= 2 else None

    http_error_401 = http_error_503


@pytest.mark.parametrize("token", [None, Token("revoked")])
@pytest.mark.parametrize("handlers", [[], [Retry]])
def test_a_request_that_is_opened_again_stays_in_the_tunnel(
    tls_server, proxy, trust, token, handlers
):
    opener = tls_server.opener(proxy.handler, trust, *handlers, token=token)
    request = Request(f"{tls_server.url}/rest")
    for _ in range(3):
        assert call(opener, request)["token"] in tls_server.valid
    assert len(proxy.tunnels) == len(tls_server.posts) + len(tls_server.calls)


def test_a_handler_that_counts_its_tries_on_the_request_stops(server):
    with pytest.raises(urllib.error.HTTPError, match="503"):
        server.opener(Retry).open(f"{server.url}/status?503", timeout=10)
    assert server.bearers == [True] * 3


# The handler: a 401


@pytest.mark.parametrize("body", [None, b"", b"body"])
def test_a_401_renews_the_token_and_replays_the_request(server, body):
    received = call(server.opener(token=Token("revoked")), f"{server.url}/rest", body)
    assert received["token"] in server.valid
    assert received["body"] == (body if body is None else body.decode())
    assert server.bearers == [True, True]
    assert len(server.posts) == 1


def useless(number, **changes):
    """Return answers with tokens that the site refuses."""
    return [reply(200, {"access_token": f"useless-{n}", **changes}) for n in range(number)]


def test_a_401_is_replayed_once_however_short_lived_the_tokens_are(server):
    server.answers += useless(9, expires_in=1)
    assert unauthorized(server.opener(), f"{server.url}/rest") == b"who are you?"
    assert len(server.calls) == 2


def upload(server, body=None):
    return Request(f"{server.url}/rest", body or io.BytesIO(b"body"), {"Content-Length": "4"})


@pytest.mark.parametrize("is_kept", [True, False])
def test_endless_401s_cost_one_exchange_a_minute(server, clock, is_kept):
    server.answers += useless(20)
    source = server.source()
    opener = source.opener()
    for _ in range(10):
        unauthorized(opener if is_kept else source.opener(), f"{server.url}/rest")
        clock.moved += 6.5  # the last call is after 58.5 seconds
    assert len(server.posts) == 2
    for _ in range(2):
        unauthorized(opener, f"{server.url}/rest")
    assert len(server.posts) == 3


def test_a_renewal_that_gives_the_same_token_is_not_replayed(server):
    server.answers += [reply(200, {"access_token": "same"})] * 5
    unauthorized(server.opener(), f"{server.url}/rest")
    assert (len(server.posts), len(server.calls)) == (2, 1)


def test_threads_whose_token_was_revoked_share_one_exchange(server):
    opener = server.opener(token=Token("revoked"))
    tokens = in_threads(64, lambda: call(opener, f"{server.url}/rest")["token"])
    assert set(tokens) == server.valid
    assert len(server.posts) == 1


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_401_to_an_upload_drops_the_token_without_a_replay(server, is_stream):
    opener = server.opener(token=Token("revoked"))
    body = io.BytesIO(b"body") if is_stream else [b"bo", b"dy"]
    assert unauthorized(opener, upload(server, body)) == b"who are you?"
    assert (len(server.posts), len(server.calls)) == (0, 1)
    assert call(opener, upload(server))["body"] == "body"


def test_a_renewal_that_fails_is_a_token_error(server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    responses = []
    watch = Hook(after=lambda request, response: responses.append(response))
    with pytest.raises(TokenError) as caught:
        server.opener(watch, token=Token("revoked")).open(f"{server.url}/rest", timeout=10)
    assert caught.value.error == "invalid_grant"
    assert [response.isclosed() for response in responses] == [True, True]


def test_a_401_is_handled_before_urllib_asks_for_a_password(server):
    passwords = password_handler(HTTPBasicAuthHandler, "https://elsewhere.example")
    opener = server.opener(passwords, token=Token("revoked"))
    assert call(opener, f"{server.url}/rest")["token"] in server.valid
    server.valid.clear()
    assert unauthorized(opener, f"{server.url}/rest") == b"who are you?"


# The command line


def run(*arguments):
    """Run the command line in this process. Return its exit status, or what it wrote instead."""
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


def test_the_demo_shows_each_step_of_the_flow(monkeypatch, capsys):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert run("demo") == 0
    steps = re.split(r"^\d\. .*\n.*\n\n?", capsys.readouterr().out, flags=re.M)[1:]
    claims, assertion, request, token, call, answer = steps
    assert 50 < jjo.ClaimSet(**json.loads(claims)).exp - time.time() < 60
    assert '"aud": "https://auth.example"' in claims
    assert 'demo-app",\n  "sub": "urn:atlassian:connect:useraccountid:demo-user"' in claims
    assert re.fullmatch(r"eyJ[\w-]+\.[\w-]+\.[\w-]{43}\s+", assertion)
    assert re.search("POST /oauth2/token .*&scope=READ[+]WRITE", request, re.DOTALL)
    assert token.startswith('{\n  "access_token": ')
    token = Token(**json.loads(token))
    assert 890 < token.expires_at - time.time() <= 900
    assert f"Authorization: {token.authorization}\n" in call
    assert json.loads(answer) == {"displayName": "Mia"}


def test_the_command_token_prints_an_access_token(configured, server, capsys):
    assert run("token") == 0
    assert capsys.readouterr().out == f"{server.valid.pop()}\n"


def test_an_interrupt_ends_a_command_with_one_line(configured, monkeypatch, capsys):
    monkeypatch.setattr(TokenSource, "token", raising(KeyboardInterrupt()))
    assert run("token") == "jira-jwt-oauth: interrupted"


def test_the_demo_checks_the_assertion_and_the_token(monkeypatch):
    monkeypatch.setattr(Token, "authorization", "Bearer wrong")
    assert "401" in run("demo")
    sign = jjo.encode_jwt
    monkeypatch.setattr(Config, "assertion", lambda self, now: sign(self.claims(now)._asdict(), ""))
    assert "HTTP 401, body '{}'" in run("demo")


@pytest.mark.parametrize(
    ("arguments", "variable"),
    [([], None), (["get"], None), (["token"], "JIRA_SUBJECT"), (["token"], "JIRA_CLIENT_SECRET")],
)
def test_wrong_usage_is_exit_status_2(configured, monkeypatch, capsys, arguments, variable):
    if variable:
        monkeypatch.setenv(variable, "hush\n")
    assert run(*arguments) == 2
    assert re.search(rf"\b{variable or 'COMMAND'}\b", capsys.readouterr().err)


def test_help_names_every_variable_and_fits_on_a_screen(capsys):
    assert run("--help") == 0
    output = capsys.readouterr().out
    assert set(re.findall("JIRA_[A-Z_]+", output)) == {*ENVIRONMENT, *URLS, "JIRA_SCOPES"}
    assert "\n  1  failure\n" in output
    assert len(output.splitlines()) <= 40
    assert max(map(len, output.splitlines())) <= 80
    assert run("--version") == 0
    assert capsys.readouterr().out == f"{jjo.__version__}\n"


def test_a_refused_token_ends_a_command_with_one_line(configured, server):
    server.answers.append(reply(400, {"error": "invalid_grant"}))
    line = run("token")
    assert line.startswith("jira-jwt-oauth: no access token from ")
    assert line.isprintable()


@pytest.fixture
def closed_pipe():
    """A file that writes to a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    with contextlib.suppress(BrokenPipeError), open(writer, "w", encoding="utf-8") as file:
        yield file


@pytest.mark.parametrize("command", ["demo", "token", "--help", "--version"])
def test_a_closed_pipe_ends_a_command_without_a_message(configured, closed_pipe, capfd, command):
    with contextlib.redirect_stdout(closed_pipe):
        assert run(command) == 1
        closed_pipe.flush()  # as Python does on exit
    assert capfd.readouterr().err == ""


# The file


def test_the_command_line_may_be_deleted(server, monkeypatch):
    source = MODULE.read_text(encoding="utf-8")
    library, command_line, _ = source.partition("# The command line. You may delete everything")
    assert command_line
    vendored = types.ModuleType("vendored")
    monkeypatch.setitem(sys.modules, "vendored", vendored)
    exec(compile(library, str(MODULE), "exec"), vars(vendored))
    config = vendored.Config(**ARGUMENTS, endpoint=vendored.Endpoint(*server.config().endpoint))
    assert vendored.TokenSource(config).token().access_token in server.valid


# The README

README = (MODULE.parent / "README.md").read_text(encoding="utf-8")
FIRST_BLOCK, *BLOCKS = re.findall("^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
DEMO, CHECK, _ = re.findall("^```sh\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)
WITHOUT_A_CALL = FIRST_BLOCK.partition("opener")[0]
(KEEP_A_TOKEN,) = [block for block in BLOCKS if "sha256" in block]


@pytest.fixture
def newcomer(server, tmp_path):
    """Return a function that runs a command beside a copy of the file. The site is the server."""
    payload = {"baseUrl": server.url, "oauthClientId": "x", "sharedSecret": "x"}
    (tmp_path / "installed.json").write_text(json.dumps(payload))
    for name in ("company-ca.pem", "report.txt"):
        (tmp_path / name).write_text(CERTIFICATE)
    shutil.copy(MODULE, tmp_path)
    environment = environment_for(server)
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment["SYSTEMROOT"] = os.environ.get("SYSTEMROOT", "")  # Windows needs it

    def run(*command, **changes):
        command = [part.replace(SITE, server.url) for part in command]
        options = {"env": {**environment, **changes}, "stdout": subprocess.PIPE}
        return subprocess.run(command, cwd=tmp_path, **options)

    return run


@pytest.mark.parametrize("block", ["", *BLOCKS], ids=range(len(BLOCKS) + 1))
def test_every_python_block_of_the_readme_runs(server, newcomer, block):
    for client in ("requests", "httpx"):
        if f"import {client}\n" in block:
            pytest.importorskip(client)
    if "to_thread" in block and sys.version_info < (3, 9):
        pytest.skip("asyncio.to_thread is new in Python 3.9")
    assert newcomer(sys.executable, "-c", FIRST_BLOCK + block).returncode == 0
    assert len(server.calls) == len(re.findall("/rest/|/api/v2", FIRST_BLOCK + block))
    assert all(server.bearers)


@pytest.mark.skipif(not shutil.which("curl"), reason="needs a POSIX shell and curl")
def test_the_commands_of_the_readme_run(server, newcomer):
    assert newcomer("sh", "-ec", DEMO).returncode == 0
    assert b'"token": "token-' in newcomer("sh", "-ec", CHECK).stdout
    server.answers.append(reply(400))
    assert newcomer("sh", "-ec", CHECK).returncode == 1
    assert server.bearers == [True]


@pytest.mark.skipif(os.name == "nt", reason="needs file modes")
def test_the_readme_keeps_a_token_for_each_user(server, newcomer, tmp_path):
    script = WITHOUT_A_CALL + KEEP_A_TOKEN
    for subject, posts in (("one", 1), ("two", 2), ("one", 2)):
        assert newcomer(sys.executable, "-c", script, JIRA_SUBJECT=subject).returncode == 0
        assert len(server.posts) == posts
    files = list(tmp_path.glob("token-*"))
    assert [file.stat().st_mode & 0o777 for file in files] == [0o600] * 2
    assert not list(tmp_path.glob("tmp*"))
    for file in files:
        file.write_text("{")
    assert newcomer(sys.executable, "-c", script, JIRA_SUBJECT="one").returncode == 0


def test_the_readme_quotes_real_messages(server, tls_server, proxy, clock):
    clock.ahead = 600
    proxy.refusal = b"HTTP/1.1 407 No\r\n\r\n"
    server.answers += [
        reply(400, {"error": "invalid_grant"}, Date=clock.date()),
        reply(200, b"<html>", Content_Type="text/html"),
        reply(302, Location="https://login.example/"),
    ]
    causes = {
        "error 'invalid_grant'|this machine's clock is 60": server.source().token,
        "HTTP 200, access_token is missing |, Content-Type 'text/html'": server.source().token,
        "HTTP 302, Location ": server.source().token,
        "Tunnel connection failed: 407": tls_server.source(proxy.handler).token,
        "JIRA_| must be |; it is missing": lambda: Config.from_env({}),
        "client_secret | must be |; it is '...'": lambda: make_config(client_secret="x\n"),
    }
    for symptoms, cause in causes.items():
        with pytest.raises((TokenError, ValueError)) as caught:
            cause()
        assert all(part in README and part in str(caught.value) for part in symptoms.split("|"))
