#!/usr/bin/env bash
# make demo: sets up what it needs, once, and runs examples/demo/demo.py.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/py-setup
NDFERRY_BIN="$PWD/bin/ndferry" exec .venv/bin/python examples/demo/demo.py
