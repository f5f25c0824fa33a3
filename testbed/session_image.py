"""The small container image that sessions of the tests and of the quickstart run in.

A Debian base holds what the image contract names. It is made once and kept in a cache; the
stand-ins are appended for each store, so that an edit of theirs needs no new base.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from testbed.podman_service import PodmanError, PodmanService

SESSION_IMAGE = "localhost/agentd-session:stand-in"

_HERE = Path(__file__).parent
_SUITE = "bookworm"
_PACKAGES = (
    "ca-certificates,findutils,git,gosu,passwd,python3,python3-jsonschema,python3-venv,tzdata"
)
_BUILD_SECONDS = 900.0
_PULL_SECONDS = 30.0

# Nothing in a session reads these. Perl goes last, because packages need it while they install;
# git uses it for a few commands only, and none of them clones.
_UNUSED_DOCUMENTS = ("doc", "info", "locale", "man")
_UNUSED_TREES = ("usr/share/perl", "usr/lib/*/perl", "usr/lib/*/gconv", "var/lib/dpkg/info")

_PROGRAMS = {
    "usr/local/bin/runa": _HERE / "image/runa",
    "usr/local/bin/runa-mcp": _HERE / "image/runa-mcp",
    "usr/local/bin/stand-in-agent": _HERE / "stand_in_agent.sh",
}
_MODULES = Path("usr/lib/python3/dist-packages")


def ensure_session_image(
    service: PodmanService, name: str = SESSION_IMAGE, suite: str = _SUITE
) -> str:
    """Give the service's store the session image under this name; return the name.

    `suite` is the Debian that it is made of.
    """
    base = base_tarball(service, suite)
    with tempfile.TemporaryDirectory(prefix="agentd-image-") as directory:
        complete = Path(directory, "image.tar")
        shutil.copyfile(base, complete)
        _append_stand_ins(complete)
        service.podman("import", "--quiet", str(complete), name)
    return name


def ensure_broken_image(service: PodmanService, without: str, of: str = SESSION_IMAGE) -> str:
    """Derive from `of` an image that lacks one program; return its name."""
    return derive_image(service, f"without-{without}", of, f'rm "$(command -v {without})"')


def derive_image(
    service: PodmanService, tag: str, of: str, script: str = "", changes: Sequence[str] = ()
) -> str:
    """Derive an image by a script that root runs in it, and by Containerfile lines; its name."""
    name, container = f"localhost/agentd-session:{tag}", f"agentd-testbed-{tag}"
    service.podman(
        *("run", "--name", container, "--network", "none", "--user", "0"),
        *(of, "sh", "-ec", script),
    )
    try:
        options = (word for change in changes for word in ("--change", change))
        service.podman("commit", "--quiet", *options, container, name)
    finally:
        service.podman("rm", container)
    return name


def cache_directory() -> Path:
    """Where base tarballs are kept from run to run."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "agentd-testbed")


def base_tarball(service: PodmanService, suite: str = _SUITE) -> Path:
    """The file system of the base, from the cache or made now."""
    tarball = cache_directory() / f"base-{_recipe_digest(suite)}.tar"
    tarball.parent.mkdir(parents=True, exist_ok=True)
    # Of two test runs that want the same base, one makes it and the other waits.
    with tarball.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tarball.exists():
            make = _build_from_registry if _registry_answers(service, suite) else _bootstrap
            _publish(tarball, lambda unfinished: make(service, suite, unfinished))
    return tarball


def _publish(target: Path, make: Callable[[Path], None]) -> None:
    """Make a file under another name first, so that half a file never has the target's name."""
    with tempfile.TemporaryDirectory(dir=target.parent, prefix="unfinished-") as directory:
        unfinished = Path(directory, target.name)
        make(unfinished)
        unfinished.replace(target)


def _recipe_digest(suite: str) -> str:
    recipe = (
        *(suite, _PACKAGES, *_UNUSED_DOCUMENTS, *_UNUSED_TREES),
        (_HERE / "image/Containerfile").read_text(),
    )
    return hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]


def _registry_image(suite: str) -> str:
    return f"debian:{suite}-slim"


def _registry_answers(service: PodmanService, suite: str) -> bool:
    try:
        pull = service.run("pull", "--quiet", _registry_image(suite), seconds=_PULL_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return pull.returncode == 0


def _build_from_registry(service: PodmanService, suite: str, tarball: Path) -> None:
    """Build the base from a registry's Debian by the Containerfile."""
    image, container = "localhost/agentd-testbed-base", "agentd-testbed-base"
    unused = (*(f"usr/share/{name}" for name in _UNUSED_DOCUMENTS), *_UNUSED_TREES)
    service.podman(
        *("build", "--quiet", "--network", "host", "--tag", image),
        *("--build-arg", f"BASE={_registry_image(suite)}"),
        *("--build-arg", f"PACKAGES={_PACKAGES.replace(',', ' ')}"),
        *("--build-arg", f"UNUSED={' '.join(f'/{tree}' for tree in unused)}"),
        str(_HERE / "image"),
    )
    service.podman("create", "--name", container, image, "true")
    try:
        service.podman("export", "--output", str(tarball), container)
    finally:
        service.podman("rm", container)
        service.podman("rmi", image)


def _bootstrap(_service: PodmanService, suite: str, tarball: Path) -> None:
    """Build the base from Debian packages, as root or in a user namespace."""
    excludes = [f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in _UNUSED_DOCUMENTS]
    unused = " ".join(f'"$1"/{tree}' for tree in _UNUSED_TREES)
    done = subprocess.run(
        [
            *("mmdebstrap", "--variant=essential", f"--include={_PACKAGES}", *excludes),
            *(f"--customize-hook=rm -rf {unused}", suite, str(tarball)),
        ],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_BUILD_SECONDS,
    )
    if done.returncode != 0:
        raise PodmanError(f"mmdebstrap could not build the base image: {done.stderr[-2000:]}")


def _append_stand_ins(tarball: Path) -> None:
    modules = (_HERE / "__init__.py", *sorted((_HERE / "runa_stand_in").glob("*.py")))
    with tarfile.open(tarball, "a") as archive:
        for path, source in _PROGRAMS.items():
            _append(archive, path, source, mode=0o755)
        for source in modules:
            path = str(_MODULES / source.relative_to(_HERE.parent))
            _append(archive, path, source, mode=0o644)


def _append(archive: tarfile.TarFile, path: str, source: Path, mode: int) -> None:
    """Add a file that belongs to root, whoever owns the checkout."""
    member = tarfile.TarInfo(path)
    member.mode = mode
    member.size = source.stat().st_size
    with source.open("rb") as content:
        archive.addfile(member, content)
