# Every target sets up .venv first when it is not there. `make` alone shows this list.
PYTHON ?= python3
VENV ?= .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.installed
RUN ?= runs/demo

.DEFAULT_GOAL := help
.PHONY: help install demo real test test-browser fuzz lint long app clean distclean

help:
	@echo 'make demo       run the whole recipe on the embedded world: $(RUN)/report.html'
	@echo 'make real data_root=FOLDER   the same recipe on real data: runs/real-small/report.html'
	@echo 'make app        open the image Q&A page on the model of the demo'
	@echo 'make test       lint, types, tests with coverage'
	@echo 'make test-browser   the pages in a headless Chromium, where there is one'
	@echo 'make lint       lint and types alone'
	@echo 'make long       more of some tests: all pairs, all names'
	@echo 'make fuzz       attacks and faults in great number: evals/results/reliability.json'
	@echo 'make install    set up $(VENV) and nothing else'
	@echo 'make clean      remove caches and build folders (distclean: $(VENV) too; runs/ always stays)'
	@echo 'PYTHON=python3.12 chooses the interpreter (3.11 or newer).'

install: $(STAMP)

# the stamp is written last: an installation that was stopped half-way starts again
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'Python 3.11 or newer is needed: make PYTHON=python3.11 ...' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev,app]'
	@touch $@

demo: $(STAMP)
	$(VENV)/bin/jvlm run configs/demo.yaml

data_root ?= $(JVLM_DATA_ROOT)
real: $(STAMP)
	@test -d '$(data_root)' || { echo 'no folder of data: make real data_root=FOLDER, or set JVLM_DATA_ROOT; it holds' \
		'text/, en_text/, medical_text/, images/, medical_images/, evals/ (see data/real/card.yaml)' >&2; exit 1; }
	$(VENV)/bin/jvlm run configs/real-small.yaml stages.data.root='$(abspath $(data_root))'

lint: $(STAMP)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint
	OMP_NUM_THREADS=2 $(PY) -m pytest --cov=jvlm --cov-report=term

long: $(STAMP)
	OMP_NUM_THREADS=2 $(PY) -m pytest -m long

fuzz: $(STAMP)
	OMP_NUM_THREADS=1 JVLM_FUZZ=long JVLM_FUZZ_OUT=evals/results/reliability.json $(PY) -m pytest -q -m 'not browser' \
		tests/fuzz tests/train/test_kills.py tests/train/test_faults.py tests/train/test_distributed.py -k 'not test_distributed or killed'

test-browser: $(STAMP)
	OMP_NUM_THREADS=2 $(PY) -m pytest -m browser tests/browser

app: $(STAMP)
	@test -d $(RUN)/model || { echo 'no model in $(RUN)/model: run `make demo` first' >&2; exit 1; }
	$(VENV)/bin/jvlm app $(RUN)/model

clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
	find jvlm data apps tests -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
