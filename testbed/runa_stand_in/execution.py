"""Execution of the protocols that are ready, each by one run of the agent."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from testbed.runa_stand_in import RUNA, InfrastructureError
from testbed.runa_stand_in.methodology import Methodology
from testbed.runa_stand_in.workspace import Instance, has_all, scan, status, write_json

INTERRUPTED = 130


class Run:
    """One `runa run`: executes what is ready until nothing new is."""

    def __init__(self, config: Path, methodology: Methodology, unit: str | None) -> None:
        """Start with nothing executed; the unit is the scope, if there is one."""
        self.config = config
        self.methodology = methodology
        self.unit = unit
        self.instances: list[Instance] = []
        self.executions: list[dict[str, Any]] = []
        self.interrupts = 0

    def statuses(self) -> dict[str, str]:
        """Scan, and give the state of each protocol that is in scope and was not yet executed."""
        self.instances = scan(self.methodology)
        units = [one.id for one in self.instances if one.type == "work-unit"]
        if self.unit is not None and units and self.unit not in units:
            raise InfrastructureError(f"work unit '{self.unit}' is not recorded")
        seen = [one for one in self.instances if one.work_unit in (None, self.unit)]
        executed = {each["protocol"] for each in self.executions}
        return {
            protocol["name"]: status(protocol, seen)
            for protocol in self.methodology.protocols
            if protocol.get("scoped", False) == (self.unit is not None)
            and protocol["name"] not in executed
        }

    def to_the_end(self, argv: Sequence[str]) -> str:
        """Execute and return the outcome's label."""
        signal.signal(signal.SIGINT, self.interrupt)
        states = self.statuses()
        if not argv or not argv[0]:
            raise InfrastructureError("no agent command configured")
        while ready := [name for name, state in states.items() if state == "ready"]:
            self.execute(ready[0], argv)
            if self.interrupts:
                return "interrupted"
            states = self.statuses()
        if any(not each["succeeded"] for each in self.executions):
            return "work_failed"
        if "waiting" in states.values():
            return "blocked"
        return "success" if self.executions else "nothing_ready"

    def interrupt(self, _number: int, _frame: object) -> None:
        """The first SIGINT lets the current protocol finish, the second does not."""
        self.interrupts += 1
        if self.interrupts > 1:
            os._exit(INTERRUPTED)

    def execute(self, name: str, argv: Sequence[str]) -> None:
        """Let the agent work on one protocol, and check what came of it."""
        scope = f" (work_unit={self.unit})" if self.unit else ""
        prompt = f"# Protocol: {name}{scope}\n\n{self.methodology.prompt(name)}\n"
        code = self.start_agent(argv, prompt, name)
        protocol = next(each for each in self.methodology.protocols if each["name"] == name)
        succeeded = code == 0 and self.outputs_are_valid(protocol)
        self.executions.append({"protocol": name, "work_unit": self.unit, "succeeded": succeeded})
        write_json(RUNA / "store/execution-records.json", self.executions)
        if succeeded:
            print(f"Executed: {name}", flush=True)
        else:
            print(f"warning: protocol '{name}' failed (agent exit {code})", file=sys.stderr)

    def start_agent(self, argv: Sequence[str], prompt: str, protocol: str) -> int:
        """Run the agent with the prompt as its standard input; return its exit code."""
        environ = {**os.environ, "RUNA_MCP_CONFIG": self.mcp_config(protocol)}
        try:
            with subprocess.Popen(
                argv, bufsize=0, stdin=subprocess.PIPE, env=environ, process_group=0
            ) as agent:
                assert agent.stdin is not None
                agent.stdin.write(prompt.encode())
                agent.stdin.close()
        except OSError as error:
            raise InfrastructureError(f"agent command '{argv[0]}' failed: {error}") from None
        return agent.returncode

    def mcp_config(self, protocol: str) -> str:
        """What tells an agent how to start runa's MCP server."""
        beside = Path(sys.argv[0]).resolve().with_name("runa-mcp")
        server = str(beside) if beside.exists() else shutil.which("runa-mcp")
        if server is None:
            raise InfrastructureError("could not locate MCP server binary 'runa-mcp'")
        unit = ["--work-unit", self.unit] if self.unit else []
        environ = {"RUNA_CONFIG": str(self.config.resolve()), "RUNA_WORKING_DIR": str(Path.cwd())}
        return json.dumps(
            {"command": server, "args": ["--protocol", protocol, *unit], "env": environ}
        )

    def outputs_are_valid(self, protocol: Mapping[str, Any]) -> bool:
        """Whether every required output is there and none is invalid."""
        instances = scan(self.methodology)
        outputs = {*protocol.get("produces", ()), *protocol.get("may_produce", ())}
        invalid = any(one.type in outputs and not one.valid for one in instances)
        return not invalid and has_all(protocol.get("produces", ()), instances)
