# caddy-vnic. `make lab` shows the system at work, `make test` proves it.

SHELL       := bash
.SHELLFLAGS := -eu -o pipefail -c

# `go run` takes this version and verifies it by the checksum database, so go.mod need not have it.
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2

# The tools that make the BPF objects. Another version of clang makes other bytes.
BPF_TOOLS := clang-14 llvm-strip-14 libbpf-dev

# The programs that the tests run, besides Go. nginx is a server on a VNIC; most others are
# clients, hostile senders and witnesses. BPF_TOOLS make the BPF objects again, to check that
# the committed ones are current.
TEST_TOOLS := $(BPF_TOOLS) gcc libc-dev nginx tcpdump tshark ip iptables-nft route ping curl nft wrk hping3 ethtool nmap setpriv h2load chromium systemd-nspawn arping setcap ssh dropbear traceroute tracepath ndisc6 radvd dnsmasq atk6-alive6 fail2ban-client gtlsclient openssl haproxy promtool

# The programs that the benchmark compares with, and those that it measures with.
BENCH_TOOLS := nginx nginx-stream haproxy nft wrk iperf3 h2load

# The programs that the soak test floods with, and its servers and clients.
SOAK_TOOLS := nginx ip nft wrk hping3 nmap taskset chrt unshare firefox-esr

# The benchmark's flags. BENCH=-quick or BENCH='-only bulk,groups' tries it, and does not
# write the page.
BENCH := -docs docs/evidence

# The soak test's flags. SOAK=-quick tries it, SOAK='-only frames,reloads' runs some of its
# parts; neither writes the page.
SOAK := -docs ../docs/evidence

.PHONY: help lab test mutate bench soak build generate check fmt clean

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
	CGO_ENABLED=1 go test -race -vet=off -count=1 -timeout=30m -json ./... | go run ./cmd/conformance docs/conformance.md

mutate: ## break the code behind each row of the contract and see its tests fail; write docs/evidence/mutations.md (as root)
	@scripts/need 'the tests' go ca-certificates $(TEST_TOOLS)
	go run ./cmd/mutate -docs docs/evidence

bench: build ## compare the bridge with its alternatives and write docs/evidence/benchmarks.md (as root)
	@scripts/need 'the benchmark' go ca-certificates $(BENCH_TOOLS)
	CGO_ENABLED=0 go run ./integration/bench -caddy bin/caddy $(BENCH)

soak: ## wear the bridge with millions of flows and frames, and write docs/evidence/reliability.md (as root)
	@scripts/need 'the soak test' go ca-certificates $(SOAK_TOOLS)
	CGO_ENABLED=0 go test -tags soak -vet=off -count=1 -timeout=3h -v -run '^TestSoak$$' ./integration $(SOAK)

build: ## build bin/caddy: Caddy, its standard modules and caddy-vnic
	@scripts/need 'the build' go ca-certificates
	CGO_ENABLED=0 go build -o bin/caddy ./cmd/caddy

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

fmt: ## format the Go code and Caddyfile.example
	gofmt -w .
	CGO_ENABLED=0 go run ./cmd/caddy fmt --overwrite Caddyfile.example

clean: ## remove what the other targets make
	rm -rf bin build lab-captures
