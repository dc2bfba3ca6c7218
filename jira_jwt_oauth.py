"""OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant, on the standard library alone.

Turns the client ID and shared secret of an Atlassian Connect app into calls made as a user:

    config = Config(base_url="https://mycompany.atlassian.net", subject="557058:12345678-...",
                    client_id="...", client_secret="...")
    with config.opener().open(config.base_url + "/rest/api/3/myself", timeout=30) as response:
        print(response.read())
"""
# Copyright (c) 2026 the jira-jwt-oauth authors
# SPDX-License-Identifier: MIT
# Origin: jira_jwt_oauth.py of the distribution jira-jwt-oauth; keep these lines in copies.

from __future__ import annotations

import base64
import contextlib
import copy
import hmac
import io
import json
import os
import random
import re
import threading
import time
from email.utils import parsedate_to_datetime
from http.client import HTTPException, IncompleteRead, responses
from typing import Any, Iterable, Mapping, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import BaseHandler, OpenerDirector, ProxyHandler, Request, build_opener

__version__ = "0.1.0"


class Endpoint(NamedTuple):
    """An authorization server."""

    auth_url: str  # what an assertion names as its audience, any non-empty string
    token_url: str  # of the token endpoint, https


GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SERVER = "https://oauth-2-authorization-server.services.atlassian.com"
ATLASSIAN = Endpoint(auth_url=_SERVER, token_url=f"{_SERVER}/oauth2/token")
_VISIBLE_ASCII = "[!-~]+"
_NUMBER = r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_URL = r"(?ai)(https?)://(\[[\da-f]*:[\da-f]*:[\da-f:.]*\]|[^][\\/?#@:%]+)(?::([1-9]\d{0,4}))?(/[^\\?#]*)?"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")  # where http is good enough
_URN = "urn:atlassian:connect:"
_JWT_HEADER = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_TRANSIENT = {408, 429, 500, 502, 503, 504, "temporarily_unavailable", "server_error"}
_CLOCK_TOLERANCE = 5  # seconds that a server's Date may be off without being believed
_MAX_ANSWER = 65536  # bytes


class ClaimSet(NamedTuple):
    """What an assertion claims (RFC 7523, section 3); its `_asdict()` is what is signed."""

    iss: str
    sub: str
    tnt: str
    aud: str
    exp: int  # seconds since the epoch, as is iat
    iat: int


class Token(NamedTuple):
    """An access token; to keep one, write its `_asdict()` as JSON, and read `Token(**saved)`."""

    access_token: str
    expires_at: float | None = None  # seconds since the epoch; None: no expiry is known
    token_type: str = "Bearer"

    def is_expired(self, leeway: float = 10.0) -> bool:
        """Tell whether the token has expired, or will within `leeway` seconds."""
        return self.expires_at is not None and self.expires_at - leeway <= time.time()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header (RFC 6750, section 2.1)."""
        return f"Bearer {self.access_token}"

    def __repr__(self) -> str:
        return f"Token(access_token=..., expires_at={self.expires_at!r})"


class TokenError(URLError):
    """No usable token could be had; `reason` and `str()` are the same one line, without secrets."""

    status: int | None = None  # of the token endpoint's answer, None if there was none
    error: str | None = None  # the server's words (RFC 6749, section 5.2)
    error_description: str | None = None
    body: bytes = b""  # of a refusal, at most 64 KiB; empty after a 2xx, which may hold a token
    retry_after: float | None = None  # seconds that the server asks to wait
    _is_transient: bool = False
    __str__ = OSError.__str__  # URLError's own puts "urlopen error" around it


def _check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be {expected.__name__}, not {type(value).__name__}")


def _utf8(name: str, text: str | bytes) -> bytes:
    if isinstance(text, bytes):
        return text
    _check_type(name, text, str)
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{name} cannot be encoded as UTF-8") from None  # its cause shows the text


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def encode_jwt(claims: Mapping[str, Any], secret: str | bytes) -> str:
    """Sign `claims`, in their order, with HMAC-SHA256 and return the JWT (RFC 7519; RFC 7515).

    A str `secret` is used as UTF-8. Raises TypeError or ValueError for what JSON cannot hold.
    """
    payload = json.dumps(dict(claims), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    signed = _JWT_HEADER + b"." + _base64url(_utf8("claims", payload))
    signature = hmac.digest(_utf8("secret", secret), signed, "sha256")
    return (signed + b"." + _base64url(signature)).decode()


def format_scopes(scopes: str | Iterable[str]) -> str:
    """Upper-case scopes and join them by one space, in the order given (RFC 6749, section 3.3).

    Each may hold several, split at white space and at "+". Raises TypeError.
    """
    try:
        text = scopes if isinstance(scopes, str) else " ".join(scopes)
    except TypeError as error:
        raise TypeError("scopes must be a str or an iterable of str") from error
    return " ".join(text.replace("+", " ").upper().split())


def _json_object(text: str | bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError, TypeError, RecursionError):
        return {**json.loads(_utf8("JSON", text).decode("utf-8-sig", "replace"))}
    return {}


def _check_url(name: str, url: str) -> re.Pattern[str]:
    """Raise ValueError if `url` is not safe; return a pattern of the URLs of its origin."""
    _check_type(name, url, str)
    match = re.fullmatch(_VISIBLE_ASCII, url) and re.fullmatch(_URL, url)
    is_https = bool(match and match[1].lower() == "https")
    if not match or int(match[3] or 1) > 65535 or not (is_https or match[2] in _LOOPBACK):
        rule = "https://HOST[:PORT][/PATH] in visible ASCII, with no user info, query or fragment"
        # Of user info, query and fragment, which may hold a secret, nothing is shown.
        shown = "..." if "@" in url else re.sub(r"(?s)(?<=[?#]).*", "...", url)
        raise ValueError(f"{name} must be {rule}, http for {', '.join(_LOOPBACK)}; it is {shown!r}")
    default = "443" if is_https else "80"
    port = f"(:{default})?" if match[3] in (None, default) else f":{match[3]}"
    # Without (?a), a Kelvin sign would be as good as a k.
    return re.compile(rf"(?ai){match[1]}://{re.escape(match[2])}{port}([/?#]|\Z)")


class Config:
    """Who asks for tokens, as whom, and where: checked when it is made, and never changed.

    base_url: str, of the site; Confluence's ends in "/wiki". A slash at its end is dropped.
    subject: str, the account ID of the user to act as, or a whole "urn:atlassian:connect:..." URN.
    client_id: str, client_secret: str or bytes; what Atlassian gives the app when it is installed.
    scopes: str or iterable of str, kept as `format_scopes` gives them; None: all that the app has.
    endpoint: Endpoint, the authorization server.
    Raises ValueError, or TypeError for a wrong type, naming the argument.
    Source: Atlassian, "User impersonation for Connect apps".
    """

    def __init__(
        self,
        *,
        base_url: str,
        subject: str,
        client_id: str,
        client_secret: str | bytes,
        scopes: str | Iterable[str] | None = None,
        endpoint: Endpoint = ATLASSIAN,
    ) -> None:
        origin = _check_url("base_url", base_url)
        for name, text in (("subject", subject), ("client_id", client_id)):
            _check_type(name, text, str)
            if " " in text or not text.isprintable() or not text:
                raise ValueError(f"{name} must be printable, with no space, not empty: {text!r}")
        if "@" in subject and not subject.startswith(_URN):
            raise ValueError(f"subject must be an account ID, no e-mail address: {subject!r}")
        if not _utf8("client_secret", client_secret) or client_secret != client_secret.strip():
            raise ValueError("client_secret must not be empty or have white space at an end")
        _check_type("endpoint", endpoint, Endpoint)
        _check_type("auth_url", endpoint.auth_url, str)
        if not _utf8("auth_url", endpoint.auth_url):
            raise ValueError("auth_url must not be empty")
        _check_url("token_url", endpoint.token_url)
        formatted = None if scopes is None else format_scopes(scopes)
        if formatted is not None and not (formatted and formatted.isprintable()):
            raise ValueError(f"scopes must be printable and not empty (None for all): {scopes!r}")
        self.base_url, self.subject = base_url.rstrip("/"), subject
        self.client_id, self.client_secret = client_id, client_secret
        self.scopes, self.endpoint, self._origin = formatted, endpoint, origin

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "_origin"):  # the last to be set
            raise AttributeError(f"{name} cannot be set: a Config does not change, make another")
        super().__setattr__(name, value)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Take the settings from environment variables; one that is empty counts as unset.

        JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID, JIRA_CLIENT_SECRET; optional JIRA_SCOPES,
        JIRA_AUTH_URL, JIRA_TOKEN_URL. A wrong one is refused by name (ValueError).
        """
        names = ("base_url", "subject", "client_id", "client_secret", *Endpoint._fields)
        args = {name: environ.get(f"JIRA_{name.upper()}", "") for name in names}
        urls = {name: args.pop(name) or getattr(ATLASSIAN, name) for name in Endpoint._fields}
        try:
            return cls(**args, scopes=environ.get("JIRA_SCOPES") or None, endpoint=Endpoint(**urls))
        except ValueError as error:
            argument, _, problem = str(error).partition(" ")
            raise ValueError(f"JIRA_{argument.upper()} {problem}") from None

    @classmethod
    def from_installation(cls, payload: Any, *, subject: str, **options: Any) -> Config:
        """Take what Atlassian posts to the app's "installed" hook: its JSON, parsed or as it came.

        The options are `scopes` and `endpoint`. Raises ValueError for what the payload lacks.
        """
        given = _json_object(payload) if isinstance(payload, (str, bytes)) else payload
        _check_type("payload", given, dict)
        for key in ("baseUrl", "sharedSecret", "oauthClientId"):
            if not given.get(key):
                hint = "; the app needs the ACT_AS_USER scope" if key == "oauthClientId" else ""
                raise ValueError(f"payload must have {key}{hint}")
        site, app, secret = given["baseUrl"], given["oauthClientId"], given["sharedSecret"]
        return cls(base_url=site, subject=subject, client_id=app, client_secret=secret, **options)

    def claims(self, now: float | None = None) -> ClaimSet:
        """Return the claim set of an assertion made `now`, in seconds since the epoch."""
        prefix = "" if self.subject.startswith(_URN) else f"{_URN}useraccountid:"
        iss, sub = f"{_URN}clientid:{self.client_id}", f"{prefix}{self.subject}"
        iat = int(time.time() if now is None else now)  # the server allows 60 seconds from it
        return ClaimSet(iss, sub, self.base_url, self.endpoint.auth_url, iat + 59, iat)

    def assertion(self, now: float | None = None) -> str:
        """Return the signed JWT of `claims(now)`: a credential for as long as it lives."""
        return encode_jwt(self.claims(now)._asdict(), self.client_secret)

    def token_source(self, *handlers: Any, **options: Any) -> TokenSource:
        """Return a `TokenSource`, which takes the same arguments."""
        return TokenSource(self, *handlers, **options)

    def opener(self, *handlers: Any, **options: Any) -> OpenerDirector:
        """Return an opener that adds the token for the origin alone; arguments as above."""
        source = self.token_source(*handlers, **options)
        return build_opener(*map(_copy_handler, handlers), HTTPBearerAuthHandler(source))

    def auth(self, *handlers: Any, **options: Any) -> BearerAuth:
        """Return a `BearerAuth` for requests or httpx, with the same arguments."""
        return BearerAuth(self.token_source(*handlers, **options))


def _parse_token(answer: dict[str, Any], sent_at: float) -> Token:
    """Return the token of an answer (RFC 6749, section 5.1), or raise ValueError."""
    access_token, token_type = answer.get("access_token"), answer.get("token_type")
    expires_in = "0" if answer.get("expires_in") is None else str(answer["expires_in"])
    if not isinstance(access_token, str) or not re.fullmatch(_VISIBLE_ASCII, access_token):
        raise ValueError("no usable access_token")
    if token_type is not None and str(token_type).lower() != "bearer":
        raise ValueError("a token_type that is not Bearer")
    if not re.fullmatch(_NUMBER, expires_in) or float(expires_in) == float("inf"):
        raise ValueError("an expires_in that is no number of seconds")
    return Token(access_token, sent_at + float(expires_in) if float(expires_in) else None)


def _copy_handler(handler: Any) -> Any:
    """Return a copy, since a handler has one `parent`: the opener that it is in."""
    dup = copy.copy(handler)
    if isinstance(dup, ProxyHandler) and "proxies" in vars(dup):
        ProxyHandler.__init__(dup, vars(dup)["proxies"])  # its methods are bound to the original
    return dup


def _quote(text: str) -> str:
    """Return what may be shown of an answer: an assertion that it echoes loses its signature."""
    text = re.sub(r"(?<![\w-])[\w-]{43}(?![\w-])", "...", text)[:200]  # 32 bytes in base64url
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


class TokenSource:
    """A token of `config` that is always fresh, for any number of threads.

    handlers: what `urllib.request.build_opener` takes; each opener has copies of its own.
    token: Token to start from, such as one kept from an earlier run.
    timeout: float, seconds for an exchange, its retries included; one whose answer drips ends
    within twice as many. The timeout of an API call is not that of the exchange inside it.
    leeway: float, seconds before its expiry at which a token counts as expired. Raises ValueError.
    """

    def __init__(
        self,
        config: Config,
        *handlers: Any,
        token: Token | None = None,
        timeout: float = 30.0,
        leeway: float = 10.0,
    ) -> None:
        if token is not None and not re.fullmatch(_VISIBLE_ASCII, token.access_token):
            raise ValueError("token must have an access_token of visible ASCII")
        if not (0 < timeout <= threading.TIMEOUT_MAX and leeway >= 0):
            raise ValueError(f"timeout must be finite, > 0; leeway >= 0: {timeout!r}, {leeway!r}")
        self.config, self._timeout, self._leeway = config, timeout, leeway
        self._opener = build_opener(*map(_copy_handler, handlers))
        # No handler is asked about an answer, whatever it is: an assertion follows no redirect.
        self._opener.error = lambda proto, request, response, *_: response  # type: ignore
        self._held, self._clock_offset = token, 0.0
        self._lock = threading.Lock()  # for changes of what is held
        # The exchange to come: whoever has its lock makes it, and leaves here what came of it.
        self._next: tuple[threading.Lock, list[Token | TokenError]] = (threading.Lock(), [])

    def token(self) -> Token:
        """Return the held token, or another if it has expired or was dropped. Raises TokenError."""
        turn, outcomes = self._next  # before _held: who sees a new turn sees what the last gave
        held = self._held
        if held is not None and not held.is_expired(self._leeway):
            return held
        with turn:
            if not outcomes:
                outcome = self._exchange()
                with self._lock:
                    self._held = outcome if isinstance(outcome, Token) else None
                self._next = (threading.Lock(), [])
                outcomes.append(outcome)  # last: if interrupted before, the turn is taken again
        if isinstance(outcomes[0], Token):
            return outcomes[0]
        raise copy.copy(outcomes[0]) from outcomes[0].__cause__

    def invalidate(self, token: Token) -> None:
        """Drop `token`, if it is the one held: the next `token()` gets another."""
        with self._lock:
            if self._held == token:
                self._held = None

    def _exchange(self) -> Token | TokenError:
        """Trade an assertion for a token; what is tried again, and when, is decided here alone."""
        deadline = time.monotonic() + self._timeout
        delays = [random.uniform(0.5, 0.75), random.uniform(1.0, 1.5)]
        first_offset, is_corrected = self._clock_offset, False
        while True:
            outcome = self._attempt(deadline)
            if isinstance(outcome, Token):
                return outcome
            if self._clock_offset != first_offset and not is_corrected:
                is_corrected, delay = True, 0.0
            elif outcome._is_transient and delays:
                backoff = delays.pop(0)
                delay = backoff if outcome.retry_after is None else outcome.retry_after
            else:
                return outcome
            if delay >= deadline - time.monotonic():
                return outcome
            time.sleep(delay)

    def _attempt(self, deadline: float) -> Token | TokenError:
        """Ask the token endpoint once, and see from a refusal how far off the clock is."""
        sent_at = time.time()
        signed_at = sent_at + self._clock_offset
        status, body = None, b""
        headers: Any = {}
        try:
            status, headers, body = self._post(self.config.assertion(signed_at), deadline)
            content = _json_object(body)
            if not 200 <= status < 300 or content.get("error") is not None:
                url, phrase = self.config.endpoint.token_url, responses.get(status, "unknown")
                raise HTTPError(url, status, phrase, headers, io.BytesIO())  # to be the cause
            return _parse_token(content, sent_at)
        except Exception as cause:  # whatever http.client, a codec or a handler may think of
            with contextlib.suppress(Exception):  # no usable Date; it is in GMT (RFC 9110, 5.6.7)
                date = parsedate_to_datetime(headers["Date"].rstrip(" GMT") + " GMT").timestamp()
                off = date - min(max(date, signed_at), time.time() + self._clock_offset)
                if status in (400, 401) and abs(off) > _CLOCK_TOLERANCE:  # a slow server's is 0
                    self._clock_offset += off
            return self._error(cause, status, headers, body)

    def _post(self, assertion: str, deadline: float) -> tuple[int, Any, bytes]:
        form = {"grant_type": GRANT_TYPE, "assertion": assertion}
        if self.config.scopes is not None:
            form["scope"] = self.config.scopes
        # Firewalls turn Python-urllib away.
        headers = {"Accept": "application/json", "User-Agent": f"jira-jwt-oauth/{__version__}"}
        request = Request(self.config.endpoint.token_url, urlencode(form).encode(), headers)
        body = bytearray()
        with self._opener.open(request, timeout=max(deadline - time.monotonic(), 0.001)) as answer:
            # One read from the socket at most, so that the deadline is seen while a body drips.
            while len(body) < _MAX_ANSWER and (chunk := answer.read1(_MAX_ANSWER - len(body))):
                body += chunk
                if time.monotonic() > deadline:
                    raise TimeoutError("the answer did not end in time")
        if len(body) < _MAX_ANSWER and getattr(answer, "length", None):  # read1 does not tell
            raise ConnectionError(f"the answer ended {answer.length} bytes early")
        return answer.code, answer.headers or {}, bytes(body)

    def _error(self, cause: Exception, status: int | None, headers: Any, body: bytes) -> TokenError:
        """Say in one line, and in fields, why there is no token."""
        if isinstance(cause, HTTPException):  # its text, and its context, may echo the assertion
            cause.args, cause.__context__ = (_quote(str(cause)),), None
        reason = cause.reason if isinstance(cause, URLError) else cause
        words = map(_json_object(body).get, ("error", "error_description"))
        code, description = (word if isinstance(word, str) else None for word in words)
        told = [f"HTTP {status}, {reason}" if status else repr(reason), code, description]
        if status in (400, 401) and abs(self._clock_offset) > _CLOCK_TOLERANCE:
            told.append(f"this machine's clock is off by {-self._clock_offset:+.0f} s")
        line = ", ".join(_quote(text) for text in told if text)
        error = TokenError(f"no access token from {self.config.endpoint.token_url}: {line}")
        error.__cause__, error.status = cause, status
        error.error, error.error_description = code, description
        error.body = b"" if 200 <= (status or 0) < 300 else body
        seconds = re.fullmatch(r"\s*([0-9]+)\s*", str(headers.get("Retry-After")))
        error.retry_after = float(seconds[1]) if seconds else None
        # A bad certificate is a ValueError too; three wrong passwords for a proxy lock an account.
        final = isinstance(reason, ValueError) or str(reason).startswith("Tunnel connection failed")
        is_broken = isinstance(reason, (OSError, IncompleteRead)) and not final
        error._is_transient = is_broken or not _TRANSIENT.isdisjoint((status, code))
        return error


def _copy_request(req: Request, **marks: object) -> Request:
    """Return a copy with headers of its own, as if no proxy had been set on it yet."""
    dup = object.__new__(type(req))  # what copy.copy does, at a fraction of the cost
    vars(dup).update(vars(req), _tunnel_host=None, **marks)
    dup.headers, dup.unredirected_hdrs = dict(req.headers), dict(req.unredirected_hdrs)
    if req.has_proxy() or vars(req).get("_tunnel_host"):
        dup.full_url = req.full_url  # parsed anew: opened a third time, it would be in the clear
    return dup


class HTTPBearerAuthHandler(BaseHandler):
    """Adds the token of `source` to what an opener sends to the origin of its base URL.

    A request that bears the token and is answered 401 is sent again, once, with a new token, if its
    body is bytes or none; at most one token a minute is fetched for that. The caller's Request is
    never changed; one with an Authorization header keeps it. Raises TokenError. Source: RFC 6750.
    """

    handler_order = 490  # before urllib's own, which add headers to the request they are given

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self._site = Request(source.config.base_url)
        self._next_renewal = float("-inf")

    def http_request(self, req: Request) -> Request:
        """Return a copy of `req` that bears the token if it is for the origin, else `req`."""
        began_elsewhere = req.unverifiable and req.origin_req_host != self._site.origin_req_host
        if began_elsewhere or not self.source.config._origin.match(req.full_url):
            return req
        if req.has_header("Authorization"):
            # urllib opens an http request again for a proxy that speaks TLS: a copy, for ever.
            return req if self._site.type == "http" and req.has_proxy() else _copy_request(req)
        token = self.source.token()
        dup = _copy_request(req, bearer=self, bearer_original=req, bearer_token=token)
        dup.add_unredirected_header("Authorization", token.authorization)
        return dup

    https_request = http_request

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Send `req` again with another token; return None, with `fp` unread, to leave it."""
        if getattr(req, "bearer", None) is not self or getattr(req, "bearer_is_replay", False):
            return None
        with self.source._lock:
            if self.source._held == req.bearer_token:
                if time.monotonic() < self._next_renewal:
                    return None
                self._next_renewal = time.monotonic() + 60  # some resources refuse everybody
                self.source._held = None
        if not isinstance(req.data, (bytes, type(None))):
            return None
        fp.close()
        again = _copy_request(req.bearer_original, bearer_is_replay=True)
        return self.parent.open(again, timeout=req.timeout)


class BearerAuth:
    """Sets the token of `source` on the requests of requests or httpx that are for the origin."""

    def __init__(self, source: TokenSource) -> None:
        self.source = source

    def __call__(self, request: Any) -> Any:
        """Set the header, whatever stood there, if `request` is for the origin, and return it."""
        if self.source.config._origin.match(str(request.url)):
            request.headers["Authorization"] = self.source.token().authorization
        return request


# All from here to the end is the command line; it may be cut off when vendoring.


def _demo() -> None:
    """Run the whole flow against a stand-in for Atlassian that listens on a loopback port."""
    from http.server import BaseHTTPRequestHandler
    from socketserver import TCPServer

    secret, bearers = os.urandom(16).hex(), ["none yet"]

    class StandIn(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            print(f"{self.requestline}\n{self.headers}{body}")
            is_good, answer = self.headers["Authorization"] == bearers[-1], {"displayName": "Mia"}
            if body:
                assertion = body.split("&")[1].split("=")[1]
                claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
                expected = encode_jwt(config.claims(claims["iat"])._asdict(), secret)
                is_good = assertion == expected and abs(claims["iat"] - time.time()) < 5
                answer = {"access_token": os.urandom(16).hex(), "expires_in": "900"}
                bearers.append(f"Bearer {answer['access_token']}")
            self.send_response_only(200 if is_good else 401)
            self.end_headers()
            self.wfile.write(json.dumps(answer if is_good else {"error": "invalid_grant"}).encode())

        def do_POST(self) -> None:
            self.do_GET()

    StandIn.timeout = 1  # second; a client that was interrupted may hold its connection in silence
    with TCPServer(("127.0.0.1", 0), StandIn) as server, contextlib.ExitStack() as stack:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        stack.callback(server.shutdown)
        server.handle_error = lambda *_: None  # type: ignore  # of a client that was interrupted
        site = f"http://127.0.0.1:{server.server_address[1]}"
        hook = {"baseUrl": site, "oauthClientId": "demo", "sharedSecret": secret}
        at = Endpoint("https://as.example", f"{site}/oauth2/token")
        config = Config.from_installation(hook, subject="557058:1", scopes="read", endpoint=at)
        direct = ProxyHandler({})  # whatever proxies the environment names
        print("1. The claim set says which app asks, for which user, at which site, until when:\n")
        print(f"{json.dumps(config.claims()._asdict(), indent=2)}\n")
        print(f"2. Signed with the shared secret it is an assertion:\n\n{config.assertion()}\n")
        print("3. The token request, as the token endpoint gets it and verifies it:\n")
        token = config.token_source(direct).token()
        print(f"\n4. The access token in the answer:\n\n{json.dumps(token._asdict(), indent=2)}\n")
        for step, held in (
            ("5. An API call that bears it, as the site gets it, and the site's answer:", token),
            ("6. Once it has expired, a call gets another first:", token._replace(expires_at=0.0)),
        ):
            print(f"{step}\n")
            with config.opener(direct, token=held).open(f"{site}/rest/api/3/myself") as answer:
                print(f"{answer.read().decode()}\n")


def main(argv: list[str] | None = None) -> None:
    """Run the command of `argv`, by default the process's own; exit with 1 or 2 if it fails."""
    import argparse

    parser = argparse.ArgumentParser(epilog=Config.from_env.__doc__)
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("demo", help="show the whole flow, without settings or a network")
    commands.add_parser("assertion", help="print a signed JWT, without a network")
    token = commands.add_parser("token", help="print an access token; --json: the whole token")
    token.add_argument("--json", action="store_true", help="print the whole token")
    get = commands.add_parser("get", help="GET a URL or a path after the base URL, write the body")
    get.add_argument("url", help="at the site; one that starts with / goes after the base URL")
    try:
        # Not sys.stdout: what that could not write, the interpreter would try to write again.
        with open(1, "w", closefd=False) as out, contextlib.redirect_stdout(out):
            args = parser.parse_args(argv)
            if args.command == "demo":
                return _demo()
            try:
                config = Config.from_env()
            except ValueError as error:
                parser.error(str(error))
            if args.command == "assertion":
                return print(config.assertion())
            if args.command == "token":
                access = config.token_source().token()
                return print(json.dumps(access._asdict()) if args.json else access.access_token)
            url = config.base_url + args.url if args.url.startswith("/") else args.url
            if not (config._origin.match(url) and re.fullmatch(_VISIBLE_ASCII, url)):
                parser.error(f"{url!r} is not a URL at the origin of JIRA_BASE_URL")
            try:
                with config.opener().open(url, timeout=30) as answer:
                    out.buffer.write(answer.read())
            except HTTPError as error:
                raise OSError(f"{error}\n{error.read(65536).decode('utf-8', 'replace')}") from None
    except (BrokenPipeError, KeyboardInterrupt):
        parser.exit(1)
    except (OSError, HTTPException, ValueError, OverflowError, MemoryError) as error:
        parser.exit(1, f"{parser.prog}: {str(error) or repr(error)}\n")


if __name__ == "__main__":
    main()
