# Everything here runs on a machine with Go; see README.
GO ?= go
BIN := .bin/comity
FUZZTIME ?= 2s

.PHONY: build demo replay crashes test prepare format vet static unit race e2e harness fuzz vectors bench clean

build: ## the one binary, without cgo
	CGO_ENABLED=0 $(GO) build -trimpath -o $(BIN) ./cmd/comity

demo: build ## three providers on this machine, talking
	$(BIN) demo

replay: build ## a real chat log through three providers (LOG=… ANNOTATIONS=…)
	$(BIN) replay $(LOG) $(if $(ANNOTATIONS),--annotations $(ANNOTATIONS)) --providers 3

test: prepare format build vet static race e2e harness fuzz vectors ## all that CI runs
	@echo "all tests passed"

prepare:
	@sh scripts/prepare.sh

format:
	@out=$$(gofmt -l .); test -z "$$out" || { echo "gofmt would change:"; echo "$$out"; exit 1; }

vet:
	$(GO) vet ./...

static:
	$(GO) tool staticcheck ./...

unit: ## the tests without the race detector and without the end-to-end runs
	$(GO) test -short ./...

race:
	@GO="$(GO)" sh scripts/race.sh

e2e: build ## real processes: the demo, both logs, crashes, bad input; 200 seeds of a simulated federation; groups with ts-mls
	COMITY_BINARY=$(CURDIR)/$(BIN) $(GO) test -count=1 -timeout 40m ./internal/sim ./e2e ./e2e/tsmls

harness: ## the nested module: a server for the MLS working group's interop harness
	$(GO) build -o .bin/ honnef.co/go/tools/cmd/staticcheck
	cd e2e/harness && $(GO) vet ./... && $(CURDIR)/.bin/staticcheck ./... && $(GO) test ./...

fuzz: ## every decoder for FUZZTIME
	@GO="$(GO)" FUZZTIME=$(FUZZTIME) sh scripts/fuzz.sh

vectors: ## says which official vectors were not there
	@GO="$(GO)" sh scripts/vectors.sh

bench:
	$(GO) test -run '^$$' -bench . -benchmem ./mls ./content ./internal/store/...

clean:
	rm -rf .bin
