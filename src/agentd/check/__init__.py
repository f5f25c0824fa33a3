"""The doctor: looks at a configuration, its host and its agents, and changes nothing.

What is judged is plain data, in the modules `*_rules`; `look`, `methodology_look` and `audit_look`
fetch it, `throwaway` runs a container for it, and `examination` has the order, in which
`agent_examination` comes last.
"""

from .examination import examine
from .finding import Finding
from .interruption import interruptible

__all__ = ["Finding", "examine", "interruptible"]
