//go:build gate && linux

package worker

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"ndferry/array"
	"ndferry/client"
)

var (
	historyOps  = flag.Int("history-ops", 6000, "operations of TestGateHistory")
	historySeed = flag.Uint64("history-seed", 1, "seed of TestGateHistory")
)

// What clients ask for in a history, and what they were told.
const (
	opPut = iota
	opPutAbsent
	opGet
	opDelete
)

type historyInput struct {
	kind  int
	name  string
	value uint64 // seed of the array
}

type historyOutput struct {
	unknown bool   // the connection broke: it happened, or will, or not
	refused bool   // put-if-absent: conflict; delete: not found
	value   uint64 // get: seed of the array; 0: not found
}

// oneName is a name as STORE.md §4 defines it: a register that is empty or holds one array.
var oneName = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		byName := map[string][]porcupine.Operation{}
		for _, op := range history {
			name := op.Input.(historyInput).name
			byName[name] = append(byName[name], op)
		}
		var parts [][]porcupine.Operation
		for _, part := range byName {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		now, in, out := state.(uint64), input.(historyInput), output.(historyOutput)
		switch {
		case in.kind == opGet:
			return out.value == now, now
		case in.kind == opPut:
			return true, in.value
		case in.kind == opPutAbsent && now == 0 && !out.refused:
			return true, in.value
		case in.kind == opPutAbsent:
			return now != 0 && (out.refused || out.unknown), now
		case now == 0: // delete
			return out.refused || out.unknown, now
		}
		return !out.refused, uint64(0)
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

// TestGateHistory has clients put, put if absent, break off and resume, get and delete a few names while the server is killed again and
// again. What they saw must be a history of registers: some order of the operations, each between its call and its return, explains it.
func TestGateHistory(t *testing.T) {
	k := newKiller(t, *historySeed)
	begin := time.Now()
	h := &history{k: k}
	for round := 0; h.done < *historyOps && !t.Failed(); round++ {
		if round%10 == 0 {
			k.store = quickStore(t) // a start reads all receipts, and there are many starts
		}
		h.workers = 2 * (round / 2 % 2)
		k.args = []string{"--driver", drivers[round%2], "--workers", strconv.Itoa(h.workers)}
		h.round(round)
		if round%20 == 19 {
			t.Logf("%d operations, %d kills, %v", h.done, h.kills, time.Since(begin).Round(time.Second))
		}
	}
	if t.Failed() {
		return
	}
	if h.unknown == 0 || h.kills == 0 || h.seen[opGet] == 0 || h.refused == 0 {
		t.Errorf("%d kills, %d outcomes not known, %d refusals: this proves little", h.kills, h.unknown, h.refused)
	}
	t.Logf("history: tried=%d reached=%d injected=%d failed=0 seed=%d (%d put, %d put if absent, %d get, %d delete; %d resumed, %d asked again, %d refused, %d of unknown outcome, %v)",
		h.done, h.done, h.kills, *historySeed, h.seen[opPut], h.seen[opPutAbsent], h.seen[opGet], h.seen[opDelete], h.resumed.Load(), h.again.Load(), h.refused, h.unknown,
		time.Since(begin).Round(time.Second))
}

type history struct {
	k       *killer
	start   time.Time
	workers int

	mu  sync.Mutex
	ops []porcupine.Operation // guarded by mu

	done, kills, unknown, refused int
	seen                          [4]int
	value, resumed, again         atomic.Int64
}

// round runs clients beside kills, and checks what they saw.
func (h *history) round(round int) {
	const clients, most = 6, 600
	h.k.start()
	h.ops, h.start = nil, time.Now()
	var left atomic.Int64
	left.Store(most)
	var work sync.WaitGroup
	for n := range clients {
		rng := rand.New(rand.NewPCG(*historySeed, uint64(round*clients+n)))
		work.Go(func() {
			for left.Add(-1) >= 0 {
				h.operation(rng, n, round)
			}
		})
	}
	ended := make(chan struct{})
	go func() { work.Wait(); close(ended) }()
	for over := false; !over; {
		select {
		case <-ended:
			over = true
		case <-time.After(time.Duration(20+h.k.rng.IntN(200)) * time.Millisecond): // a random moment
			h.kill()
			h.kills++
		}
	}
	h.k.stop()
	result, info := porcupine.CheckOperationsVerbose(oneName, h.ops, time.Minute)
	if result != porcupine.Ok {
		h.k.t.Errorf("round %d: %v", round, result)
		for _, part := range info.PartialLinearizationsOperations() {
			for _, line := range part {
				h.k.t.Logf("%d of the operations on a name can be put in order", len(line))
			}
		}
		for _, op := range h.ops {
			h.k.t.Logf("%d to %d, client %d: %+v: %+v", op.Call, op.Return, op.ClientId, op.Input, op.Output)
		}
	}
	for _, op := range h.ops {
		h.done++
		h.seen[op.Input.(historyInput).kind]++
		if out := op.Output.(historyOutput); out.unknown {
			h.unknown++
		} else if out.refused {
			h.refused++
		}
	}
}

// kill kills everything, the master, or a worker, and what is gone comes again.
func (h *history) kill() {
	switch how := h.k.rng.IntN(3); {
	case h.workers > 0 && how == 0:
		h.k.stopMaster()
	case h.workers > 0 && how == 1 && h.k.stopWorker():
		return // its master starts another one
	default:
		h.k.stop()
	}
	h.k.start()
}

func (h *history) operation(rng *rand.Rand, n, round int) {
	in := historyInput{name: fmt.Sprintf("h%d/%c", round, 'a'+rune(rng.IntN(3))), kind: []int{opPut, opPut, opPutAbsent, opPutAbsent, opGet, opGet, opGet, opDelete, opDelete}[rng.IntN(9)]}
	op := porcupine.Operation{ClientId: n, Input: in, Call: time.Since(h.start).Nanoseconds()}
	var out historyOutput
	switch in.kind {
	case opGet:
		out = h.get(in.name)
	case opDelete:
		out = h.remove(in.name)
	default:
		in.value = uint64(h.value.Add(1))
		op.Input = in
		out = h.put(rng, in)
	}
	op.Return, op.Output = time.Since(h.start).Nanoseconds(), out
	if out.unknown {
		op.Return = math.MaxInt64 // it may still be under way
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// connect returns a client of the server that there is, or will be.
func (h *history) connect() *client.Client {
	for {
		c, err := client.Dial(h.k.t.Context(), "unix://"+h.k.socket, client.Config{Timeout: patience})
		if err == nil {
			return c
		}
		select {
		case <-h.k.t.Context().Done():
			h.k.t.FailNow()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func historyArray(value uint64) client.Array {
	a := client.Array{Shape: array.Shape{2500}}
	if value%8 == 0 {
		a.Shape[0] = 200_000
	}
	a.DType, _ = array.ParseDType("|u1")
	a.Data = make([]byte, a.Shape[0])
	rng := rand.New(rand.NewPCG(value, 5))
	for i := 0; i+8 <= len(a.Data); i += 8 {
		copy(a.Data[i:], bytes.Repeat([]byte{byte(rng.Uint32())}, 8))
	}
	for i := range 8 {
		a.Data[i] = byte(value >> (8 * i))
	}
	return a
}

func (h *history) put(rng *rand.Rand, in historyInput) (out historyOutput) {
	c := h.connect()
	defer c.Close()
	a := historyArray(in.value)
	opts := client.PutOptions{ID: sweepID(in.value, 0x68), ChunkBytes: max(1000, len(a.Data)/3), IfAbsent: in.kind == opPutAbsent, Retries: 30}
	if rng.IntN(6) == 0 { // another one of the user's programs broke off
		half := opts
		half.Retries, half.Resume = 0, true
		if _, err := c.PutFrom(h.k.t.Context(), in.name, &stumbling{a}, half); errors.Is(err, io.ErrUnexpectedEOF) {
			h.resumed.Add(1)
		} else if errors.Is(err, client.ErrConflict) {
			out.refused = true
			return out
		}
		c.Close()
		c = h.connect()
		defer c.Close()
	}
	r, err := c.Put(h.k.t.Context(), in.name, a, opts)
	if errors.Is(err, client.ErrConflict) {
		out.refused = true
		return out
	}
	if err != nil {
		h.k.t.Logf("put %s: %v", in.name, err)
		out.unknown = true
		return out
	}
	if rng.IntN(6) == 0 { // asking again changes nothing
		h.again.Add(1)
		if again, err := c.Put(h.k.t.Context(), in.name, a, opts); err != nil || *again != *r {
			h.k.t.Errorf("put %s asked again: %+v, %v; it was %+v", in.name, again, err, r)
		}
	}
	return out
}

func (h *history) get(name string) (out historyOutput) {
	for {
		c := h.connect()
		got, err := c.Get(h.k.t.Context(), name, client.GetOptions{})
		c.Close()
		e, ok := errors.AsType[*client.Error](err)
		switch {
		case err == nil && len(got.Data) > 8:
			for i := range 8 {
				out.value |= uint64(got.Data[i]) << (8 * i)
			}
			if !bytes.Equal(got.Data, historyArray(out.value).Data) {
				h.k.t.Errorf("get %s: bytes of more than one array", name)
			}
			return out
		case errors.Is(err, client.ErrNotFound):
			return out
		case !ok || !e.Closed && !e.Retryable:
			h.k.t.Errorf("get %s: %v", name, err)
			return out
		}
	}
}

func (h *history) remove(name string) (out historyOutput) {
	c := h.connect()
	defer c.Close()
	err := c.Delete(h.k.t.Context(), name)
	e, ok := errors.AsType[*client.Error](err)
	switch {
	case errors.Is(err, client.ErrNotFound):
		out.refused = true
	case ok && (e.Closed || e.Retryable):
		out.unknown = true
	case err != nil:
		h.k.t.Errorf("delete %s: %v", name, err)
	}
	return out
}
