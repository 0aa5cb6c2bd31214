//go:build linux

package handover

import (
	"testing"
	"time"

	"ndferry/fdpass"
)

// TestTurn_reports: a worker tells a master that looks into the table nothing by a frame, but what it asked for and what it does not look at. Time
// is what the test says.
func TestTurn_reports(t *testing.T) {
	e := pairWith(t, WorkerConfig{}, FeatureAnswered)
	var timers []func()
	if _, err := e.worker.Attach(func(d time.Duration, f func()) {
		if d != ReportLate {
			t.Errorf("a timer of %v", d)
		}
		timers = append(timers, f)
	}); err != nil {
		t.Fatal(err)
	}
	fire := func() {
		now := timers
		timers = nil
		for _, f := range now {
			f()
		}
	}
	_, ours, cookie := client(t)
	serve := func() {
		t.Helper()
		e.offer(Meta{Cookie: cookie}, ours)
		if ended, err := e.worker.Turn(func(*Conn) error { return nil }, nil); ended || err != nil {
			t.Fatal(ended, err)
		}
		if got := e.words.Answered(); got != e.seq {
			t.Fatalf("the table says that %d are answered of %d", got, e.seq)
		}
	}
	told := func() (answered uint64) {
		t.Helper()
		var files fdpass.Files
		buf := make([]byte, 200)
		n, ok, err := e.master.conn.TryRecv(buf, &files)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			return 0
		}
		f, err := ParseFrame(buf[:n])
		var r Report
		if err != nil || f.Kind != KindReport || r.ParseBody(f.Body) != nil {
			t.Fatalf("%v, %v", f.Kind, err)
		}
		return r.Answered
	}
	serve() // 1
	serve() // 2
	if n := told(); n != 0 || len(timers) != 1 {
		t.Errorf("told of %d, %d timers", n, len(timers))
	}
	e.words.SetSettled(1) // it looks
	fire()
	if n := told(); n != 0 || len(timers) != 1 {
		t.Errorf("a master that looks was told of %d, %d timers", n, len(timers))
	}
	e.words.SetSettled(2)
	fire()
	if n := told(); n != 0 || len(timers) != 0 {
		t.Errorf("a master that knows was told of %d, %d timers", n, len(timers))
	}
	serve() // 3
	fire()
	if n := told(); n != 3 {
		t.Errorf("a master that does not look was told of %d", n)
	}
	e.words.Want(5)
	serve() // 4
	if n := told(); n != 0 {
		t.Errorf("a master that wants to hear of 5 was told of %d", n)
	}
	serve() // 5
	if n := told(); n != 5 {
		t.Errorf("a master that wants to hear of 5 was told of %d", n)
	}
	serve() // 6
	if n := told(); n != 0 {
		t.Errorf("what was wanted once was told again: %d", n)
	}
	fire()
	if n := told(); n != 6 {
		t.Errorf("at last it was told of %d", n)
	}
	e.worker.Drain()
	e.offer(Meta{Cookie: cookie}, ours)
	if ended, err := e.worker.Turn(func(*Conn) error { t.Error("served"); return nil }, nil); ended || err != nil {
		t.Fatal(ended, err)
	}
	if r := e.refusal(); r.Sequence != 7 || r.Reason != ReasonDraining {
		t.Errorf("%+v", r)
	}
	if n := told(); n != 7 {
		t.Errorf("of a worker that takes nothing new it was told of %d", n)
	}
}
