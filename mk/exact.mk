# What arrays keep on their way, where it is too large or too much for the gate.

.PHONY: exact-large exact-matrix

exact-large: build ## more than 2^31 elements: 10 GB of disk, 5 GB of memory
	cd python && ../.venv/bin/python -m pytest -m slow -s tests/test_large.py

exact-matrix: build ## every dtype in every layout with axes of 1,000,003, from Python to Go and back
	cd python && ../.venv/bin/python -m pytest -m slow -q tests/test_exact.py
