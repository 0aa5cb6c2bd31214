package dir

import "time"

// Limits of the directory store.
const (
	maxRecord      = 4 << 20            // bytes of a record's body (spec/STORE.md §3)
	cellsPerRecord = 32 << 10           // entries of one CELLS record that we write
	maxZarrJSON    = 8 << 20            // bytes of a zarr.json that we read
	writeBackBytes = 32 << 20           // written bytes after which write-back is started
	receiptLife    = 7 * 24 * time.Hour // how long a receipt is kept after its DONE
	tornReceipts   = 8 << 10            // bytes that a crash can leave torn at the end of the log of receipts
	walkDepth      = 64                 // parts of a name
	maxNamePath    = 1024               // bytes of a name
)
