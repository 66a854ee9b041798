# The commands of this repository. CI calls `make test` through .ci/run.

GO      ?= go
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
TOOL    := $(GO) tool -modfile=.ci/tools.mod

# What reads tags, and of its tests those in which the version of ExifTool makes no difference.
SAME    := StandIn|Chaos|Mutations|Storm|Killed|Lost|Shrinks|OutOfReach|CorpusInBucket
ENGINE  := ./worker/internal/exiftool/... ./worker/internal/inspecting ./worker/runtime ./shared/metadata

BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '$(LDFLAGS)'

.PHONY: help build test engine s3-servers compat-minio folding stores check lint bench bench-metadata bench-plan bench-rename fuzz chart demo clean bin/reshelf bin/reshelf-worker bin/reshelf-dashboard

help: ## this text
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

build: bin/reshelf bin/reshelf-worker bin/reshelf-dashboard ## the three programs, in bin/

bin/reshelf:
	$(BUILD) -o $@ ./producer
bin/reshelf-worker:
	$(BUILD) -o $@ ./worker
bin/reshelf-dashboard:
	$(BUILD) -o $@ ./dashboard

test: check s3-servers engine ## installs what the tests need, checks the sources, runs all tests
	.ci/install redis-server libimage-exiftool-perl chromium gcc libc6-dev
	$(GO) test -race -shuffle=on -timeout 20m ./...

engine: ## the tests of what reads tags, with the images' ExifTool in the place of Debian's
	.ci/install redis-server perl curl ca-certificates gcc libc6-dev
	folder=$$(.ci/exiftool) && PATH="$$folder:$$PATH" $(GO) test -race -shuffle=on -timeout 20m -skip '$(SAME)' $(ENGINE)

s3-servers: ## builds the S3 servers that tests start (minutes the first time)
	@.ci/s3/build versitygw rclone >/dev/null

compat-minio: s3-servers ## the tests of S3 on the last release of MinIO, too (builds it the first time: minutes)
	@.ci/s3/build minio >/dev/null
	RESHELF_COMPAT_MINIO=1 $(GO) test -race -shuffle=on ./shared/store/s3store/...

folding: ## the tests that need a mounted file system that folds case (root, /dev/fuse; not in make test)
	.ci/install fuse3
	.ci/foldfs/run $(GO) test -count=1 -timeout 10m -run 'Folding|FoldsCase|AnotherCase' -skip '/share/.*Races' ./shared/store/filestore ./shared/systemtest

stores: s3-servers ## runs the conformance suites of all stores and writes the tables of docs/stores.md; RESHELF_COMPAT_MINIO=1: on MinIO, too
	@[ "$$RESHELF_COMPAT_MINIO" != 1 ] || .ci/s3/build minio >/dev/null
	$(GO) test -json -count=1 -run '^(TestConformance|TestCapabilities)$$' ./shared/store/filestore ./shared/store/memstore \
	  ./shared/store/s3store | $(GO) run ./.ci/matrix docs/stores.md

check: ## formatting, go.mod, vet, staticcheck
	@unformatted=$$(gofmt -l producer worker dashboard shared); [ -z "$$unformatted" ] || { echo "run gofmt on: $$unformatted"; exit 1; }
	$(GO) mod tidy -diff
	$(GO) vet ./...
	$(TOOL) staticcheck ./...

lint: ## the whole of .golangci.yml (builds golangci-lint the first time: minutes)
	$(TOOL) golangci-lint run

bench: ## benchmarks, each as a ratio to a peer in the same run
	$(GO) test -run '^$$' -bench . -benchtime 1x ./...

bench-metadata: bin/reshelf bin/reshelf-worker ## reads metadata in all the ways there are, side by side, and prints a table; ARCHIVE=DIR: of the files in DIR; EXIFTOOL=PROGRAM: not with the one of the images; FLAGS: see .ci/bench-metadata
	.ci/install libimage-exiftool-perl redis-server
	@archive='$(or $(ARCHIVE),$(RESHELF_CORPUS))'; \
	if [ -z "$$archive" ]; then archive=$$(mktemp -d)/photos && $(GO) run ./.ci/sample "$$archive" && exiftool -q -q -overwrite_original -csv="$$archive.csv" -r "$$archive"; fi; \
	modules=; if command -v npm >/dev/null; then modules=$$(.ci/bench-metadata/vendored/install); fi; \
	exiftool='$(EXIFTOOL)'; [ -n "$$exiftool" ] || exiftool=$$(.ci/exiftool)/exiftool; \
	$(GO) run ./.ci/bench-metadata -modules "$$modules" -exiftool "$$exiftool" $(FLAGS) "$$archive"

bench-plan: ## plans synthetic batches of 500,000 and 5,000,000 objects and prints a table (an hour); FLAGS: see .ci/bench-plan
	$(GO) run ./.ci/bench-plan $(FLAGS)

bench-rename: bin/reshelf ## renames local files in all the ways there are, side by side, and prints a table for each of DIRS, which say the file systems; FLAGS: see .ci/bench-rename
	.ci/install libimage-exiftool-perl
	$(GO) run ./.ci/bench-rename $(FLAGS) $(or $(DIRS),/tmp /dev/shm)

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
