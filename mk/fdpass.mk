# Package fdpass: its figures and the proof that its tests can fail.

.PHONY: benchfdpass plantfdpass

benchfdpass: ## descriptors per second beside C, 1 and 64 a message
	mkdir -p bin
	go run ./internal/bench/cmd/ndbench fdpass -batch 1 -rounds 9
	go run ./internal/bench/cmd/ndbench fdpass -batch 64 -n 4000000 -rounds 9

plantfdpass: ## plant each known descriptor bug and see its test fail
	python3 fdpass/testdata/plant.py
