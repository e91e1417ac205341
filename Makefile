# The recipes that developers and CI share. `make up` and `make test` do everything on a fresh Debian 12 with the
# Rust toolchain, as root.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

HOST := $(shell rustc -vV | sed -n 's/^host: //p')
MULTIARCH := $(shell dpkg-architecture -qDEB_HOST_MULTIARCH 2>/dev/null || gcc -print-multiarch)
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
BINARY := $(TARGET_DIR)/$(HOST)/release/knarr

# One file that needs nothing at run time, not even a libc: it is also the content of the image knarr.local/hello.
# Not position-independent, because relocations would give every shim private copies of whole pages.
STATIC := RUSTFLAGS="-C target-feature=+crt-static -C relocation-model=static" \
	LIBSECCOMP_LINK_TYPE=static LIBSECCOMP_LIB_PATH=/usr/lib/$(MULTIARCH)

BUILD_PACKAGES := build-essential pkg-config libseccomp-dev protobuf-compiler libprotobuf-dev
TEST_PACKAGES := etcd-server curl nftables python3 python3-pip unzip busybox-static docker-registry apache2-utils iproute2 procps util-linux bsdutils skopeo

.PHONY: help
help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: up
up: build ## Install what the build needs, build, and start a cluster.
	$(BINARY) up

.PHONY: build
build: setup-build ## Build the release binary.
	$(STATIC) cargo build --release --locked --target $(HOST) -p knarr
	@echo "built $(BINARY)"

.PHONY: test
test: setup-build setup-test lint ## Install what the tests need, and run all of them.
	cargo test --workspace --exclude knarr-e2e --locked
	$(MAKE) build
	KNARR_BINARY=$(abspath $(BINARY)) cargo test -p knarr-e2e --locked -- --test-threads=1

.PHONY: bench
bench: setup-build setup-test build ## Print what the binary costs, and how fast pods are placed.
	KNARR_BINARY=$(abspath $(BINARY)) cargo bench -p knarr-e2e --locked
	cargo bench -p knarr-scheduler --locked

.PHONY: lint
lint: ## Check formatting and run clippy.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings

.PHONY: setup-build
setup-build:
	@setup/packages $(BUILD_PACKAGES)

.PHONY: setup-test
setup-test:
	@setup/packages $(TEST_PACKAGES)
	@setup/clients
	@setup/images
