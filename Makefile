# Needs Python 3.11 or newer, and make. Everything is installed into .venv on first use.
# Another interpreter: make book PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
# --all because a second, incremental build forgets the warnings of the first.
STRICT := -W --keep-going -n --all

.DEFAULT_GOAL := help
.PHONY: help book html notebooks test check demo bench lint figures home clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

book: $(READY) ## run every notebook afresh (on copies), then build the book
	@$(BIN)/python book/_tools/notebooks.py copy _build/fresh
	@$(BIN)/jupyter-book build -q _build/fresh --path-output . $(STRICT)

html: $(READY) ## build the book from the committed outputs, in seconds
	@$(BIN)/jupyter-book build -q . $(STRICT)

notebooks: $(READY) ## run every notebook and write its outputs back
	@$(BIN)/python book/_tools/notebooks.py write

test: $(READY) ## run all tests, and every notebook against its committed outputs
	@failed=0; \
	$(BIN)/python -m pytest -n logical --dist loadfile --no-loadscope-reorder || failed=1; \
	$(BIN)/python book/_tools/notebooks.py check || failed=1; \
	exit $$failed

check: $(READY) ## run the tests that take no longer than seconds
	@$(BIN)/python -m pytest -n logical --dist loadfile -m "not slow"

demo: $(READY) ## distill a small student on the embedded data
	@$(BIN)/adakd distill --recipe demo

bench: $(READY) ## measure losses, also beside the published formulas, a training step, throughput beside the literature's loop, and what a reader waits for, into _build/bench
	@mkdir -p _build/bench
	@$(BIN)/adakd bench losses --json _build/bench/losses.json
	@$(BIN)/adakd bench step --json _build/bench/step.json
	@$(BIN)/python benchmarks/peers.py --json _build/bench/peers.json
	@$(BIN)/python benchmarks/throughput.py --json _build/bench/throughput.json
	@$(BIN)/python benchmarks/waiting.py --json _build/bench/waiting.json

lint: $(READY) ## check style, formatting and types
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy
	@if command -v npm > /dev/null; then $(MAKE) -s node_modules && npm run -s lint; \
	  else echo "The JavaScript was not checked: npm is not on this machine."; fi

figures: node_modules ## format the live figures' JavaScript and build their modules (needs npm)
	@npm run -s format && npm run -s build

home: $(READY) ## write the repository's address into everything that names it: make home URL=https://github.com/OWNER/NAME
	@$(BIN)/python book/_tools/home.py $(URL) $(RELEASE)

clean: ## remove the built book (the environment stays)
	@rm -rf _build

node_modules: package.json
	@npm install --silent --no-audit --no-fund --no-package-lock
	@touch $@

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "adakd needs Python 3.11 or newer, and '$(PYTHON)' is not. Try: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv .venv
	@# Python compiles what is imported, once: pip would compile all, which is half of its work, and most is never read.
	@$(BIN)/python -m pip install --disable-pip-version-check --no-compile -r requirements.txt
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps -e .
	@touch $@
