"""OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant, on the standard library alone.

An Atlassian Connect app is given a client ID and a shared secret when it is installed. This module
turns them into API calls that are made as a user:

    config = Config(base_url="https://mycompany.atlassian.net", subject="557058:12345678-...",
                    client_id="...", client_secret="...")
    with config.opener().open(config.base_url + "/rest/api/3/myself", timeout=30) as response:
        print(response.read())

Sources: Atlassian, "User impersonation for Connect apps"; RFC 7523, 7515, 6749 and 6750.
"""
# Copyright (c) 2026 the jira-jwt-oauth authors
# SPDX-License-Identifier: MIT
# Origin: jira_jwt_oauth.py of the distribution jira-jwt-oauth; keep these lines in copies.

from __future__ import annotations

import base64
import copy
import hmac
import json
import os
import random
import re
import threading
import time
from contextlib import suppress
from email.utils import mktime_tz, parsedate_tz
from http.client import HTTPException, IncompleteRead, responses
from typing import TYPE_CHECKING, NamedTuple, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import BaseHandler, HTTPRedirectHandler, OpenerDirector, Request, build_opener

if TYPE_CHECKING:
    from typing import Any, Iterable, Mapping, NoReturn, Type, Union

    Handler = Union[BaseHandler, Type[BaseHandler]]

__version__ = "0.1.0"

GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

_URN = "urn:atlassian:connect:"
_JWT_HEADER = b"eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"  # {"alg":"HS256","typ":"JWT"}
_BACKOFF = (0.5, 1.0)  # seconds before the second attempt and the third, the last one
_TRANSIENT = {408, 429, 500, 502, 503, 504, "temporarily_unavailable", "server_error"}
_CLOCK_TOLERANCE = 5  # seconds that a server's Date may be off without being believed
_RENEWAL_INTERVAL = 60  # seconds between two renewals for a 401: some resources refuse everybody
_MAX_ANSWER = 65536  # bytes
_MAX_QUOTE = 200  # characters: an assertion that is echoed loses its signature


class Endpoint(NamedTuple):
    """An authorization server."""

    auth_url: str  # what an assertion names as its audience, any non-empty string
    token_url: str  # of the token endpoint, https


_SERVER = "https://oauth-2-authorization-server.services.atlassian.com"
ATLASSIAN = Endpoint(auth_url=_SERVER, token_url=f"{_SERVER}/oauth2/token")


class ClaimSet(NamedTuple):
    """What an assertion claims (RFC 7523, section 3); its `_asdict()` is what is signed."""

    iss: str
    sub: str
    tnt: str
    aud: str
    exp: int  # seconds since the epoch, as is iat
    iat: int


class Token(NamedTuple):
    """An access token. `expires_at` is in seconds since the epoch, or None if no expiry is known.

    Its `repr` leaves the token out. To keep one between runs, write `token._asdict()` as JSON and
    read it back with `Token(**saved)`.
    """

    access_token: str
    expires_at: float | None = None
    token_type: str = "Bearer"

    def is_expired(self, leeway: float = 10.0) -> bool:
        """Tell whether the token is not good for `leeway` seconds more."""
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

    def __str__(self) -> str:
        return str(self.reason)


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


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
        # Not chained: that exception carries the text, which may be a secret.
        raise ValueError(f"{name} cannot be encoded as UTF-8") from None


def encode_jwt(claims: Mapping[str, Any], secret: str | bytes) -> str:
    """Sign `claims` with HMAC-SHA256 and return the JWT (RFC 7519; RFC 7515, section 3.1).

    The keys keep their order; a `secret` that is a str is used as UTF-8. Raises TypeError or
    ValueError for what JSON or UTF-8 cannot hold.
    """
    payload = json.dumps(dict(claims), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    signed = _JWT_HEADER + b"." + _base64url(_utf8("claims", payload))
    signature = hmac.digest(_utf8("secret", secret), signed, "sha256")
    return (signed + b"." + _base64url(signature)).decode()


def format_scopes(scopes: str | Iterable[str]) -> str:
    """Upper-case scopes and join them by one space, in the order given (RFC 6749, section 3.3).

    `scopes` is a str or an iterable of str; each may hold several, split at white space and at "+".
    Raises TypeError for anything else.
    """
    try:
        text = scopes if isinstance(scopes, str) else " ".join(scopes)
    except TypeError as error:
        raise TypeError("scopes must be a str or an iterable of str") from error
    return " ".join(text.replace("+", " ").upper().split())


# Scheme, host, port and path, in visible ASCII and without a backslash.
_URL = re.compile(
    r"(?ai)(?=[!-~]+\Z)(https?)://(\[[\da-f:.]+\]|[^][\\/?#@:%]+)(?::(\d{1,5}))?(/[^\\?#]*)?"
)


def _parse_url(name: str, url: str) -> re.Match[str]:
    _check_type(name, url, str)
    match = _URL.fullmatch(url)
    if not match or not 0 < int(match[3] or 443) < 65536:
        rule = "https://HOST[:PORT][/PATH] in visible ASCII, with no user info, query or fragment"
    elif match[1].lower() == "http" and match[2] not in ("localhost", "127.0.0.1", "[::1]"):
        rule = "https; http is for localhost, 127.0.0.1 and [::1] alone"
    else:
        return match
    # Of user info, query and fragment, which may hold a secret, nothing is shown.
    shown = re.sub(r"(?s).*@|(?<=[?#]).*", "...", url)
    raise ValueError(f"{name} must be {rule}; it is {shown!r}")


class Config:
    """Who asks for tokens, as whom, and where: checked when it is made, and never changed.

    base_url: str, of the site; Confluence's ends in "/wiki". A slash at its end is dropped.
    subject: str, the account ID of the user to act as, or a whole "urn:atlassian:connect:..." URN.
    client_id: str, the installation's `oauthClientId`.
    client_secret: str or bytes, the installation's `sharedSecret`.
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
        url = _parse_url("base_url", base_url)
        self.base_url = base_url.rstrip("/")
        for name, text in (("subject", subject), ("client_id", client_id)):
            _check_type(name, text, str)
            if not text or " " in text or not text.isprintable():
                rule = "printable, not empty, with no space"
                raise ValueError(f"{name} must be {rule}; it is {text!r}")
        if "@" in subject and not subject.startswith(_URN):
            raise ValueError(f"subject must be an account ID, no e-mail address; it is {subject!r}")
        self.subject, self.client_id = subject, client_id
        self.client_secret = client_secret
        if not _utf8("client_secret", client_secret) or client_secret != client_secret.strip():
            raise ValueError("client_secret must not be empty or have white space at an end")
        self.scopes = None if scopes is None else format_scopes(scopes)
        if self.scopes == "" or not str(self.scopes).isprintable():
            raise ValueError(f"scopes must be printable and not empty (None for all): {scopes!r}")
        self.endpoint = endpoint
        _check_type("endpoint", endpoint, Endpoint)
        _check_type("auth_url", endpoint.auth_url, str)
        if not _utf8("auth_url", endpoint.auth_url):
            raise ValueError("auth_url must not be empty")
        _parse_url("token_url", endpoint.token_url)
        default = 443 if url[1].lower() == "https" else 80
        port = int(url[3] or default)
        start = rf"{url[1]}://{re.escape(url[2])}(:{port}){'?' if port == default else ''}"
        # Without re.ASCII, a Kelvin sign would be as good as a k.
        self._origin = re.compile(rf"{start}([/?#]|\Z)", re.IGNORECASE | re.ASCII)

    def __setattr__(self, name: str, value: object) -> None:
        if hasattr(self, "_origin"):  # the last to be set
            raise AttributeError(f"{name} cannot be set: a Config does not change, make another")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        shown = f"{self.base_url!r}, subject={self.subject!r}, client_id={self.client_id!r}"
        return f"Config(base_url={shown}, client_secret=..., scopes={self.scopes!r})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Config:
        """Take the settings from environment variables; an empty one counts as unset.

        JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID, JIRA_CLIENT_SECRET; optional JIRA_SCOPES,
        JIRA_AUTH_URL, JIRA_TOKEN_URL. Raises ValueError that names the variable.
        """
        names = ("base_url", "subject", "client_id", "client_secret", "scopes", *Endpoint._fields)
        given = {name: environ.get(f"JIRA_{name.upper()}", "") for name in names}
        urls = {name: given.pop(name) or getattr(ATLASSIAN, name) for name in Endpoint._fields}
        scopes = given.pop("scopes") or None
        try:
            return cls(**given, scopes=scopes, endpoint=Endpoint(**urls))
        except ValueError as error:
            argument, _, problem = str(error).partition(" ")
            raise ValueError(f"JIRA_{argument.upper()} {problem}") from None

    @classmethod
    def from_installation(cls, payload: Any, *, subject: str, **options: Any) -> Config:
        """Take what Atlassian posts to the app's "installed" hook: its JSON, parsed or as it came.

        payload: dict, str or bytes; the options are `scopes` and `endpoint`. Raises
        ValueError for what it lacks, and as `Config` does.
        """
        if isinstance(payload, (str, bytes)):
            payload = _json_object(payload)
        _check_type("payload", payload, dict)
        for key in ("baseUrl", "sharedSecret", "oauthClientId"):
            if not payload.get(key):
                hint = "; the app needs the ACT_AS_USER scope" if key == "oauthClientId" else ""
                raise ValueError(f"payload must have {key}{hint}")
        options.update(base_url=payload["baseUrl"], client_id=payload["oauthClientId"])
        return cls(subject=subject, client_secret=payload["sharedSecret"], **options)

    def claims(self, now: float | None = None) -> ClaimSet:
        """Return the claim set of an assertion made `now`, in seconds since the epoch."""
        iss = f"{_URN}clientid:{self.client_id}"
        whole = self.subject.startswith(_URN)
        sub = self.subject if whole else f"{_URN}useraccountid:{self.subject}"
        iat = int(time.time() if now is None else now)
        exp = iat + 59  # the server takes at most 60
        return ClaimSet(iss, sub, self.base_url, self.endpoint.auth_url, exp, iat)

    def assertion(self, now: float | None = None) -> str:
        """Return the signed JWT of `claims(now)`: a credential for as long as it lives."""
        return encode_jwt(self.claims(now)._asdict(), self.client_secret)

    def token_source(self, *handlers: Handler, **options: Any) -> TokenSource:
        """Return a `TokenSource`, which takes the same arguments."""
        return TokenSource(self, *handlers, **options)

    def opener(self, *handlers: Handler, **options: Any) -> OpenerDirector:
        """Return an opener that adds the token to what goes to the origin of `base_url`.

        The arguments are those of `TokenSource`; its calls use the handlers and raise TokenError.
        """
        source = self.token_source(*handlers, **options)
        return build_opener(*handlers, HTTPBearerAuthHandler(source))

    def auth(self, *handlers: Handler, **options: Any) -> BearerAuth:
        """Return a `BearerAuth` for requests or httpx; the arguments are those of `TokenSource`."""
        return BearerAuth(self.token_source(*handlers, **options))


class _NoRedirectHandler(HTTPRedirectHandler):
    """Raises what redirects: an assertion goes nowhere but to the token endpoint."""

    handler_order = 0  # asked first, so that a redirect handler of the caller's is not asked at all

    def http_error_302(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> NoReturn:
        raise HTTPError(req.full_url, code, msg, headers, fp)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def _read(answer: Any, deadline: float) -> bytes:
    """Read as much of a body as is looked at, until `deadline` on the monotonic clock."""
    body = bytearray()
    # One read from the socket at most, so that the deadline is seen while a body drips.
    while len(body) < _MAX_ANSWER and (chunk := answer.read1(_MAX_ANSWER - len(body))):
        body += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the answer did not end in time")
    # Up to Python 3.11, read1 keeps silent about what is missing.
    if len(body) < _MAX_ANSWER and getattr(answer, "length", None):
        raise ConnectionError(f"the answer ended {answer.length} bytes early")
    return bytes(body)


def _json_object(text: str | bytes) -> dict[str, Any]:
    """Return the JSON object that `text` is, and an empty one for anything else."""
    try:
        value = json.loads(text.decode("utf-8-sig", "replace") if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _parse_token(answer: Mapping[str, Any], sent_at: float) -> Token:
    """Return the token of a 2xx answer (RFC 6749, section 5.1), or raise ValueError."""
    if answer.get("error") is not None:
        raise ValueError("a refusal")
    access_token = answer.get("access_token")
    if not isinstance(access_token, str) or not re.fullmatch("[!-~]+", access_token):
        raise ValueError("no usable access_token")
    token_type = answer.get("token_type")
    if token_type is not None and str(token_type).lower() != "bearer":
        raise ValueError("a token_type that is not Bearer")
    expires_in = str(answer.get("expires_in") if answer.get("expires_in") is not None else 0)
    number = re.fullmatch(r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", expires_in)
    if not number or float(expires_in) == float("inf"):
        raise ValueError("an expires_in that is no number of seconds")
    return Token(access_token, sent_at + float(expires_in) if float(expires_in) else None)


def _is_transient(error: TokenError) -> bool:
    if error.status is not None:
        return not _TRANSIENT.isdisjoint((error.status, error.error))
    cause = error.__cause__
    reason = cause.reason if isinstance(cause, URLError) else cause
    # A certificate that does not verify is a ValueError too. What a proxy refuses, maybe for a
    # wrong password, is told by its text alone.
    final = isinstance(reason, ValueError) or str(reason).startswith("Tunnel connection failed")
    return isinstance(reason, (OSError, IncompleteRead)) and not final


class TokenSource:
    """A token of `config` that is always fresh, for any number of threads.

    handlers: what `urllib.request.build_opener` takes; copies of them serve the token request.
    token: Token to start from, such as one kept from an earlier run.
    timeout: float, seconds for an exchange, its retries included; one whose answer drips ends
    within twice as many. The timeout of an API call is not that of the exchange inside it.
    leeway: float, seconds before its expiry at which a token counts as expired.

    Raises ValueError or TypeError, naming the argument.
    """

    def __init__(
        self,
        config: Config,
        *handlers: Handler,
        token: Token | None = None,
        timeout: float = 30.0,
        leeway: float = 10.0,
    ) -> None:
        if token is not None:
            _check_type("token", token, Token)
        if not (0 < timeout <= threading.TIMEOUT_MAX and leeway >= 0):
            raise ValueError(f"timeout must be above 0, leeway not below: {timeout!r}, {leeway!r}")
        self.config = config
        self._opener = build_opener(*map(copy.copy, handlers), _NoRedirectHandler())
        self._timeout = timeout
        self._leeway = leeway
        self._lock = threading.Lock()
        # Of the last exchange; at first, a token that has always been expired.
        self._outcome: Token | TokenError = token or Token("", expires_at=float("-inf"))
        self._dropped: Token | TokenError | None = None
        self._clock_offset = 0.0

    def token(self) -> Token:
        """Return the held token, or get another if it has expired or was dropped.

        Raises TokenError. Threads that come while an exchange is under way take what it gives, a
        token or an error; those that come after an error try anew.
        """
        outcome = self._outcome
        if isinstance(outcome, Token) and self._holds(outcome):
            return outcome
        with self._lock:
            # After a wait for the lock it is another already, and that is for this thread too.
            if self._outcome is outcome:
                self._outcome = self._exchange()
            outcome = self._outcome
        if isinstance(outcome, Token):
            return outcome
        raise copy.copy(outcome) from outcome.__cause__

    def invalidate(self, token: Token) -> None:
        """Drop `token`, if it is the one held: the next `token()` gets another."""
        held = self._outcome
        if held == token:
            self._dropped = held

    def _holds(self, token: Token) -> bool:
        held = self._outcome
        return held == token and held is not self._dropped and not token.is_expired(self._leeway)

    def _exchange(self) -> Token | TokenError:
        """Trade an assertion for a token; what is tried again, and when, is decided here alone."""
        deadline = time.monotonic() + self._timeout
        delays = [seconds * random.uniform(1, 1.5) for seconds in _BACKOFF]
        may_correct_clock = True
        while True:
            offset = self._clock_offset
            outcome = self._attempt(deadline)
            if isinstance(outcome, Token):
                return outcome
            if may_correct_clock and self._clock_offset != offset:
                may_correct_clock = False
                delay = 0.0
            elif delays and _is_transient(outcome):
                delay = delays.pop(0)
                if outcome.retry_after is not None:
                    delay = outcome.retry_after
            else:
                return outcome
            if delay >= deadline - time.monotonic():
                return outcome
            time.sleep(delay)

    def _attempt(self, deadline: float) -> Token | TokenError:
        """Ask the token endpoint once, and see from a refusal how far off the clock is."""
        sent_at = time.time()
        signed_at = sent_at + self._clock_offset
        answer, body = None, b""
        try:
            answer, body = self._post(self.config.assertion(signed_at), deadline)
            if isinstance(answer, HTTPError):
                raise answer
            return _parse_token(_json_object(body), sent_at)
        except Exception as error:  # whatever http.client, a codec or a handler may think of
            if isinstance(error, HTTPError) and error.code in (400, 401):
                # RFC 9110, section 6.6.1; no Date or a wrong one corrects nothing.
                with suppress(TypeError, ValueError, IndexError, OverflowError):
                    server_time = mktime_tz(cast("Any", parsedate_tz(error.headers["Date"])))
                    if abs(server_time - signed_at) > _CLOCK_TOLERANCE:
                        self._clock_offset = server_time - sent_at
            return self._error(error, answer, body)

    def _post(self, assertion: str, deadline: float) -> tuple[Any, bytes]:
        """Return the answer, an HTTPError if it is no 2xx, and its body."""
        form = {"grant_type": GRANT_TYPE, "assertion": assertion}
        if self.config.scopes is not None:
            form["scope"] = self.config.scopes
        request = Request(self.config.endpoint.token_url, urlencode(form).encode())
        request.add_header("Accept", "application/json")
        request.add_header("Content-Type", "application/x-www-form-urlencoded")
        # Firewalls turn Python-urllib away.
        request.add_header("User-Agent", f"jira-jwt-oauth/{__version__}")
        try:
            answer = self._opener.open(request, timeout=max(deadline - time.monotonic(), 0.001))
        except HTTPError as refusal:
            refusal.msg = responses.get(refusal.code, "")  # the server's own may echo anything
            answer = refusal
        with answer:
            return answer, _read(answer, deadline)

    def _error(self, cause: Exception, answer: Any, body: bytes) -> TokenError:
        """Say in one line, and in fields, why there is no token."""
        if isinstance(cause, HTTPException):
            # A status line may echo the whole request, and what it could not be read as shows it.
            cause.args, cause.__context__ = (str(cause)[:_MAX_QUOTE],), None
        said = _json_object(body)
        words = [said.get(name) for name in ("error", "error_description")]
        code, description = (word if isinstance(word, str) else None for word in words)
        unusable = "" if isinstance(cause, HTTPError) else str(cause)
        if answer is None:
            told = [repr(cause.reason if isinstance(cause, URLError) else cause)]
        else:
            told = [f"HTTP {answer.code}", unusable, code, description]
        offset = self._clock_offset
        if answer is not None and answer.code in (400, 401) and abs(offset) > _CLOCK_TOLERANCE:
            side = "behind" if offset > 0 else "ahead of"
            told.append(f"this machine's clock is {abs(offset):.0f} s {side} the server's")
        line = ", ".join(text[:_MAX_QUOTE] for text in told if text)
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)
        error = TokenError(f"no access token from {self.config.endpoint.token_url}: {line}")
        error.__cause__ = cause
        error.error, error.error_description = code, description
        if answer is not None:
            error.status = answer.code
            retry_after = answer.headers.get("Retry-After", "")
            if re.fullmatch("[0-9]+", retry_after):
                error.retry_after = float(retry_after)
        if isinstance(cause, HTTPError):
            error.body = body
        return error


def _copy_request(req: Request) -> Request:
    """Return a copy with headers of its own, as if no proxy had been set on it yet."""
    dup = object.__new__(type(req))  # what copy.copy does, at a fraction of the cost
    vars(dup).update(vars(req))
    dup.full_url = req.full_url  # parsed anew
    dup.headers, dup.unredirected_hdrs = dict(req.headers), dict(req.unredirected_hdrs)
    vars(dup)["_tunnel_host"] = None
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
        self._site = Request(source.config.base_url).origin_req_host
        self._lock = threading.Lock()
        self._next_renewal = float("-inf")

    def http_request(self, req: Request) -> Request:
        """Return a copy of `req` that bears the token if it is for the origin, else `req`."""
        if req.has_header("Authorization") or not self.source.config._origin.match(req.full_url):
            return req
        if req.unverifiable and req.origin_req_host != self._site:  # aimed by a foreign host
            return req
        token = self.source.token()
        dup = _copy_request(req)
        dup.add_unredirected_header("Authorization", token.authorization)
        vars(dup)["bearer"] = (req, token)
        return dup

    https_request = http_request

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Send `req` again with another token; return None, with `fp` unread, to leave it."""
        original, token = getattr(req, "bearer", (req, None))
        if token is None or hasattr(original, "replay"):
            return None
        if not isinstance(original.data, (bytes, type(None))):
            self.source.invalidate(token)
            return None
        with self._lock:
            if self.source._holds(token):
                if time.monotonic() < self._next_renewal:
                    return None
                self._next_renewal = time.monotonic() + _RENEWAL_INTERVAL
                self.source.invalidate(token)
        fp.close()
        again = _copy_request(original)
        vars(again)["replay"] = True
        return self.parent.open(again, timeout=req.timeout)


class BearerAuth:
    """Sets the token of `source` on a request of requests or httpx, if it is for the origin.

    For `requests.Session.auth` or `httpx.Client(auth=...)`; anything with `url` and `headers` will
    do. Raises TokenError, which is no exception of either client.
    """

    def __init__(self, source: TokenSource) -> None:
        self.source = source

    def __call__(self, request: Any) -> Any:
        """Set the header if `request` is for the origin, whatever stood there, and return it."""
        if self.source.config._origin.match(str(request.url)):
            request.headers["Authorization"] = self.source.token().authorization
        return request


# All from here to the end is the command line; it may be cut off when vendoring.


def _demo() -> None:
    """Run the whole flow against a stand-in for Atlassian that listens on a loopback port."""
    from http.server import BaseHTTPRequestHandler
    from socketserver import TCPServer
    from urllib.parse import parse_qs
    from urllib.request import ProxyHandler

    secret, audience = os.urandom(16).hex(), "https://as.example"
    bearers: list[str] = []
    heard: list[str] = []

    class StandIn(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"] or 0)).decode()
            heard.append(f"{self.requestline}\n{self.headers}{body}")
            status, content = 401, {"error": "invalid_grant"}
            if self.headers["Authorization"] in bearers:
                status, content = 200, {"displayName": "Mia"}
            elif body:
                signed, _, signature = parse_qs(body)["assertion"][0].rpartition(".")
                claims = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
                digest = hmac.digest(secret.encode(), signed.encode(), "sha256")
                genuine = _base64url(digest).decode() == signature
                current = claims["iat"] - 5 < time.time() < claims["exp"] <= claims["iat"] + 60
                if genuine and current and (claims["tnt"], claims["aud"]) == (site, audience):
                    status, content = 200, {"access_token": os.urandom(16).hex(), "expires_in": 900}
                    bearers.append(f"Bearer {content['access_token']}")
            self.send_response_only(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        do_POST = do_GET

    with TCPServer(("127.0.0.1", 0), StandIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        site = f"http://127.0.0.1:{server.server_address[1]}"
        settings = {"JIRA_BASE_URL": site, "JIRA_CLIENT_ID": "demo", "JIRA_CLIENT_SECRET": secret}
        settings.update(JIRA_SUBJECT="557058:1234", JIRA_SCOPES="read write")
        settings.update(JIRA_AUTH_URL=audience, JIRA_TOKEN_URL=f"{site}/oauth2/token")
        config = Config.from_env(settings)
        direct = ProxyHandler({})  # whatever proxies the environment names
        print("1. The claim set says which app asks, for which user, at which site, until when:\n")
        print(f"{json.dumps(config.claims()._asdict(), indent=2)}\n")
        print(f"2. Signed with the shared secret it is an assertion:\n\n{config.assertion()}\n")
        print("3. The token request, as the token endpoint gets it and verifies it:\n")
        token = config.token_source(direct).token()
        print(f"{heard.pop()}\n\n4. The access token in the answer:\n")
        print(f"{json.dumps(token._asdict(), indent=2)}\n")
        for step, held in (
            ("5. An API call that bears it, as the site gets it, and the site's answer", token),
            ("6. Once it has expired, a call gets another first", token._replace(expires_at=0.0)),
        ):
            with config.opener(direct, token=held).open(f"{site}/rest/api/3/myself") as answer:
                print(f"{step}:\n", *heard, f"{answer.read().decode()}\n", sep="\n")
            heard.clear()
        server.shutdown()


def main(argv: list[str] | None = None) -> int:
    """Run the command of `argv`, by default the process's own, and return the exit status."""
    import argparse
    import shutil
    import sys

    env = "JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID and JIRA_CLIENT_SECRET; optional are "
    env += "JIRA_SCOPES, JIRA_AUTH_URL and JIRA_TOKEN_URL."
    parser = argparse.ArgumentParser(epilog=f"Settings come from the environment: {env}")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("demo", help="show the whole flow, without settings or a network")
    commands.add_parser("assertion", help="print a signed JWT, without a network")
    token = commands.add_parser("token", help="print an access token")
    token.add_argument("--json", action="store_true", help="print the whole token")
    get = commands.add_parser("get", help="GET a URL with the token and write out the body")
    get.add_argument("url", help="at the site; one that starts with / goes after the base URL")
    args = parser.parse_args(argv)

    def run() -> None:
        if args.command == "demo":
            return _demo()
        try:
            config = Config.from_env()
        except ValueError as error:
            parser.error(str(error))
        if args.command == "assertion":
            return print(config.assertion())
        if args.command == "token":
            token = config.token_source().token()
            return print(json.dumps(token._asdict()) if args.json else token.access_token)
        url = config.base_url + args.url if args.url.startswith("/") else args.url
        if not config._origin.match(url) or not re.fullmatch("[!-~]+", url):
            parser.error(f"{url!r} is not a URL at the origin of JIRA_BASE_URL")
        try:
            with config.opener().open(url, timeout=30) as answer:
                shutil.copyfileobj(answer, sys.stdout.buffer)
        except HTTPError as error:
            raise OSError(f"{error}\n{error.read().decode('utf-8', 'replace')}") from None

    status = 1
    try:
        run()
        status = 0
    except KeyboardInterrupt:
        status = 130
    except BrokenPipeError:
        pass
    except (OSError, HTTPException) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
    try:
        print(end="", flush=True)
    except OSError:
        status = 1
        # Or else the interpreter's last flush fails as well.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return status


if __name__ == "__main__":
    raise SystemExit(main())
