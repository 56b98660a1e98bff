# Everything here sets up .venv by itself; nothing but Python 3.11+, make and git is needed.
PYTHON ?= python3
BIN := .venv/bin
PEERS := .venv-peers/bin

.PHONY: help demo test lint format accuracy soundness toy-bounds infinite-protein bench \
	kills cost bench-million bench-workers bench-solve bench-solvers bench-dispersion \
	bench-peers bench-empirical bench-widths bench-laplace diagnoses digits resnet clean

help:
	@echo "make demo    the toy study and a small table, in one report"
	@echo "make test    all tests, with coverage"
	@echo "make lint    format, lint, types, floors"
	@echo "make format  rewrite the sources in the project's format"
	@echo "make accuracy  the kernels' errors against 200 digits (a few minutes)"
	@echo "make soundness  certificates against 100,000 adversarial inputs each (about an hour)"
	@echo "make toy-bounds  the tables of docs/regression.md (a minute)"
	@echo "make diagnoses  the table of docs/diagnose.md (minutes)"
	@echo "make infinite-protein  the exact infinite-width row of the protein table (11 GB, hours)"
	@echo "make kills   20 jobs killed at random moments, and their stores (some minutes)"
	@echo "make cost  what kernels and solves of up to 5 million rows cost (a minute)"
	@echo "make bench-million DATA=protein.csv  Nystrom's method on a million rows (15 minutes)"
	@echo "make bench-workers  tiles on one worker process against two (some minutes)"
	@echo "make bench-solve  the solver against LAPACK's bare factorisation (idle machine)"
	@echo "make bench-solvers  kernel regression on the protein table by each solver (13 GB of memory and of disk, an hour)"
	@echo "make bench   batched training against a plain loop (idle machine, a few minutes)"
	@echo "make bench-dispersion  kernels of random networks of every depth against a plain loop"
	@echo "make bench-peers  kernels against neural-tangents, in its own environment (likewise)"
	@echo "make bench-empirical  tangent kernels of finite networks against peers (likewise)"
	@echo "make bench-widths  kernels of wide networks against infinite width (a few minutes)"
	@echo "make bench-laplace  the tables of docs/uncertainty.md, beside laplace-torch (minutes)"
	@echo "make digits  a finished example: the kernel of a CNN in training (a few minutes)"
	@echo "make resnet  a finished example: the kernel of a ResNet-18 (a few minutes)"

.venv/.ready: requirements-dev.txt requirements-laplace.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "farfield needs Python 3.11 or newer; name one with: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements-dev.txt
	$(BIN)/pip install --quiet --no-deps --requirement requirements-laplace.txt
	$(BIN)/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

demo: .venv/.ready
	$(BIN)/farfield demo --out farfield-demo --overwrite

test: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=auto --dist=worksteal --cov --cov-report=term

lint: .venv/.ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: .venv/.ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

accuracy: .venv/.ready
	$(BIN)/python benchmarks/accuracy.py

diagnoses: .venv/.ready
	$(BIN)/python benchmarks/diagnoses.py

soundness: .venv/.ready
	$(BIN)/python benchmarks/soundness.py

toy-bounds: .venv/.ready
	$(BIN)/python benchmarks/toy_bounds.py

infinite-protein: .venv/.ready
	$(BIN)/python benchmarks/infinite_protein.py

bench-solve: .venv/.ready
	$(BIN)/python benchmarks/solve.py

bench-solvers: .venv/.ready
	$(BIN)/python benchmarks/solvers.py --rank 4000

kills: .venv/.ready
	$(BIN)/python benchmarks/kills.py

cost: .venv/.ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/cost.py

bench-million: .venv/.ready
	$(BIN)/python benchmarks/million.py --data $(DATA)

bench-workers: .venv/.ready
	$(BIN)/python benchmarks/workers.py

bench: .venv/.ready
	$(BIN)/python benchmarks/training.py

bench-dispersion: .venv/.ready
	$(BIN)/python benchmarks/dispersion.py

# neural-tangents needs an older NumPy than farfield and a JAX that is not built for Python 3.13.
.venv-peers/.ready: benchmarks/requirements-peers.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' || \
		{ echo "neural-tangents needs Python 3.11 or 3.12; name one with: make bench-peers PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv .venv-peers
	$(PEERS)/pip install --quiet --no-deps --requirement benchmarks/requirements-peers.txt
	@touch $@

bench-peers: .venv/.ready .venv-peers/.ready
	$(BIN)/python benchmarks/kernels.py --peer-python $(PEERS)/python

bench-empirical: .venv/.ready .venv-peers/.ready
	$(BIN)/python benchmarks/empirical.py --peer-python $(PEERS)/python

bench-widths: .venv/.ready
	$(BIN)/python benchmarks/widths.py --widths 16 32 64 128 256 512

bench-laplace: .venv/.ready
	$(BIN)/python benchmarks/uncertainty.py

digits: .venv/.ready
	$(BIN)/python benchmarks/digits.py

resnet: .venv/.ready
	$(BIN)/python benchmarks/resnet.py

clean:
	rm -rf .venv .venv-peers farfield-demo
