package dir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/store"
)

// receiptLog is state/receipts: which commits were begun, published, given up (STORE.md §3). What it says is in memory too; after
// a failed append the whole log is written anew before the next one.
type receiptLog struct {
	s *Store

	mu      sync.Mutex
	f       File
	end     int64                  // guarded by mu: where the next record goes
	broken  bool                   // guarded by mu: what the file holds is not known
	entries map[store.ID]*logEntry // guarded by mu
}

type logEntry struct {
	receipt store.Receipt
	done    time.Time // zero: an intent
}

// openReceipts reads the log, or begins one. It forgets receipts that are older than receiptLife.
func openReceipts(s *Store) (*receiptLog, error) {
	l := &receiptLog{s: s, entries: map[store.ID]*logEntry{}}
	f, err := s.fs.OpenFile(receiptsFile, true)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	rewrite := err != nil
	if err == nil {
		l.f = f
		if rewrite, err = l.read(); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	for id, e := range l.entries {
		if !e.done.IsZero() && s.now().Sub(e.done) > receiptLife {
			delete(l.entries, id)
			rewrite = true
		}
	}
	if rewrite {
		err = l.rewrite()
	} else {
		// What a killed server wrote may be in memory only.
		err = l.f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, l.close())
	}
	return l, nil
}

// read takes in the log and reports whether it should be written anew. A damaged log costs the receipts that it cannot tell any
// more, not the service: a copy of it stays as receipts.damaged.
func (l *receiptLog) read() (rewrite bool, err error) {
	size, err := l.f.Size()
	if err != nil {
		return false, err
	}
	r, err := openRecords(l.f, receiptsFile, receiptsMagic, size)
	if errors.Is(err, store.ErrIntegrity) {
		return true, l.setAside(err)
	}
	if err != nil {
		return false, err
	}
	records, damaged := 0, false
	for {
		kind, body, at, err := r.next()
		if err == nil {
			records++
			err = l.apply(kind, body)
			if err != nil {
				err = r.damaged(at, err.Error())
			}
		} else if errors.Is(err, store.ErrIntegrity) && !errors.Is(err, errTorn) && r.skip() {
			damaged = true
			continue
		}
		switch {
		case err == io.EOF:
		case err == nil:
			continue
		case errors.Is(err, errTorn) && size-r.off <= tornReceipts:
			rewrite = true
		case errors.Is(err, store.ErrIntegrity):
			return true, l.setAside(err)
		default:
			return false, err
		}
		break
	}
	if damaged {
		return true, l.setAside(&damage{receiptsFile, 0, "damaged records"})
	}
	l.end = r.off
	return rewrite || records > 2*len(l.entries), nil
}

// setAside keeps a copy of a damaged log. The log itself stays until rewrite has put a whole one in its place: a crash in between
// must not cost the receipts that it still tells.
func (l *receiptLog) setAside(cause error) error {
	const damaged = receiptsFile + ".damaged"
	l.s.log.Error("store: the log of receipts is damaged; what it still tells is kept, transfers whose receipts are lost store again when they are asked for again",
		"error", cause, "copy", damaged)
	temp := l.s.trash.next()
	defer l.s.trash.release(temp)
	f, err := l.s.fs.Create(temp)
	if err != nil {
		return err
	}
	if err := errors.Join(l.copyTo(f), f.Close()); err != nil {
		return err
	}
	return l.s.fs.Rename(temp, damaged, RenameReplace)
}

func (l *receiptLog) copyTo(f File) error {
	size, err := l.f.Size()
	if err != nil {
		return err
	}
	block := make([]byte, 1<<20)
	for off := int64(0); off < size; off += int64(len(block)) {
		block = block[:min(int64(len(block)), size-off)]
		if _, err := l.f.ReadAt(block, off); err != nil {
			return err
		}
		if _, err := f.WriteAt(block, off); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (l *receiptLog) apply(kind recordType, body []byte) error {
	switch kind {
	case recordIntent:
		var b receiptBody
		if err := json.Unmarshal(body, &b); err != nil {
			return fmt.Errorf("INTENT: %w", err)
		}
		receipt, err := b.decode()
		if err != nil {
			return fmt.Errorf("INTENT: %w", err)
		}
		l.entries[receipt.ID] = &logEntry{receipt: receipt}
	case recordDone:
		if len(body) != 24 {
			return fmt.Errorf("DONE of %d bytes", len(body))
		}
		if e := l.entries[store.ID(body)]; e != nil {
			e.done = time.Unix(0, int64(binary.LittleEndian.Uint64(body[16:])))
		}
	case recordDropped:
		if len(body) != 16 {
			return fmt.Errorf("DROPPED of %d bytes", len(body))
		}
		delete(l.entries, store.ID(body))
	default:
		return fmt.Errorf("record of unknown type %d", kind)
	}
	return nil
}

// get returns the receipt of a commit that is done.
func (l *receiptLog) get(id store.ID) (store.Receipt, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	if e == nil || e.done.IsZero() {
		return store.Receipt{}, false
	}
	return e.receipt, true
}

// intents returns the receipts of commits of which the outcome is not logged.
func (l *receiptLog) intents() []store.Receipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	var list []store.Receipt
	for _, e := range l.entries {
		if e.done.IsZero() {
			list = append(list, e.receipt)
		}
	}
	return list
}

// intent logs, durably or not, that a commit is about to be published.
func (l *receiptLog) intent(r store.Receipt, durable bool) error {
	body, err := json.Marshal(encodeReceipt(r))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries[r.ID] = &logEntry{receipt: r}
	if err := l.append(recordIntent, body, durable); err != nil {
		delete(l.entries, r.ID)
		return err
	}
	return nil
}

// done logs that a commit is published and durable. The receipt stands even when the log fails: recovery finds the array
// published.
func (l *receiptLog) done(id store.ID, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.entries[id]
	e.done = l.s.now()
	body := binary.LittleEndian.AppendUint64(id[:], uint64(e.done.UnixNano()))
	return l.append(recordDone, body, durable)
}

// dropped logs, durably, that an intent was not published.
func (l *receiptLog) dropped(id store.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, id)
	return l.append(recordDropped, id[:], true)
}

func (l *receiptLog) append(kind recordType, body []byte, durable bool) error {
	if l.broken {
		return l.rewrite()
	}
	record := appendRecord(nil, kind, body)
	_, err := l.f.WriteAt(record, l.end)
	if err == nil && durable {
		err = l.f.Sync()
	}
	l.broken = err != nil
	l.end += int64(len(record))
	return err
}

// repair makes the log whole again after a failed append.
func (l *receiptLog) repair() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.broken {
		return nil
	}
	return l.rewrite()
}

// rewrite replaces the log by one of what is in memory, durably.
func (l *receiptLog) rewrite() error {
	l.broken = true
	text := appendPreamble(nil, receiptsMagic)
	for id, e := range l.entries {
		body, err := json.Marshal(encodeReceipt(e.receipt))
		if err != nil {
			return err
		}
		text = appendRecord(text, recordIntent, body)
		if !e.done.IsZero() {
			text = appendRecord(text, recordDone, binary.LittleEndian.AppendUint64(id[:], uint64(e.done.UnixNano())))
		}
	}
	temp := l.s.trash.next()
	defer l.s.trash.release(temp)
	if err := l.s.writeFile(temp, text, true); err != nil {
		return err
	}
	if err := l.s.fs.Rename(temp, receiptsFile, RenameReplace); err != nil {
		return err
	}
	if err := l.s.fs.SyncDir(stateDir); err != nil {
		return err
	}
	f, err := l.s.fs.OpenFile(receiptsFile, true)
	if err != nil {
		return err
	}
	if l.f != nil {
		l.f.Close()
	}
	l.f, l.end, l.broken = f, int64(len(text)), false
	return nil
}

func (l *receiptLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.f == nil {
		return nil
	}
	return l.f.Close()
}
