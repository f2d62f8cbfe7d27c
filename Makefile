# caddy-vnic. `make lab` shows the system at work, `make test` proves it.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c

# `go run` takes this version and verifies it by the checksum database, so go.mod need not have it.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The bill of materials, and the client of registries.
CYCLONEDX := github.com/CycloneDX/cyclonedx-gomod/cmd/cyclonedx-gomod@v1.10.0

CRANE     := github.com/google/go-containerregistry/cmd/crane@v0.22.1

# How long `make fuzz` runs each target.
FUZZ_TIME := 1m

# The version that a binary tells: that of the tag, or the tag before and the commit.
VERSION := $(shell git describe --tags --dirty --match 'v[0-9]*' 2>/dev/null || echo v0.0.0-untagged)

# Where `make build` puts Caddy, and more flags for `go build`. Another choice of -trimpath
# compiles all packages again.
BIN   := bin/caddy
BUILD :=

# For what machines `make release` builds.
ARCHITECTURES := amd64 arm64

# The tools that make the BPF objects. Another version of clang makes other bytes.
BPF_TOOLS := clang-14 llvm-strip-14 libbpf-dev

# The programs that the tests run, besides Go. nginx is a server on a VNIC; most others are
# clients, hostile senders and witnesses. BPF_TOOLS make the BPF objects again, to check that
# the committed ones are current.
TEST_TOOLS := $(BPF_TOOLS) gcc libc-dev nginx tcpdump tshark ip iptables-nft route ping curl nft wrk hping3 ethtool nmap setpriv h2load chromium systemd-nspawn podman runc arping setcap ssh dropbear traceroute tracepath ndisc6 radvd dnsmasq atk6-alive6 fail2ban-client gtlsclient openssl jq haproxy promtool keepalived bird zebra mkdocs-material

# The programs that the benchmark compares with, and those that it measures with.
BENCH_TOOLS := nginx nginx-stream haproxy nft wrk iperf3 h2load

# The programs that the soak test floods with, and its servers and clients.
SOAK_TOOLS := nginx ip nft wrk hping3 nmap taskset chrt unshare firefox-esr keepalived

# The benchmark's flags. BENCH=-quick or BENCH='-only bulk,groups' tries it, and does not
# write the page.
BENCH := -docs docs/evidence

# Flags of make mutate. MUTATE='-row F4,F5' tries some rows, and rewrites these on the page.
MUTATE :=

# The soak test's flags. SOAK=-quick tries it, SOAK='-only frames,reloads' runs some of its
# parts; neither writes the page.
SOAK := -docs ../docs/evidence

.PHONY: help lab test mutate bench soak build site release push fuzz generate check fmt clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

lab: build ## build, then play the paper's network in network namespaces and report
	bin/caddy vnic lab

test: ## check the code and run every test: unit, fuzz seeds, end to end (as root)
	@[ "$$(id -u)" = 0 ] || { \
		echo 'make test: the end-to-end tests make network namespaces and raw sockets, which needs root:' >&2; \
		echo '    sudo env "PATH=$$PATH" make test' >&2; \
		echo 'As an ordinary user, make check and make lab work.' >&2; exit 1; }
	@scripts/need 'the tests' go ca-certificates $(TEST_TOOLS)
	@$(MAKE) --no-print-directory check
	CGO_ENABLED=1 go test -race -vet=off -count=1 -timeout=45m -json ./... | go run ./cmd/conformance docs/conformance.md

mutate: ## break the code behind each row of the contract and see its tests fail; write docs/evidence/mutations.md (as root)
	@scripts/need 'the tests' go ca-certificates $(TEST_TOOLS)
	go run ./cmd/mutate -docs docs/evidence $(MUTATE)

bench: build ## compare the bridge with its alternatives and write docs/evidence/benchmarks.md (as root)
	@scripts/need 'the benchmark' go ca-certificates $(BENCH_TOOLS)
	CGO_ENABLED=0 go run ./integration/bench -caddy bin/caddy $(BENCH)

soak: ## wear the bridge with millions of flows and frames, and write docs/evidence/reliability.md (as root)
	@scripts/need 'the soak test' go ca-certificates $(SOAK_TOOLS)
	CGO_ENABLED=0 go test -tags soak -vet=off -count=1 -timeout=3h -v -run '^TestSoak$$' ./integration $(SOAK)

build: ## build bin/caddy: Caddy, its standard modules and caddy-vnic
	@scripts/need 'the build' go ca-certificates
	CGO_ENABLED=0 go build $(BUILD) -ldflags '-s -w -X github.com/caddy-vnic/caddy-vnic/caddymodule/internal/version.tagged=$(VERSION)' -o $(BIN) ./cmd/caddy

site: ## make a site of the documentation, with a search, in build/site
	@scripts/need 'the site' mkdocs-material
	mkdocs build --quiet --strict --config-file packaging/site/mkdocs.yml

release: ## build dist: for each architecture Caddy, a deb and a bill of materials; an image for all, and checksums
	rm -rf dist
	for architecture in $(ARCHITECTURES); do GOARCH=$$architecture $(MAKE) --no-print-directory build BUILD=-trimpath VERSION=$(VERSION) BIN=dist/$$architecture/caddy; done
	go run -C packaging/release . -version $(VERSION) $(ARCHITECTURES)
	for architecture in $(ARCHITECTURES); do CGO_ENABLED=0 go run $(CYCLONEDX) bin -json -version $(VERSION) \
		-output dist/caddy-vnic_$(VERSION:v%=%)_linux_$$architecture.cdx.json dist/$$architecture/caddy; done
	cd dist && rm -rf $(ARCHITECTURES) && sha256sum -- * >SHA256SUMS

push: ## push dist's image to a registry, with the token in GH_TOKEN (IMAGE=, REGISTRY_USER=)
	mkdir -p dist/image && tar -xf dist/caddy-vnic_$(VERSION:v%=%)_image.tar -C dist/image
	@printf '%s' "$$GH_TOKEN" | go run $(CRANE) auth login $(firstword $(subst /, ,$(IMAGE))) --username $(REGISTRY_USER) --password-stdin
	go run $(CRANE) push dist/image $(IMAGE):$(VERSION:v%=%)
	rm -r dist/image

fuzz: ## run each fuzz target for FUZZ_TIME (as root)
	@scripts/need 'the fuzz targets' go ca-certificates
	@for file in $$(grep -rl '^func Fuzz' --include='*_test.go' .); do \
		for target in $$(sed -nE 's/^func (Fuzz[A-Za-z0-9]+).*/\1/p' $$file); do \
			echo "$$file: $$target"; \
			CGO_ENABLED=0 go test -vet=off -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZ_TIME) $$(dirname $$file); \
		done; \
	done

generate: ## make the BPF objects, which are committed, from the C in vnicbridge/internal/bpf
	@scripts/need 'the BPF objects' go ca-certificates $(BPF_TOOLS)
	CGO_ENABLED=0 go generate ./vnicbridge/internal/bpf

check: ## gofmt, go mod tidy, go vet and staticcheck
	@scripts/need 'the checks' go ca-certificates
	@unformatted=$$(gofmt -l .); [ -z "$$unformatted" ] || { \
		echo "make check: not gofmt'ed, run make fmt:" >&2; echo "$$unformatted" >&2; exit 1; }
	go mod tidy -diff
	CGO_ENABLED=0 go vet -tags soak ./...
	CGO_ENABLED=0 go run $(STATICCHECK) -tags soak ./...
	cd packaging/release && go mod tidy -diff && go vet . && go run $(STATICCHECK) .

fmt: ## format the Go code and Caddyfile.example
	gofmt -w .
	CGO_ENABLED=0 go run ./cmd/caddy fmt --overwrite Caddyfile.example

clean: ## remove what the other targets make
	rm -rf bin build dist lab-captures
