# Every habit of the project has a target here; CI calls them and nothing else. `make help` lists them.

# Where `make run` serves, and what.
LISTEN ?= 127.0.0.1:8080
BAY ?= target/bay
# More flags for `hotbay serve`, such as ARGS=--dev.
ARGS ?=
# `required`: lint fails where the database of advisories is out of reach. Otherwise it says so and goes on.
DENY_DB ?=
# How many swaps `make swaps` makes.
SWAPS ?= 2000
# How many seconds `make soak` takes.
SOAK ?= 120

# What `make fuzz` feeds, and for how many seconds.
FUZZ ?= settings
FUZZ_SECONDS ?= 300

WASMTIME_VERSION := 48.0.8
DENY_VERSION := 0.20.2

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# Rust's own place is not always on PATH, in a cron job or a container say.
export PATH := $(PATH):$(HOME)/.cargo/bin:$(CURDIR)/target/tools/bin
# Tests and guests find what was built by this path, whatever the caller has set.
export CARGO_TARGET_DIR := $(CURDIR)/target

# One profile and one selection of packages, the default members, for every native cargo call. With another selection (-p)
# cargo unites the features of the dependencies differently, and half of the wasmtime stack is compiled a second time.
NATIVE := --release
HOTBAY := target/release/hotbay

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "  make run takes LISTEN=$(LISTEN) BAY=$(BAY) ARGS='--dev --log json'; make swaps takes SWAPS=$(SWAPS); make soak SOAK=$(SOAK)"

.PHONY: setup
setup: ## Check that Rust and a C compiler are here; install Debian's compiler if it is missing
	@.ci/setup

.PHONY: guests
guests: setup ## Build the example services into target/bay
	@services/build.sh

.PHONY: fixtures
fixtures: setup ## Build the example services and the guests of the tests
	@services/build.sh --fixtures

.PHONY: build
build: setup ## Build the host: target/release/hotbay
	cargo build $(NATIVE) --bin hotbay

# A host that tests kill at chosen moments. Only the host's own crate is compiled once more, with less care, since nobody waits for
# its speed. Built before the host that serves, which takes the place of the binary.
.PHONY: fault-points
fault-points: target/fault-points/hotbay ## Build the host that tests kill at chosen moments

HOST_SOURCES := $(shell find host/src -name '*.rs') host/Cargo.toml Cargo.lock

target/fault-points/hotbay: $(HOST_SOURCES) | setup
	cargo build $(NATIVE) --bin hotbay --features hotbay/fault-points --config profile.release.package.hotbay.opt-level=1
	@mkdir -p $(@D)
	@cp target/release/hotbay $@
	@rm -f target/release/hotbay

.PHONY: run
run: guests build ## Build everything and serve the example services: LISTEN=, BAY=, ARGS=
	@mkdir -p '$(BAY)'
	@exec $(HOTBAY) serve '$(BAY)' --listen $(LISTEN) $(ARGS)

# Tests print figures and nothing else, so what they print is shown.
.PHONY: test
test: fixtures fault-points build test-tools ## Build everything and run every test
	@status=0; \
	cargo test $(NATIVE) --no-fail-fast -- --show-output 2>&1 | tee target/test.log || status=$$?; \
	printf '\nEvery test runner and how it ended:\n'; \
	grep -E '^ +(Running|Doc-tests) |^test result: |^error: ' target/test.log || true; \
	exit $$status

# What the tests use beside the toolchain: promtool and redis-server. Tests that find none say that they are skipped.
.PHONY: test-tools
test-tools: setup
	@.ci/setup test

.PHONY: swaps
swaps: fixtures build ## Swap under full load, for long: SWAPS=
	SWAPS=$(SWAPS) cargo test $(NATIVE) --test it -- torture_03_swaps --show-output

.PHONY: soak
soak: fixtures build ## Serve for minutes beside services that do harm, with swaps: SOAK= seconds
	cargo build $(NATIVE) --bins
	@target/release/soak --seconds $(SOAK)

# Bytes that were found go into the corpus once what they showed is mended; `make test` feeds them from then on.
.PHONY: fuzz
fuzz: ## Fuzz one reader of what strangers write, on nightly: FUZZ=settings|routes|cgi|artifact|admin FUZZ_SECONDS=
	@command -v cargo-fuzz >/dev/null || cargo install cargo-fuzz --locked --root target/tools --target-dir target/tools/build
	cd host && env -u CARGO_TARGET_DIR cargo +nightly fuzz run $(FUZZ) target/fuzz/$(FUZZ) fuzz/corpus/$(FUZZ) -- -max_total_time=$(FUZZ_SECONDS)

.PHONY: bench
bench: guests wasmtime ## Measure against native code and `wasmtime serve`: CPU time a request
	cargo build $(NATIVE) --bins
	@target/release/bench --wasmtime target/tools/bin/wasmtime $(ARGS)

.PHONY: call-cost
call-cost: guests fixtures ## Measure a call from service to service, by HTTP and of a function: CPU time, against a loopback socket
	cargo build $(NATIVE) --bins
	@target/release/call_cost $(ARGS)

.PHONY: store-cost
store-cost: fixtures test-tools ## Measure a call of the key-value store: CPU time, against a Redis over loopback
	cargo build $(NATIVE) --bins
	@target/release/store_cost $(ARGS)

.PHONY: fairness
fairness: guests ## Measure what a neighbour pays while one service spins and another is flooded: p99, quiet and loaded
	cargo build $(NATIVE) --bins
	@target/release/fairness $(ARGS)

.PHONY: swap-time
swap-time: guests ## Measure a swap: file closed to first answer, step by step
	cargo build $(NATIVE) --bins
	@target/release/swap_time

.PHONY: lint
lint: setup ## Format, clippy, licences and bans, shell scripts
	cargo fmt --all --check
	cargo clippy $(NATIVE) --all-targets -- -D warnings
	@$(MAKE) --no-print-directory lint-wasm lint-deny lint-shell

# The half of the SDK that talks to the host exists only on wasm targets.
.PHONY: lint-wasm
lint-wasm:
	@lib=$$(rustc --print target-libdir --target wasm32-wasip2); \
	if compgen -G "$$lib/libstd-*.rlib" >/dev/null; then \
		set -x; cargo clippy --release --target wasm32-wasip2 -p hotbay-sdk --all-features -- -D warnings; \
	else \
		echo "lint: skipped clippy of the SDK's wasm half: this Rust has no std for wasm32-wasip2 (rustup target add wasm32-wasip2)"; \
	fi

.PHONY: lint-deny
lint-deny:
	@mkdir -p target; if ! command -v cargo-deny >/dev/null; then \
		echo "lint: skipped licences, bans and sources: cargo-deny is not here (make tools)"; \
		exit 0; \
	fi; \
	cargo deny --workspace --locked check bans licenses sources; \
	if timeout 120 cargo deny --workspace fetch db >target/deny-fetch.log 2>&1; then \
		cargo deny --workspace --locked check --disable-fetch advisories; \
	else \
		echo "lint: skipped advisories: their database is out of reach, see target/deny-fetch.log"; \
		tail -n 3 target/deny-fetch.log; \
		[ '$(DENY_DB)' != required ]; \
	fi

.PHONY: lint-shell
lint-shell:
	@if command -v shellcheck >/dev/null; then \
		shellcheck .ci/run .ci/setup services/build.sh; \
	else \
		echo "lint: skipped shell scripts: shellcheck is not here (apt-get install shellcheck)"; \
	fi

.PHONY: fmt
fmt: ## Format all code
	cargo fmt --all

.PHONY: doc
doc: ## Build the code's documentation: target/doc/hotbay/index.html
	RUSTDOCFLAGS='-D warnings' cargo doc $(NATIVE) --no-deps --document-private-items

.PHONY: tools
tools: target/tools/bin/cargo-deny ## Install what `make lint` can use beside Rust, into target/tools

target/tools/bin/cargo-deny:
	cargo install cargo-deny --version $(DENY_VERSION) --locked --root target/tools --target-dir target/tools/build

.PHONY: wasmtime
wasmtime: target/tools/bin/wasmtime

target/tools/bin/wasmtime:
	cargo install wasmtime-cli --version $(WASMTIME_VERSION) --locked --root target/tools --target-dir target/tools/build

.PHONY: clean
clean: ## Remove everything that was built, the bay in target included
	rm -rf target
