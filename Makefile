# The commands of this repository. CI calls `make test` through .ci/run.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := $(GO) tool -modfile=.ci/tools.mod

BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: help build test check lint bench fuzz chart demo clean bin/reshelf bin/reshelf-worker bin/reshelf-dashboard

help: ## this text
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

build: bin/reshelf bin/reshelf-worker bin/reshelf-dashboard ## the three programs, in bin/

bin/reshelf:
	$(BUILD) -o $@ ./producer
bin/reshelf-worker:
	$(BUILD) -o $@ ./worker
bin/reshelf-dashboard:
	$(BUILD) -o $@ ./dashboard

test: check ## installs what the tests need, checks the sources, runs all tests
	.ci/install redis-server libimage-exiftool-perl chromium gcc libc6-dev
	$(GO) test -race -shuffle=on -timeout 20m ./...

check: ## formatting, go.mod, vet, staticcheck
	@unformatted=$$(gofmt -l producer worker dashboard shared); [ -z "$$unformatted" ] || { echo "run gofmt on: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

lint: ## the whole of .golangci.yml (builds golangci-lint the first time: minutes)
	$(TOOL) golangci-lint run

bench: ## benchmarks, each as a ratio to a peer in the same run
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

fuzz: ## each fuzz target for 20 seconds
	@for p in $$(grep -rl --include='*_test.go' '^func Fuzz' shared worker producer dashboard | xargs -n1 dirname | sort -u); do \
	  for f in $$(grep -hoE '^func Fuzz[A-Za-z0-9_]+' $$p/*_test.go | sed 's/func //'); do \
	    $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 20s ./$$p || exit 1; done; done

chart: ## lints and renders the chart (builds helm the first time: minutes)
	.ci/helm

demo: ## inspects, renames, undoes and proves it on a sample archive; ARCHIVE=DIR inspects DIR and changes nothing
	.ci/install libimage-exiftool-perl
	@$(MAKE) --no-print-directory bin/reshelf
	@.ci/demo $(if $(ARCHIVE),'$(ARCHIVE)')

clean: ## removes what make build and make demo made
	rm -rf bin demo-archive
