# The server: its drivers side by side, and beside crowds. For people, never in the gate. docs/benchmarks/server.md has the figures.

SERVER_STORE ?= mem:
NDSERVE := bin/ndbench serve -store $(SERVER_STORE)
BULK := -bulk 8 -bytes 33554432 -seconds 2.5 -list

.PHONY: bench-server bench-server-crowds bench-server-aborts bench-server-slow bench-server-tools

bench-server-tools: build
	go build -o bin/ ./internal/bench/cmd/ndbench ./internal/bench/cmd/ndload

bench-server: bench-server-tools ## the loop beside the goroutine driver, some four minutes
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2"
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2 -op get"
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2" -unix
	$(NDSERVE) -load "-small -seconds 2"
	$(NDSERVE) -load "$(BULK)"

bench-server-crowds: bench-server-tools ## eight transfers beside idle, slow, half-open and silent clients and resets
	$(NDSERVE) -drivers loop -load "$(BULK)" -crowds "-idle 5000,-slow 5000,-half 5000,-silent 2000,-aborts 8,-aborts 8 -aborts-elsewhere"

bench-server-aborts: bench-server-tools ## eight transfers beside 1,000,000 connections that are reset, in five rounds
	$(NDSERVE) -drivers loop -load "$(BULK)" -crowds "-aborts 8 -abort-total 200000"

bench-server-slow: ## 64 senders to a store that takes 1 MB/s, under both drivers, two minutes
	go test ./internal/worker -run '^TestGateFairness$$' -count 1 -v -store-rate 1000000 | grep -v level=
