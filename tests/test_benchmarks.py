"""Every benchmark that the README names starts: its command line is read without peers or data."""

import importlib
import re
import shlex
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "benchmarks" / "README.md").read_text()
COMMANDS = sorted(set(re.findall(r"`python -m (benchmarks\.\w+[^`…]*)", README)))
NEED_NOTHING = {"benchmarks.collect"}  # it has no options


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))


def test_the_readme_names_every_benchmark():
    named = {command.split()[0] for command in COMMANDS} - NEED_NOTHING
    with_main = {
        f"benchmarks.{path.stem}"
        for path in (ROOT / "benchmarks").glob("*.py")
        if "parsed(" in path.read_text() and path.stem != "common"
    }
    assert named == with_main


@pytest.mark.parametrize("command", [c for c in COMMANDS if c.split()[0] not in NEED_NOTHING])
def test_a_command_of_the_readme_is_read_without_peers_or_data(command, monkeypatch, capsys):
    name, *arguments = shlex.split(command)
    monkeypatch.setattr(sys, "argv", [name, *arguments, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(name).main()
    assert ended.value.code == 0
    assert "--quick" in capsys.readouterr().out


def test_missing_data_are_named_with_what_to_do(monkeypatch, tmp_path):
    from benchmarks import common

    monkeypatch.setattr(common, "DATA", tmp_path)
    (tmp_path / "there").touch()
    with pytest.raises(SystemExit, match=r"qm7\.extxyz\n.*\$KOHN_DATA") as ended:
        common.need_data("there", "qm7/qm7.extxyz")
    assert str(tmp_path / "there") not in str(ended.value)


def test_a_peer_that_is_not_installed_is_named_with_what_to_do(monkeypatch, tmp_path, capsys):
    from benchmarks import common

    monkeypatch.setenv("KOHN_PEERS_HULL", str(tmp_path / "python"))
    assert common.installed("hull") == {}
    assert "make .venv-peers-hull/.done" in capsys.readouterr().err


def test_collecting_keeps_hand_written_text_and_tables_without_result(tmp_path):
    from benchmarks.collect import collected

    readme = (
        "by hand\n<!-- a -->\n`python -m benchmarks.a`\n\nold a\n<!-- end of a -->\n"
        "between\n<!-- b -->\n`python -m benchmarks.b`\n\nold b\n<!-- end of b -->\n"
    )
    assert collected(readme, tmp_path) == readme
    (tmp_path / "a.md").write_text("new \\1 a\n")
    (tmp_path / "a.json").write_text('{"command": "python -m benchmarks.a --rounds 3"}')
    found = collected(readme, tmp_path)
    assert found == readme.replace("old a", "new \\1 a").replace("s.a`", "s.a --rounds 3`")


def test_a_table_without_a_place_is_an_error(tmp_path):
    from benchmarks.collect import check_places

    (tmp_path / "c.md").write_text("new")
    check_places(["nothing", "<!-- c -->\n`command`\n\nold\n<!-- end of c -->"], tmp_path)
    with pytest.raises(SystemExit, match="no place for c"):
        check_places(["nothing", "<!-- d -->\n`command`\n\nold\n<!-- end of d -->"], tmp_path)


def test_the_pages_hold_the_results():
    from benchmarks.collect import PAGES, check_places, collected

    texts = [path.read_text() for path in PAGES]
    check_places(texts, ROOT / "benchmarks" / "results")
    for text in texts:
        assert collected(text, ROOT / "benchmarks" / "results") == text


def test_tables_are_written_where_kohn_is_measured_alone():
    from benchmarks import descriptors, families, hulls

    t = {"cpu": 0.01, "wall": 0.02}
    row = {"what": "values", "atoms": 512, "edges": 1000, "species": 1, "extrapolated": []}
    row |= {"case": "silicon512", "agreement": {}, "seconds": {"kohn": t}}
    found = descriptors.table({"gflops": 100.0, "rows": [row]})
    assert "| 512 Si | 10.0 (20.0) | – | – | – |" in found
    hull = {"elements": 3, "facets_kohn": 5, "differ": 0.0, "build": {"kohn": t}}
    found = hulls.table({"rows": [{**hull, "distances": {"kohn": t}}]})
    assert "| 3 | 5 | 10.0 (20.0) | – | – | 100 |" in found
    lane = {"side": "kohn", "mode": "jit", "default": True, "ms": 1.0}
    case = {"family": "schnet", "case": "ethanol", "kind": "molecule", "atoms": 9, "edges": 72}
    document = {"threads": 2, "gflops": 400.0, "parameters": {}, "versions": {}}
    document["rows"] = [{**case, "lanes": [lane], "failed": {}, "worst": 1e-4}]
    assert "| schnet | ethanol | 9 | 72 | 1.00 | 5 % | – | – | – | – |" in families.table(document)
