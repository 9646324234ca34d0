"""One process in a folder; what a killed one leaves behind holds nobody up."""

import os
import signal
import subprocess
import sys

import pytest

import kohn
from kohn.errors import ConfigError
from kohn.jobs import WorkFolder
from kohn.jobs.locks import LOCK, only_process, refuse_held

HOLD = """
import sys, time
from kohn.jobs import WorkFolder
from kohn.jobs.locks import only_process
with only_process(sys.argv[1], "training"):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def held(tmp_path):
    """A folder that another process holds."""
    other = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    yield tmp_path, other
    other.kill()
    other.wait()


@pytest.mark.slow
def test_the_second_is_refused_and_told_by_whom(held):
    folder, other = held
    for attempt in (
        lambda: only_process(folder, "run").__enter__(),
        lambda: refuse_held(folder, "run"),
    ):
        with pytest.raises(ConfigError, match="another process is at work") as caught:
            attempt()
        assert str(other.pid) in str(caught.value.received)
        assert str(folder) in str(caught.value.where)


def test_training_is_refused_at_once(held):
    """Before any data are read: the file does not even exist."""
    folder, _ = held
    (folder / "settings.yaml").write_text("")
    for resume in (True, False):
        with pytest.raises(ConfigError, match="another process"):
            kohn.train("none.xyz", out=folder, resume=resume)


@pytest.mark.slow
def test_a_killed_process_holds_nothing(held):
    folder, other = held
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    assert (folder / LOCK).is_file()
    refuse_held(folder, "run")
    with only_process(folder, "run"):
        assert str(os.getpid()) in (folder / LOCK).read_text()
    assert not (folder / LOCK).exists()


def test_files_that_say_nothing(tmp_path):
    (tmp_path / LOCK).write_text("half a")
    with only_process(tmp_path, "run"):
        pass
    refuse_held(tmp_path / "none", "run")


def test_a_stale_lock_is_no_run(tmp_path):
    """A folder with nothing but what a killed process left can be used."""
    from kohn.training.train import _refuse_unusable_folder

    (tmp_path / LOCK).write_text("{}")
    work = WorkFolder(tmp_path, "training")
    _refuse_unusable_folder(work, resume=False)
    work.records.write_text("")
    with pytest.raises(ConfigError, match="exists already"):
        _refuse_unusable_folder(work, resume=False)
