//go:build linux

package fdpass

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
)

// freePair is pair without a deadline: its calls begin past the poller.
func freePair(t testing.TB, typ Type) (*Conn, *Conn) {
	t.Helper()
	a, b, err := Pair(typ)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

// Without a deadline the same messages arrive, and RecvInto uses its set again.
func TestQuick(t *testing.T) {
	for _, typ := range []Type{Seqpacket, Stream} {
		t.Run(typ.String(), func(t *testing.T) {
			audit(t)
			a, b := freePair(t, typ)
			files, same := memfds(t, MaxFiles)
			var set Files
			buf := make([]byte, 100)
			for _, n := range []int{0, 1, 5, MaxFiles, 2, 0} {
				if err := a.Send([]byte("hello"), conns(files[:n])...); err != nil {
					t.Fatal(err)
				}
				got, err := b.RecvInto(buf, &set)
				if err != nil || string(buf[:got]) != "hello" || set.Len() != n {
					t.Fatalf("%q with %d descriptors, want %d, %v", buf[:got], set.Len(), n, err)
				}
				fdtest.Cloexec(t)
				for i := range n {
					if !same(set.Peek(i), i) {
						t.Errorf("descriptor %d is not the one that was lent", i)
					}
				}
			}
			if err := a.Send([]byte("hello"), files[0], files[1]); err != nil {
				t.Fatal(err)
			}
			if _, err := b.RecvInto(buf, &set); err != nil {
				t.Fatal(err)
			}
			kept, err := set.Take(1)
			if err != nil {
				t.Fatal(err)
			}
			if err := a.Send([]byte("next")); err != nil {
				t.Fatal(err)
			}
			if _, err := b.RecvInto(buf, &set); err != nil || set.Len() != 0 {
				t.Fatal(err)
			}
			if !same(kept, 1) {
				t.Error("RecvInto closed what had been taken")
			}
			unix.Close(kept)
		})
	}
}

// What is not a plain message ends a quick turn like any other.
func TestQuick_failures(t *testing.T) {
	audit(t)
	a, b := freePair(t, Seqpacket)
	files, _ := memfds(t, 6)
	var set Files
	small, room := make([]byte, 1), make([]byte, 100)
	if err := a.Send([]byte("long"), conns(files)...); err != nil {
		t.Fatal(err)
	}
	if _, err := b.RecvInto(small, &set); !errors.Is(err, ErrTruncated) || set.Len() != 0 {
		t.Fatalf("truncated: %v, %d descriptors", err, set.Len())
	}
	rawSend(t, a, nil, 0)
	if _, err := b.RecvInto(room, &set); !errors.Is(err, ErrEmpty) || set.Len() != 0 {
		t.Fatalf("empty: %v", err)
	}
	if err := a.SendFDs([]byte("x"), 99999); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("closed number: %v", err)
	}
	if err := a.Send([]byte("x"), a); !errors.Is(err, errSelf) {
		t.Fatalf("itself: %v", err)
	}
	if err := a.Send([]byte("next"), files[0]); err != nil {
		t.Fatal(err)
	}
	if n, err := b.RecvInto(room, &set); err != nil || n != 4 || set.Expect(1) != nil {
		t.Fatalf("next: %v", err)
	}
	set.Close()
	a.SetDeadline(time.Unix(1, 0)) // holds from now on, also with room in the queue
	if err := a.Send([]byte("x")); !errors.Is(err, ErrTimeout) {
		t.Fatalf("deadline: %v", err)
	}
	a.Close()
	if _, err := b.RecvInto(room, &set); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("end: %v", err)
	}
	if err := b.Send([]byte("x"), files[0]); !errors.Is(err, ErrPeerGone) {
		t.Fatalf("send after the end: %v", err)
	}
	b.Close()
	if _, err := b.RecvInto(room, &set); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("recv after close: %v", err)
	}
	if err := b.Send([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Fatalf("send after close: %v", err)
	}
}

// Close while others send and receive: they end with an error that says so, and
// never touch a descriptor that got the same number.
func TestQuick_closeMeanwhile(t *testing.T) {
	audit(t)
	files, _ := memfds(t, 1)
	for range 200 {
		a, b, err := Pair(Seqpacket)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		var moved atomic.Int32
		wg.Go(func() {
			for {
				if err := a.Send([]byte("x"), files[0]); err != nil {
					if !errors.Is(err, net.ErrClosed) && !errors.Is(err, ErrPeerGone) {
						t.Error(err)
					}
					return
				}
			}
		})
		wg.Go(func() {
			var set Files
			defer set.Close()
			for {
				if _, err := b.RecvInto(make([]byte, 1), &set); err != nil {
					if !errors.Is(err, net.ErrClosed) && !errors.Is(err, ErrPeerGone) {
						t.Error(err)
					}
					return
				}
				moved.Add(1)
			}
		})
		for moved.Load() < 3 {
			time.Sleep(10 * time.Microsecond)
		}
		for _, c := range []*Conn{a, b} {
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
		}
		// These take the numbers that are free now; a late call would read here.
		c, d, err := Pair(Seqpacket)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(c.Send([]byte("1")), d.Send([]byte("2"))); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		buf := make([]byte, 4)
		for want, c := range map[string]*Conn{"2": c, "1": d} {
			if n, set, err := c.Recv(buf); err != nil || string(buf[:n]) != want || set.Len() != 0 {
				t.Fatalf("%q, %v", buf[:n], err)
			}
			c.Close()
		}
	}
}

// Many goroutines share ends that have no deadline; a reader waits for each
// message, and every one arrives whole, once.
func TestQuick_manyGoroutines(t *testing.T) {
	audit(t)
	a, b := freePair(t, Seqpacket)
	files, _ := memfds(t, 1)
	const workers, each = 4, 2000
	var got [workers * each]atomic.Int32
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				if err := a.Send(fmt.Appendf(nil, "%d", w*each+i), files[0]); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			buf := make([]byte, 20)
			var set Files
			defer set.Close()
			for range each {
				n, err := b.RecvInto(buf, &set)
				if err == nil {
					err = set.Expect(1)
				}
				if err != nil {
					t.Error(err)
					return
				}
				i, _ := strconv.Atoi(string(buf[:n]))
				got[i].Add(1)
			}
		})
	}
	wg.Wait()
	for i := range got {
		if n := got[i].Load(); n != 1 {
			t.Fatalf("message %d arrived %d times", i, n)
		}
	}
}
