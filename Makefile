CARGO ?= cargo
# What `make demo` hands to the program: make demo ARGS=--once
ARGS ?=

# A machine that lacks the toolchain of rust-toolchain.toml, and cannot download it, builds with its stable one.
ifeq ($(shell $(CARGO) --version 2>/dev/null),)
export RUSTUP_TOOLCHAIN := stable
endif

.DEFAULT_GOAL := help

.NOTPARALLEL:
.PHONY: help demo test unit bench bench-page lint fmt rustdoc docs container-check fuzz fuzz-lint long-tests setup

help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# Unoptimised, because in a fresh clone that is up minutes earlier.
demo: ## Bridge, sandbox and fixtures on this machine, nothing to configure
	$(CARGO) run --locked -- demo $(ARGS)

# The image is built while the tests wait.
test: setup lint ## All that a change must pass
	CARGO=$(CARGO) scripts/test '$(MAKE) container-check' '$(MAKE) fuzz-lint' '$(MAKE) rustdoc'

unit: ## Unit, integration and documentation tests
	CARGO=$(CARGO) scripts/test

bench: ## How many webhooks a second it takes, beside handlers that do less
	$(CARGO) bench --locked --bench webhook

bench-page: ## Whether looking at the queue takes longer where more stands in it, and costs the webhook anything
	$(CARGO) bench --locked --bench webhook -- page

lint: ## Formatting and Clippy, warnings are errors
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

fmt: ## Format the sources
	$(CARGO) fmt --all

rustdoc: ## The crates' documentation, warnings are errors
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps --document-private-items --locked

docs: ## Build the book of docs/ into target/book
	scripts/book

container-check: setup ## Build the container image and try it out
	scripts/container-engine scripts/container-check

# Nothing is linked, so libFuzzer, which needs a C++ compiler, is not built: its place may be any path.
fuzz-lint: ## Clippy on the fuzz targets, a workspace of their own
	cd fuzz && CUSTOM_LIBFUZZER_PATH=./libfuzzer.a $(CARGO) clippy --locked -- -D warnings

fuzz: ## Run each fuzz target for a minute; FUZZ_SECONDS=N for longer
	scripts/fuzz $(or $(FUZZ_SECONDS),60)

long-tests: ## The crash test and the simulations, for many times longer than `make test` runs them
	CRASH_KILLS=500 $(CARGO) test --locked --test crash
	SIMULATION_TIMES=10 $(CARGO) test --locked --test simulation --test cluster_simulation

setup: ## Install what the tests need and this machine lacks
	@scripts/setup
