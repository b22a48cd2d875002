# What people type, and all that CI calls. Every target installs what it needs and says so first.
SHELL := /bin/bash
export PATH := $(if $(CARGO_HOME),$(CARGO_HOME),$(HOME)/.cargo)/bin:$(PATH):/usr/sbin:/sbin
.DEFAULT_GOAL := help
.PHONY: help try try-clean build release deb test-deb image image-test test test-az test-compose-v5 test-units test-vm bench fuzz check fmt docker toolchain

help:
	@echo "make try              watch it work on this machine: registry, watcher, agent, a sample app; left running"
	@echo "make try-clean        remove every trace of make try"
	@echo "make build            build what the tests and make try run, into target/quick"
	@echo "make release          build what ships: static programs, into target/<machine>-unknown-linux-musl/release"
	@echo "make deb              pack what ships: target/deb/landfall_VERSION_ARCH.deb; ARCH=arm64 for the other machine"
	@echo "make test-deb         the package: built twice alike, lintian; installed, upgraded, removed, purged on machines"
	@echo "make test             unit, golden and end-to-end tests on the real Docker Engine and registry"
	@echo "make test-compose-v5  the end-to-end tests with Docker Compose 5, built from source"
	@echo "make test-az          the az commands that we give people, parsed by Azure's own client (from PyPI)"
	@echo "make test-units       the end-to-end tests with the daemons as the units that ship, on systemd 252 and 257"
	@echo "make test-vm          the VM image's root file system booted in a container: cloud-init, power cuts, what is down at boot"
	@echo "make image            the VM image: Debian 13 with all of it, as raw, qcow2 and VHD for Azure, in target/image; EXTRAS=DIR adds cloudflared, Alloy"
	@echo "make image-test       boots that image under qemu; minutes for a boot without KVM"
	@echo "make bench            measure the shipped programs: numbers with their targets, left in bench.json"
	@echo "make fuzz             fuzz the parsers of what strangers send, FUZZ_SECONDS (60) each"
	@echo "make check            formatting, lints, licences and advisories, exposure of the units, documentation"
	@echo "make fmt              format the code"

try:
	@echo "make try, step by step; each step says what it installs before it does:"
	@echo "  1 the Rust toolchain, Docker Engine with Compose, a registry: installed where they are absent"
	@echo "  2 dockerd: started where it does not run"
	@echo "  3 Landfall: built into target/"
	@echo "  4 a sample app as the Compose project landfall-try, with all its state in /var/tmp/landfall-try:"
	@echo "    v1, v2, a broken v3, a killed container, a restarted dockerd (only if no other containers run),"
	@echo "    a rotated secret (from a stand-in for Azure Key Vault)"
	@$(MAKE) --no-print-directory docker build
	@target/quick/try run

try-clean: toolchain
	@[ -x target/quick/try ] || tools/build.sh
	@target/quick/try clean

docker:
	@tools/install-docker.sh
	@tools/install-registry.sh
	@tools/install-packages.sh 'for networks of tests' ip -- iproute2
	@tools/start-docker.sh

toolchain:
	@tools/install-toolchain.sh

build: toolchain
	@tools/build.sh

release: toolchain
	@tools/build-release.sh

deb: toolchain
	@tools/build-deb.sh

# LANDFALL_PROGRAMS=DIR packs programs that are built already.
test-deb: docker build
	@tools/install-packages.sh 'to pack and to judge a package' dh lintian dpkg-buildpackage -- debhelper dpkg-dev lintian
	@[ -n "$$LANDFALL_PROGRAMS" ] || tools/build-release.sh
	cargo test --profile quick --workspace --test deb
	tools/test-package.sh bookworm
	tools/test-package.sh trixie

test: docker build
	@tools/install-compose-v5.sh
	@tools/install-publishers.sh
	@tools/install-python.sh azure-python azure.keyvault.secrets "Microsoft's Python client for Key Vault"
	@tools/install-packages.sh 'to judge the catalog' journalctl -- systemd
	@tools/install-packages.sh 'for the test of the data disk' mkfs.ext4 sfdisk losetup wipefs -- e2fsprogs fdisk mount util-linux
	@tools/install-packages.sh 'for the test of the guard' /usr/share/doc/busybox-static nft -- busybox-static nftables
	@tools/install-promtool.sh
	@tools/install-cloud-init.sh
	@tools/install-gitleaks.sh
	cargo test --profile quick --workspace --no-fail-fast -- --test-threads 4

# What depends on Compose. By name and of the whole workspace, so that nothing is compiled a second time with other features.
COMPOSE_TESTS = --test e2e --test harness --test kill_points --test start_first --test tour

test-compose-v5: docker build
	@tools/install-compose-v5.sh
	@tools/install-publishers.sh
	LANDFALL_COMPOSE=$(CURDIR)/target/compose-v5/docker-compose \
	    cargo test --profile quick --workspace --no-fail-fast $(COMPOSE_TESTS) -- --test-threads 4

test-az: build
	@tools/install-python.sh azure-cli azure.cli.core "as much of azure-cli as parses commands"
	@tools/install-python.sh hcl2 hcl2 "a parser of Packer's files"
	cargo test --profile quick --workspace --test az

# A machine after the other: their tests count in seconds what they wait for.
test-units: docker build
	@tools/install-compose-v5.sh
	tools/test-units.sh bookworm
	tools/test-units.sh trixie

# Packed here are the programs that the other tests run, so that nothing is built twice.
test-vm: docker build
	tools/test-vm.sh

# `make image EXTRAS=DIR` adds what is in DIR and in packaging/image/extras.
image: toolchain
	LANDFALL_EXTRAS=$(if $(EXTRAS),$(abspath $(EXTRAS))) tools/build-image.sh

image-test: docker build
	tools/test-image.sh

# BENCH takes words for the program: `make bench BENCH="--runs 3 idle"`.
bench: docker release
	@cargo build --profile quick -p landfall-tests --bin bench --bin sandbox
	LANDFALL_PROGRAMS=$(CURDIR)/target/$(shell uname -m)-unknown-linux-musl/release target/quick/bench $(BENCH)

fuzz: toolchain
	@tools/install-packages.sh 'libFuzzer is C++' c++ -- g++
	@tools/fuzz.sh

check: toolchain
	@tools/install-cargo-deny.sh
	cargo fmt --all --check
	cargo fmt --manifest-path fuzz/Cargo.toml --check
	cargo clippy --profile quick --workspace --all-targets -- -D warnings
	cargo deny --log-level error check bans licenses sources
	@if timeout 60 cargo deny --log-level off fetch db 2>/dev/null; then \
	    echo cargo deny check advisories; cargo deny --log-level error check advisories; \
	else echo "make check: no advisory database can be fetched here: advisories are not checked"; fi
	@tools/install-packages.sh 'to judge the units' systemd-analyze -- systemd
	@tools/exposure.sh
	RUSTDOCFLAGS=-Dwarnings cargo doc --profile quick --workspace --no-deps --quiet

fmt: toolchain
	cargo fmt --all
