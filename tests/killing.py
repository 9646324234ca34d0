"""Ends `kohn train` by SIGKILL at each named stage: `python killing.py SETTINGS FOLDER`.

The run of the nth stage is in FOLDER/n, and has a process of its own: a fork of one that has
imported everything and computed nothing, so that importing is paid once.
"""

import json
import os
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

STAGES: dict[str, tuple[str, int, str, str]] = {
    # what a stage is: a function, which of its calls, of those that name a file, and where in it
    "before the settings are written": ("kohn.training.train:write_atomically", 1, "", "before"),
    "before the records begin": ("kohn.training.train:_write_start", 1, "", "before"),
    "in the middle of an epoch": ("kohn.training.loop:_finite_loss", 3, "", "after"),
    "before the first checkpoint has its name": ("os:replace", 1, "checkpoint", "before"),
    "between a record and its checkpoint": ("kohn.jobs.workfolder:append_record", 5, "", "after"),
    "half a record later": ("kohn.jobs.workfolder:append_record", 6, "", "half"),
    "between a checkpoint and its model": ("os:replace", 3, "checkpoint", "after"),
    "before the last model has its name": ("os:replace", 1, "last.safetensors", "before"),
    "before the evaluation": ("kohn.training.train:_evaluate", 1, "", "before"),
}


def fatal(function: Callable, nth: int, file: str, where: str) -> Callable:
    """The function, whose nth call with a name that holds `file` ends the process."""
    count = 0

    def call(*args: Any, **more: Any) -> Any:
        nonlocal count
        count += file in " ".join(str(x) for x in args if file)
        if count == nth and where == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*args, **more)
        if count == nth:
            if where == "half":  # as much of the line as had reached the disk
                os.truncate(args[0], os.path.getsize(args[0]) - 20)
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


def run_until_killed(stage: str, settings: str, folder: str) -> None:
    """Train in this process, which does not survive it."""
    import kohn

    path, nth, file, where = STAGES[stage]
    module, name = path.split(":")
    home = import_module(module)
    setattr(home, name, fatal(getattr(home, name), nth, file, where))
    kohn.train(settings, out=folder)


if __name__ == "__main__":
    settings, folder = sys.argv[1:]
    for path, *_ in STAGES.values():
        import_module(path.split(":")[0])
    ends = {}
    for n, stage in enumerate(STAGES):
        child = os.fork()
        if child == 0:
            run_until_killed(stage, settings, os.path.join(folder, str(n)))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        ends[stage] = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    print(json.dumps(ends))
