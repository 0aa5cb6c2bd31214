# Package fdpass: its figures and the proof that its tests can fail.

.PHONY: benchfdpass plantfdpass

benchfdpass: ## descriptors per second beside C, 1 and 64 a message
	mkdir -p bin
	go run ./internal/bench/cmd/ndbench fdpass -batch 1 -rounds 9
	go run ./internal/bench/cmd/ndbench fdpass -batch 64 -n 4000000 -rounds 9

plantfdpass: ## plant each known descriptor bug and see its test fail
	python3 fdpass/testdata/plant.py

.PHONY: bench-processes
bench-processes: bench-peers ## the figures of docs/benchmarks/processes.md (needs node)
	for conns in 8 32 64 128; do $(PEERS)/ndbench dispatch -conns $$conns -rounds 9; done
	$(PEERS)/ndbench slow-worker -rounds 9
	$(PEERS)/ndbench passed-bulk -rounds 9 -seconds 2
