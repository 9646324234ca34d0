# make setup   .venv with everything pinned      make demo    train on real data, two to four minutes
# make test    the whole suite                   make lint    ruff, pyright, import-linter
# make docs    the site, into docs/_build/html   make lock    pin again from pyproject.toml
# make peers   environments for the benchmarks
# make .venv-jax-0.10.2/.done   the pins with another jax, for benchmarks.versions

PYTHON ?= python3
BIN := .venv/bin
PINNED := .venv/.pinned

.PHONY: setup demo test fast lint docs peers lock clean

setup: $(PINNED)

$(PINNED): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Kohn needs Python 3.11 or later; say which: make PYTHON=python3.12 setup"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup
	@rm -rf runs/demo
	@$(BIN)/kohn demo --out runs/demo

# Two workers: most of the time goes into compiling, which does not use two cores by itself. Each
# takes half of the files and then steals from the other, so fixtures of a file are made once.
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal

test: setup
	$(PYTEST)

fast: setup
	$(PYTEST) -m "not slow and not browser"

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

# Warnings are errors: broken links, missing pages, failing cells. No network is needed.
docs: setup
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo "open docs/_build/html/index.html"

peers: .venv-peers/.done .venv-peers-mlip/.done .venv-peers-descriptors/.done \
	.venv-peers-schnetpack/.done .venv-peers-nequip/.done .venv-peers-tblite/.done \
	.venv-peers-hull/.done

.venv-peers/.done:
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install --quiet torch==2.13.0
	.venv-peers/bin/python -m pip install --quiet mace-torch==0.3.16 safetensors
	@touch $@

.venv-peers-mlip/.done:
	$(PYTHON) -m venv .venv-peers-mlip
	.venv-peers-mlip/bin/python -m pip install --quiet mlip==0.2.5
	@touch $@

.venv-peers-descriptors/.done:
	$(PYTHON) -m venv .venv-peers-descriptors
	.venv-peers-descriptors/bin/python -m pip install --quiet dscribe==2.1.2 featomic==0.6.7 quippy-ase==0.10.3
	@touch $@

# schnetpack pins an old sympy, and with it an old torch
.venv-peers-schnetpack/.done:
	$(PYTHON) -m venv .venv-peers-schnetpack
	.venv-peers-schnetpack/bin/python -m pip install --quiet schnetpack==2.1.1
	@touch $@

.venv-peers-nequip/.done:
	$(PYTHON) -m venv .venv-peers-nequip
	.venv-peers-nequip/bin/python -m pip install --quiet torch==2.13.0
	.venv-peers-nequip/bin/python -m pip install --quiet nequip==0.19.0
	@touch $@

.venv-peers-tblite/.done:
	$(PYTHON) -m venv .venv-peers-tblite
	.venv-peers-tblite/bin/python -m pip install --quiet tblite==0.8.0
	@touch $@

.venv-peers-hull/.done:
	$(PYTHON) -m venv .venv-peers-hull
	.venv-peers-hull/bin/python -m pip install --quiet pymatgen==2026.10.24
	@touch $@

# For `python -m benchmarks.versions`: the pins of .venv, but for another jax and jaxlib.
.venv-jax-%/.done: $(PINNED)
	$(PYTHON) -m venv .venv-jax-$*
	.venv-jax-$*/bin/python -m pip install --quiet --no-deps jax==$* jaxlib==$*
	echo "import site; site.addsitedir('$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')')" \
		> "$$(.venv-jax-$*/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/pins.pth"
	@touch $@

lock: setup
	$(BIN)/pip-compile --quiet --upgrade --generate-hashes --extra test --extra docs --extra materials --strip-extras --allow-unsafe \
		--no-emit-index-url --no-emit-find-links --no-emit-trusted-host --no-annotate --no-header \
		--output-file requirements.txt pyproject.toml

clean:
	rm -rf .venv .cache .pytest_cache .ruff_cache .hypothesis build dist runs docs/_build
