# What a developer types. Each target sets up what it needs; external tools live by name and version
# under $REMOTEMOUNT_TOOLS (default ~/.cache/remotemount/tools), shared by every clone.

CARGO ?= cargo
export REMOTEMOUNT_TOOLS ?= $(HOME)/.cache/remotemount/tools
DENY_VERSION := 0.20.2
# What is shipped is static, and says nothing of the machine that built it.
HOST := $(shell rustc -vV | sed -n 's/^host: //p')
STATIC := -C target-feature=+crt-static --remap-path-prefix=$(or $(CARGO_HOME),$(HOME)/.cargo)=cargo
# The sidecar that crash tests stop; with the whole workspace selected, no dependency is built a second time for it.
CRASH := --workspace --features remotemount-sidecar/crash-points --bin remotemount-sidecar-crash

# Runs what cargo test runs in namespaces of its own.
NAMESPACES := target."cfg(unix)".runner = ["bash", "$(CURDIR)/tests/tools/namespaces.sh", "run"]

.PHONY: help demo demo-sidecar test test-node lint bench tools servers programs images crds manifests docs clean

help: ## What can be made
	@grep -E '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 14

tools: servers ## All that tests and demo run against: S3 servers, and Kubernetes and Helm, built once (Go 1.26, minutes)
	@bash tests/tools/control-plane.sh >/dev/null
	@bash tests/tools/helm.sh >/dev/null
	@bash tests/tools/crds.sh >/dev/null

servers: ## Installs the S3 servers, which is all that bench and demo-sidecar need
	@bash tests/tools/install.sh >/dev/null

demo: tools ## From kubectl apply to kubectl delete on a real API server (KEEP=1 leaves it running)
	$(CARGO) build --locked --workspace --bins
	@$(CARGO) run --locked -q -p remotemount-tests --bin demo -- cluster

demo-sidecar: servers ## Walks one sidecar through a bucket of 5,000 objects, without a cluster or Go (KEEP=1)
	$(CARGO) build --locked -p remotemount-sidecar -p remotemount-tests --bins
	@$(CARGO) run --locked -q -p remotemount-tests --bin demo -- sidecar

test: tools ## Formatting, every test
	$(CARGO) fmt --all --check
	$(CARGO) build --locked --workspace --bins
	$(CARGO) build --locked $(CRASH)
	$(CARGO) test --locked --workspace
	@$(MAKE) --no-print-directory test-node

test-node: ## Images, chart and operator on a real kubelet, as root; one line instead where the machine allows none (T=NAME for some; NODE=required)
	@bash tests/tools/namespaces.sh check || { status=$$?; [ $$status = 3 ] && [ "$(NODE)" != required ] && exit 0 || exit $$status; }; \
	  $(MAKE) --no-print-directory tools images && \
	  bash tests/tools/control-plane.sh kube-scheduler kubelet kube-proxy >/dev/null && \
	  bash tests/tools/helm.sh >/dev/null && \
	  $(CARGO) test --locked --workspace --test node --config '$(NAMESPACES)' -- --ignored --test-threads=1 $(T)

lint: ## Clippy without warnings; licences and bans where cargo-deny can be built
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	$(CARGO) clippy --locked $(CRASH) -- -D warnings
	@test -x $(REMOTEMOUNT_TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny || \
	  $(CARGO) install --locked --quiet --root $(REMOTEMOUNT_TOOLS)/cargo-deny-$(DENY_VERSION) cargo-deny@$(DENY_VERSION)
	$(REMOTEMOUNT_TOOLS)/cargo-deny-$(DENY_VERSION)/bin/cargo-deny --offline check bans licenses sources

bench: servers ## Ratios against SeaweedFS's filer and nginx, written to bench/
	$(CARGO) build --locked --release -p remotemount-sidecar -p remotemount-tests --bins
	@$(CARGO) run --locked -q --release -p remotemount-tests --bin bench

programs: ## Both programs for containers, static and stripped, into dist/
	RUSTFLAGS="$(STATIC)" $(CARGO) build --locked --release --target $(HOST) -p remotemount-operator -p remotemount-sidecar --bins
	@mkdir -p dist
	@install -m 0755 target/$(HOST)/release/remotemount-operator target/$(HOST)/release/remotemount-sidecar dist/

images: programs ## The images as archives for docker load, ctr and skopeo: dist/operator.tar, dist/sidecar.tar
	@$(CARGO) run --locked -q -p remotemount-tests --bin images

crds: ## Writes crds/remotemounts.yaml from the types, and its copy in the chart
	$(CARGO) run --locked -q -p remotemount-crds --features crdgen --bin crdgen > crds/remotemounts.yaml
	cp crds/remotemounts.yaml charts/remotemount/files/remotemounts.yaml

manifests: ## Writes dist/install.yaml, the chart with its defaults, for kubectl apply --server-side (HELM names a helm of yours)
	@bash charts/manifests.sh dist/install.yaml $(if $(REGISTRY),--set global.imageRegistry=$(REGISTRY))

docs: ## Writes docs/METRICS.md from what the programs register
	$(CARGO) run --locked -q -p remotemount-tests --bin docs

clean: ## Removes what was built; tools stay
	$(CARGO) clean
