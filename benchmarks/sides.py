"""Worker processes that are asked in turn: the orchestrator's side of `peers/protocol.py`."""

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import FOLDERS, ROOT


@dataclass
class Side:
    """One worker process."""

    name: str
    command: list[str]
    environment: dict[str, str] | None = None  # this process's own where it is None
    folder: Path = ROOT  # a checkout
    process: subprocess.Popen | None = None
    notes: dict[str, Any] = field(default_factory=dict)

    def start(self) -> None:
        """Start the worker and wait until it is ready."""
        FOLDERS.work.mkdir(parents=True, exist_ok=True)
        with open(self._log, "w") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.folder,
                env=self.environment,
            )
        self._answer()

    def ask(self, **command: Any) -> dict[str, Any]:
        """One command, one answer, which may be an error."""
        assert self.process is not None
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps(command) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise SystemExit(self._died()) from None
        return self._answer()

    def get(self, **command: Any) -> dict[str, Any]:
        """One answer, which must not be an error.

        Raises:
            SystemExit: it is one.
        """
        answer = self.ask(**command)
        if not answer["ok"]:
            raise SystemExit(f"{self.name}, {command}: {answer['error']}; see {self._log}")
        return answer

    def quit(self) -> None:
        """Let the worker end."""
        self.ask(cmd="quit")
        assert self.process is not None
        self.process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self.process is not None
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(self._died())
        return json.loads(line)

    @property
    def _log(self) -> Any:
        return FOLDERS.work / f"side-{self.name}.log"

    def _died(self) -> str:
        lines = self._log.read_text().strip().splitlines()
        return f"{self.name} died: {lines[-1] if lines else 'without a word'}; see {self._log}"
