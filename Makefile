# `make help` lists what there is. Everything also works by hand in an activated environment.
.DEFAULT_GOAL := help
.PHONY: help install repro zoo test test-slow bench-data bench-train bench-memory bench-leaks bench-rollback bench-runtimes bench-serve bench-soak bench-agreement lint ui serve champion constraints clean bench-operation

PYTHON ?= python3
BIN := .venv/bin
PORT ?= 3000
UI_PORT ?= 5000
RUNNING_UI := $(filter http%,$(MLFLOW_TRACKING_URI))

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## install into .venv (done by itself by the other targets)

.venv/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed, this is " + sys.version.split()[0])'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

repro: install ## rebuild everything that is out of date, and name the champion
	@$(BIN)/pipeline repro

zoo: install ## train, score and rank the systems to compare with (half an hour at sample scale)
	@$(BIN)/pipeline zoo

test: install ## run the tests (minutes, no network, no GPU), and list the slowest
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile --durations 30

test-slow: install ## run the tests that take long: the whole pipeline, kills, clusters, servers, fuzzing
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,slow]'
	$(BIN)/pytest -m slow

bench-data: install ## measure harmonizing beside the raw limit, and loading beside torchvision
	$(BIN)/python benchmarks/harmonizing.py
	$(BIN)/python benchmarks/loading.py

bench-train: install ## measure training beside a bare loop
	$(BIN)/python benchmarks/training.py

bench-leaks: install ## train a system without and with the copies of the faces that it is judged by
	$(BIN)/python benchmarks/leaks.py --epochs 12

bench-operation: install ## measure how a service starts, loses its network, and ends
	$(BIN)/python benchmarks/operation.py

bench-rollback: install ## load the service at half of its capacity, and roll back meanwhile
	$(BIN)/python benchmarks/rollback.py

bench-runtimes: install ## measure ONNX Runtime and OpenVINO in every precision
	$(BIN)/python benchmarks/runtimes.py

bench-serve: install ## measure the service beside FastAPI, LitServe, eager torch and no server at all
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,bench]'
	$(BIN)/python benchmarks/serving.py

bench-soak: install ## send mixed traffic for ten minutes, and see whether the service keeps its memory
	$(BIN)/python benchmarks/soak.py

bench-agreement: install ## ask the service about 500 faces that v1 (VERSION=v2: another) was evaluated on
	$(BIN)/python benchmarks/agreement.py $(or $(VERSION),v1)

bench-memory: install ## measure time and peak memory of the data stages on 200,000 faces
	$(BIN)/python benchmarks/memory.py

lint: install ## check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

ui: install ## compare the versions in MLflow, at http://localhost:5000
	@echo 'compare the versions at $(or $(RUNNING_UI),http://localhost:$(UI_PORT))/#/experiments/1/runs?workflowType=machine_learning&compareRunsMode=CHART'
	$(if $(RUNNING_UI),@,MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false $(BIN)/mlflow server --workers 1 --host 127.0.0.1 \
	  --port $(UI_PORT) --backend-store-uri "$${MLFLOW_TRACKING_URI:-sqlite:///mlflow.db}" --default-artifact-root ./mlartifacts)


serve: install ## serve the champion, at http://localhost:3000
	$(BIN)/bentoml serve service:ExpressionService --host 127.0.0.1 --port $(PORT) --timeout-keep-alive 30

champion: install ## name the champion
	@$(BIN)/pipeline champion

constraints: install ## write down the installed versions
	{ head -n 1 constraints.txt; $(BIN)/pip freeze --exclude-editable; } > constraints.new && mv constraints.new constraints.txt

clean: ## remove what the pipeline made, but for the environment, DVC's cache, the tracking store and promoted models
	rm -rf data/corrections.png data/raw data/faces data/clips data/inputs data/splits.parquet predictions reports checkpoints
	find models -mindepth 2 -maxdepth 2 -name model.json -not -path 'models/ready-made/*' -printf '%h\n' | xargs -r rm -rf
	rm -rf metrics dvc.lock parents/dvc.lock .pytest_cache .mypy_cache .ruff_cache build src/*.egg-info
