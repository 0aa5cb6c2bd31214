.PHONY: bench-peers bench-loop soak-loop

PEERS := bin/peers

bench-peers: build ## what the loop is measured against (needs gcc, libuv1-dev)
	mkdir -p $(PEERS)
	gcc -O2 -Wall -o $(PEERS)/cloop bench/peers/cloop/cloop.c
	gcc -O2 -Wall -o $(PEERS)/cload bench/peers/cload/cload.c
	gcc -O2 -Wall -o $(PEERS)/churn bench/peers/churn/churn.c
	gcc -O2 -Wall -o $(PEERS)/uvecho bench/peers/uvloop/uvecho.c -luv
	go build -o $(PEERS)/ ./bench/peers/goloop ./bench/peers/gonet ./examples/resp ./internal/bench/cmd/ndbench
	cd bench/peers/netpoll && go build -o ../../../$(PEERS)/netpoll .
	test -x $(PEERS)/venv/bin/python || python3 -m venv $(PEERS)/venv
	$(PEERS)/venv/bin/pip install -q -r bench/peers/asyncio/requirements.txt

bench-loop: bench-peers ## the figures of docs/benchmarks/loop.md, some 20 minutes
	scripts/bench-loop

soak-loop: ## ten minutes of churn, resets and deaf readers against the loop
	CGO_ENABLED=1 go test -race -tags gate -run '^TestGateSoak' -count 1 -timeout 20m ./evloop -soak 10m
