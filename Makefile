# make repro     install what is needed into .venv, then run the pipeline on the profile of params.yaml
# make test      install, then run every verify gate
# make smoke     install, then run the real pipeline on tiny inputs with runtime type checks
# make arms      the none, absorb, v_act and haar arms, three seeds each, as DVC experiments
# make campaign  every arm and seed of campaigns/toy, then its verdict and page
# make show      the experiments of this commit by deployed hack rate, and the campaigns' finished runs
# make lock      resolve pyproject.toml again into requirements.lock
#
# torch 2.13.0 comes from the folders that PIP_FIND_LINKS names, where they hold it, and from the package index
# otherwise. TORCH_SOURCE is the one setting for another build:
#   make repro TORCH_SOURCE="--torch-backend cpu"      make repro TORCH_SOURCE="--torch-backend cu130"
# It counts at installation: delete .venv to change it afterwards.
SHELL := /bin/bash
PYTHON ?= python3
TORCH_SOURCE ?=
UV_VERSION := 0.13.9
LINKS := $(foreach folder,$(PIP_FIND_LINKS),--find-links $(folder))
READY := .venv/.ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE ?= 1
unexport PYTHONDONTWRITEBYTECODE  # type checks use byte code of their own, which is kept from the first run on

.PHONY: repro test smoke arms campaign show lock clean
repro: $(READY)  # a stage that fails has lost its outputs to DVC by then; they are put back from the cache
	dvc repro || { dvc checkout --quiet; exit 1; }

test: $(READY)
	PGRPO_TYPECHECK=1 pytest

smoke: $(READY)
	PGRPO_TYPECHECK=1 python -m verify.workspace .smoke

arms: $(READY)
	python -m bench.arms four

campaign: $(READY)
	python -m stages.campaign campaigns/toy

show: $(READY)
	COLUMNS=150 dvc exp show --no-pager --sort-by hack_rate --drop '.*' --keep 'Experiment|(hack_rate|qmass|solve_rate|selectivity|seed)$$|gate\.(policy|direction|draw)|monitor\.(kind|use)'
	python -m stages.show_cells $(wildcard campaigns/*/cells.parquet)

$(READY): requirements.lock
	@test -x .venv/bin/uv || { $(PYTHON) -m venv .venv && .venv/bin/python -m pip install -q uv==$(UV_VERSION); }
	.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python $(LINKS) $(TORCH_SOURCE) -r requirements.lock
	@touch $@

lock: $(READY)
	.venv/bin/uv pip compile -q pyproject.toml --python-version 3.11 $(LINKS) $(TORCH_SOURCE) --no-header -o requirements.lock
	sed -i -E -e 's/^torch==([0-9.]+)\+.*/torch==\1/' -e '/^(nvidia-|cuda-|triton)/d' requirements.lock

clean:
	rm -rf .smoke .scratch
