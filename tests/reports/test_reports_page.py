"""The page of a run: everything is in it, whatever is missing, and nothing comes from outside."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from run_records import EPOCHS, check, evaluation, write_evaluation, write_run

import kohn
from kohn.errors import InputError
from kohn.records import append_record, to_json
from kohn.reports import report
from kohn.reports.figures import learning_curves
from kohn.reports.parity import FEW, parity_figures
from kohn.reports.run import Run


class Page(HTMLParser):
    """Tags with their attributes, the text outside scripts, and the scripts."""

    def __init__(self, path: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.styles, self._in = "", [], "", ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._in = tag if tag in ("script", "style") else self._in

    def handle_endtag(self, tag):
        self._in = "" if tag == self._in else self._in

    def handle_data(self, data):
        if self._in == "script":
            self.scripts.append(data)
        elif self._in == "style":
            self.styles += data
        else:
            self.text += data

    def ids(self) -> set[str]:
        return {a["id"] for _, a in self.tags if a.get("id")}


def figures_in(page: Page) -> dict:
    return json.loads(next(s for s in page.scripts if s.startswith("{")))


def test_every_section_is_there(run):
    path = report(run)
    page = Page(path)
    assert path == run / "report.html"
    assert {"errors", "learning", "data", "run", "use"} <= page.ids()
    for words in (
        "finished",
        "Mean absolute errors on 6 test structures: forces 10.0 meV/Å",
        "20 times below",
        "12,345",
        "Force error by element",
        "Force error by size of the reference force",
        "Mean absolute error by config_type",
        "The 6 structures with the largest force errors",
        "Labels",
        "dft_forces",
        "17 of 18",
        "ab" * 32,
        "virial converted to stress",
        "REF_forcess is nearly REF_forces",
        "E0 of Si fitted",
        "isolated atoms",
        "−432.1000",
        "overridden",
        "short-distance",
        "because 0.4 Å",
        "first epoch, with compilation",
        "10 s",  # 4 + 3 · 2 seconds of training
        "12 × 4 × 2",
        "0.0.test",
        "late_from: 0.75",
        'kohn.Calculator("first/model.safetensors")',
        "kohn predict first/model.safetensors",
    ):
        assert words in page.text, words


def test_figures_have_places_units_and_alternatives(run):
    page = Page(report(run))
    figures = figures_in(page)
    assert set(figures) == {
        *(f"parity-{k}" for k in ("energy", "forces", "stress")),
        *(f"curve-{k}" for k in ("loss", "valid-forces", "valid-energy_per_atom", "valid-stress")),
        "curve-rate",
    }
    assert set(figures) <= page.ids()
    plots = [a for _, a in page.tags if a.get("class") == "plot"]
    assert len(plots) == len(figures)
    assert all(a["role"] == "img" and a["aria-label"] for a in plots)
    for figure in figures.values():
        assert figure["layout"]["xaxis"]["title"]["text"]
        assert figure["layout"]["yaxis"]["title"]["text"]
    assert "meV/atom" in to_json(figures["parity-energy"])
    assert "GPa" in to_json(figures["curve-valid-stress"])


def test_curves_mark_the_late_weights_and_use_the_units_shown(run):
    by_key = {f.key: f for f in learning_curves(Run.read(run))}
    loss = by_key["curve-loss"].layout
    assert [s["x0"] for s in loss["shapes"]] == [0.75 * EPOCHS]
    assert loss["yaxis"]["type"] == "log"
    forces = by_key["curve-valid-forces"].data[1]
    assert forces["y"][0] == pytest.approx(1e3 * 10**-0.3)


def test_energies_are_shown_above_their_e0s(run):
    read = Run.read(run)
    assert read.main is not None
    energy = parity_figures(read, read.main)[0]
    assert "above the E0s" in energy.layout["xaxis"]["title"]["text"]
    assert max(abs(x) for x in energy.data[0]["x"]) < 3  # eV/atom, where E0s are hundreds
    assert energy.data[1]["y"] == pytest.approx(
        [10 / len(f["numbers"]) for f in read.main["frames"]], abs=1e-3
    )


def test_many_points_become_a_density_that_keeps_their_number(run):
    document = evaluation("test")
    document["frames"] *= 300
    figure = parity_figures(Run.read(run), document)[1]
    points = sum(len(f["numbers"]) * 3 for f in document["frames"])
    assert points > FEW
    for trace in figure.data:
        assert len(trace["x"]) < points / 100
        assert sum(trace["customdata"]) == points


def test_the_same_records_give_the_same_bytes(tmp_path):
    one, two = (report(write_run(tmp_path / name / "first")) for name in "ab")
    assert one.read_bytes() == two.read_bytes()
    assert one.read_bytes() == report(one.parent).read_bytes()


def test_nothing_is_loaded_from_outside(run):
    path = report(run)
    page = Page(path)
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:")), (tag, name, value)
    assert not re.search(r"url\(|@import", page.styles)
    assert "http" not in page.styles
    own = [s for s in page.scripts if len(s) < 100_000]
    assert all("http:" not in s and "https:" not in s for s in own)
    policy = next(a["content"] for t, a in page.tags if t == "meta" and "http-equiv" in a)
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "http" not in policy


def test_plotly_is_there_once_and_the_page_is_small(run):
    text = report(run).read_text()
    assert len(re.findall(r"plotly\.js v\d", text)) == 1
    assert len(text) < 6e6


def test_what_comes_from_files_is_escaped(tmp_path):
    evil = '<script>alert("x")</script>'
    run = write_run(tmp_path / "a'b <b>", config_type=evil)
    judged = check()
    judged["findings"][0]["message"] = evil
    judged["sets"][0]["sources"][0]["file"] = f"data/{evil}.extxyz"
    (run / "check.json").write_text(to_json(judged))
    (run / "settings.yaml").write_text(f"data:\n  train: ['{evil}']\n")
    page = Page(report(run))
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert evil in page.text
    assert not any("alert" in s for s in page.scripts)
    assert "kohn predict 'a'\"'\"'b <b>/model.safetensors'" in page.text


def test_a_name_that_would_close_the_json_does_not(run):
    document = evaluation("test")
    document["frames"][0]["config_type"] = "</script><b>\u2028"
    write_evaluation(run, document)
    page = Page(report(run))
    assert sum(tag == "script" for tag, _ in page.tags) == 4
    assert "</script><b>" in page.text


@pytest.mark.parametrize(
    ("epochs", "state", "words"),
    [
        (0, "not started", "No epoch has been recorded yet."),
        (2, "unfinished", "2 of 4 epochs are recorded"),
    ],
)
def test_a_run_that_was_killed_has_a_report_that_says_so(tmp_path, epochs, state, words):
    run = write_run(tmp_path / "killed", epochs=epochs)
    with open(run / "records.jsonl", "a") as stream:
        stream.write('{"kind": "epo')  # killed while it wrote
    page = Page(report(run))
    assert state in page.text
    assert words in page.text
    assert "No evaluation has been recorded yet" in page.text
    assert "There is no model.safetensors yet" in page.text
    assert "Labels" in page.text


def test_trained_but_not_evaluated(run):
    (run / "evaluation-test.json").unlink()
    page = Page(report(run))
    assert "not evaluated" in page.text
    assert "on 2 validation" not in page.text
    assert "validation structures: forces" in page.text
    assert "errors on independent data are likely to be larger" in page.text


def test_stopped_early(tmp_path):
    run = write_run(tmp_path / "early", epochs=3)
    for name in ("test", "valid"):
        write_evaluation(run, evaluation(name))
    assert Run.read(run).state == "stopped early"
    assert "Stopped early, after 3 of 4 epochs" in Page(report(run)).text


def test_settings_alone_are_a_run(tmp_path):
    (tmp_path / "settings.yaml").write_text("data: {train: [a.extxyz]}\n")
    page = Page(report(tmp_path))
    assert "not started" in page.text
    assert "No check of the data" in page.text


def test_evaluations_alone_are_enough(tmp_path):
    document = evaluation("other")
    write_evaluation(tmp_path, document)
    page = Page(report(tmp_path, tmp_path / "new" / "other.html"))
    assert "report of an evaluation" in page.text
    assert "eV/atom above their mean" in to_json(figures_in(page))
    assert "learning" not in page.ids()


def test_an_evaluation_without_frames(run):
    document = evaluation("test")
    del document["frames"]
    write_evaluation(run, document)
    page = Page(report(run))
    assert "recorded without its frames" in page.text
    assert "parity-forces" not in page.ids()
    assert "Mean absolute errors on 6 test structures" in page.text


def test_missing_labels_are_left_out(run):
    document = evaluation("test")
    for frame in document["frames"]:
        for label in ("forces", "stress"):
            frame[f"{label}_reference"] = None
    for name in ("errors", "mean_baseline"):
        document[name] = {k: v for k, v in document[name].items() if k.startswith("energy")}
    document |= {"forces_by_element": {}, "forces_by_size": {}, "by_config_type": {}}
    write_evaluation(run, document)
    page = Page(report(run))
    assert "parity-energy" in page.ids()
    assert not {"parity-forces", "parity-stress"} & page.ids()
    assert "with the largest energy errors" in page.text


def test_worse_than_the_mean_is_said(run):
    document = evaluation("test")
    document["mean_baseline"]["stress_mean_absolute_error_GPa"] = 1.0
    write_evaluation(run, document)
    page = Page(report(run))
    assert "No better than predicting the mean: stress." in page.text
    assert any(a.get("class") == "tile bad" for _, a in page.tags)


def test_epochs_between_records_are_counted_in_the_time(tmp_path):
    run = write_run(tmp_path / "sparse", epochs=0)
    for number in (10, 20):
        record = {"kind": "epoch", "epoch": number, "seconds": 3.0, "valid_loss": None}
        append_record(run / "records.jsonl", record)
    assert Run.read(run).seconds == 6.0
    assert Run.read(run).seconds_an_epoch == [0.3, 0.3]
    report(run)


@pytest.mark.parametrize(
    ("make", "message", "fix"),
    [
        (lambda p: p / "nowhere", "there is no such run folder", "--out"),
        (lambda p: p, "this folder is not a run folder", "--out"),
    ],
)
def test_what_is_no_run_is_refused(tmp_path, make, message, fix):
    with pytest.raises(InputError, match=message) as caught:
        report(make(tmp_path))
    assert fix in (caught.value.fix or "")


def test_a_file_or_the_folder_above_is_refused_with_the_right_one(run):
    with pytest.raises(InputError, match="a file, not a run folder") as caught:
        report(run / "model.safetensors")
    assert str(run) in (caught.value.fix or "")
    with pytest.raises(InputError, match="not a run folder") as caught:
        report(run.parent)
    assert "first" in (caught.value.fix or "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("check.json", "{"),
        ("evaluation-test.json", "[]"),
        ("settings.yaml", "data: ["),
        ("records.jsonl", '{"kind": "epoch"}\n'),
    ],
)
def test_a_damaged_record_is_named(run, name, text):
    (run / name).write_text(text)
    with pytest.raises(InputError, match="damaged") as caught:
        report(run)
    assert name in str(caught.value.where)
    assert not (run / "report.html").exists()


def test_the_page_of_a_run_shows_the_audit_in_its_folder(run):
    page = Page(report(run))
    assert "Not measured." in page.text
    assert "kohn audit" in page.text
    copper = bulk("Cu", cubic=True)
    kohn.audit(EMT(), copper, laws=["net-force", "fragments"], out=run / "audit")
    page = Page(report(run))
    for said in ("No law fails, 2 passed.", "ase.calculators.emt:EMT: 1 structure", "net-force"):
        assert said in page.text
    assert "Not measured." not in page.text
    file = run / "audit" / "records.jsonl"
    file.write_bytes(b"".join(file.read_bytes().splitlines(keepends=True)[:2]))
    assert "1 measurement missing" in Page(report(run)).text
    file.write_bytes(b"")  # as if it had only begun
    assert "Not measured." in Page(report(run)).text
