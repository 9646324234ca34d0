"""The worker's side of the line protocol between `benchmarks/speed.py` and the peers.

One JSON object a line. Commands arrive on stdin, each with the key "cmd"; to each there is one
answer on the original stdout: {"ok": true, ...} or {"ok": false, "error": ...}. Everything that
libraries print goes to stderr instead, so that answers stay parseable. The first line, unasked,
is {"ok": true, "ready": true, ...}.

Commands that both workers know:

- {"cmd": "load", "model": PATH or {...}, "dtype": "float32", "threads": n}
- {"cmd": "prepare", "case": NAME, "structures": FILE.extxyz, "batch": n}: builds the graphs of the
  first n frames (repeated when there are fewer) as one batch; answers atoms, edges, structures.
- {"cmd": "time", "case": NAME, "what": "energy_forces" | "train_step", "repeats": r}: answers
  {"seconds": [r numbers]}, after untimed warm-up (compilation included in it).
- {"cmd": "predict", "case": NAME}: energies (eV) and forces (eV/Å) of the batch.
- {"cmd": "matmul_peak"}: GFLOP/s of a large matrix product in the loaded dtype and threads.
- {"cmd": "parameters"}, {"cmd": "rss"} (bytes now and at the peak), {"cmd": "quit"}.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

Handler = Callable[[dict[str, Any]], dict[str, Any]]


def guard_stdout() -> Any:
    """Points file descriptor 1 at stderr and returns a text stream to the original stdout."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return answers


def memory() -> dict[str, Any]:
    """Resident memory of this process in bytes, now and at its peak (Linux)."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {
        "rss_bytes": int(fields["VmRSS"].split()[0]) * 1024,
        "peak_rss_bytes": int(fields["VmHWM"].split()[0]) * 1024,
    }


def serve(answers: Any, greeting: dict[str, Any], handlers: dict[str, Handler]) -> int:
    """Answers commands until "quit" or the end of stdin; an error ends only its command."""

    def answer(document: dict[str, Any]) -> None:
        answers.write(json.dumps(document) + "\n")
        answers.flush()

    handlers = {"rss": lambda _: memory(), **handlers}
    answer({"ok": True, "ready": True, "pid": os.getpid(), **greeting})
    for line in sys.stdin:
        if not line.strip():
            continue
        try:
            command = json.loads(line)
            name = command["cmd"]
            if name == "quit":
                answer({"ok": True})
                return 0
            if name not in handlers:
                raise ValueError(f"unknown command {name!r}; known: {sorted(handlers)}")
            answer({"ok": True, **handlers[name](command)})
        except Exception as error:  # the orchestrator decides what to do about it
            traceback.print_exc()
            answer({"ok": False, "error": f"{type(error).__name__}: {error}"})
    return 0
