# Arrays on stable storage, and transfers that go on: docs/benchmarks/durable.md has the figures. For people, never in the gate.
# Installs nothing: rsync and sshd (Debian: rsync, openssh-server) are asked for by bench-durable-peers alone; scp runs as the user who runs make.

NDDURABLE := bin/ndbench durable -rounds 7

.PHONY: bench-durable bench-durable-peers bench-resume bench-durable-tools

bench-durable-tools: build
	scripts/py-setup
	go build -o bin/ ./internal/bench/cmd/ndbench

bench-durable: bench-durable-tools ## a durable and a relaxed put of 1 GiB beside dd and np.save, some three minutes
	$(NDDURABLE) -sides dd,durable,relaxed,np.save

bench-durable-peers: bench-durable-tools ## the same beside rsync, scp and zarr-python
	$(NDDURABLE) -sides durable,np.save-fsync,rsync,scp,zarr

bench-resume: bench-durable-tools ## transfers of 1 GiB of which 99 % are there beside whole ones
	$(NDDURABLE) -sides durable,resume-put
	$(NDDURABLE) -sides get,resume-get
