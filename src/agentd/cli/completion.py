"""`agentd completion`."""

from __future__ import annotations

import re
from typing import Final, Literal

LOADED_BY_ZSH: Final = """
if [[ ${{zsh_eval_context[-1]}} == file ]]; then
  compdef {function} agentd
else
  {function} "$@"
fi
"""
"""What makes cyclopts' script work whatever its file is called, and when it is sourced: it defines
a function, which zsh calls by itself only where the file has the function's name."""


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

    script = build_app().generate_completion(prog_name="agentd", shell=shell)
    if shell == "zsh" and (defined := re.search(r"^(\w+)\(\) \{$", script, re.MULTILINE)):
        script += LOADED_BY_ZSH.format(function=defined[1])
    print(script)
    return 0
