# Targets of the stores. STORE_PYTHON is a Python that has zarr 3.1.6, tensorstore 0.1.86 and numpy.

STORE_PYTHON ?= python3
STORE_INTEROP := .cache/store-interop

.PHONY: store-interop store-powercut store-fuzz store-bench

# What other programs read from a directory store is what was put there.
store-interop:
	rm -rf $(STORE_INTEROP) && mkdir -p $(dir $(STORE_INTEROP))
	go test ./store/dir -run '^TestInterop$$' -count 1 -interop $(CURDIR)/$(STORE_INTEROP)
	$(STORE_PYTHON) store/dir/interop/zarr_read.py $(STORE_INTEROP)
	rm -rf $(STORE_INTEROP)

# 100,000 disks that a power cut could leave.
store-powercut:
	go test ./store/dir -run '^TestPowerCut$$' -count 1 -v -timeout 20m -crashes 550 -crash-seed 1 | grep store-powercut

store-fuzz:
	go test ./store/dir -run '^$$' -fuzz '^FuzzRecords$$' -fuzztime 20s
	go test ./store/dir -run '^$$' -fuzz '^FuzzOpenNode$$' -fuzztime 20s

# Durable put of 1 GiB beside dd, interleaved, and memory with and without the warm pool.
store-bench:
	go test ./store/dir -run '^$$' -bench '^BenchmarkPut$$' -benchtime 1x -count 5
	go test ./store/mem -run '^$$' -bench '^BenchmarkPut$$' -benchtime 10x -count 3
