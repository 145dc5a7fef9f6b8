# Every target does its own set-up. CLUSTER=local (default), kind or current; see scripts/cluster.
.DEFAULT_GOAL := help
.PHONY: help demo test soak check bench bench-control images cluster-up cluster-down cluster-status venv requirements clean

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/\1|\2/p' Makefile | while IFS='|' read -r name text; do printf '  make %-15s %s\n' "$$name" "$$text"; done

demo: ## four tasks with a real language model on a real Kubernetes, followed to their results
	@scripts/demo

test: ## every check and test: unit, contract, docs, integration and end-to-end on the cluster
	@scripts/test

soak: ## random faults for an hour or more, each round with its seed; ARGS as pytest takes them
	@scripts/soak $(ARGS)

check: venv ## format, lint, types, imports, Dockerfiles, shell scripts, chart
	@scripts/check

bench: ## the numbers that the README and the documents name, measured here
	@scripts/bench

bench-control: ## the controller beside Kubernetes' Job controller, about an hour; ARGS as bench/control takes them
	@scripts/bench control $(ARGS)

images: ## build the images and hand them to the cluster; prints their sizes
	@python3 -m scripts.images

cluster-up: ## start the cluster, or do nothing where it is up
	@scripts/cluster up

cluster-down: ## stop it; what it holds stays for the next cluster-up (tests/cluster/localkube down --purge: forget it)
	@scripts/cluster down

cluster-status: ## its parts, its node, its pods
	@scripts/cluster status

venv: ## .venv with everything, by hash
	@scripts/venv

requirements: ## write requirements/*.txt anew from pyproject.toml (UPGRADE=1: newest versions)
	@scripts/requirements $(if $(UPGRADE),--upgrade)

clean: ## what checks, tests and .venv left in this checkout; caches outside of it stay
	@rm -rf .venv .coverage .coverage.* .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
