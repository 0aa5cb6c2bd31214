# A menu. Everything here is a go command or a script of one page.

export CGO_ENABLED ?= 0

COMMIT := $(shell git describe --always --dirty --exclude "*" 2>/dev/null)
LDFLAGS := -X ndferry/internal/cli.commit=$(COMMIT)

.PHONY: help build check test race fuzz demo py setup lint cross clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## bin/ndferry
	go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ndferry ./cmd/ndferry

check: ## offline, a minute and a half: format, vet, build, other systems, quick tests
	GOPROXY=off scripts/check

test: ## everything, in shares with budgets; .ci/run calls it
	scripts/gate

race: ## all Go tests under the race detector
	CGO_ENABLED=1 go test -race -timeout 5m ./...

fuzz: ## every fuzz target, 12 seconds each (FUZZTIME=1m for longer)
	scripts/fuzz

demo: build ## arrays from NumPy to a server and back
	scripts/demo.sh

py: ## the Python package: set-up, lint, types, tests
	scripts/py-setup
	scripts/py-test

setup: ## fetch and build what lint and test need, once
	scripts/setup

lint: ## vet and staticcheck, for Linux and the other systems
	scripts/lint

cross: ## build for the other systems
	scripts/cross

-include mk/*.mk

clean: ## remove what was built
	rm -rf bin .cache
