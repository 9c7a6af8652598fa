# `make` alone lists the targets.
.DEFAULT_GOAL := help
PARITY_PYTHON := .parity/venv/bin/python
# Of the pictures whose decoding is compared.
PARITY_SEED ?= 1

.PHONY: help bench-help needs libtorch build demo serve test check-fmt test-without-libtorch test-with-libtorch deny parity parity-training golden pretrain-base clean-demo

include tools/bench/Makefile

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/:.*## /\t/' | expand -t 18

bench-help: ## list the benchmarks
	@grep -hE '^[a-z-]+:.*## ' tools/bench/Makefile | sed -E 's/:.*## /\t/' | expand -t 18

needs:
	@tools/needs.sh

libtorch: needs ## find or install libtorch 2.11.0 and point .libtorch/current at it
	@tools/libtorch.sh

build: libtorch ## build the release binaries and the demo's data generator
	cargo build --release --locked --bins -p turret -p surfaces

demo: build ## train a head, serve it, classify, publish a better one under load
	@tools/demo.sh

serve: build ## set up the demo and leave the server running
	@tools/demo.sh --serve

test: check-fmt test-without-libtorch test-with-libtorch deny ## formatting, lints, all tests

check-fmt: needs
	cargo fmt --all --check

test-without-libtorch: needs
	cargo clippy --locked -p turret -p surfaces --no-default-features --all-targets -- -D warnings
	cargo test --locked -p turret -p surfaces --no-default-features
	cargo clippy --locked -p turret-client --all-targets -- -D warnings
	cargo test --locked -p turret-client

test-with-libtorch: libtorch
	cargo clippy --locked -p turret -p pretrain-base --all-targets -- -D warnings
	cargo test --locked -p turret -p pretrain-base

# Licences, bans and sources.
deny:
	@if command -v cargo-deny >/dev/null; then \
	    cargo fetch --quiet --locked && cargo deny --offline --locked check licenses bans sources; \
	else echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)"; fi

parity: build .parity/venv/.installed ## compare with torchvision, libjpeg-turbo, libpng, libtiff and libwebp
	$(PARITY_PYTHON) -B tools/parity/check.py --turret target/release/turret
	$(PARITY_PYTHON) -B tools/parity/decoders.py write .parity/decoders.safetensors --cases all --seed $(PARITY_SEED)
	TURRET_DECODERS=$$PWD/.parity/decoders.safetensors cargo test --locked -p turret --no-default-features \
	    --test integration -- decoders::pixels --nocapture

parity-training: build .parity/venv/.installed ## compare fine-tune with scikit-learn, and its layers with torchvision's
	$(PARITY_PYTHON) -B tools/parity/training.py

# Writes the golden files that `make test` compares with.
golden: .parity/venv/.installed
	$(PARITY_PYTHON) -B tools/parity/write_golden.py
	$(PARITY_PYTHON) -B tools/parity/decoders.py write tests/data/decoders.safetensors

.parity/venv/.installed: tools/parity/requirements.txt
	python3 -m venv .parity/venv
	.parity/venv/bin/pip install --quiet --requirement $<
	touch $@

# Retrains the bundled base; assets/base-textures.md says how long it takes.
# libtorch threads that sleep instead of spinning leave the processors to others; keeping memory instead of returning it
# after every step saves a tenth of the time. Neither changes the result.
pretrain-base: export OMP_WAIT_POLICY = passive
pretrain-base: export MALLOC_TRIM_THRESHOLD_ = 4000000000
pretrain-base: export MALLOC_MMAP_THRESHOLD_ = 4000000000
pretrain-base: libtorch
	cargo build --release --locked -p pretrain-base
	target/release/pretrain-base --out .pretrain

clean-demo: ## remove the demo's files
	rm -rf .demo
