//go:build linux

package handover

import (
	"errors"
	"fmt"
	"math"
	"math/bits"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// State is who may read or write a connection.
type State uint8

// States of a word. Their numbers are in the memory that processes share.
const (
	Free    State = 0 // no connection
	Offered State = 1 // nobody
	Taken   State = 2 // the worker, which has not yet
	Touched State = 3 // the worker
	Revoked State = 4 // not the worker any more
	Refused State = 5 // not the worker: it did not want to
)

func (s State) String() string {
	names := [...]string{"FREE", "OFFERED", "TAKEN", "TOUCHED", "REVOKED", "REFUSED"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// The table is a page of counters and then a word for each slot. Everything is 8 bytes, in the machine's byte order: who shares it is
// on the same machine.
const (
	wordsMagic  = 0x3153_4452_4f57_444e // "NDWORDS1"
	wordsPage   = 4096
	atMagic     = 0
	atSlots     = 8
	atLive      = 16
	atTouched   = 24
	atClosed    = 32
	atAnswered  = 40
	atWanted    = 48
	atSettled   = 56
	atLatency   = 1024
	latencyBins = 256
)

// Words is the table that says who owns the connections of one worker. The master makes one for each worker that it starts; both have
// it mapped. A word is the offer's sequence in the upper 56 bits and its State in the lower 8, so that a late step for an
// older offer changes nothing. All methods may be called from any goroutine of either process until Close.
type Words struct {
	file *os.File // the memfd
	mem  []byte   // the mapping; nil after Close
}

// MakeWords makes a table of n slots, all free. Its size cannot change.
func MakeWords(n int) (*Words, error) {
	if n < 1 || n > MaxSlots {
		return nil, fmt.Errorf("handover: table of %d words, want 1 to %d", n, MaxSlots)
	}
	fd, err := unix.MemfdCreate("ndferry-words", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("handover: table of words: %w", err)
	}
	f := os.NewFile(uintptr(fd), "words")
	err = f.Truncate(wordsBytes(n))
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_SEAL)
	}
	if err == nil {
		var w *Words
		if w, err = mapWords(f, n); err == nil {
			w.at(atSlots).Store(uint64(n))
			w.at(atMagic).Store(wordsMagic)
			return w, nil
		}
	}
	return nil, errors.Join(fmt.Errorf("handover: table of words: %w", err), f.Close())
}

// OpenWords maps a table of n slots that another process made, and takes ownership of f, also on an error. Errors wrap ErrWords.
func OpenWords(f *os.File, n int) (*Words, error) {
	w, err := openWords(f, n)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return w, nil
}

func openWords(f *os.File, n int) (*Words, error) {
	// Seals first: they tell a memfd from what may hang when it is asked anything else.
	const need = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	if seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0); err != nil || seals&need != need {
		return nil, fmt.Errorf("handover: %w: seals %#x (%w)", ErrWords, seals, cmpErr(err))
	}
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("handover: %w: %w", ErrWords, err)
	}
	if n < 1 || n > MaxSlots || info.Size() != wordsBytes(n) {
		return nil, fmt.Errorf("handover: %w: %d bytes for %d slots", ErrWords, info.Size(), n)
	}
	w, err := mapWords(f, n)
	if err != nil {
		return nil, fmt.Errorf("handover: %w: %w", ErrWords, err)
	}
	if w.at(atMagic).Load() != wordsMagic || w.at(atSlots).Load() != uint64(n) {
		unix.Munmap(w.mem)
		return nil, fmt.Errorf("handover: %w: it begins with other numbers", ErrWords)
	}
	return w, nil
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("it may change its size")
	}
	return err
}

func wordsBytes(n int) int64 {
	return wordsPage + (int64(n)*8+wordsPage-1)/wordsPage*wordsPage
}

func mapWords(f *os.File, n int) (*Words, error) {
	mem, err := unix.Mmap(int(f.Fd()), 0, int(wordsBytes(n)), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return &Words{file: f, mem: mem}, nil
}

// File lends the memfd, to pass it on.
func (w *Words) File() *os.File { return w.file }

// Slots returns how many words there are.
func (w *Words) Slots() int { return int(w.at(atSlots).Load()) }

// Close unmaps and closes the table. Nobody may use it meanwhile or afterwards.
func (w *Words) Close() error {
	if w.mem == nil {
		return nil
	}
	err := errors.Join(unix.Munmap(w.mem), w.file.Close())
	w.mem = nil
	return err
}

func (w *Words) at(off int) *atomic.Uint64 {
	if off < 0 || off+8 > len(w.mem) {
		panic(fmt.Sprintf("handover: word at %d of %d bytes", off, len(w.mem)))
	}
	return (*atomic.Uint64)(unsafe.Pointer(&w.mem[off]))
}

func (w *Words) word(slot uint32) *atomic.Uint64 { return w.at(wordsPage + int(slot)*8) }

func word(seq uint64, s State) uint64 { return seq<<8 | uint64(s) }

// Offer makes the slot's word OFFERED for the offer seq. The master's; the slot must be free or its offer settled.
func (w *Words) Offer(slot uint32, seq uint64) { w.word(slot).Store(word(seq, Offered)) }

// Release makes the slot free.
func (w *Words) Release(slot uint32) { w.word(slot).Store(0) }

// State returns the state of the offer seq at the slot; Free when the word is another offer's.
func (w *Words) State(slot uint32, seq uint64) State {
	v := w.word(slot).Load()
	if v>>8 != seq&(1<<56-1) {
		return Free
	}
	return State(v & 0xff)
}

// Revoke takes an offer back, and tells whether that worked: from then on the worker cannot take it. The master's.
func (w *Words) Revoke(slot uint32, seq uint64) bool { return w.step(slot, seq, Offered, Revoked) }

// Take takes an offer, and tells whether that worked. The worker's.
func (w *Words) Take(slot uint32, seq uint64) bool { return w.step(slot, seq, Offered, Taken) }

// Touch says that the connection is read or written from now on, and tells whether it was taken. The worker's.
func (w *Words) Touch(slot uint32, seq uint64) bool {
	if !w.step(slot, seq, Taken, Touched) {
		return false
	}
	w.at(atTouched).Add(1)
	w.at(atLive).Add(1)
	return true
}

// Refuse says that the worker will not have an offer that it has not touched, and tells whether that was so. The worker's.
func (w *Words) Refuse(slot uint32, seq uint64) bool {
	return w.step(slot, seq, Offered, Refused) || w.step(slot, seq, Taken, Refused)
}

func (w *Words) step(slot uint32, seq uint64, from, to State) bool {
	if int64(slot) >= int64(w.Slots()) || int64(wordsPage)+int64(slot)*8+8 > int64(len(w.mem)) {
		return false
	}
	return w.word(slot).CompareAndSwap(word(seq, from), word(seq, to))
}

// Closed counts a connection that was touched and is closed. The worker's.
func (w *Words) Closed() {
	w.at(atClosed).Add(1)
	w.at(atLive).Add(math.MaxUint64)
}

// SetAnswered says that offers up to seq are answered, as REPORT does. The worker's.
func (w *Words) SetAnswered(seq uint64) { w.at(atAnswered).Store(seq) }

// Answered returns up to which offer they are answered, as the worker says.
func (w *Words) Answered() uint64 { return w.at(atAnswered).Load() }

// SetSettled says up to which offer the master has seen what became of them. The master's.
func (w *Words) SetSettled(seq uint64) { w.at(atSettled).Store(seq) }

// Settled returns up to which offer the master needs to be told nothing any more.
func (w *Words) Settled() uint64 { return w.at(atSettled).Load() }

// Want asks for a REPORT as soon as offers up to seq are answered; 0: for none. The master's; he looks at Answered again behind it, and
// then waits.
func (w *Words) Want(seq uint64) { w.at(atWanted).Store(seq) }

// Wanted returns what the master asked for. The worker's; it says what is answered before.
func (w *Words) Wanted() uint64 {
	if seq := w.at(atWanted).Load(); seq > 0 {
		return seq
	}
	return math.MaxUint64
}

// Live returns how many connections the worker has touched and not closed.
func (w *Words) Live() int { return int(min(w.at(atLive).Load(), math.MaxInt32)) }

// Counts returns how many connections the worker has touched and closed since its start.
func (w *Words) Counts() (touched, closed uint64) {
	return w.at(atTouched).Load(), w.at(atClosed).Load()
}

// Latency counts the time from accept to the first touch. The worker's.
func (w *Words) Latency(d time.Duration) { w.at(atLatency + 8*latencyBin(d)).Add(1) }

// latencyBin has four bins for each power of two of nanoseconds.
func latencyBin(d time.Duration) int {
	v := uint64(max(d, 1))
	log := bits.Len64(v) - 1
	if log < 2 {
		return int(v)
	}
	return min(log*4+int(v>>(log-2)&3), latencyBins-1)
}

// latencyOf is the upper end of a bin.
func latencyOf(bin int) time.Duration {
	if bin < 8 {
		return time.Duration(bin)
	}
	log := bin / 4
	return time.Duration((uint64(4+bin%4+1) << (log - 2)) - 1)
}

// Histogram is how often each time from accept to touch was. The zero value is empty.
type Histogram [latencyBins]uint64

// AddTo adds the worker's times to h.
func (w *Words) AddTo(h *Histogram) {
	for i := range h {
		h[i] += w.at(atLatency + 8*i).Load()
	}
}

// Quantile returns the time that the part q of all did not exceed, at most a quarter too much; 0 when there is none.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := uint64(0)
	for _, n := range h {
		total += n
	}
	want, sum := uint64(math.Ceil(q*float64(total))), uint64(0)
	for i, n := range h {
		if sum += n; n > 0 && sum >= want {
			return latencyOf(i)
		}
	}
	return 0
}
