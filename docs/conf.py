"""Build the site with Sphinx: tutorials are executed, reference pages written from the code."""

import os
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parent / "src")]
# Kernels of the tutorials import the same package, and compile as the tests do not: as users.
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(HERE.parent / "src"), os.environ.get("PYTHONPATH", "")]
)
os.environ.setdefault("OMP_NUM_THREADS", "1")

from kohn.version import __version__  # noqa: E402

project = "Kohn"
author = copyright = "the Kohn developers"
version = release = __version__
extensions = ["myst_nb", "sphinx-mathjax-offline", "from_code"]
exclude_patterns = ["_build", "jupyter_execute", ".jupyter_cache"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "cache"
nb_execution_timeout = 300
nb_execution_raise_on_error = True
nb_execution_cache_path = str(HERE / "_build" / ".jupyter_cache")
nb_merge_streams = True
suppress_warnings = ["mystnb.unknown_mime_type"]
nitpicky = True

html_theme = "furo"
html_title = "Kohn"
html_static_path = ["_static"]
html_css_files = ["kohn.css"]
html_theme_options = {"source_directory": "docs/"}
html_copy_source = False
html_show_sourcelink = False
