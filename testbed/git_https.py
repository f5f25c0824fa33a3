"""Git repositories served over HTTPS on the loopback address, by git's own CGI program.

The certificates are those of a throw-away authority. A server remembers every request that it
received, so that a test can look at what reached it, and what did not.
"""

from __future__ import annotations

import base64
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from email.parser import BytesHeaderParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

from testbed.git_daemon import git_environment

_ADDRESS = "127.0.0.1"

# From when to when a certificate is valid, YYYYMMDDHHMMSS of UTC.
_PAST = "20200101000000Z", "20200102000000Z"
_PRESENT = "20200101000000Z", "20990101000000Z"

_AUTHORITY_SETTINGS = """\
[ca]
default_ca = testbed
[testbed]
database = {directory}/issued
new_certs_dir = {directory}
rand_serial = yes
unique_subject = no
default_md = sha256
policy = anybody
copy_extensions = copy
[anybody]
commonName = supplied
"""


class Certificate(NamedTuple):
    """A server's certificate and its private key, as PEM files."""

    chain: Path
    key: Path


class Authority:
    """A certificate authority that nobody trusts but who is given its certificate."""

    def __init__(self, directory: Path) -> None:
        """Make one; its files and what it issues go into `directory`."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        (directory / "issued").touch()
        self._settings = directory / "authority.conf"
        self._settings.write_text(_AUTHORITY_SETTINGS.format(directory=directory))
        self.certificate, self._key = directory / "authority.pem", directory / "authority.key"
        _openssl(
            *("req", "-x509", "-days", "3650", "-subj", "/CN=agentd testbed"),
            *(*_new_key(self._key), "-out", self.certificate),
        )

    def issue(self, name: str, *, expired: bool = False) -> Certificate:
        """A certificate for servers on the loopback address."""
        request, chain, key = (self._directory / f"{name}.{end}" for end in ("csr", "pem", "key"))
        start, end = _PAST if expired else _PRESENT
        _openssl(
            *("req", "-subj", f"/CN={_ADDRESS}", "-addext", f"subjectAltName=IP:{_ADDRESS}"),
            *(*_new_key(key), "-out", request),
        )
        _openssl(
            *("ca", "-batch", "-notext", "-config", self._settings),
            *("-cert", self.certificate, "-keyfile", self._key),
            *("-startdate", start, "-enddate", end, "-in", request, "-out", chain),
        )
        return Certificate(chain, key)


@dataclass(frozen=True)
class Request:
    """What a server received."""

    method: str
    target: str
    headers: Message

    @property
    def authorization(self) -> str | None:
        """Who the client claims to be."""
        return self.headers["Authorization"]


class Redirect(NamedTuple):
    """Where a repository went; a `guarded` one is told only to who may read it."""

    url: str
    guarded: bool


@dataclass
class GitHttps:
    """A running server; who sends `authorization` may read its repositories, None is everybody."""

    base: Path
    port: int
    authorization: str | None = None
    requests: list[Request] = field(default_factory=list)
    redirects: dict[str, Redirect] = field(default_factory=dict)
    observer: Callable[[Request], None] | None = None
    """Called with every request, while the client waits for its answer."""

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return f"https://{_ADDRESS}:{self.port}"

    def url(self, name: str) -> str:
        """The clone URL of a repository."""
        return f"{self.origin}/{name}"

    def redirect(self, name: str, url: str, *, guarded: bool = False) -> str:
        """Answer every request about a repository with a redirect to `url`; return its own URL."""
        self.redirects[name] = Redirect(url, guarded)
        return self.url(name)

    def received(self, name: str = "") -> list[Request]:
        """The requests about a repository; by default all."""
        return [each for each in self.requests if each.target.startswith(f"/{name}")]


def basic(username: str, token: str) -> str:
    """The header by which a client shows a user name and a password."""
    return "Basic " + base64.b64encode(f"{username}:{token}".encode()).decode()


def bearer(token: str) -> str:
    """The header by which a client shows a token alone."""
    return f"Bearer {token}"


@contextmanager
def git_https(
    base: Path, certificate: Certificate, authorization: str | None = None
) -> Iterator[GitHttps]:
    """Serve the repositories below `base` on a free port."""
    with _Listener(certificate) as listener:
        listener.served = GitHttps(base, listener.server_address[1], authorization)
        thread = threading.Thread(target=listener.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield listener.served
        finally:
            listener.shutdown()
            thread.join()


class _Listener(ThreadingHTTPServer):
    """Accepts TLS connections; the handshake is made by the connection's own thread."""

    served: GitHttps

    def __init__(self, certificate: Certificate) -> None:
        super().__init__((_ADDRESS, 0), _Connection)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate.chain, certificate.key)
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a client that does not like the certificate ends the handshake."""


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Listener

    def do_GET(self) -> None:
        """Answer one request."""
        served = self.server.served
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, self.headers)
        served.requests.append(request)
        if served.observer is not None:
            served.observer(request)
        name, _, rest = self.path.removeprefix("/").partition("/")
        redirect = served.redirects.get(name)
        welcome = served.authorization in {None, self.headers["Authorization"]}
        if not welcome and (redirect is None or redirect.guarded):
            scheme = str(served.authorization).partition(" ")[0]
            self._answer(401, {"WWW-Authenticate": f'{scheme} realm="testbed"'})
        elif redirect is not None:
            self._answer(301, {"Location": f"{redirect.url}/{rest}"})
        else:
            self._answer_from_git(body)

    do_POST = do_GET  # noqa: N815

    def _answer_from_git(self, body: bytes) -> None:
        done = subprocess.run(
            ["git", "-c", "safe.directory=*", "http-backend"],
            check=True,
            env=git_environment() | self._cgi_variables(),
            input=body,
            capture_output=True,
        )
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(BytesHeaderParser().parsebytes(head).items())
        self._answer(int(headers.pop("Status", "200")[:3]), headers, content)

    def _cgi_variables(self) -> dict[str, str]:
        path, _, query = self.path.partition("?")
        return {
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROJECT_ROOT": str(self.server.served.base),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }

    def _answer(self, status: int, headers: dict[str, str], content: bytes = b"") -> None:
        self.send_response(status)
        for name, text in headers.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def _new_key(path: Path) -> tuple[str | Path, ...]:
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
    return (*curve, "-nodes", "-keyout", path)


def _openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *args], check=True, stdin=subprocess.DEVNULL, capture_output=True)
