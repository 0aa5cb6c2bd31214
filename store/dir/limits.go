package dir

import "time"

// Limits of the directory store.
const (
	maxRecord      = 4 << 20            // bytes of a record's body (spec/STORE.md §3)
	cellsPerRecord = 32 << 10           // entries of one CELLS record that we write
	maxZarrJSON    = 8 << 20            // bytes of a zarr.json that we read
	maxSidecar     = 1 << 40            // bytes of a sidecar that we read
	writeBackBytes = 32 << 20           // written bytes after which write-back is started
	receiptLife    = 7 * 24 * time.Hour // how long a receipt is kept after its DONE
	verifyBuffer   = 1 << 20            // bytes read at a time where no cell sets the size
	walkDepth      = 64                 // parts of a name
)
