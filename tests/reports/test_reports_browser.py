"""The page in a real browser, cut off from any network: figures appear, and nothing complains."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from run_records import evaluation, frame, write_evaluation, write_run

from kohn.reports import report

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--proxy-server=127.0.0.1:9",
)
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.fixture
def browser() -> str:
    found = next((b for b in BROWSERS if shutil.which(b)), None)
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    return found


def open_page(browser: str, path: Path, *flags: str) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what they wrote to the console."""
    profile = path.parent / "profile"
    result = subprocess.run(
        [browser, *FLAGS, f"--user-data-dir={profile}", *flags, "--dump-dom", path.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    shutil.rmtree(profile, ignore_errors=True)
    return result.stdout, [line for line in result.stderr.splitlines() if "CONSOLE" in line]


FRAME = """<body style="margin:0"><iframe src="{src}" style="border:0;width:{width}px;height:900px">
</iframe><script>onload = () => setTimeout(() => {{
  const page = document.querySelector("iframe").contentDocument, root = page.documentElement;
  document.body.textContent = JSON.stringify({{
    width: root.scrollWidth, height: root.scrollHeight, drawn: root.dataset.drawn,
    cut: [...page.querySelectorAll(".caption")]
      .filter((p) => p.scrollWidth > p.clientWidth + 1).length,
    said: [...page.querySelectorAll(".scrolls")].map((p) => p.hidden ? "" : p.textContent),
  }});
}}, 4000)</script></body>"""


def measured(browser: str, path: Path, width: int) -> dict:
    """Size of a page on a screen that may be narrower than a browser's window; what tables say."""
    outer = path.parent / "frame.html"
    outer.write_text(FRAME.format(src=path.as_uri(), width=width))
    dom, _ = open_page(browser, outer, "--allow-file-access-from-files")
    return json.loads(re.search(r"<body[^>]*>(\{.*\})</body>", dom)[1])


@pytest.mark.slow
@pytest.mark.browser
@pytest.mark.parametrize("flags", [(), (DARK, "--window-size=500,900")])
def test_all_figures_are_drawn(browser, run, flags):
    dom, console = open_page(browser, report(run), *flags)
    assert console == []
    assert 'data-drawn="8"' in dom
    # Plotly draws each figure as layers of the class main-svg.
    places = re.split(r'(?=<div id="(?:parity|curve)-)', dom[: dom.index('id="figures"')])[1:]
    assert len(places) == 8
    assert all("main-svg" in place for place in places)


@pytest.mark.slow
@pytest.mark.browser
def test_a_narrow_page_has_whole_titles(browser, run):
    found = measured(browser, report(run), 420)
    assert found["width"] <= 420
    assert found["drawn"] == "8"
    assert found["cut"] == 0
    assert "Scrolls sideways for all columns" in found["said"]


@pytest.mark.slow
@pytest.mark.browser
def test_points_and_curves_are_really_there(browser, run):
    document = evaluation("test")
    document["frames"] = [frame(i, "bulk") for i in range(400)]
    write_evaluation(run, document)
    dom, console = open_page(browser, report(run))
    assert console == []
    drawn = dom[: dom.index('id="figures"')]
    assert drawn.count('class="point plotly-customdata"') > 1000
    assert drawn.count('class="js-line"') >= 9
    assert "late weights" in drawn
    assert "@accent" not in drawn


@pytest.mark.slow
@pytest.mark.browser
def test_a_killed_run_and_bad_names_do_not_break_the_page(browser, tmp_path):
    run = write_run(tmp_path / "killed", epochs=1)
    write_evaluation(run, evaluation("other", "<img src=x onerror=alert(1)></script>"))
    dom, console = open_page(browser, report(run))
    assert console == []
    assert 'data-drawn="8"' in dom
    assert "&lt;img src=x" in dom
    assert "<img" not in dom[: dom.index('id="figures"')]
