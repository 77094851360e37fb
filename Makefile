# Two commands do all: `make run` and `make test`. Everything else is for those who change the code.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=
SEEDS  ?= 300
LARGE  ?= --large
NODES  ?= 50
SECONDS ?= 60
SEED   ?= 1
FAULTS ?= 60
REQUESTS ?= 2000

.PHONY: run test fuzz check format bench life admission load simulate faults mutants clean

$(VENV)/.run: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing meshnode with its embedded engine into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing meshnode and what its tests need into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[embedded,dev]'
	@touch $@ $(VENV)/.run

run: $(VENV)/.run            ## start a node, ask its model one question, keep serving
	@exec $(BIN)/meshnode up --hello $(ARGS)

test: $(VENV)/.dev           ## every test
	$(BIN)/python -m pytest $(ARGS)

$(VENV)/.fuzz: $(VENV)/.dev
	@echo "installing the fuzzer into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary atheris -e '.[fuzz]'
	@touch $@

fuzz: $(VENV)/.fuzz          ## every decoder against a fuzzer, SECONDS each (ARGS="mux" for one)
	$(BIN)/python -m tests.fuzz $(SECONDS) $(ARGS)

check: $(VENV)/.dev          ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.dev          ## measure the node against the engine itself; PEERS=1 adds LiteLLM
	$(BIN)/python -m benchmarks $(if $(PEERS),--peers) $(ARGS)

life: $(VENV)/.dev            ## what a request costs: choosing, stage by stage; AGAINST=DIR beside another checkout
	$(BIN)/python -m benchmarks.life $(if $(AGAINST),--against $(AGAINST)) $(ARGS)

admission: $(VENV)/.dev       ## 10^6 requests through the admission machine: waits in each tier, shares, CPU
	$(BIN)/python -m benchmarks.admission $(ARGS)

load: $(VENV)/.dev           ## waits at 80 % load beside an ideal shared queue, and what liars get
	$(BIN)/python -m tests.simulation.load $(ARGS)

simulate: $(VENV)/.dev       ## the real machines in virtual time: many seeds with faults, then one large mesh
	$(BIN)/python -m tests.simulation --seeds $(SEEDS) --nodes $(NODES) $(LARGE) $(ARGS)

faults: $(VENV)/.dev         ## real nodes under kill -9, SIGSTOP, cuts and engine faults: what held (SEED, FAULTS, REQUESTS)
	$(BIN)/python -m tests.real.faults --seed $(SEED) --faults $(FAULTS) --requests $(REQUESTS) $(ARGS)

mutants: $(VENV)/.dev        ## break rules on purpose, one at a time: which test notices? (ARGS="gossip" for a part)
	$(BIN)/python -m tests.mutants $(ARGS)

clean:
	rm -rf $(VENV) build dist benchmarks/build
