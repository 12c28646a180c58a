# make run   build, then a provider and a site on loopback: mail both ways, before your eyes
# make test  everything, with real peers (as root it installs the Debian packages that are missing)
SHELL := /bin/bash
GO ?= go
BIN := bin/bothy
export PATH := $(PATH):/usr/sbin:/sbin
# A program with the race detector waits a second at its end, if it is not told otherwise.
export GORACE := atexit_sleep_ms=20 $(GORACE)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
GOFUMPT := mvdan.cc/gofumpt@v0.12.0
BENCHSTAT := golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4

.PHONY: run build test test-all test-dhcp differential peers generate style vet staticcheck gofumpt lint bench bench-go bench-dhcp fuzz soak clean

run: build
	$(BIN) try

build:
	$(GO) build -trimpath -o $(BIN) ./cmd/bothy

# What vet has compiled, with the race detector, is what the tests and staticcheck want. Then what waits runs beside what works.
test: peers vet
	$(MAKE) --no-print-directory -k -j4 test-all test-dhcp staticcheck gofumpt

# The tests of the whole program take the longest, so they come first.
test-all:
	BOTHY_PEERS=$${BOTHY_PEERS:-auto} $(GO) test -race -timeout 14m ./test ./...

# The programs the tests talk to. Without root it only says what is missing.
peers:
	@test/peers

# What is derived from the code: RFCS.md, CHANGELOG.md, docs/config.md, the conformance tables.
generate:
	$(GO) test ./control/dhcp6 -run 'TestConformance|TestClauses' -args -update
	$(GO) test ./application/smtp -run TestConformance -args -update
	$(GO) test ./application/submission -run TestConformance -args -update
	$(GO) test ./application/dsn -run TestConformance -args -update
	$(GO) test ./application/queue -run TestConformance -args -update
	$(GO) test ./application/authres -run TestConformance -args -update
	$(GO) test ./control/dhcp4 -run 'TestConformance|TestClauses|TestTable' -args -update
	$(GO) test ./cmd/bothy -run TestHelp -update
	$(GO) test -run 'TestRFCIndex|TestChangelog|TestConfigReference' . -args -update

style: vet staticcheck gofumpt

vet:
	$(GO) vet -race ./...
	$(GO) vet -race -tags dhcp ./test/dhcp

# It gives way to tests that run beside it.
staticcheck:
	nice -n 5 $(GO) run -exec 'env "GOFLAGS=-race $(GOFLAGS)"' $(STATICCHECK) ./...
	nice -n 5 $(GO) run -exec 'env "GOFLAGS=-race $(GOFLAGS)"' $(STATICCHECK) -tags dhcp ./test/dhcp

gofumpt:
	@out=$$(nice -n 5 $(GO) run $(GOFUMPT) -l .) && test -z "$$out" || { echo "$$out"; echo "gofumpt: the files above are not formatted"; exit 1; }

# And known weaknesses in what we import; says so where the database of them cannot be reached.
lint: style
	@out=$$($(GO) run $(GOVULNCHECK) ./... 2>&1) || { \
	  if grep -q "fetching vulnerabilities" <<<"$$out"; then echo "govulncheck: its database cannot be reached from here"; \
	  else echo "$$out"; exit 1; fi; }

# Side by side with peers, in one run.
bench: build peers
	$(GO) test -run '^TestMeasure' -bench . -benchtime 1x -timeout 30m ./bench

# The hot paths alone, time and allocations, beside what they were when bench/baseline.txt was written. Times are another machine's, allocations
# are not. `make bench-go BASELINE=1` writes it anew.
HOT := ./application/message ./application/smtp ./application/queue ./application/relay ./lib/wal
bench-go:
	@mkdir -p bin
	$(GO) test -run '^$$' -bench . -skip 'Open|Tail' -benchmem -benchtime 200ms -count 6 $(HOT) | tee bin/bench.txt
	$(if $(BASELINE),cp bin/bench.txt bench/baseline.txt,$(GO) run $(BENCHSTAT) bench/baseline.txt bin/bench.txt)

FUZZTIME ?= 20s
fuzz:
	@for pkg in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$pkg | grep '^Fuzz'); do \
	    echo "$$pkg $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 10x $$pkg || exit 1; \
	  done; done

# DHCP with other people's clients, servers and relay agents, in network namespaces of its own; a part of `make test`. Most of its time is waiting for
# timers of leases, so there are more tests at once than processors.
test-dhcp: peers
	BOTHY_PEERS=$${BOTHY_PEERS:-auto} $(GO) test -tags dhcp -race -parallel 24 -timeout 15m ./test/dhcp

# New leases a second and their latency beside Kea's memfile, which syncs nothing, in one run, then the codecs. A quiet machine, root, perfdhcp (kea-admin),
# kea-dhcp4-server, kea-dhcp6-server.
bench-dhcp:
	BOTHY_BENCH_DHCP=1 BOTHY_PEERS=required $(GO) test -tags dhcp -count=1 -v -timeout 30m -run '^TestMeasure' ./test/dhcp
	$(GO) test -run '^$$' -bench Codec -benchmem ./control/dhcp4 ./control/dhcp6

# 500 odd inputs to our own server, against the record of Postfix, Exim and OpenSMTPD.
differential:
	BOTHY_DIFFERENTIAL=1 $(GO) test -count=1 -timeout 10m ./test/differential

# Kills, power cuts, bad disks, bad peers in full counts, and a table at the end; `make soak SOAK=kill9` for one part, test/soak --list for all, JOBS=1 for one at a time.
soak: peers
	test/soak $(SOAK)

clean:
	rm -rf bin
