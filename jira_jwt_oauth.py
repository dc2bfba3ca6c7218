"""OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant, standard library only.

An Atlassian Connect app has a client ID and a shared secret. This module turns them into API
calls that the app makes as a user:

    from jira_jwt_oauth import Config

    config = Config(
        base_url="https://mycompany.atlassian.net",
        subject="557058:12345678-1234-1234-1234-123456789abc",
        client_id="...",
        client_secret="...",
    )
    opener = config.opener()
    with opener.open(config.base_url + "/rest/api/3/myself", timeout=30) as response:
        print(response.read().decode())

Sources: Atlassian, "User impersonation for Connect apps"; RFC 7523 (JWT bearer grant), RFC 7515
(signatures), RFC 6749 (OAuth 2.0), RFC 6750 (bearer tokens).
"""
# Copyright (c) 2026 the jira-jwt-oauth authors
# SPDX-License-Identifier: MIT
# Origin: jira_jwt_oauth.py of the distribution jira-jwt-oauth. Keep these lines in copies.

from __future__ import annotations

import base64
import copy
import hmac
import json
import math
import os
import random
import re
import threading
import time
from calendar import timegm
from collections.abc import Iterable, Mapping
from email.utils import parsedate
from http.client import HTTPException, IncompleteRead
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
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
    "BearerAuth",
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
__version__ = "0.2.0"

# Values


class Endpoint(NamedTuple):
    """An authorization server.

    auth_url: str, the "aud" claim. It need not be a URL, but must not be empty.
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


class ClaimSet(NamedTuple):
    """The claims of an assertion, in the order in which they are signed (RFC 7523, section 3).

    iss, sub, tnt, aud: str.
    exp, iat: int, seconds since the epoch.
    """

    iss: str
    sub: str
    tnt: str
    aud: str
    exp: int
    iat: int


class Token(NamedTuple):
    """An access token.

    access_token: str.
    expires_at: float, seconds since the epoch, or None if no expiry is known.
    token_type: str, "Bearer" by default.

    To keep a token between runs, write ``token._asdict()`` as JSON and read it back with
    ``Token(**saved)``.
    """

    access_token: str
    expires_at: float | None = None
    token_type: str = "Bearer"

    def is_expired(self, leeway: float = 10.0) -> bool:
        """Return whether the token has expired, or will within ``leeway`` seconds."""
        return self.expires_at is not None and self.expires_at - leeway <= time.time()

    @property
    def authorization(self) -> str:
        """The value of the Authorization header, a str (RFC 6750, section 2.1)."""
        return f"Bearer {self.access_token}"

    def __repr__(self) -> str:
        return f"Token(access_token=..., expires_at={self.expires_at!r})"


class TokenError(URLError):
    """Raised if there is no usable access token.

    ``reason`` and ``str()`` are the same text: one line, without the secret, the assertion and
    the token. If the server echoes the assertion, its signature is removed. The other attributes
    hold what the token endpoint answered. Do not log them: they are not changed.

    status: int, the HTTP status, or None if no answer could be read.
    error, error_description: str, or None (RFC 6749, section 5.2).
    body: bytes, up to 64 KiB. It is empty after a 2xx answer, which may contain a token.
    retry_after: float, the seconds that the server asks you to wait, or None.
    """

    status: int | None = None
    error: str | None = None
    error_description: str | None = None
    body: bytes = b""
    retry_after: float | None = None
    _is_transient: bool = False

    def __str__(self) -> str:
        return str(self.reason)


def _check_type(name: str, value: object, expected: type) -> None:
    if not isinstance(value, expected):
        raise TypeError(f"{name} must be {expected.__name__}, not {type(value).__name__}")


def _excerpt(text: str) -> str:
    """Return the first 200 characters as a repr, so that they fit on one line."""
    return repr(text[:200])


# Signing

_JWT_HEADER = b'{"alg":"HS256","typ":"JWT"}'
# Visible ASCII, except the double quote and the backslash.
_SCOPE = r"[!#-\[\]-~]+"


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def _utf8(name: str, text: Any) -> bytes:
    if isinstance(text, bytes):
        return text
    if not isinstance(text, str):
        raise TypeError(f"{name} must be str or bytes, not {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError:
        # Hide the original error: it shows a part of the text, which may be the secret.
        raise ValueError(f"{name} contains a character that UTF-8 cannot encode") from None


def encode_jwt(claims: Mapping[str, Any], secret: str | bytes) -> str:
    """Return a JWT of ``claims``, signed with HMAC-SHA256 (RFC 7519; RFC 7515).

    claims: a mapping with values that JSON can hold. Their order is kept.
    secret: bytes, or a str, which is encoded as UTF-8.

    Raises TypeError or ValueError for claims that JSON cannot hold, and for a secret that is
    neither bytes nor text that UTF-8 can encode.
    """
    _check_type("claims", claims, Mapping)
    payload = json.dumps(dict(claims), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    signing_input = _base64url(_JWT_HEADER) + b"." + _base64url(payload.encode())
    signature = hmac.digest(_utf8("secret", secret), signing_input, "sha256")
    return (signing_input + b"." + _base64url(signature)).decode()


def format_scopes(scopes: str | Iterable[str]) -> str:
    """Return scopes in upper case, in the order given, with one space between them.

    scopes: a str, or an iterable of str. Each may hold several scopes, separated by white space
    or "+".

    Raises ValueError if there is no scope, or if one contains a character that is not allowed
    (RFC 6749, section 3.3). Raises TypeError if ``scopes`` or one of its items has a wrong type.
    """
    try:
        text = scopes if isinstance(scopes, str) else " ".join(scopes)
    except TypeError:
        raise TypeError("scopes must be a str or an iterable of str") from None
    names = text.replace("+", " ").split()
    if not names:
        raise ValueError("scopes must name at least one scope; to get all scopes, leave it out")
    for name in names:
        if not re.fullmatch(_SCOPE, name):
            raise ValueError(
                "scopes must be visible ASCII, without double quotes or backslashes:"
                f" {_excerpt(name)}"
            )
    return " ".join(names).upper()


# Origins

_URL = re.compile(
    r"""
    (https?) ://
    ( [a-z0-9_-]+ (?: \. [a-z0-9_-]+ )*             # a name or an IPv4 address
    | \[ (?: [0-9a-f]* : ){2} [0-9a-f:.]* \] )      # an IPv6 address
    (?: : ( [1-9][0-9]{0,4} ) )?                     # a port
    (?: [/?\#] .* )?
    """,
    re.ASCII | re.DOTALL | re.IGNORECASE | re.VERBOSE,
)
_DEFAULT_PORT = {"http": 80, "https": 443}


def _origin(url: str) -> tuple[str, str, int] | None:
    """Return the scheme, host and port of an HTTP URL, or None for any other text.

    Also return None for a URL whose host some programs read differently, such as one with user
    info or an escaped host. Such a URL never gets a credential.
    """
    match = _URL.fullmatch(url)
    if match is None:
        return None
    scheme = match[1].lower()
    host = match[2].lower()
    port = int(match[3] or _DEFAULT_PORT[scheme])
    return (scheme, host, port) if port <= 65535 else None


# Settings

_URN_PREFIX = "urn:atlassian:connect:"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
_GOVERNMENT_DOMAINS = (".atlassian-us-gov-mod.net", ".atlassian-us-gov-mod.com")
_VISIBLE_ASCII = "[!-~]+"
# What can be wrong with a URL: a pattern that finds the fault, and what to say about it.
_URL_FAULTS = (
    (r"[^!-~]", "must be visible ASCII, without spaces"),
    (r"^(?!(?i:https?)://)", "must start with https://"),
    (r"\\", "must not contain a backslash"),
    (r"^[^/]*//[^/?#]*@", "must not contain a user name or password"),
    (r"[?#]", "must not contain a query or a fragment: remove '?' or '#' and what follows"),
)
# Common mistakes in an account ID: a character that shows the mistake, and what to say about it.
_SUBJECT_FAULTS = {
    "@": "not an e-mail address",
    "/": "not a URL: take the last part of the address of the profile page",
    "%": 'not percent-encoded: put ":" in place of "%3A"',
}


def _check_url(name: str, url: str) -> None:
    _check_type(name, url, str)
    suffix = f": {_excerpt(url)}"
    if re.search("[@?#]", url):
        suffix = " (the URL is not shown, as it may hold a secret)"
    for pattern, fault in _URL_FAULTS:
        if re.search(pattern, url):
            raise ValueError(f"{name} {fault}{suffix}")
    origin = _origin(url)
    if origin is None:
        raise ValueError(
            f"{name} must have a valid host name, and its port must be from 1 to 65535{suffix}"
        )
    if origin[0] == "http" and origin[1] not in _LOOPBACK:
        raise ValueError(
            f"{name} must start with https:// (or be on {', '.join(_LOOPBACK)}){suffix}"
        )


def _check_printable(name: str, text: str) -> None:
    _check_type(name, text, str)
    if not text:
        raise ValueError(f"{name} must not be empty")
    if " " in text or not text.isprintable():
        raise ValueError(
            f"{name} must not contain spaces or unprintable characters: {_excerpt(text)}"
        )


def _check_subject(subject: str) -> None:
    _check_type("subject", subject, str)
    if subject.startswith(_URN_PREFIX):
        _check_printable("subject", subject)
        return
    if re.fullmatch("[A-Za-z0-9:_-]+", subject):
        return
    hint = "made of letters, digits, ':', '-' and '_'"
    for character, fault in _SUBJECT_FAULTS.items():
        if character in subject:
            hint = fault
            break
    raise ValueError(f"subject must be an account ID, {hint}: {_excerpt(subject)}")


def _check_secret(secret: str | bytes) -> None:
    """Raise an error if the secret is unusable. The error never contains it."""
    if not _utf8("client_secret", secret):
        raise ValueError("client_secret must not be empty")
    if isinstance(secret, bytes):
        return
    if secret != secret.strip():
        raise ValueError(
            "client_secret must not start or end with white space, such as a line break"
        )
    if not secret.isprintable():
        raise ValueError(
            "client_secret must not contain unprintable characters, such as a byte order mark"
        )


def _check_endpoint(endpoint: Endpoint) -> None:
    _check_type("endpoint", endpoint, Endpoint)
    _check_type("auth_url", endpoint.auth_url, str)
    if not _utf8("auth_url", endpoint.auth_url):
        raise ValueError("auth_url must not be empty")
    _check_url("token_url", endpoint.token_url)


def _check_site(base_url: str) -> None:
    """Raise an error for a path other than /wiki. Atlassian's sites use no other."""
    scheme, _, host_and_path = base_url.partition("://")
    host, _, path = host_and_path.partition("/")
    if path not in ("", "wiki"):
        site = f"{scheme}://{host}"
        raise ValueError(
            f"base_url must be {site} for Jira, or {site}/wiki for Confluence,"
            f" not {_excerpt(base_url)}"
        )


def _endpoint_of(base_url: str) -> Endpoint:
    origin = _origin(base_url)
    is_government = origin is not None and origin[1].endswith(_GOVERNMENT_DOMAINS)
    return ATLASSIAN_GOVERNMENT if is_government else ATLASSIAN


def _missing(names: Iterable[str], values: Mapping[str, Any]) -> list[str]:
    return [name for name in names if not values.get(name)]


class Config:
    """The settings: a site, a user to act as, and the credentials of an app.

    base_url: str, the URL of the site. For Confluence it ends in "/wiki".
    subject: str, the account ID of the user, or a whole "urn:atlassian:connect:..." URN.
    client_id: str, the "oauthClientId" that Atlassian sends when the app is installed.
    client_secret: str or bytes, the "sharedSecret" that Atlassian sends.
    scopes: what ``format_scopes`` takes, or None for all the scopes that the app has.
    endpoint: Endpoint, the authorization server, or None for Atlassian's own.

    Each argument becomes an attribute, which you cannot set: use ``replace`` to make another
    Config. In the attributes, ``base_url`` has no slash at its end, ``scopes`` is a str or None,
    and ``endpoint`` is never None.

    Raises ValueError, or TypeError for a wrong type. The message begins with the name of the
    argument, or of the field of ``endpoint``, and does not contain the secret.

    Source: Atlassian, "User impersonation for Connect apps".
    """

    _is_frozen = False

    def __init__(
        self,
        *,
        base_url: str,
        subject: str,
        client_id: str,
        client_secret: str | bytes,
        scopes: str | Iterable[str] | None = None,
        endpoint: Endpoint | None = None,
    ) -> None:
        _check_url("base_url", base_url)
        _check_subject(subject)
        _check_printable("client_id", client_id)
        _check_secret(client_secret)
        self.base_url = base_url.rstrip("/")
        self.subject = subject
        self.client_id = client_id
        self.client_secret = client_secret
        self.scopes = None if scopes is None else format_scopes(scopes)
        self.endpoint = _endpoint_of(self.base_url) if endpoint is None else endpoint
        _check_endpoint(self.endpoint)
        if self.endpoint in (ATLASSIAN, ATLASSIAN_GOVERNMENT):
            _check_site(self.base_url)
        # If this is None, replace() chooses the endpoint again.
        self._endpoint_argument = endpoint
        self._is_frozen = True

    def __setattr__(self, name: str, value: object) -> None:
        if self._is_frozen:
            raise AttributeError(f"a Config is immutable: use config.replace({name}=...)")
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return (
            f"Config(base_url={self.base_url!r}, subject={self.subject!r},"
            f" client_id={self.client_id!r}, client_secret=...,"
            f" scopes={self.scopes!r}, endpoint={self.endpoint!r})"
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Config:
        """Return a Config made from environment variables.

        Required: JIRA_BASE_URL, JIRA_SUBJECT, JIRA_CLIENT_ID and JIRA_CLIENT_SECRET. Optional:
        JIRA_SCOPES; JIRA_AUTH_URL and JIRA_TOKEN_URL, both or neither. An empty variable counts
        as unset.

        environ: a mapping, or None for ``os.environ``.

        Raises ValueError. The message names the missing or invalid variables.
        """
        environ = os.environ if environ is None else environ
        required = ["JIRA_BASE_URL", "JIRA_SUBJECT", "JIRA_CLIENT_ID", "JIRA_CLIENT_SECRET"]
        endpoint = Endpoint(environ.get("JIRA_AUTH_URL", ""), environ.get("JIRA_TOKEN_URL", ""))
        if any(endpoint):
            required += ["JIRA_AUTH_URL", "JIRA_TOKEN_URL"]
        missing = _missing(required, environ)
        if missing:
            raise ValueError(f"environment variables are missing or empty: {', '.join(missing)}")
        try:
            return cls(
                base_url=environ["JIRA_BASE_URL"],
                subject=environ["JIRA_SUBJECT"],
                client_id=environ["JIRA_CLIENT_ID"],
                client_secret=environ["JIRA_CLIENT_SECRET"],
                scopes=environ.get("JIRA_SCOPES") or None,
                endpoint=endpoint if any(endpoint) else None,
            )
        except ValueError as error:
            # Every message of Config begins with a name, such as "base_url".
            argument, _, fault = str(error).partition(" ")
            raise ValueError(f"JIRA_{argument.upper()} {fault}") from None

    @classmethod
    def from_installation(
        cls,
        payload: Mapping[str, Any],
        *,
        subject: str,
        scopes: str | Iterable[str] | None = None,
        endpoint: Endpoint | None = None,
    ) -> Config:
        """Return a Config made from what Atlassian posts to the app's "installed" hook.

        payload: a mapping, the JSON object of the hook, parsed.
        subject, scopes, endpoint: as for ``Config``.

        Raises ValueError if the payload lacks a key. Also raises what ``Config`` raises.
        """
        _check_type("payload", payload, Mapping)
        missing = _missing(["baseUrl", "oauthClientId", "sharedSecret"], payload)
        if missing:
            hint = ""
            if "oauthClientId" in missing:
                hint = "; Atlassian sends oauthClientId only to apps with the ACT_AS_USER scope"
            raise ValueError(f"payload lacks {', '.join(missing)}{hint}")
        return cls(
            base_url=payload["baseUrl"],
            subject=subject,
            client_id=payload["oauthClientId"],
            client_secret=payload["sharedSecret"],
            scopes=scopes,
            endpoint=endpoint,
        )

    def replace(self, **changes: Any) -> Config:
        """Return another Config with some arguments changed, such as ``subject``.

        Raises what ``Config`` raises.
        """
        arguments: dict[str, Any] = {
            "base_url": self.base_url,
            "subject": self.subject,
            "client_id": self.client_id,
            "client_secret": self.client_secret,
            "scopes": self.scopes,
            "endpoint": self._endpoint_argument,
        }
        return type(self)(**{**arguments, **changes})

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
            exp=issued_at + 59,  # the server accepts at most 60 s
            iat=issued_at,
        )

    def assertion(self, now: float | None = None) -> str:
        """Return the signed JWT of ``claims(now)``. It is a credential until it expires."""
        return encode_jwt(self.claims(now)._asdict(), self.client_secret)

    def token_source(
        self,
        *handlers: BaseHandler | type[BaseHandler],
        token: Token | None = None,
        timeout: float = 30.0,
        leeway: float = 10.0,
    ) -> TokenSource:
        """Short for ``TokenSource(config, ...)``, with the same arguments."""
        return TokenSource(self, *handlers, token=token, timeout=timeout, leeway=leeway)

    def opener(self, *handlers: BaseHandler | type[BaseHandler]) -> OpenerDirector:
        """Return an opener that adds the token to requests to the site.

        Short for ``config.token_source(*handlers).opener()``.
        """
        return self.token_source(*handlers).opener()

    def auth(self, *handlers: BaseHandler | type[BaseHandler]) -> BearerAuth:
        """Return a ``BearerAuth`` for requests or httpx.

        Short for ``config.token_source(*handlers).auth()``.
        """
        return self.token_source(*handlers).auth()


# Openers


def _copy_handler(handler: Any) -> Any:
    if not hasattr(handler, "add_parent"):
        raise TypeError(
            f"handlers must be urllib handlers, not {type(handler).__name__}: pass a proxy as"
            " ProxyHandler({'https': url}) and an SSL context as HTTPSHandler(context=context)"
        )
    copied = copy.copy(handler)
    if isinstance(handler, ProxyHandler):
        # A ProxyHandler stores functions that call the original. Make new ones for the copy.
        ProxyHandler.__init__(copied, handler.proxies)  # type: ignore[attr-defined]
    return copied


def _with_defaults(handlers: Iterable[Any]) -> list[Any]:
    """Return copies of handlers, and the default handlers of urllib that they do not replace."""
    opener: Any = build_opener(*map(_copy_handler, handlers))
    return list(opener.handlers)


def _opener(handlers: Iterable[Any]) -> OpenerDirector:
    """Return an opener with copies of handlers, as a handler belongs to one opener.

    The copies share what is expensive, such as an SSL context with all its certificates.
    """
    opener = OpenerDirector()
    for handler in handlers:
        opener.add_handler(_copy_handler(handler))
    return opener


# The token endpoint

# All times are in seconds. Assertions are back-dated so that the server accepts them even if this
# machine's clock is a little fast.
_BACK_DATED = 10.0
_MAX_CLOCK_ERROR = 10.0
_MAX_SOCKET_TIMEOUT = 86400.0
# Before the second and the third attempt. Up to half is added at random.
_WAITS = (0.5, 1.0)

_MAX_BODY = 65536  # bytes
_TRANSIENT_STATUS = (408, 429, 500, 502, 503, 504)
_TRANSIENT_ERROR = ("temporarily_unavailable", "server_error")
_NUMBER = r"[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"
_HEADERS = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
    # Some firewalls refuse urllib's own name.
    "User-Agent": f"jira-jwt-oauth/{__version__}",
}


def _json_object(text: str) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] | None = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return content if isinstance(content, dict) else None


def _parse_token(content: Mapping[str, Any], sent_at: float) -> Token:
    """Return the token in a JSON object (RFC 6749, section 5.1). Raises ValueError."""
    access_token = content.get("access_token")
    if not isinstance(access_token, str) or not re.fullmatch(_VISIBLE_ASCII, access_token):
        raise ValueError("access_token is missing or not visible ASCII")
    token_type = content.get("token_type")
    if token_type is not None and str(token_type).lower() != "bearer":
        raise ValueError("token_type is not Bearer")
    lifetime = _lifetime(content.get("expires_in"))
    expires_at = sent_at + lifetime if lifetime else None
    return Token(access_token, expires_at)


def _lifetime(expires_in: object) -> float:
    """Return a lifetime in seconds, or 0 if none is known. A 0 from the server means the same.

    Raises ValueError.
    """
    if expires_in is None:
        return 0.0
    number = str(expires_in)
    if not re.fullmatch(_NUMBER, number) or math.isinf(float(number)):
        raise ValueError("expires_in is not a number of seconds")
    return float(number)


def _read_body(response: Any, deadline: float) -> bytes:
    """Read at most 64 KiB, and check the deadline after each piece."""
    body = bytearray()
    while len(body) < _MAX_BODY:
        piece = response.read1(_MAX_BODY - len(body))
        if not piece:
            break
        body += piece
        if time.monotonic() > deadline:
            raise TimeoutError("the answer took too long")
    return bytes(body)


def _is_transient(failure: object) -> bool:
    """Return whether another attempt may succeed after a failure of the network."""
    if str(failure).startswith("Tunnel connection failed: 4"):
        return False  # the proxy refuses; sending a wrong password again may lock the account
    if isinstance(failure, (TimeoutError, ValueError)):
        return False  # the error for a certificate that does not verify is a ValueError
    return isinstance(failure, (OSError, IncompleteRead))


class _Answer:
    """What the token endpoint answered."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.text = body.decode("utf-8-sig", "replace")
        self.content = _json_object(self.text)
        self.is_success = 200 <= status < 300
        self.error = self._field("error")
        self.error_description = self._field("error_description")

    def _field(self, name: str) -> str | None:
        value = (self.content or {}).get(name)
        return value if value and isinstance(value, str) else None

    @property
    def retry_after(self) -> float | None:
        value = str(self.headers.get("Retry-After")).strip()
        return float(value) if re.fullmatch("[0-9]+", value) else None

    @property
    def is_transient(self) -> bool:
        is_not_json = self.is_success and self.content is None
        is_busy = self.status in _TRANSIENT_STATUS or self.error in _TRANSIENT_ERROR
        return is_not_json or is_busy


class _Attempt:
    """One attempt to get a token: a request with an assertion, and the answer to it.

    Source: RFC 7523, section 2.1.
    """

    def __init__(self, config: Config) -> None:
        self.sent_at = time.time()
        assertion = config.assertion(self.sent_at - _BACK_DATED)
        self.signature = assertion.split(".")[2]
        form = {"grant_type": GRANT_TYPE, "assertion": assertion}
        if config.scopes is not None:
            form["scope"] = config.scopes
        self.token_url = config.endpoint.token_url
        self.request = Request(self.token_url, urlencode(form).encode(), _HEADERS)
        self.host = self.request.host

    def send(self, opener: OpenerDirector, deadline: float) -> _Answer:
        """Send the request. Return the answer, even if it is a refusal. Raises TokenError."""
        # A socket timeout of 0 means "do not wait", and a very large one overflows.
        time_left = max(deadline - time.monotonic(), 0.001)
        timeout = min(time_left, _MAX_SOCKET_TIMEOUT)
        try:
            with opener.open(self.request, timeout=timeout) as response:
                body = _read_body(response, deadline)
                return _Answer(response.getcode(), response.headers, body)
        except (OSError, HTTPException, ValueError, TypeError) as error:
            # Python's parser raises TypeError for some malformed headers.
            reason = error.reason if isinstance(error, URLError) else error
            kind = "" if isinstance(reason, str) else f"{type(reason).__name__}: "
            # The text may quote the URL of a proxy, with a password: hide all from "/" to "@".
            text = re.sub("^([^/]*/).*@", r"\1...@", str(reason))
            token_error = self.make_error(kind + self.excerpt(text))
            token_error._is_transient = _is_transient(reason)
            # Chain only these two. Others may quote the answer, with an assertion in it.
            raise token_error from (error if isinstance(error, (OSError, TypeError)) else None)

    def token(self, answer: _Answer) -> Token:
        """Return the token in an answer. Turns a ValueError of ``parse`` into a TokenError."""
        try:
            return self.parse(answer)
        except ValueError as problem:
            hint = self.clock_hint(answer)
            token_error = self.make_error(f"HTTP {answer.status}, {problem}{hint}")
            token_error.status = answer.status
            token_error.error = answer.error
            token_error.error_description = answer.error_description
            token_error.body = b"" if answer.is_success else answer.body
            token_error.retry_after = answer.retry_after
            token_error._is_transient = answer.is_transient
            raise token_error from None

    def parse(self, answer: _Answer) -> Token:
        """Check an answer, and return its token. Raises ValueError, which says what is wrong."""
        if answer.error:
            texts = [answer.error, answer.error_description]
            raise ValueError(", ".join(self.excerpt(text) for text in texts if text))
        if 300 <= answer.status < 400:
            location = self.excerpt(answer.headers.get("Location", ""))
            raise ValueError(f"a redirect (Location: {location}), which is not followed")
        if not answer.is_success:
            raise ValueError(self.excerpt(answer.text) if answer.text else "an empty answer")
        if answer.content is None:
            content_type = self.excerpt(answer.headers.get("Content-Type", ""))
            raise ValueError(f"not a complete JSON object (Content-Type: {content_type})")
        return _parse_token(answer.content, self.sent_at)

    def clock_hint(self, answer: _Answer) -> str:
        """Return a hint if the Date of a refusal shows that the clock is wrong, else ""."""
        if answer.status not in (400, 401):
            return ""
        try:
            date: Any = parsedate(answer.headers.get("Date"))
            server_time = float(timegm(date))
        except (LookupError, OverflowError, TypeError, ValueError):
            return ""  # there is no Date, or it makes no sense
        # The server set the Date at some time between sending and now.
        seconds_fast = self.sent_at - server_time
        seconds_slow = server_time - time.time()
        if seconds_fast > _MAX_CLOCK_ERROR:
            return f"; this machine's clock is {seconds_fast:.0f} s fast"
        if seconds_slow > _MAX_CLOCK_ERROR:
            return f"; this machine's clock is {seconds_slow:.0f} s slow"
        return ""

    def make_error(self, problem: str) -> TokenError:
        """Return a TokenError that names the token URL, the proxy if any, and the problem."""
        via = ""
        if self.request.host != self.host:  # urllib replaces the host with the proxy
            proxy = self.excerpt(self.request.host).strip("'")
            via = f" via proxy {proxy}"
        return TokenError(f"no access token from {self.token_url}{via}: {problem}")

    def excerpt(self, text: str) -> str:
        """Return the start of a text, without the signature that was sent."""
        return _excerpt(text.replace(self.signature, "..."))


class _TokenEndpoint:
    """Fetches tokens, and tries again after transient failures."""

    def __init__(self, config: Config, handlers: Iterable[Any]) -> None:
        self._config = config
        # Leave out the HTTPErrorProcessor: the handlers that it calls would follow a redirect,
        # or answer a challenge with a password.
        self._opener = _opener(h for h in handlers if not isinstance(h, HTTPErrorProcessor))

    def fetch(self, timeout: float) -> Token:
        """Return a new token. Raises TokenError after at most three attempts."""
        deadline = time.monotonic() + timeout
        for wait in _WAITS:
            try:
                return self._attempt(deadline)
            except TokenError as error:
                jittered = random.uniform(wait, 1.5 * wait)
                delay = jittered if error.retry_after is None else error.retry_after
                if not error._is_transient or delay >= deadline - time.monotonic():
                    raise
            time.sleep(delay)
        return self._attempt(deadline)

    def _attempt(self, deadline: float) -> Token:
        attempt = _Attempt(self._config)
        answer = attempt.send(self._opener, deadline)
        return attempt.token(answer)


# The token source


class _State:
    """A token or None, and later the outcome of its renewal: a new token, or an error.

    An exchange asks the token endpoint for a token, with up to three attempts. After it, the
    source switches to a new state. The threads that waited for the exchange still hold the old
    state, and read the outcome from it.
    """

    def __init__(self, token: Token | None) -> None:
        self.token = token
        self.process = os.getpid()
        # Held during the exchange. A signal handler that interrupts the exchange may need a token
        # too. As the lock is reentrant, the handler makes its own exchange, and does not hang.
        self.lock = threading.RLock()
        self.outcome: Token | TokenError | None = None


# Keeps out infinity, NaN, and an int that is too large for a float.
_MAX_SECONDS = 1e300


def _check_seconds(name: str, value: Any) -> None:
    if not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
    if not -_MAX_SECONDS <= value <= _MAX_SECONDS:
        raise ValueError(f"{name} must be a finite number of seconds, not {value!r}")


def _check_token(token: Token) -> None:
    _check_type("token", token, Token)
    _check_type("token.access_token", token.access_token, str)
    if not re.fullmatch(_VISIBLE_ASCII, token.access_token):
        raise ValueError("token.access_token must be visible ASCII, and not empty")
    if token.expires_at is not None:
        _check_seconds("token.expires_at", token.expires_at)


class TokenSource:
    """Holds an access token and keeps it fresh. It is thread-safe.

    config: Config.
    handlers: urllib handlers or their classes, such as a ProxyHandler, or an HTTPSHandler with
        its own SSL context. They are copied, and serve the token request and ``opener()``.
    token: Token to start with, such as one kept from an earlier run, or None.
    timeout: float, seconds for fetching a token, including retries. A slow body can take up to
        twice as long. Slow or endless headers or lines between the chunks of a body, a slow name
        server or proxy, or several addresses that do not answer can take longer. API calls have
        a timeout of their own, which does not include the time for fetching a token.
    leeway: float, how many seconds before its expiry a token is replaced.

    Raises TypeError or ValueError, which name the argument.
    """

    def __init__(
        self,
        config: Config,
        *handlers: BaseHandler | type[BaseHandler],
        token: Token | None = None,
        timeout: float = 30.0,
        leeway: float = 10.0,
    ) -> None:
        _check_type("config", config, Config)
        _check_seconds("timeout", timeout)
        if timeout <= 0:
            raise ValueError(f"timeout must be more than 0 seconds, not {timeout!r}")
        _check_seconds("leeway", leeway)
        if leeway < 0:
            raise ValueError(f"leeway must be 0 seconds or more, not {leeway!r}")
        if token is not None:
            _check_token(token)
        self.config = config
        self._timeout = timeout
        self._leeway = leeway
        self._handlers = _with_defaults(handlers)
        self._endpoint = _TokenEndpoint(config, self._handlers)
        self._state = _State(token)

    def token(self) -> Token:
        """Return the held token, or a new one if it has expired or was dropped.

        Threads that need a new token at the same time share one exchange. If it fails, each of
        them gets the error.

        Raises TokenError.
        """
        state = self._state
        token = state.token
        if token is not None and not token.is_expired(self._leeway):
            return token
        if state.process != os.getpid():
            # After a fork, the thread that holds the lock may exist only in the other process.
            state = self._state = _State(None)
        with state.lock:
            if state.outcome is None:
                state.outcome = self._exchange()
            outcome = state.outcome
        if isinstance(outcome, TokenError):
            # Each thread needs an exception object of its own.
            raise copy.copy(outcome) from outcome.__cause__
        return outcome

    def _exchange(self) -> Token | TokenError:
        """Fetch a token and hold it. Return the token, or the error."""
        try:
            token = self._endpoint.fetch(self._timeout)
        except TokenError as error:
            self._state = _State(None)
            return error
        self._state = _State(token)
        return token

    def invalidate(self, token: Token) -> bool:
        """Drop ``token`` if it is the one held, so that the next ``token()`` fetches another.

        Returns True if it was dropped. Tokens are compared by their ``access_token``.
        """
        state = self._state
        held = state.token
        if held is None or held.access_token != token.access_token:
            return False
        state.token = None
        return True

    def opener(self) -> OpenerDirector:
        """Return an opener that adds the token to requests to the site.

        The opener has the handlers of the source, and an ``HTTPBearerAuthHandler``.
        """
        return _opener([*self._handlers, HTTPBearerAuthHandler(self)])

    def auth(self) -> BearerAuth:
        """Return a ``BearerAuth`` for requests or httpx."""
        return BearerAuth(self)


# The API calls

_SECONDS_BETWEEN_DROPS = 60.0


class _BearerRequest(Request):
    """A copy of a request, with a token added.

    urllib changes a request that it sends through a proxy. When you open the same request for the
    third time, urllib sends it without TLS. So a copy is sent only once.
    """

    is_replay = False

    def __init__(self, req: Request, handler: HTTPBearerAuthHandler, token: Token) -> None:
        super().__init__(
            req.full_url,
            req.data,
            req.headers,
            req.origin_req_host,
            req.unverifiable,
            req.get_method(),
        )
        self.unredirected_hdrs.update(req.unredirected_hdrs)
        # Attributes that urllib and http_error_401 may have set on the request.
        for name in ("timeout", "redirect_dict", "is_replay"):
            if hasattr(req, name):
                setattr(self, name, getattr(req, name))
        self.add_unredirected_header("Authorization", token.authorization)
        self.handler = handler
        self.token = token


class HTTPBearerAuthHandler(BaseHandler):
    """Adds the token of a ``TokenSource`` to requests to the site.

    source: TokenSource.

    The site is the scheme, host and port of the base URL. A request to anywhere else, or with an
    Authorization header of its own, is sent without changes.

    If the site answers 401, the handler drops the token, at most one a minute. If it then gets a
    different token, and the body is bytes or None, it sends the request again, once.

    Opening a request raises TokenError if it cannot get a token.

    Source: RFC 6750.
    """

    # Before urllib's own authentication handlers, which start at 490.
    handler_order = 480

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self._site = _origin(source.config.base_url)
        # To compare with ``origin_req_host``, the host where urllib says that redirects began.
        self._host = Request(source.config.base_url).origin_req_host
        self._lock = threading.RLock()
        self._next_drop = -math.inf

    def http_request(self, req: Any) -> Any:
        """Return a copy of ``req`` with the token, or ``req`` itself if it needs no change."""
        if self._is_mine(req):
            # This handler sees its own copy again in two cases. One: the URL is http, and the
            # proxy speaks TLS. To reach the proxy, ProxyHandler has changed the type of the copy
            # to https, and opened the copy again. Let it pass: a new copy would be http like its
            # URL, and ProxyHandler would change and open that one too, without end. (For an https
            # URL, the test is false: behind a tunnel, has_proxy returns False.)
            if req.has_proxy() and req.type == "https":
                return req
            # Two: another handler sends the request again. The token may be old, and urllib may
            # have changed this copy for a proxy. Without the header, it gets a new copy below.
            req.remove_header("Authorization")
        if not self._may_bear_token(req):
            return req
        return _BearerRequest(req, self, self.source.token())

    https_request = http_request

    def http_error_401(self, req: Any, fp: Any, code: int, msg: str, headers: Any) -> Any:
        """Send the request again with a new token, and return the response.

        Returns None if this handler did not add the token. Raises HTTPError, with its body
        unread, if the request cannot be sent again, and TokenError if the renewal fails.
        """
        if not self._is_mine(req):
            return None
        try:
            is_renewed = self._renew(req)
        except TokenError:
            fp.close()
            raise
        if not is_renewed:
            # Do not return None: urllib's own authentication handlers would see the challenge,
            # and raise ValueError for "Bearer".
            raise HTTPError(req.full_url, code, msg, headers, fp)
        fp.close()
        # Without the header, ``_is_mine`` is False, so that http_request makes a new copy.
        req.remove_header("Authorization")
        req.is_replay = True
        return self.parent.open(req, timeout=req.timeout)

    def _is_mine(self, req: Any) -> bool:
        """Return whether a request is a copy made by this handler, and still has its token."""
        is_copy = isinstance(req, _BearerRequest) and req.handler is self
        return is_copy and req.get_header("Authorization") == req.token.authorization

    def _may_bear_token(self, req: Any) -> bool:
        # urllib sets ``unverifiable`` when it follows a redirect.
        if req.unverifiable and req.origin_req_host != self._host:
            return False  # another host, where the redirects began, may have chosen the URL
        return _origin(req.full_url) == self._site and not req.has_header("Authorization")

    def _renew(self, req: _BearerRequest) -> bool:
        """Drop a token that was refused. Return whether a new one lets the request be repeated."""
        if req.is_replay:
            return False
        self._drop(req.token)
        is_repeatable = req.data is None or isinstance(req.data, bytes)
        return is_repeatable and self.source.token().access_token != req.token.access_token

    def _drop(self, token: Token) -> None:
        """Drop a token, unless one was dropped in the last minute.

        Some resources answer 401 to every token. A script that calls them in a loop must not
        fetch a new token for each call.
        """
        with self._lock:
            now = time.monotonic()
            if now >= self._next_drop and self.source.invalidate(token):
                self._next_drop = now + _SECONDS_BETWEEN_DROPS


class BearerAuth:
    """Adds the token of a ``TokenSource`` to the requests of a requests or httpx client.

        session = requests.Session()
        session.auth = config.auth()

    Unlike an opener, it does not send a request again after a 401.

    source: TokenSource.
    """

    def __init__(self, source: TokenSource) -> None:
        self.source = source
        self._site = _origin(source.config.base_url)

    def __call__(self, request: Any) -> Any:
        """Set the Authorization header of a request to the site. Return the request.

        Replaces a header that is already there. Raises TokenError if it cannot get a token.
        """
        if _origin(str(request.url)) == self._site:
            request.headers["Authorization"] = self.source.token().authorization
        return request


# The command line. You may delete everything from here to the end when vendoring.

_EPILOG = """\
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

_DEMO_CLAIMS = {
    "iss": "urn:atlassian:connect:clientid:demo-app",
    "sub": "urn:atlassian:connect:useraccountid:demo-user",
    "aud": "https://authorization-server.example",
}


def _stand_in(secret: bytes, received: list[str]) -> Any:
    """Return a server that stands in for Atlassian: a token endpoint and a site.

    It grants a token for an assertion that has the right signature and claims and is valid now.
    It appends what it receives to a list.
    """
    from http.server import BaseHTTPRequestHandler
    from socketserver import ThreadingTCPServer
    from urllib.parse import parse_qs

    bearers: list[str] = []

    def is_valid(assertion: str, site: str) -> bool:
        claims = json.loads(base64.urlsafe_b64decode(assertion.split(".")[1] + "=="))
        is_signed = assertion == encode_jwt(claims, secret)
        is_current = claims["iat"] <= time.time() < claims["exp"] <= claims["iat"] + 60
        is_ours = {**_DEMO_CLAIMS, "tnt": site}.items() <= claims.items()
        return is_signed and is_current and is_ours

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            form = self.rfile.read(int(self.headers["Content-Length"])).decode()
            token = os.urandom(16).hex()
            site = f"http://{self.headers['Host']}"
            is_granted = is_valid(parse_qs(form)["assertion"][0], site)
            if is_granted:
                bearers.append(f"Bearer {token}")
            self.reply(is_granted, {"access_token": token, "expires_in": 900}, form)

        def do_GET(self) -> None:
            self.reply(self.headers["Authorization"] in bearers, {"displayName": "Mia"})

        def reply(self, is_good: bool, content: dict[str, Any], form: str = "") -> None:
            received.append(f"{self.requestline}\n{self.headers}{form}")
            self.send_response_only(200 if is_good else 401)
            self.end_headers()
            self.wfile.write(json.dumps(content if is_good else {}).encode())

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    return server


def _demo() -> None:
    """Run the whole flow against a stand-in for Atlassian, and print each step."""
    secret = os.urandom(16)
    received: list[str] = []
    with _stand_in(secret, received) as server:
        site = f"http://127.0.0.1:{server.server_address[1]}"
        config = Config(
            base_url=site,
            subject="demo-user",
            client_id="demo-app",
            client_secret=secret,
            scopes=["read", "write"],
            endpoint=Endpoint(_DEMO_CLAIMS["aud"], f"{site}/oauth2/token"),
        )
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            _print_steps(config, received)
        finally:
            server.shutdown()


def _print_steps(config: Config, received: list[str]) -> None:
    direct = ProxyHandler({})  # no proxy, whatever the environment says

    def call(token: Token) -> str:
        opener = config.token_source(direct, token=token).opener()
        with opener.open(f"{config.base_url}/rest/api/3/myself") as response:
            body: bytes = response.read()
        return body.decode()

    print("1. The claim set names the app (iss), the user (sub), the site (tnt), the authorization")
    print("   server (aud), and for how long it is valid (iat, exp).\n")
    print(json.dumps(config.claims()._asdict(), indent=2))
    print("\n2. The assertion is the claim set, signed with the shared secret (HMAC-SHA256).\n")
    print(config.assertion())
    token = config.token_source(direct).token()
    print("\n3. The token request carries such an assertion, but dated 10 seconds earlier, in case")
    print("   the clock is fast. The authorization server checks its signature and claims.\n")
    print(received[-1])
    print("\n4. The authorization server answers with an access token, valid for 15 minutes.\n")
    print(json.dumps(token._asdict(), indent=2))
    answer = call(token)
    print("\n5. An API call carries the access token. The site receives it and answers.\n")
    print(received[-1] + answer)
    answer = call(token._replace(expires_at=0.0))
    print("\n6. If the token has expired, an API call fetches a new one first.\n")
    print(f"{received[-2]}\n\n{received[-1]}{answer}")


def _run(argv: list[str] | None) -> None:
    from argparse import ArgumentParser, RawDescriptionHelpFormatter

    parser = ArgumentParser(
        description="OAuth 2.0 for Jira and Confluence Cloud with the JWT bearer grant.",
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser(
        "demo",
        help="show the whole flow, step by step, without a network",
        description="Show the whole flow, step by step, against a server on this machine that"
        " stands in for Atlassian. It needs no settings and no network.",
    )
    token_parser = commands.add_parser(
        "token",
        help="print an access token",
        description="Print an access token. To make a call with it:\n\n"
        '  curl -H "Authorization: Bearer TOKEN" "$JIRA_BASE_URL/rest/api/3/myself"',
        epilog=_EPILOG,
        formatter_class=RawDescriptionHelpFormatter,
    )
    token_parser.add_argument(
        "--json", action="store_true", help="print the whole token, with its expiry, as JSON"
    )
    arguments = parser.parse_args(argv)
    if arguments.command == "demo":
        _demo()
        return
    try:
        config = Config.from_env()
    except ValueError as error:
        token_parser.error(str(error))
    token = config.token_source().token()
    print(json.dumps(token._asdict()) if arguments.json else token.access_token)


def main(argv: list[str] | None = None) -> None:
    """Run the command line.

    argv: a list of arguments, or None for those of the process.

    Raises SystemExit, with status 1 for a failure, 2 for wrong usage or settings, and 0 after
    --help and --version.
    """
    import sys

    try:
        try:
            _run(argv)
        finally:
            print(end="", flush=True)  # report a write error here, not when Python exits
    except KeyboardInterrupt:
        sys.exit(1)
    except URLError as error:
        print(f"jira-jwt-oauth: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            print(f"jira-jwt-oauth: {error}", file=sys.stderr)
        # Python flushes standard output again on exit, so point it at the null device. See "Note
        # on SIGPIPE" in Python's documentation.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
