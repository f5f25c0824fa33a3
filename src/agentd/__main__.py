"""`python -m agentd`: the same as the `agentd` command."""

from .cli import main

main()
