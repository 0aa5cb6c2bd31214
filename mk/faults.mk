# What must hold when things break. faults is the campaign; the gate runs short forms of the same tests (TestGate…).

FAULT_SEED ?= 1
CUTS ?= 2500
BADLINK_BYTES ?= 1073741824

.PHONY: faults faults-powercut faults-kills faults-workers faults-dispatch faults-crash faults-errno faults-flips faults-resume faults-badlink

faults: faults-crash faults-errno faults-flips faults-resume faults-badlink faults-kills faults-workers faults-dispatch faults-powercut ## every fault test at full length

faults-powercut: ## cut the power under load: 2 x CUTS, on ext4 and xfs; needs root
	go test -tags gate ./internal/worker -run '^TestGatePowerCut$$' -count 1 -v -timeout 55m -powercuts $(CUTS) -powercut-seed $(FAULT_SEED) | scripts/faultlines powercut

faults-kills: ## kill server and client processes
	go test -tags gate ./internal/worker -run '^TestGateKills$$' -count 1 -v -timeout 20m -kill-rounds 100 -kill-seed $(FAULT_SEED) | scripts/faultlines kills

faults-workers: ## kill 1,000 worker processes under clients that check every byte; no descriptor may stay
	go test -tags gate ./internal/master -run '^TestGateWorkerKills$$' -count 1 -v -timeout 10m | scripts/faultlines workers

faults-dispatch: ## master and workers die, stop and fail at each step of dispatch, under clients that check every byte
	go test -tags gate ./internal/master -run '^TestGateFaultsDispatch$$' -count 1 -v -timeout 20m -dispatch-rounds 40 | scripts/faultlines dispatch-faults

faults-crash: ## disks that a power cut could leave, in memory
	go test ./store/dir -run '^TestPowerCut$$' -count 1 -v -timeout 20m -crashes 550 -crash-seed $(FAULT_SEED) | scripts/faultlines store-powercut

faults-errno: ## every call of the store's file system fails once
	go test ./store/dir -run '^(TestEveryCallFails|TestDeadAtEveryCall)$$' -count 1 -v -timeout 20m | scripts/faultlines 'store-(errno|dead)'

faults-flips: ## every bit and length of a small node and of a conversation, and payloads
	go test ./store/dir -run '^TestEveryBitFlipped$$' -count 1 -v | scripts/faultlines store-flips
	go test ./internal/session -run '^TestFlips' -count 1 -v -flip-seed $(FAULT_SEED) | scripts/faultlines flips

faults-resume: ## puts and gets over lines that break
	go test ./internal/worker -run '^TestResumeAfterCuts$$' -count 1 -v | scripts/faultlines resume

faults-badlink: ## arrays over a link that damages what TCP does not see; needs root and /dev/net/tun
	go test -tags gate ./internal/worker -run '^TestGateBadLink$$' -count 1 -v -timeout 5m -badlink-bytes $(BADLINK_BYTES) -badlink-seed $(FAULT_SEED) | scripts/faultlines badlink
