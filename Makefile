# forsun: make help says what there is.

# Programs go to ./bin, the store of "make run" to ./.forsun; neither is committed.
BIN     := bin
STORE   := .forsun
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)
BUILD   := go build -ldflags '-s -w -X main.version=$(VERSION)'

# What people wrote: the packages without generated code, and Go files alike.
WRITTEN  = $$(go list ./... | grep -v /gen/)
GOFILES  = $$(git ls-files -co --exclude-standard -- '*.go' | grep -v /gen/)

# The container image that make image builds; deploy/ names it so.
IMAGE ?= forsun:latest

# Tests: each package's own bound, and how many packages run side by side. The
# race detector needs cgo, and so gcc.
TIMEOUT  ?= 8m
PARALLEL ?= 2
# How long each fuzz target runs, and which Go benchmarks.
FUZZTIME ?= 30s
BENCH    ?= .
# make bench: a tenth of it with QUICK=1; ROUNDS of which the medians are compared; ONLY some
# contestants or works; RESULT, the file for all figures.
QUICK    ?=
ROUNDS   ?= 3
ONLY     ?=
RESULT   ?= $(BIN)/bench.json

.DEFAULT_GOAL := help
.PHONY: help run build install image test lint chaos failpoints bugs fuzz bench gobench clean servers

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile

run: build ## build, then start forsund here on a store under ./.forsun
	@[ -t 2 ] || echo "set a first plan: ./$(BIN)/forsun \"set hello */2/5 * * * * * shell 'date >> /tmp/hello.txt'\""
	@exec ./$(BIN)/forsund --driver-mem-store-file=$(STORE)/store

build: ## build the programs into ./bin
	@mkdir -p $(BIN)
	$(BUILD) -o $(BIN)/ ./cmd/...

install: ## go install the programs
	go install -ldflags '-s -w -X main.version=$(VERSION)' ./cmd/...

image: ## build the container image IMAGE (forsun:latest) from deploy/Dockerfile
	docker build -f deploy/Dockerfile --build-arg VERSION=$(VERSION) -t $(IMAGE) .

servers:
	@scripts/install-servers.sh

test: servers $(BIN)/tools/staticcheck $(BIN)/tools/promrules ## every check and every test (installs missing servers, needs root or sudo for that)
	@unformatted=$$(gofmt -l $(GOFILES)); \
	  [ -z "$$unformatted" ] || { echo "gofmt would change:"; echo "$$unformatted"; exit 1; } >&2
	go vet ./...
	$(BIN)/tools/staticcheck $(WRITTEN)
	scripts/check.sh
	$(BIN)/tools/promrules deploy/prometheus/*.yml deploy/grafana/*.json
	CGO_ENABLED=1 go test -race -timeout $(TIMEOUT) -p $(PARALLEL) ./...

lint: $(BIN)/tools/staticcheck $(BIN)/tools/gofumpt ## stricter than test: gofumpt and every staticcheck rule
	@unformatted=$$($(BIN)/tools/gofumpt -l $(GOFILES)); \
	  [ -z "$$unformatted" ] || { echo "gofumpt would change:"; echo "$$unformatted"; exit 1; } >&2
	$(BIN)/tools/staticcheck -checks 'all,-ST1000' $(WRITTEN)

chaos: servers ## the scenarios of scripts/chaos and their table; SCENARIO=C3 SEED= REPEAT=30 FORM=long ADD=1 (default: the whole, 100 minutes)
	@go run ./scripts/chaos/run $(if $(SCENARIO),-scenario=$(SCENARIO)) $(if $(SEED),-seed=$(SEED)) $(if $(REPEAT),-repeat=$(REPEAT)) \
	  $(if $(FORM),-form=$(FORM)) $(if $(ADD),-add)

failpoints: servers ## a replica dies, or stands still, wherever order is correctness (8 minutes)
	CHAOS=full CHAOS_TAGS=failpoints go test -tags failpoints -count=1 -v -parallel 4 -timeout 30m -run '^TestFailpoints' ./scripts/chaos

bugs: servers ## whether the tests find the bugs that are seeded; BUG=no-fence for one (default: all, 20 minutes)
	@go run ./scripts/chaos/bugs $(if $(BUG),-bug=$(BUG))

fuzz: ## every fuzz target for FUZZTIME (30s)
	@set -e; for package in $$(go list ./...); do \
	  for target in $$(go test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
	    echo "$$package $$target"; \
	    go test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
	  done; done

bench: servers build ## forsun and others side by side, and their ratios (17 minutes; QUICK=1: 2)
	go -C scripts/peers build -o $(CURDIR)/$(BIN)/peers .
	$(BIN)/peers -forsun-bench $(BIN)/forsun-bench -modules $(BIN)/peers-node -json $(RESULT) -rounds $(ROUNDS) $(if $(QUICK),-quick) $(if $(ONLY),-only "$(ONLY)")

gobench: ## the Go benchmarks that BENCH (.) matches
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

clean: ## remove what was built; not the store of make run
	rm -rf $(BIN)

# The tools have a go.mod of their own, so that the product's graph stays small.
$(BIN)/tools/promrules: scripts/tools/promrules/main.go
$(BIN)/tools/%: scripts/tools/go.mod scripts/tools/go.sum
	@mkdir -p $(BIN)/tools
	@go -C scripts/tools build -o $(CURDIR)/$@ $$(go -C scripts/tools list tool | grep '/$*$$')
