# `make` alone lists what there is.
.DEFAULT_GOAL := help
PARITY_PYTHON := .parity/venv/bin/python

.PHONY: help needs libtorch build demo serve test check-fmt clippy rust-test deny parity parity-training golden bench-heads bench-deep-heads bench-strategies bench-hot-paths bench-pictures bench-choices bench-features bench-engine bench-serve bench-edge bench-inputs bench-document pretrain-base clean-demo

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

needs:
	@tools/needs.sh

libtorch: needs ## find or install libtorch 2.11.0 and point .libtorch/current at it
	@tools/libtorch.sh

build: libtorch ## build the release binaries and the demo's data generator
	cargo build --release --locked --bins --example surfaces

demo: build ## train a head, serve it, classify, publish a better one while requests keep coming
	@tools/demo.sh

serve: build ## the demo's set-up, then leave the server running
	@tools/demo.sh --serve

test: check-fmt clippy rust-test deny ## formatting, lints, all tests

check-fmt: needs
	cargo fmt --all --check

clippy: libtorch
	cargo clippy --locked --all-targets -p turret-client -p turret -- -D warnings

rust-test: libtorch
	cargo test --locked -p turret-client
	cargo test --locked

deny: ## licences, bans and sources, where cargo-deny is installed
	@if command -v cargo-deny >/dev/null; then \
	    cargo fetch --quiet --locked && cargo deny --offline --locked check licenses bans sources; \
	else echo "deny: skipped, cargo-deny is not installed (cargo install cargo-deny --locked)"; fi

parity: build .parity/venv/.installed ## compare with torchvision's own networks and preprocessing
	$(PARITY_PYTHON) -B tools/parity/check.py --turret target/release/turret

parity-training: build .parity/venv/.installed ## compare fine-tune with scikit-learn, and its layers with torchvision's
	$(PARITY_PYTHON) -B tools/parity/training.py

golden: .parity/venv/.installed ## write the golden files that `make test` compares with
	$(PARITY_PYTHON) -B tools/parity/write_golden.py

.parity/venv/.installed: tools/parity/requirements.txt
	python3 -m venv .parity/venv
	.parity/venv/bin/pip install --quiet --requirement $<
	touch $@

bench-heads: libtorch ## ten thousand heads: load time, memory, cost of a swap
	cargo bench --locked --bench many_heads

bench-deep-heads: libtorch ## heads with layers of their own: what they cost, and memory over a thousand swaps
	cargo bench --locked --bench deep_heads -- $(BENCH_FLAGS)

bench-strategies: build ## what fine-tune makes of data sets by itself: linear heads or layers of their own
	python3 -B tools/bench/strategies.py

bench-hot-paths: libtorch ## batcher, registry, heads, preprocessing: what each costs beside the forward pass
	cargo bench --locked --bench hot_paths

bench-pictures: libtorch
	cargo build --release --locked --bin turret --example surfaces
	mkdir -p .bench
	target/release/examples/surfaces .bench/surfaces/train --per-class 120 >/dev/null
	target/release/examples/surfaces .bench/surfaces/test --per-class 50 --start 1000 >/dev/null
	tools/textures.sh .bench/textures

bench-choices: bench-pictures ## what fine-tune chooses by itself beside the best of 100 choices
	cargo bench --locked --bench choices

# The ImageNet weights join in where `make demo` has fetched them, and any base of BASES="one.safetensors other.safetensors".
bench-features: bench-pictures ## linear probes: a random base, our own in fp32 and int8, ImageNet's if it is there
	rm -f .bench/random.safetensors .bench/base-textures.safetensors
	target/release/turret base random resnet34 --seed 1 -o .bench/random.safetensors
	target/release/turret base calibrate assets/base-textures.safetensors --images .bench/surfaces/train \
	    -o .bench/base-textures.safetensors
	cargo bench --locked --bench features -- --base .bench/random.safetensors --base assets/base-textures.safetensors \
	    --base .bench/base-textures.safetensors@int8 $(addprefix --base ,$(BASES) $(wildcard .demo/imagenet.safetensors))

bench-engine: bench-inputs .bench/venv/.installed ## the bare forward pass beside eager PyTorch, ONNX Runtime and OpenVINO
	cargo bench --locked --bench performance -- engine $(BENCH_FLAGS)

bench-serve: bench-inputs ## the whole server through gRPC beside its bare engine
	cargo bench --locked --bench performance -- serve $(BENCH_FLAGS)

bench-edge: bench-inputs ## the server with a base that returns at once: the edge's own cost
	cargo bench --locked --bench performance -- edge $(BENCH_FLAGS)

bench-document: ## put what the three found into docs/performance.md
	python3 -B tools/bench/document.py

bench-inputs: libtorch
	cargo build --release --locked --bin turret --example surfaces
	target/release/examples/surfaces .bench/pictures >/dev/null
	rm -f .bench/base.safetensors
	target/release/turret base calibrate assets/base-textures.safetensors --images .bench/pictures \
	    --preprocess stretch -o .bench/base.safetensors

# torch and torchvision are found in the parity environment, so that their 5 GB lie on the disk once.
.bench/venv/.installed: tools/bench/requirements.txt .parity/venv/.installed
	python3 -m venv .bench/venv
	.bench/venv/bin/pip install --quiet --requirement $<
	for packages in .bench/venv/lib/python3*/site-packages; do \
	    realpath .parity/venv/lib/python3*/site-packages >$$packages/parity.pth; done
	touch $@

# Threads of libtorch that sleep instead of spinning leave the processors to others; memory that is kept and not given back
# after every step saves a tenth of the time. Neither changes the result.
pretrain-base: export OMP_WAIT_POLICY = passive
pretrain-base: export MALLOC_TRIM_THRESHOLD_ = 4000000000
pretrain-base: export MALLOC_MMAP_THRESHOLD_ = 4000000000
pretrain-base: libtorch ## train the bundled base again (assets/base-textures.md tells how long it takes)
	cargo build --release --locked --example pretrain_base
	target/release/examples/pretrain_base --out .pretrain

clean-demo: ## remove what the demo made
	rm -rf .demo
