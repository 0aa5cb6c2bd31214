# Transfers: our clients beside bare sockets and other projects. For people, never in the gate.

.PHONY: bench-transfer

bench-transfer: ## transfers beside bare sockets, Flight, ZeroMQ, Ray, Dask; writes docs/benchmarks/transfer.md
	scripts/bench-transfer
	scripts/bench-transfer-report >docs/benchmarks/transfer.md
