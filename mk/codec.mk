# Chunk codecs against C-Blosc and Zarr readers. CODEC_PYTHON needs numcodecs,
# zarr, tensorstore and zarrs (0.2.3).
CODEC_PYTHON ?= .venv/bin/python

.PHONY: codec-interop codec-fuzz codec-vectors zstd-vectors codec-bench

.cache/codec-interop: $(wildcard wire/codec/*.go wire/codec/*.s wire/codec/unzstd/*.go wire/codec/unzstd/*.s wire/codec/interop/*.go)
	go build -o $@ ./wire/codec/interop

codec-interop: .cache/codec-interop ## the codec against C-Blosc, zarr-python, TensorStore and zarrs
	$(CODEC_PYTHON) wire/codec/interop/live.py $< --quick
	$(CODEC_PYTHON) wire/codec/interop/zarr_chunks.py $<
	$(CODEC_PYTHON) wire/codec/interop/fixtures.py $<

codec-fuzz: .cache/codec-interop ## damaged containers to the codec and C-Blosc, by hand
	$(CODEC_PYTHON) wire/codec/interop/fuzz.py $< --seconds 120

codec-vectors: ## write wire/codec/testdata/cblosc.* again
	$(CODEC_PYTHON) wire/codec/interop/vectors.py wire/codec/testdata

zstd-vectors: ## write wire/codec/unzstd/testdata again; CODEC_PYTHON needs zstandard 0.25.0
	$(CODEC_PYTHON) wire/codec/interop/zstd_vectors.py wire/codec/unzstd/testdata

codec-bench: ## the codec's speed against C-Blosc's, one thread each
	go build -o .cache/codec-bench ./bench/codec
	$(CODEC_PYTHON) bench/codec/compare.py .cache/codec-bench
