package dir

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/store"
)

// receiptLog is state/receipts: which commits were begun, published, given up (STORE.md §3). What it says is in memory too. It is
// appended to under the lock on names, by all processes; each takes in what the others have appended before it appends, and before it
// answers. After a failed append the whole log is written anew before the next one.
type receiptLog struct {
	s *Store

	mu        sync.Mutex
	f         File                       // guarded by mu; nil: reload opens it
	file      uint64                     // guarded by mu: words.log of f
	end       int64                      // guarded by mu: of the last record that was taken in
	undecided map[store.ID]store.Receipt // guarded by mu: intents without outcome
	entries   map[store.ID]logEntry      // guarded by mu: commits that are done
}

type logEntry struct {
	receipt store.Receipt
	done    time.Time
}

// openReceipts reads the log, or begins one. It forgets receipts that are older than receiptLife. The lock on names must be held.
func openReceipts(s *Store) (*receiptLog, error) {
	l := &receiptLog{s: s}
	l.mu.Lock()
	defer l.mu.Unlock()
	rewrite, err := l.reload()
	if err != nil {
		return nil, errors.Join(err, l.closeFile())
	}
	for id, e := range l.entries {
		if s.now().Sub(e.done) > receiptLife {
			delete(l.entries, id)
			rewrite = true
		}
	}
	if rewrite || s.names.words.broken != 0 {
		err = l.rewrite()
	} else {
		// What a killed server wrote may be in memory only.
		err = l.f.Sync()
	}
	if err != nil {
		return nil, errors.Join(err, l.closeFile())
	}
	return l, nil
}

// reload opens the log and takes it in from its beginning. It reports whether it should be written anew.
func (l *receiptLog) reload() (rewrite bool, err error) {
	f, err := l.s.fs.OpenFile(receiptsFile, true)
	missing := errors.Is(err, fs.ErrNotExist)
	if err != nil && !missing {
		return false, err
	}
	_ = l.closeFile()
	l.undecided, l.entries, l.end = map[store.ID]store.Receipt{}, map[store.ID]logEntry{}, 0
	l.file = l.s.names.words.log
	if missing {
		return true, nil
	}
	l.f = f
	return l.read()
}

// catchUp takes in what other processes have appended, and makes the log whole again when one failed or died over it. The lock on names
// must be held.
func (l *receiptLog) catchUp() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	w := l.s.names.words
	rewrite := false
	if l.f == nil || l.file != w.log {
		var err error
		if rewrite, err = l.reload(); err != nil {
			return err
		}
	} else if whole, err := l.follow(); err != nil {
		return err
	} else {
		rewrite = !whole
	}
	if rewrite || w.broken != 0 {
		return l.rewrite()
	}
	return nil
}

// follow takes in the records behind end and reports whether the file ends with the last of them.
func (l *receiptLog) follow() (whole bool, err error) {
	size, err := l.f.Size()
	if err != nil || size == l.end {
		return err == nil, err
	}
	r := &records{src: l.f, file: receiptsFile, size: size, off: l.end}
	for {
		kind, body, at, err := r.next()
		if err == nil {
			err = l.apply(kind, body)
		}
		switch {
		case err == io.EOF:
			return true, nil
		case err != nil && (errors.Is(err, store.ErrIntegrity) || at < r.off):
			return false, nil // torn, or being written
		case err != nil:
			return false, err
		}
		l.end = r.off
	}
}

// read takes in the whole log and reports whether it should be written anew. A damaged log costs the receipts that it cannot tell any
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
	return rewrite || records > 2*(len(l.entries)+len(l.undecided)), nil
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
		delete(l.entries, receipt.ID)
		l.undecided[receipt.ID] = receipt
	case recordDone:
		if len(body) != 24 {
			return fmt.Errorf("DONE of %d bytes", len(body))
		}
		if r, ok := l.undecided[store.ID(body)]; ok {
			delete(l.undecided, r.ID)
			l.entries[r.ID] = logEntry{r, time.Unix(0, int64(binary.LittleEndian.Uint64(body[16:])))}
		}
	case recordDropped:
		if len(body) != 16 {
			return fmt.Errorf("DROPPED of %d bytes", len(body))
		}
		delete(l.undecided, store.ID(body))
	default:
		return fmt.Errorf("record of unknown type %d", kind)
	}
	return nil
}

// find returns the receipt of a commit that is done. settled is false when only the lock on names tells: there is an intent without
// outcome, or the log is not whole.
func (l *receiptLog) find(id store.ID) (receipt *store.Receipt, settled bool, err error) {
	w, err := l.s.names.peek()
	if err != nil {
		return nil, false, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.broken != 0 || l.f == nil || w.log != l.file {
		return nil, false, nil
	}
	if _, err := l.follow(); err != nil {
		return nil, false, err
	}
	if _, open := l.undecided[id]; open {
		return nil, false, nil
	}
	if e, ok := l.entries[id]; ok {
		return &e.receipt, true, nil
	}
	return nil, true, nil
}

// intents returns the receipts of commits of which the outcome is not logged.
func (l *receiptLog) intents() []store.Receipt {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.undecided))
}

// intent logs, durably or not, that a commit is about to be published. The lock on names must be held, here and below.
func (l *receiptLog) intent(r store.Receipt, durable bool) error {
	body, err := json.Marshal(encodeReceipt(r))
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.undecided[r.ID] = r
	if err := l.append(recordIntent, body, durable); err != nil {
		delete(l.undecided, r.ID)
		return err
	}
	return nil
}

// done logs that a commit is published and durable. The receipt stands even when the log fails: repair finds the array published.
func (l *receiptLog) done(id store.ID, durable bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := logEntry{l.undecided[id], l.s.now()}
	delete(l.undecided, id)
	l.entries[id] = e
	body := binary.LittleEndian.AppendUint64(id[:], uint64(e.done.UnixNano()))
	return l.append(recordDone, body, durable)
}

// dropped logs, durably, that an intent was not published.
func (l *receiptLog) dropped(id store.ID) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.undecided, id)
	return l.append(recordDropped, id[:], true)
}

// append appends a record. After an error nobody appends before the log is written anew.
func (l *receiptLog) append(kind recordType, body []byte, durable bool) error {
	if l.s.names.words.broken != 0 {
		return l.rewrite()
	}
	record := appendRecord(nil, kind, body)
	_, err := l.f.WriteAt(record, l.end)
	if err == nil && durable {
		err = l.f.Sync()
	}
	if err != nil {
		return errors.Join(err, l.setBroken())
	}
	l.end += int64(len(record))
	return nil
}

// setBroken tells all processes that the log is to be written anew.
func (l *receiptLog) setBroken() error {
	return l.s.names.put(func(w *words) { w.broken = 1 }, "")
}

// restore writes the log anew after a failed append, so that nothing of what failed is in it.
func (l *receiptLog) restore() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rewrite()
}

// rewrite replaces the log by one of what is in memory, durably.
func (l *receiptLog) rewrite() error {
	if err := l.setBroken(); err != nil {
		return err
	}
	text := appendPreamble(nil, receiptsMagic)
	appendIntent := func(r store.Receipt) error {
		body, err := json.Marshal(encodeReceipt(r))
		text = appendRecord(text, recordIntent, body)
		return err
	}
	for id, e := range l.entries {
		if err := appendIntent(e.receipt); err != nil {
			return err
		}
		text = appendRecord(text, recordDone, binary.LittleEndian.AppendUint64(id[:], uint64(e.done.UnixNano())))
	}
	for _, r := range l.undecided {
		if err := appendIntent(r); err != nil {
			return err
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
	if err := l.s.names.put(func(w *words) { w.log, w.broken = w.log+1, 0 }, ""); err != nil {
		return errors.Join(err, f.Close())
	}
	_ = l.closeFile()
	l.f, l.end, l.file = f, int64(len(text)), l.s.names.words.log
	return nil
}

func (l *receiptLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closeFile()
}

func (l *receiptLog) closeFile() error {
	if l.f == nil {
		return nil
	}
	f := l.f
	l.f = nil
	return f.Close()
}
