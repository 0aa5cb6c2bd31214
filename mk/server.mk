# The server: its drivers side by side, and beside crowds. For people, never in the gate. docs/benchmarks/server.md has the figures.

SERVER_STORE ?= mem:
NDSERVE := bin/ndbench serve -store $(SERVER_STORE)
ABORTS ?= 1000000
BULK := -bulk 8 -bytes 33554432 -seconds 2.5 -list

.PHONY: bench-server bench-server-crowds bench-server-resets bench-server-aborts bench-server-ping bench-server-detach bench-server-slow bench-server-long bench-server-tools

bench-server-tools: build
	go build -o bin/ ./internal/bench/cmd/ndbench ./internal/bench/cmd/ndload

bench-server: bench-server-tools ## the loop beside the goroutine driver, some four minutes
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2"
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2 -op get"
	$(NDSERVE) -load "-bulk 1 -bytes 268435456 -seconds 2" -unix
	$(NDSERVE) -load "-small -seconds 2"
	$(NDSERVE) -load "$(BULK)"

# Each crowd by itself beside eight transfers alone, in turns; a run that does not end in time says what it waits for. Under a minute each.
CROWDS := $(NDSERVE) -drivers loop -load "$(BULK)" -crowds

bench-server-crowds: bench-server-tools ## eight transfers beside idle, slow, half-open and silent clients, four minutes
	$(CROWDS) "-idle 5000"
	$(CROWDS) "-slow 5000"
	$(CROWDS) "-half 5000"
	$(CROWDS) "-silent 2000"

bench-server-resets: bench-server-tools ## eight transfers beside clients that reset or keep connecting, two minutes
	$(CROWDS) "-aborts 8 -abort-rate 6600,-aborts 8 -abort-rate 6600 -aborts-elsewhere"
	$(CROWDS) "-aborts 8,-aborts 8 -abort-hold 5000"

bench-server-aborts: bench-server-tools ## eight transfers alone, beside 1,000,000 connections that are reset, and alone, with descriptors and memory; three to five minutes
	sh -ec 'bin/ndferry serve --store $(SERVER_STORE) --listen tcp://127.0.0.1:20597 --workers 0 --buffers 2GiB >/dev/null & s=$$!; trap "kill $$s" EXIT; sleep 1; \
	bin/ndload -addr tcp://127.0.0.1:20597 -bulk 8 -bytes 33554432 -list -alone 10 -seconds 10 -aborts 8 -abort-total $(ABORTS) -limit 10m; echo'

bench-server-ping: bench-server-tools ## PING on a connection that is never idle, in times of a cell; then with what the kernel queues bounded to 1 MiB, which takes root
	for op in get put; do for cell in 4194304 16777216; do $(NDSERVE) -drivers loop -load "-ping -op $$op -cell $$cell -bytes 33554432 -seconds 5" || exit 1; done; done
	unshare -n sh -ec 'ip link set lo up; echo "4096 131072 1048576" >/proc/sys/net/ipv4/tcp_rmem; echo "4096 16384 1048576" >/proc/sys/net/ipv4/tcp_wmem; \
	for op in get put; do for cell in 4194304 16777216; do $(NDSERVE) -drivers loop -load "-ping -op $$op -cell $$cell -bytes 33554432 -seconds 5"; done; done'

bench-server-long: ## a put and a get of 128 MiB between network namespaces, over 100 MB/s and 50 ms, which takes root
	go test -tags gate ./internal/worker -run '^$$' -bench LongLink -benchtime 2x -count 5 -longlink-bytes 134217728 | grep MB/s

bench-server-detach: ## payloads read on the loop beside payloads that leave it for a blocking reader
	go test ./evloop -run '^$$' -bench Detach -benchtime 2x -count 4

SLOW := go test -tags gate ./internal/worker -count 1 -v -store-rate 1000000 -run ^TestGateFairness$$

bench-server-slow: ## 64 senders to a store that takes 1 MB/s, then 8, under both drivers, and 64 whose turn comes later than they wait for progress; six minutes
	$(SLOW) -store-cell 65536 -store-cells 12 | grep -v level=
	$(SLOW) -store-cell 65536 -store-cells 64 -store-clients 8 | grep -v level=
	$(SLOW)/^loop$$ -store-cell 524288 -store-cells 4 | grep -v level=
