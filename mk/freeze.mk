# The recordings of version 1: spec/frozen/v1/README.md. Made once, when the version is released; the gate replays them ever after.

.PHONY: freeze-v1

freeze-v1: ## record spec/frozen/v1 (refused: sealed since 0.1.0), and replay it
	scripts/py-setup
	go test ./internal/frozen -run '^TestRecord$$' -count 1 -update
	go test ./internal/frozen -count 1
	.venv/bin/python -m pytest -q python/tests/test_frozen.py
