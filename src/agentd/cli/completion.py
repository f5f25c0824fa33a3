"""`agentd completion`."""

from __future__ import annotations

from typing import Literal


def completion(shell: Literal["bash", "zsh", "fish"], /) -> int:
    """Print what teaches a shell to complete agentd's words.

    For example:

        agentd completion bash >~/.local/share/bash-completion/completions/agentd
        agentd completion zsh >~/.zfunc/_agentd
        agentd completion fish >~/.config/fish/completions/agentd.fish

    Args:
        shell: Which shell.
    """
    from .app import build_app  # noqa: PLC0415 - it imports every command

    print(build_app().generate_completion(prog_name="agentd", shell=shell))
    return 0
