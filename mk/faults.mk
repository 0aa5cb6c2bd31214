# What must hold when things break. faults is the campaign, planted proves that it bites; the gate runs short forms of the same tests (TestGate…).
# docs/benchmarks/faults.md has the lines of the last campaign.

FAULT_SEED ?= 1
CUTS ?= 2500
BADLINK_BYTES ?= 1073741824
HISTORY_OPS ?= 100000
ERRNO_SHARE ?= 3
FAULT_TEST = go test -tags gate ./internal/worker -count 1 -v

.PHONY: faults faults-quota faults-powercut faults-kills faults-workers faults-dispatch faults-matrix faults-crash faults-errno faults-flips faults-resume faults-badlink faults-history planted

faults: faults-crash faults-errno faults-quota faults-flips faults-resume faults-badlink faults-history faults-kills faults-workers faults-dispatch faults-matrix faults-powercut ## every fault test at full length, under an hour; needs root and btrfs-progs

faults-powercut: ## cut the power under load: 2 x CUTS, on ext4 and xfs; needs root
	$(FAULT_TEST) -run '^TestGatePowerCut$$' -timeout 55m -powercuts $(CUTS) -powercut-seed $(FAULT_SEED) | scripts/faultlines powercut

faults-kills: ## kill server and client processes at random moments
	$(FAULT_TEST) -run '^TestGateKills$$' -timeout 20m -kill-rounds 100 -kill-seed $(FAULT_SEED) | scripts/faultlines kills

faults-matrix: ## kill them at every named step of a put, with 1 and 16 transfers
	$(FAULT_TEST) -run '^TestGate(KillMatrix|SentAgain)$$' -timeout 20m -matrix-seeds 5 -matrix-transfers 16 -matrix-seed $(FAULT_SEED) | scripts/faultlines matrix

faults-workers: ## faults at every step of the dispatch; kill 1,000 worker processes, and masters, under clients that check every byte; no descriptor may stay
	NDFERRY_ALL_STEPS=1 go test ./internal/cli -run '^TestSteps$$' -count 1 -timeout 5m
	go test -tags gate ./internal/master -run '^TestGate(Worker|Master)Kills$$' -count 1 -v -timeout 10m | scripts/faultlines '(workers|masters)'

faults-dispatch: ## master and workers die, stop and fail at each step of dispatch, under clients that check every byte
	go test -tags gate ./internal/master -run '^TestGateFaultsDispatch$$' -count 1 -v -timeout 20m -dispatch-rounds 40 | scripts/faultlines dispatch-faults

faults-crash: ## disks that a power cut could leave, in memory
	go test ./store/dir -run '^TestPowerCut$$' -count 1 -v -timeout 20m -crash-images 100000 -crash-seed $(FAULT_SEED) | scripts/faultlines store-powercut

faults-quota: ## a quota of btrfs is reached; needs root and btrfs-progs
	go test -tags gate ./internal/worker -count 1 -v -run '^TestFaultQuota$$' -timeout 5m | scripts/faultlines quota

faults-errno: ## every call of the store's file system, and of the server's, fails; system calls by strace; disks that are full; needs root
	go test ./store/dir -run '^(TestEveryCallFails|TestDeadAtEveryCall)$$' -count 1 -v -timeout 20m | scripts/faultlines 'store-(errno|dead)'
	$(FAULT_TEST) -run '^TestGateErrno$$' -timeout 30m -errno-share $(ERRNO_SHARE) -errno-seed $(FAULT_SEED) | scripts/faultlines errno
	$(FAULT_TEST) -run '^TestGateStrace$$' -timeout 10m -errno-share 1 | scripts/faultlines strace
	$(FAULT_TEST) -run '^TestGateSmallDisks$$' -timeout 5m | scripts/faultlines smalldisks

faults-flips: ## every bit and length of a small node, of the log and a journal, of a conversation, and payloads
	go test ./store/dir -run '^(TestEveryBitFlipped|TestReceiptsFlipped|TestUploadFlipped)$$' -count 1 -v | scripts/faultlines 'store-(flips|receipts|upload)'
	go test ./internal/worker -run '^TestStoredDamage$$' -count 1 -v | scripts/faultlines damage
	go test ./internal/session -run '^TestFlips' -count 1 -v -flip-seed $(FAULT_SEED) | scripts/faultlines flips

faults-resume: ## puts and gets over lines that break
	go test ./internal/worker -run '^TestResumeAfterCuts$$' -count 1 -v | scripts/faultlines resume

faults-badlink: ## arrays over a link that damages what TCP does not see; needs root and /dev/net/tun
	$(FAULT_TEST) -run '^TestGateBadLink$$' -timeout 5m -badlink-bytes $(BADLINK_BYTES) -badlink-seed $(FAULT_SEED) | scripts/faultlines badlink

faults-history: ## what clients see under kills must be a history of registers
	$(FAULT_TEST) -run '^TestGateHistory$$' -timeout 20m -history-ops $(HISTORY_OPS) -history-seed $(FAULT_SEED) | scripts/faultlines history

planted: ## make mistakes that a reviewer could miss, one at a time: an unchanged test of the gate must turn red for each
	go test ./internal/planted -run '^TestPlanted$$' -count 1 -v -timeout 55m -planted -1 | scripts/faultlines planted
