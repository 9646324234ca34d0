"""The command line."""

import pytest

from kohn.cli import app


@pytest.fixture
def kohn_cli(monkeypatch, tmp_path, capfd):
    """Run `kohn` in an empty folder; gives exit code, stdout and stderr in one line."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["kohn", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            app.main()
        said = capfd.readouterr()
        return end.value.code, said.out, " ".join(said.err.replace("│", " ").split())

    return run
