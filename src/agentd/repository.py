"""Which repository URLs are accepted, and which of them a clone token may be sent to. Pure.

No sentence repeats the URL: a refused one is where people put secrets by mistake.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

_DEFAULT_PORTS: Final = {"https": 443, "http": 80, "git": 9418}

_URL: Final = re.compile(
    r"(?P<scheme>https|http|git)://(?P<authority>[^/?#]*)(?P<path>/[^?#]*)?", re.ASCII
)
_AUTHORITY: Final = re.compile(
    r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?", re.ASCII
)
_MAX_PORT: Final = 65535

_NOT_REMOTE: Final = (
    "repo_url must be a remote URL using https://, http://, or git://, with a host, a path,"
    " and neither '?' nor '#'"
)


class _Parts(NamedTuple):
    scheme: str
    host: str
    port: int
    path: str

    @property
    def origin(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def url_fault(url: str) -> str | None:
    """Why agentd does not clone from `url`, as a sentence, or None.

    Accepted are lowercase `https://`, `http://` and `git://` with a host and a path, without user
    information, query or fragment.
    """
    if not url.strip():
        return "repo_url must not be empty"
    if url != url.strip():
        return "repo_url must not have leading or trailing whitespace"
    if not url.isprintable() or " " in url or "\\" in url:
        return "repo_url must not contain whitespace, control characters or backslashes"
    scheme, mark, rest = url.partition("://")
    if mark and scheme in _DEFAULT_PORTS and "@" in re.split(r"[/?#]", rest, maxsplit=1)[0]:
        return (
            "repo_url must not contain '@' before its path: credential-bearing URLs are not"
            " accepted; name the token's variable in repo_token_source"
        )
    parts = _split(url)
    if parts is None or not parts.path.strip("/"):
        return _NOT_REMOTE
    return None


def origin(url: str) -> str:
    """`scheme://host[:port]` of a URL, with the host in lower case and no default port.

    Raises:
        ValueError: `url` has no such origin; `url_fault` says why.
    """
    parts = _split(url)
    if parts is None:
        raise ValueError(_NOT_REMOTE)
    return parts.origin


def origin_fault(text: str) -> str | None:
    """Why `text` cannot be the origin that a token is bound to, as a clause, or None."""
    parts = _split(text)
    if parts is None or parts.path not in {"", "/"} or parts.scheme != "https":
        return "write https://host or https://host:port and nothing more"
    return None


def token_origin(repo: str | None, declared: str | None) -> str | None:
    """The origin an agent's token is bound to: the declared one, else the agent's repository's.

    None when the agent has neither, and the token is bound to nothing.

    Raises:
        ValueError: what it is to be taken from has no origin, which the agent's rules refuse.
    """
    source = declared or repo
    return origin(source) if source else None


def token_fault(url: str, bound_origin: str | None) -> str | None:
    """Why a clone of `url` may not use the token bound to `bound_origin`, as a sentence, or None.

    `url` is one that `url_fault` accepts. The token crosses no plain connection, and no host sees
    it but the one that it is for; without a bound origin only the former is judged.
    """
    if not url.startswith("https://"):
        return "repo_url must use https:// when repo_token is set"
    if bound_origin is None or origin(url) == origin(bound_origin):
        return None
    return (
        f"repo_url is on {origin(url)}, but the agent's clone token is for {origin(bound_origin)};"
        " use a repository there, or an agent whose repo_token.origin is that other host"
    )


def _split(url: str) -> _Parts | None:
    whole = _URL.fullmatch(url)
    authority = _AUTHORITY.fullmatch(whole["authority"]) if whole else None
    if whole is None or authority is None:
        return None
    scheme = whole["scheme"]
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    if not 0 < port <= _MAX_PORT:
        return None
    return _Parts(scheme, authority["host"].lower(), port, whole["path"] or "")
