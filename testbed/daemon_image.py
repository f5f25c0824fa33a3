"""The daemon's image, built by its Containerfile."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from testbed.podman_service import PodmanError, PodmanService

DAEMON_IMAGE = "localhost/agentd:testbed"
REVISION = "0123abc"
"""What the image is told to be made of."""

_PROJECT = Path(__file__).parents[1]
_BUILD_SECONDS = 600.0
_PIP_SETTING = re.compile(r"^[^.]*\.([a-z-]+)='(.*)'$", re.MULTILINE)
_FOR_THE_INDEX = {"index-url", "extra-index-url", "trusted-host", "proxy", "timeout"}


def build_daemon_image(service: PodmanService, base: str) -> str:
    """Build the checkout's image on this image, which has Python; return its name.

    Raises `PodmanError` if it cannot be built.
    """
    with TemporaryDirectory(prefix="agentd-image-") as directory:
        done = service.run(
            *("build", "--network", "host", "--tag", DAEMON_IMAGE),
            *("--build-arg", f"BASE={base}", "--build-arg", f"REVISION={REVISION}"),
            *_pip_secrets(Path(directory)),
            str(_PROJECT),
            seconds=_BUILD_SECONDS,
        )
    if done.returncode != 0:
        raise PodmanError(f"podman build: {done.stdout[-3000:]}\n{done.stderr[-3000:]}")
    return DAEMON_IMAGE


def _pip_secrets(directory: Path) -> list[str]:
    """The options by which pip in a build reaches the index that this machine's pip uses."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], check=True, capture_output=True, text=True
    )
    # What the environment says comes first and wins, pip's user guide.
    settings = dict(reversed(_PIP_SETTING.findall(told.stdout)))
    lines = [
        f"{key} = {remote}"
        for key in sorted(_FOR_THE_INDEX & settings.keys())
        if (remote := _without_local_places(settings[key]))
    ]
    options = []
    if certificates := settings.get("cert"):
        lines.append("cert = /run/secrets/ca.crt")
        options = [f"--secret=id=ca.crt,src={certificates}"]
    configuration = directory / "pip.conf"
    configuration.write_text("\n".join(["[global]", *lines, ""]))
    return [f"--secret=id=pip.conf,src={configuration}", *options]


def _without_local_places(text: str) -> str:
    return " ".join(word for word in text.split() if not word.startswith("file:"))
