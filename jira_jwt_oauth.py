"""OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant, standard library only.

An Atlassian Connect app has a client ID and a shared secret. This module turns them into API
calls that the app makes as a user:

    from jira_jwt_oauth import Config, TokenSource

    config = Config(
        base_url="https://mycompany.atlassian.net",
        subject="557058:12345678-1234-1234-1234-123456789abc",
        client_id="...",
        client_secret="...",
    )
    opener = TokenSource(config).opener()
    with opener.open(config.base_url + "/rest/api/3/myself", timeout=30) as response:
        print(response.read().decode())

Sources: Atlassian, "User impersonation for Connect apps"; RFC 7523 (JWT bearer grant), RFC 7515
(signatures), RFC 6749 (OAuth 2.0), RFC 6750 (bearer tokens).
"""
# Copyright (c) 2026 the jira-jwt-oauth authors
# SPDX-License-Identifier: MIT
# This is jira_jwt_oauth.py from the distribution jira-jwt-oauth. Keep these lines in copies.

from __future__ import annotations

import base64
import copy
import hmac
import json
import os
import re
import sys
import threading
import time
from calendar import timegm
from collections.abc import Iterable, Mapping
from email.utils import parsedate
from http.client import HTTPException, IncompleteRead
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit
from urllib.request import (
    BaseHandler,
    HTTPErrorProcessor,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

__all__ = [
    "ATLASSIAN",
    "ATLASSIAN_GOVERNMENT",
    "GRANT_TYPE",
    "ClaimSet",
    "Config",
    "Endpoint",
    "HTTPBearerAuthHandler",
    "Token",
    "TokenError",
    "TokenSource",
    "encode_jwt",
    "format_scopes",
]
__version__ = "1.0.0"

# Signing


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


_JWT_HEADER = _base64url(b'{"alg":"HS256","typ":"JWT"}')


def encode_jwt(claims: Mapping[str, Any], secret: str | bytes) -> str:
    """Return a JWT of ``claims``, signed with HMAC-SHA256 (RFC 7519; RFC 7515).

    claims: a mapping with values that JSON can hold. Their order is kept.
    secret: bytes, or a str, which is encoded as UTF-8.

    Raises TypeError or ValueError for claims or a secret that cannot be encoded.
    """
    key = secret.encode() if isinstance(secret, str) else secret
    payload = json.dumps({**claims}, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    signing_input = f"{_JWT_HEADER}.{_base64url(payload.encode())}"
    signature = hmac.digest(key, signing_input.encode(), "sha256")
    return f"{signing_input}.{_base64url(signature)}"


# Origins: where a credential may go

# The flags: a is ASCII only, i ignores case, x allows spaces and comments in the pattern.
_ORIGIN = r"""(?aix:
    (
        # a host name, or an IPv4 address
        https :// [a-z0-9_-]+ (?: \. [a-z0-9_-]+ )*
        # this machine
        | http :// (?: localhost | 127\.0\.0\.1 | \[::1] )
    )
    # a port, at most 65535
    (?: : (
        [1-9][0-9]{0,3} | [1-5][0-9]{4} | 6[0-4][0-9]{3}
        | 65[0-4][0-9]{2} | 655[0-2][0-9] | 6553[0-5]
    ) )?
)"""
_URL = rf"{_ORIGIN}(?s:[/?#].*)?"


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return the scheme, host and port of a URL, or None if it must not get a credential.

    The pattern is strict: it refuses user info, escapes, backslashes and anything else that
    programs may parse differently.
    """
    match = re.fullmatch(_URL, url)
    if not match:
        return None
    scheme, _, host = match[1].lower().partition("://")
    port = match[2] or ("443" if scheme == "https" else "80")
    return scheme, host, int(port)


# Quoting: how messages show text from outside

# What may be a credential. The flag s lets a dot match a line break.
_CREDENTIAL = r"""(?xs)
    (?<= // ) .* (?= @ )     # the user and password in a URL
    | [A-Za-z0-9_-]{40,}     # a part of a JWT: its signature has 43 characters
    | [A-Za-z0-9]{32,}       # a secret or a token
"""


def _quote(text: str) -> str:
    """Return the start of a text as a repr, with "..." in place of what may be a credential."""
    # Cut a long text, so that no pattern takes long.
    start = text[:1000]
    if start != text:
        # The last word may be half a credential, which no pattern would recognise.
        start = re.sub("[A-Za-z0-9_-]+$", "...", start)
    return repr(re.sub(_CREDENTIAL, "...", start)[:200])


# Settings

_URN_PREFIX = "urn:atlassian:connect:"
_VISIBLE_ASCII = "[!-~]+"
# Visible ASCII without the double quote and the backslash (RFC 6749, section 3.3).
_SCOPE = r"[!#-\[\]-~]+"
# For each setting, the pattern that it must match, and what to say if it does not.
_RULES = {
    "base_url": (
        f"{_ORIGIN}(?:/|/wiki/?)?",
        "the address of your site, such as https://mycompany.atlassian.net, with nothing"
        " after it except /wiki for Confluence",
    ),
    "subject": (
        # The second form also allows retired user keys, in any script, but no surrogates, which
        # UTF-8 cannot encode.
        rf"[A-Za-z0-9:_-]+|{_URN_PREFIX}[^\s\ud800-\udfff]+",
        "the account ID of a user, such as 557058:12345678-1234-1234-1234-123456789abc",
    ),
    "client_id": (
        _VISIBLE_ASCII,
        "the oauthClientId that Atlassian sends when your app is installed, without spaces"
        " (only apps with the ACT_AS_USER scope get one)",
    ),
    "client_secret": (
        f"{_VISIBLE_ASCII}(?: +{_VISIBLE_ASCII})*",
        "the sharedSecret that Atlassian sends when your app is installed, in visible"
        " ASCII, without spaces or line breaks around it",
    ),
    "scopes": (
        f"{_SCOPE}(?: {_SCOPE})*",
        'one or more scopes, such as READ, in visible ASCII without " or \\'
        " (leave it out to get all the scopes of your app)",
    ),
    "auth_url": (
        _VISIBLE_ASCII,
        'the "aud" claim that the authorization server expects, in visible ASCII'
        " (auth_url and token_url go together)",
    ),
    "token_url": (
        rf"{_ORIGIN}/(?a:[\w.~!$&'()*+,;=:@%/-]*)",
        "an https URL with a path and no query, such as https://auth.example/oauth2/token"
        " (auth_url and token_url go together)",
    ),
}


def _check_type(name: str, value: object, *expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be {expected[0].__name__}, not {type(value).__name__}")


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Raise a ValueError that names every setting that breaks its rule."""
    faults: list[str] = []
    for name, value in settings.items():
        text = value or ""
        _check_type(name, text, str)
        pattern, words = _RULES[name]
        if not re.fullmatch(pattern, text):
            shown = "'...'" if name == "client_secret" else _quote(text)
            state = shown if text else "missing"
            faults.append(f"{name} (JIRA_{name.upper()}) must be {words}; it is {state}")
    if faults:
        raise ValueError("\n".join(faults))


def _join_scopes(scopes: str | Iterable[str]) -> str:
    try:
        text = scopes if isinstance(scopes, str) else " ".join(scopes)
    except TypeError:
        raise TypeError("scopes must be a str or an iterable of str") from None
    return " ".join(re.findall(r"[^\s+,]+", text))


def format_scopes(scopes: str | Iterable[str]) -> str:
    """Return scopes in upper case, in the order given, with one space between them.

    scopes: a str, or an iterable of str. Each may hold several scopes, separated by white space,
    "+" or ",".

    Raises ValueError if there is no scope, or if one contains a character that is not allowed
    (RFC 6749, section 3.3). Raises TypeError for a wrong type.
    """
    text = _join_scopes(scopes)
    _check_settings({"scopes": text})
    return text.upper()


class Endpoint(NamedTuple):
    """An authorization server.

    auth_url: str, the "aud" claim that the server expects. Despite the name, it need not be a URL.
    token_url: str, the URL of the token endpoint.
    """

    auth_url: str
    token_url: str


GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"

ATLASSIAN = Endpoint(
    auth_url="https://oauth-2-authorization-server.services.atlassian.com",
    token_url="https://oauth-2-authorization-server.services.atlassian.com/oauth2/token",
)
ATLASSIAN_GOVERNMENT = Endpoint(
    auth_url="https://oauth-2-authorization-server.services.atlassian-us-gov-mod.com",
    token_url="https://oauth-2-authorization-server.services.atlassian-us-gov-mod.com/oauth2/token",
)
_GOVERNMENT_SITE = r"\.atlassian-us-gov-mod\.(?:net|com)(?::|/|$)"


class ClaimSet(NamedTuple):
    """The claims of an assertion, in the order in which they are signed (RFC 7523, section 3).

    iss, sub, tnt, aud: str, for the app, the user, the site and the authorization server.
    exp, iat: int, seconds since the epoch.
    """

    iss: str
    sub: str
    tnt: str
    aud: str
    exp: int
    iat: int


class Config:
    """The settings: a site, a user to act as, and the credentials of an app.

    base_url: str, the URL of the site. For Confluence it ends in "/wiki".
    subject: str, the account ID of the user, or a whole "urn:atlassian:connect:..." URN.
    client_id: str, the "oauthClientId" that Atlassian sends when the app is installed.
    client_secret: str, the "sharedSecret" that Atlassian sends.
    scopes: what ``format_scopes`` takes, or None for all the scopes of the app.
    endpoint: Endpoint, the authorization server, or None for Atlassian's own.

    Each argument becomes a read-only attribute: use ``replace`` to make another Config. In the
    attributes, ``base_url`` is in lower case and has no slash at its end, ``scopes`` is an
    upper-case str or None, and ``endpoint`` is never None.

    Raises ValueError, which names every wrong setting, one per line. Raises TypeError for a wrong
    type.

    Source: Atlassian, "User impersonation for Connect apps".
    """

    base_url: str
    subject: str
    client_id: str
    client_secret: str
    scopes: str | None
    endpoint: Endpoint

    def __init__(
        self,
        *,
        base_url: str,
        subject: str,
        client_id: str,
        client_secret: str,
        scopes: str | Iterable[str] | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        settings = {
            "base_url": base_url,
            "subject": subject,
            "client_id": client_id,
            "client_secret": client_secret,
        }
        if scopes is not None:
            settings["scopes"] = _join_scopes(scopes)
        _check_type("endpoint", endpoint, Endpoint, type(None))
        urls = endpoint._asdict() if endpoint else {}
        _check_settings({**settings, **urls})
        site = base_url.lower().rstrip("/")
        own = ATLASSIAN_GOVERNMENT if re.search(_GOVERNMENT_SITE, site) else ATLASSIAN
        # Not by assignment, which __setattr__ refuses.
        vars(self).update(
            settings,
            base_url=site,
            scopes=None if scopes is None else settings["scopes"].upper(),
            endpoint=endpoint or own,
        )

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Config is immutable: use config.replace({name}=...)")

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in vars(self).items() if "secret" not in name]
        return f"Config({', '.join(shown)})"

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Return a Config made from environment variables.

        Required: JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID and JIRA_CLIENT_SECRET. Optional:
        JIRA_SCOPES; JIRA_AUTH_URL and JIRA_TOKEN_URL, both or neither. An empty variable counts
        as missing.

        environ: a mapping, or None for ``os.environ``.

        Raises what ``Config`` raises.
        """
        environ = os.environ if environ is None else environ
        values: Any = {name: environ.get(f"JIRA_{name.upper()}") or None for name in _RULES}
        auth_url = values.pop("auth_url")
        token_url = values.pop("token_url")
        if auth_url or token_url:
            values["endpoint"] = Endpoint(auth_url, token_url)
        return cls(**values)

    def replace(self, **changes: Any) -> Config:
        """Return another Config with some arguments changed, such as ``subject``.

        If the endpoint is Atlassian's own, it is chosen again for the new ``base_url``.

        Raises what ``Config`` raises.
        """
        arguments = dict(vars(self))
        if self.endpoint in (ATLASSIAN, ATLASSIAN_GOVERNMENT):
            del arguments["endpoint"]
        return Config(**{**arguments, **changes})

    def claims(self, now: float | None = None) -> ClaimSet:
        """Return the claim set of an assertion that is issued ``now``.

        now: float, seconds since the epoch, or None for the current time.
        """
        issued_at = int(time.time() if now is None else now)
        is_urn = self.subject.startswith(_URN_PREFIX)
        return ClaimSet(
            iss=f"{_URN_PREFIX}clientid:{self.client_id}",
            sub=self.subject if is_urn else f"{_URN_PREFIX}useraccountid:{self.subject}",
            tnt=self.base_url,
            aud=self.endpoint.auth_url,
            exp=issued_at + 59,  # the server accepts at most 60 s, so this is on the safe side
            iat=issued_at,
        )

    def assertion(self, now: float | None = None) -> str:
        """Return the signed JWT of ``claims(now)``. It is a credential until it expires."""
        return encode_jwt(self.claims(now)._asdict(), self.client_secret)


# Tokens


class Token(NamedTuple):
    """An access token.

    access_token: str.
    expires_at: float, seconds since the epoch, or None if no expiry is known.

    To keep a token between runs, write ``token._asdict()`` as JSON and read it back with
    ``Token(**saved)``.
    """

    access_token: str
    expires_at: float | None = None

    def is_expired(self, leeway: float = 10.0) -> bool:
        """Return whether the token has at most ``leeway`` seconds left."""
        return self.expires_at is not None and self.expires_at - leeway <= time.time()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header, a str (RFC 6750, section 2.1)."""
        return f"Bearer {self.access_token}"

    def __repr__(self) -> str:
        return f"Token(access_token=..., expires_at={self.expires_at!r})"


class TokenError(URLError):
    """Raised if there is no usable access token.

    ``reason`` and ``str()`` are the same line of text. Text from outside is quoted in it, with
    "..." in place of what looks like a secret, an assertion or a token.

    status: int, the HTTP status of the token endpoint's answer, or None if there was no answer.
    error, error_description: str, what the server sent, or None (RFC 6749, section 5.2). They may
        repeat the assertion, so do not log them.
    retry_after: float, the seconds that the server asks you to wait, or None.
    is_transient: bool, whether you may get a token later without changing anything.
    """

    status: int | None = None
    error: str | None = None
    error_description: str | None = None
    retry_after: float | None = None
    is_transient: bool = False

    def __str__(self) -> str:
        return str(self.reason)


# The token endpoint

# Excludes infinity, and an int that is too large for a float.
_LARGEST_NUMBER = sys.float_info.max
# In seconds. Assertions are backdated, to be valid even if this machine's clock is fast.
_BACKDATED = 10
_SHORTEST_TIMEOUT = 0.001
_MAX_BODY = 65536  # bytes
_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)


def _read_body(answer: Any, timeout: float) -> bytearray:
    """Read at most 64 KiB of an answer, for at most twice ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    body = bytearray()
    # read1 returns nothing at the end of the answer, and when asked for 0 bytes.
    while piece := answer.read1(_MAX_BODY - len(body)):
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    expected = int(answer.headers["Content-Length"] or 0)
    if len(body) < min(expected, _MAX_BODY):
        raise ConnectionError("the answer was cut short")
    return body


def _make_error(request: Request, problem: str, is_transient: bool) -> TokenError:
    """Return a TokenError that names the token URL, the proxy if there is one, and the problem."""
    via = ""
    if request.host != urlsplit(request.full_url).netloc:
        # For a proxy, urllib sets the host to the proxy's. The slashes let _quote hide a password.
        via = f" via proxy {_quote('//' + request.host)[3:-1]}"
    token_error = TokenError(f"no access token from {request.full_url}{via}: {problem}")
    token_error.is_transient = is_transient
    return token_error


def _network_error(request: Request, error: Exception) -> TokenError:
    """Return the TokenError for an attempt that got no answer."""
    from ssl import SSLCertVerificationError

    # urllib wraps the errors of a connection in a URLError, as its reason. Other reasons are text.
    cause = getattr(error, "reason", error)
    if not isinstance(cause, Exception):
        cause = error
    kind = type(cause).__name__
    if not isinstance(cause, OSError):
        # Do not show the text: http.client quotes the answer in it, and urllib a mistyped proxy
        # with its password.
        return _make_error(request, kind, is_transient=isinstance(cause, IncompleteRead))
    # This is what http.client says if a proxy answers CONNECT with a 4xx. It may be a refused
    # password: do not send that again, as it may lock the account.
    is_refused_by_proxy = str(cause).startswith("Tunnel connection failed: 4")
    is_lasting = is_refused_by_proxy or isinstance(cause, SSLCertVerificationError)
    problem = f"{kind}: {_quote(str(cause))}"
    token_error = _make_error(request, problem, not is_lasting)
    # A traceback would keep the local variables of all callers in memory.
    token_error.__cause__ = cause.with_traceback(None)
    return token_error


def _parse_json(text: str | bytearray) -> Any:
    """Return the value of a JSON text, with every number as a float, or None if it is not JSON."""
    try:
        return json.loads(text, parse_int=float)
    except (ValueError, RecursionError):
        return None


def _parse_token(content: dict[str, Any], sent_at: float) -> Token | str:
    """Return the token in an answer, or what is wrong with it (RFC 6749, section 5.1)."""
    access_token = content.get("access_token")
    if not isinstance(access_token, str) or not re.fullmatch(_VISIBLE_ASCII, access_token):
        return "access_token is missing or not visible ASCII"
    if str(content.get("token_type", "bearer")).lower() != "bearer":
        return "token_type is not Bearer"
    lifetime = content.get("expires_in", 0.0)
    if isinstance(lifetime, str):
        # Some servers send "900" in place of 900.
        lifetime = _parse_json(lifetime)
    if not isinstance(lifetime, float) or not 0 <= lifetime <= _LARGEST_NUMBER:
        return "expires_in is not a number of seconds"
    return Token(access_token, sent_at + lifetime if lifetime else None)


def _clock_hint(headers: Any) -> str:
    """Return how far off this machine's clock is, or "" if the Date of an answer agrees with it."""
    try:
        date: Any = parsedate(headers["Date"])
        ahead = time.time() - timegm(date)
    except (LookupError, OverflowError, TypeError, ValueError):
        return ""  # there is no Date, or it makes no sense
    if abs(ahead) <= 10:
        return ""
    return f"; this machine's clock is {abs(ahead):.0f} s {'fast' if ahead > 0 else 'slow'}"


def _text(value: object) -> str | None:
    """Return a value if it is text and not empty, else None."""
    return value if value and isinstance(value, str) else None


def _describe(answer: Any, body: bytearray, shown: dict[str, str | None]) -> str:
    """Return what to show of an answer: its error, or else its headers and body."""
    if not shown["error"]:
        shown = {name: answer.headers[name] for name in ("Location", "Content-Type")}
        if answer.status >= 300:  # the body of a 2xx answer may hold a token
            shown["body"] = body.decode(errors="replace")
    return "".join(f", {name} {_quote(text)}" for name, text in shown.items() if text)


def _parse_answer(
    request: Request, answer: Any, body: bytearray, sent_at: float
) -> Token | TokenError:
    """Return the token in an answer, or a TokenError that says what the answer holds instead."""
    json_body: dict[str, Any] | None = _parse_json(body)
    members = json_body.items() if isinstance(json_body, dict) else ()
    content = {name: value for name, value in members if value is not None}
    problem = f"HTTP {answer.status}"
    if 200 <= answer.status < 300 and not content.get("error"):
        result = _parse_token(content, sent_at)
        if isinstance(result, Token):
            return result
        problem += f", {result}"
    texts = {name: _text(content.get(name)) for name in ("error", "error_description")}
    problem += _describe(answer, body, texts) + _clock_hint(answer.headers)
    token_error = _make_error(request, problem, answer.status in _TRANSIENT_STATUS)
    token_error.status = answer.status
    token_error.error = texts["error"]
    token_error.error_description = texts["error_description"]
    retry_after = answer.headers.get("Retry-After", "")
    if re.fullmatch("[0-9]+", retry_after):
        token_error.retry_after = float(retry_after)
    return token_error


def _attempt(
    config: Config, opener: OpenerDirector, deadline: float, timeout: float
) -> Token | TokenError:
    """Make one token request, with a fresh assertion (RFC 7523, section 2.1)."""
    sent_at = time.time()
    form = {"grant_type": GRANT_TYPE, "assertion": config.assertion(sent_at - _BACKDATED)}
    if config.scopes:
        form["scope"] = config.scopes
    # urllib adds the Content-Type of a form.
    headers = {
        "Accept": "application/json",
        # Some firewalls refuse urllib's own name.
        "User-Agent": f"jira-jwt-oauth/{__version__}",
    }
    request = Request(config.endpoint.token_url, urlencode(form).encode(), headers)
    time_left = max(deadline - time.monotonic(), _SHORTEST_TIMEOUT)
    try:
        with opener.open(request, timeout=time_left) as answer:
            # The full timeout again: do not lose an answer because connecting was slow.
            body = _read_body(answer, timeout)
    except (OSError, HTTPException, ValueError) as error:
        return _network_error(request, error)
    return _parse_answer(request, answer, body, sent_at)


def _exchange(config: Config, opener: OpenerDirector, timeout: float) -> Token | TokenError:
    """Return a new token, or the error of the last attempt. Make at most three attempts."""
    deadline = time.monotonic() + timeout
    for shortest_wait in (0.5, 1.0):
        outcome = _attempt(config, opener, deadline, timeout)
        if isinstance(outcome, Token) or not outcome.is_transient:
            return outcome
        wait = max(shortest_wait, outcome.retry_after or 0)
        # A TimeoutError means that the time is up, or that a signal handler stops the exchange.
        if isinstance(outcome.__cause__, TimeoutError) or wait >= deadline - time.monotonic():
            return outcome
        time.sleep(wait)
    return _attempt(config, opener, deadline, timeout)


# The token source


def _copy(handler: Any) -> Any:
    """Return a shallow copy of a handler, because a handler can belong to only one opener.

    The copy shares what is expensive, such as an SSL context with all its certificates.
    """
    if not hasattr(handler, "add_parent"):
        raise TypeError(
            f"handlers must be urllib handlers, not {type(handler).__name__}: pass a proxy as"
            " ProxyHandler({'https': url}) and an SSL context as HTTPSHandler(context=context)"
        )
    if type(handler) is ProxyHandler:
        # Its attributes are bound to the original, so a copy would still call it.
        return ProxyHandler(handler.proxies)  # type: ignore[attr-defined]
    return copy.copy(handler)


def _new_opener(handlers: Iterable[Any]) -> OpenerDirector:
    opener = OpenerDirector()
    for handler in handlers:
        opener.add_handler(_copy(handler))
    return opener


def _check_seconds(name: str, value: float, lowest: float, highest: float) -> None:
    _check_type(name, value, float, int)
    if not lowest <= value <= highest:
        raise ValueError(f"{name} must be from {lowest} to {highest} seconds, not {value!r}")


def _check_token(token: Token) -> None:
    _check_type("token", token, Token)
    _check_type("token.access_token", token.access_token, str)
    if not re.fullmatch(_VISIBLE_ASCII, token.access_token):
        raise ValueError("token.access_token must be visible ASCII")
    if token.expires_at is not None:
        _check_seconds("token.expires_at", token.expires_at, -_LARGEST_NUMBER, _LARGEST_NUMBER)


class _Held:
    """What a source holds: a token, and the exchange that will replace it.

    When the exchange ends, the source replaces this object as a whole. A thread that still has the
    old object can take its outcome or drop its token, but cannot bring that token back or drop the
    new one.
    """

    outcome: Token | TokenError | None = None  # of the exchange

    def __init__(self, token: Token | None) -> None:
        self.token = token  # None if there is none, or if it was dropped
        # The thread that makes the exchange holds the lock, and others wait. It is reentrant,
        # because a signal handler may interrupt an exchange and ask for a token. It then makes an
        # exchange of its own, and does not wait forever.
        self.lock = threading.RLock()
        self.process = os.getpid()


class TokenSource:
    """Holds an access token and keeps it fresh. It is thread-safe.

    config: Config.
    handlers: urllib handlers or their classes, such as a ProxyHandler, or an HTTPSHandler with
        its own SSL context. Copies of them are used for token requests and by ``opener()``.
    token: Token to start with, such as one kept from an earlier run, or None.
    timeout: float, seconds for fetching a token, including retries: at least 0.001, at most a day.
        Reading the last answer may take twice as long again. It is not a hard limit: it applies to
        each wait for the network, and not to name look-ups.
    leeway: float, how many seconds before its expiry a token is replaced: at most a day.

    Raises TypeError or ValueError for a wrong handler, token, timeout or leeway.
    """

    def __init__(
        self,
        config: Config,
        *handlers: BaseHandler | type[BaseHandler],
        token: Token | None = None,
        timeout: float = 30.0,
        leeway: float = 10.0,
    ) -> None:
        _check_seconds("timeout", timeout, _SHORTEST_TIMEOUT, 86400)
        _check_seconds("leeway", leeway, 0, 86400)
        if token is not None:
            _check_token(token)
        self.config = config
        self._timeout = timeout
        self._leeway = leeway
        self._held = _Held(token)
        self._next_drop = 0.0  # by time.monotonic()
        # build_opener adds those of urllib's own handlers that the caller does not replace.
        opener: Any = build_opener(*map(_copy, handlers))
        self._handlers = opener.handlers
        # Only an HTTPErrorProcessor turns a 302 or a 401 into an action. Without one, the token
        # request follows no redirect and answers no challenge, whatever other handlers of urllib
        # there are.
        self._token_opener = _new_opener(
            handler for handler in self._handlers if not isinstance(handler, HTTPErrorProcessor)
        )

    def token(self) -> Token:
        """Return the held token, or a new one if it has expired or was dropped.

        Threads that need a new token at the same time share one exchange. If it fails, each of
        them gets the error.

        Raises TokenError.
        """
        held = self._held
        token = held.token
        if token and not token.is_expired(self._leeway):
            return token
        if held.process != os.getpid():
            # This process is a fork. The thread that has the lock may exist only in its parent.
            held = _Held(None)
            self._held = held
        with held.lock:
            outcome = held.outcome
            if outcome is None:
                outcome = _exchange(self.config, self._token_opener, self._timeout)
                # In this order: the outcome is only for threads that already have this object.
                self._held = _Held(outcome if isinstance(outcome, Token) else None)
                held.outcome = outcome
        if isinstance(outcome, TokenError):
            # Each thread raises an error of its own, because raising adds a traceback to it.
            raise copy.copy(outcome) from outcome.__cause__
        return outcome

    def invalidate(self, token: Token) -> bool:
        """Drop ``token`` if it is the one held, so that the next ``token()`` fetches another.

        Tokens are compared by their ``access_token``. At most one token per minute is dropped: some
        resources answer 401 to every token, and a script that calls them in a loop must not fetch
        a new token for each call.

        Returns whether the token was dropped.
        """
        held = self._held
        current = held.token
        now = time.monotonic()
        is_held = current and current.access_token == token.access_token
        if not is_held or now < self._next_drop:
            return False
        # In this order: a thread that the new time turns away must find the token gone.
        held.token = None
        self._next_drop = now + 60
        return True

    def opener(self) -> OpenerDirector:
        """Return an opener that adds the token to requests to the site.

        The opener has the handlers of the source, and an ``HTTPBearerAuthHandler``.
        """
        return _new_opener([*self._handlers, HTTPBearerAuthHandler(self)])

    def authorize(self, request: Any) -> Any:
        """Set the Authorization header of a request to the site, and return the request.

        Use it as the ``auth`` of a requests or httpx client:

            session.auth = source.authorize

        request: anything with a ``url`` and ``headers``. A header that is already there is
            replaced. A request to anywhere else is not changed.

        Unlike an opener, it does nothing after a 401: call ``invalidate`` yourself. Fetching a
        token blocks, also in an asynchronous client.

        Raises TokenError.
        """
        if _origin(str(request.url)) == _origin(self.config.base_url):
            request.headers["Authorization"] = self.token().authorization
        return request


# The API calls


class HTTPBearerAuthHandler(BaseHandler):
    """Adds the token of a ``TokenSource`` to requests to the site.

    source: TokenSource.

    The site is the scheme, host and port of the base URL. A request to anywhere else, or with an
    Authorization header of its own, is sent unchanged. So is a request that another host has
    redirected to the site, directly or not.

    If the site answers 401, the handler drops the token with ``source.invalidate``. If the source
    then has another token, and the body is bytes or None, it sends the request again, once.

    Opening a request raises TokenError if the source cannot get a token.

    Source: RFC 6750.
    """

    # Before urllib's own authentication handlers, which start at 490.
    handler_order = 480

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self._site: Any = _origin(source.config.base_url)

    def http_request(self, req: Request) -> Request:
        """Return a copy of ``req`` with the token, or ``req`` itself if the token is not for it."""
        if getattr(req, "bearer_handler", None) is self:
            # This is a copy made below, which is opened again. Its token may be old.
            req.remove_header("Authorization")
        if req.has_header("Authorization") or not self._is_for_site(req):
            return req
        # Copy the request each time it is sent, because urllib rewrites one that goes through a
        # proxy. The third time that the same request is opened, urllib sends it without TLS, and
        # the token with it.
        token = self.source.token()
        copied = Request(
            req.full_url,
            req.data,
            req.headers,
            req.origin_req_host,
            req.unverifiable,
            req.get_method(),
        )
        copied.unredirected_hdrs.update(req.unredirected_hdrs)
        copied.add_unredirected_header("Authorization", token.authorization)
        # Keep what urllib and other handlers have set on the request, such as its timeout, but not
        # what is already set on the copy.
        kept = {**vars(req), **vars(copied)}
        vars(copied).update(kept, bearer_handler=self, bearer_token=token)
        return copied

    https_request = http_request

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Send the request again with another token, and return the response.

        Returns None if this handler did not add the token. Raises HTTPError, with its body
        unread, if it does not send the request again, and TokenError if the renewal fails.
        """
        if getattr(req, "bearer_handler", None) is not self:
            return None
        refused = req.bearer_token
        self.source.invalidate(refused)
        is_replay = getattr(req, "bearer_replay", False)
        may_repeat = not is_replay and isinstance(req.data, (bytes, type(None)))
        try:
            is_renewed = may_repeat and self.source.token().access_token != refused.access_token
        except TokenError:
            fp.close()
            raise
        if not is_renewed:
            # Do not return None: urllib's own authentication handlers would see the challenge,
            # and raise ValueError for "Bearer".
            raise HTTPError(req.full_url, code, msg, headers, fp)
        fp.close()
        req.bearer_replay = True
        return self.parent.open(req, timeout=req.timeout)

    def _is_for_site(self, req: Any) -> bool:
        """Return whether a request goes to the site, and no other host has redirected it there."""
        # If a request was redirected, urllib keeps every URL that it was redirected to as a key of
        # redirect_dict, and the host where the redirects began in origin_req_host.
        redirects = getattr(req, "redirect_dict", {})
        began_elsewhere = redirects and req.origin_req_host != self._site[1]
        origins = {_origin(url) for url in [req.full_url, *redirects]}
        return origins == {self._site} and not began_elsewhere


# The command line. You may delete everything from here to the end when vendoring.

_HELP = """\
OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant.

commands:
  demo    show the whole flow, step by step, against a server on this machine
          that stands in for Atlassian; it needs no settings and no network
  token   print an access token

environment variables that "token" reads:
  JIRA_BASE_URL       the site, such as https://mycompany.atlassian.net;
                      for Confluence, add /wiki
  JIRA_SUBJECT        the account ID of the user to act as
  JIRA_CLIENT_ID      "oauthClientId" from the installation of the app
  JIRA_CLIENT_SECRET  "sharedSecret" from the installation of the app
  JIRA_SCOPES         optional: the scopes to ask for, such as "READ WRITE";
                      without it, you get all the scopes of the app
  JIRA_AUTH_URL       optional: the "aud" claim for another authorization server
  JIRA_TOKEN_URL      optional: the token endpoint of that server

exit status:
  0  success
  1  failure
  2  wrong usage or settings
"""

_DEMO = """\
1. The claim set names the app (iss), the user (sub), the site (tnt), the authorization
   server (aud), and how long it is valid (iat, exp).

{claims}

2. The assertion is the claim set, signed with the shared secret (HMAC-SHA256).

{assertion}

3. The token request carries such an assertion, dated 10 seconds earlier in case the
   clock is fast. The authorization server checks its signature and claims.

{token_request}

4. The authorization server answers with an access token, valid for 15 minutes.

{token}

5. An API call carries the access token.

{call}

6. The site checks the token, and answers.

{answer}"""


def _stand_in(secret: str, received: list[str]) -> Any:
    """Return a server that stands in for Atlassian: a token endpoint and a site.

    It grants a token for an assertion that is signed with the secret and valid now, and answers
    a call with that token. It appends each request that it receives to a list.
    """
    from http.server import BaseHTTPRequestHandler
    from socketserver import TCPServer
    from urllib.parse import parse_qs

    access_token = os.urandom(16).hex()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assertion = parse_qs(form)["assertion"][0]
            claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
            is_valid = claims["iat"] <= time.time() < claims["exp"]
            is_good = is_valid and assertion == encode_jwt(claims, secret)
            self.reply(is_good, {"access_token": access_token, "expires_in": 900}, form)

        def do_GET(self) -> None:
            is_good = self.headers["Authorization"] == f"Bearer {access_token}"
            self.reply(is_good, {"displayName": "Mia"}, "")

        def reply(self, is_good: bool, content: object, body: str) -> None:
            received.append(f"{self.requestline}\n{self.headers}{body}")
            self.send_response_only(200 if is_good else 401)
            self.end_headers()
            self.wfile.write(json.dumps(content if is_good else {}).encode())

    return TCPServer(("127.0.0.1", 0), Handler)


def _demo() -> None:
    """Run the whole flow against a stand-in for Atlassian, and print each step."""
    secret = os.urandom(16).hex()
    received: list[str] = []
    with _stand_in(secret, received) as server:
        site = f"http://127.0.0.1:{server.server_address[1]}"
        config = Config(
            base_url=site,
            subject="demo-user",
            client_id="demo-app",
            client_secret=secret,
            scopes="read write",
            endpoint=Endpoint("https://auth.example", f"{site}/oauth2/token"),
        )
        threading.Thread(target=server.serve_forever).start()
        try:
            _print_steps(config, received)
        finally:
            server.shutdown()


def _print_steps(config: Config, received: list[str]) -> None:
    # No proxy, whatever the environment says.
    source = TokenSource(config, ProxyHandler({}))
    token = source.token()
    with source.opener().open(f"{config.base_url}/rest/api/3/myself") as response:
        answer = response.read().decode()
    print(
        _DEMO.format(
            claims=json.dumps(config.claims()._asdict(), indent=2),
            assertion=config.assertion(),
            token_request=received[0],
            token=json.dumps(token._asdict(), indent=2),
            call=received[1].strip(),
            answer=answer,
        )
    )


def _run(argv: list[str] | None) -> None:
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    parser = ArgumentParser(epilog=_HELP, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("command", choices=["demo", "token"], metavar="COMMAND")
    if parser.parse_args(argv).command == "demo":
        _demo()
        return
    try:
        config = Config.from_env()
    except ValueError as error:
        parser.error(str(error))
    print(TokenSource(config).token().access_token)


def main(argv: list[str] | None = None) -> None:
    """Run the command line.

    argv: a list of arguments, or None for those of the process.

    Raises SystemExit, with status 1 for a failure, 2 for wrong usage or settings, and 0 after
    --help and --version.
    """
    try:
        try:
            _run(argv)
        finally:
            # Report a write error here, and not when Python exits.
            print(end="", flush=True)
    except KeyboardInterrupt:
        sys.exit("jira-jwt-oauth: interrupted")
    except URLError as error:
        sys.exit(f"jira-jwt-oauth: {error}")
    except OSError as error:
        # Python writes to standard output again on exit, so point it at the null device. See
        # "Note on SIGPIPE" in Python's documentation.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1 if isinstance(error, BrokenPipeError) else f"jira-jwt-oauth: {error}")


if __name__ == "__main__":
    main()
