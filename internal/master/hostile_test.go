//go:build linux

package master

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"ndferry/fdpass/fdtest"
	"ndferry/internal/handover"
)

// beHostile is a worker that is ready and then sends what obeys nobody.
//
//	return N KIND   RETURN with N descriptors, of which the last is of the kind
//	frame NAME      a frame of hostileFrames, with a descriptor of a file
func beHostile(w *handover.Worker, what []string) int {
	fail := func(err error) int {
		fmt.Fprintln(os.Stderr, "hostile worker:", err)
		return 1
	}
	var frame []byte
	var fds []int
	switch what[0] {
	case "return":
		n, err := strconv.Atoi(what[1])
		if err != nil {
			return fail(err)
		}
		fds = slices.Repeat([]int{2}, n)
		r := handover.Return{}
		if n > 0 {
			if fds[n-1], err = hostileFD(what[2], what[3:]); err != nil {
				return fail(err)
			}
			r.Cookie, _ = handover.Cookie(fds[n-1]) // of what is a socket at all it is right
		}
		frame = handover.AppendFrame(nil, handover.Frame{Version: 1, Kind: handover.KindReturn, Critical: true, Files: 1, Generation: w.Generation(), Body: r.AppendBody(nil)})
	case "frame":
		frame, fds = hostileFrames(w.Generation())[what[1]], []int{2}
	}
	if err := unix.Sendmsg(handover.ChannelFD, frame, unix.UnixRights(fds...), nil, unix.MSG_NOSIGNAL); err != nil {
		return fail(err)
	}
	// It does not end by itself: the master has to see to that.
	time.Sleep(10 * time.Minute)
	return 1
}

func hostileFD(kind string, args []string) (int, error) {
	switch kind {
	case "pipe":
		var p [2]int
		err := unix.Pipe2(p[:], unix.O_CLOEXEC)
		return p[0], err
	case "directory":
		return unix.Open("/", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	case "path":
		return unix.Open("/", unix.O_PATH|unix.O_CLOEXEC, 0)
	case "epoll":
		return unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	case "listener":
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Listen(fd, 1)
		}
		return fd, err
	case "datagrams":
		return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	case "hung":
		return unix.Open(args[0]+"/file", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	}
	return -1, fmt.Errorf("no kind %q", kind)
}

func hostileFrames(generation uint32) map[string][]byte {
	frame := func(f handover.Frame) []byte { return handover.AppendFrame(nil, f) }
	g := generation
	return map[string][]byte{
		"garbage":             []byte("hello"),
		"version":             frame(handover.Frame{Version: 2, Kind: handover.KindReturn, Files: 1, Generation: g, Body: make([]byte, 40)}),
		"earlier-generation":  frame(handover.Frame{Version: 1, Kind: handover.KindReturn, Files: 1, Generation: g - 1, Body: make([]byte, 40)}),
		"later-generation":    frame(handover.Frame{Version: 1, Kind: handover.KindReturn, Files: 1, Generation: g + 1, Body: make([]byte, 40)}),
		"files-with-report":   frame(handover.Frame{Version: 1, Kind: handover.KindReport, Files: 1, Generation: g, Body: make([]byte, 17)}),
		"masters-kind":        frame(handover.Frame{Version: 1, Kind: handover.KindOffer, Files: 1, Generation: g, Body: make([]byte, 40)}),
		"unknown-critical":    frame(handover.Frame{Version: 1, Kind: 77, Critical: true, Files: 1, Generation: g}),
		"short-return":        frame(handover.Frame{Version: 1, Kind: handover.KindReturn, Files: 1, Generation: g, Body: make([]byte, 10)}),
		"larger-than-allowed": frame(handover.Frame{Version: 1, Kind: handover.KindReturn, Files: 1, Generation: g, Body: make([]byte, handover.MaxFrame-19)}),
	}
}

// hostile runs a master whose first worker sends something, and sees that the second one serves all the time, that the first is
// replaced, and that no descriptor stays (which start looks after).
func hostile(t *testing.T, what string, meanwhile func(*running)) {
	// What it was offered before it was found out goes elsewhere by Take alone where its end hangs.
	r := start(t, Config{Workers: 2, Take: time.Second, Backoff: Backoff{Min: time.Millisecond, Max: 2 * time.Millisecond}, Start: func(index int, gen uint32) []byte {
		if index == 1 && gen <= 2 {
			return []byte(what)
		}
		return nil
	}})
	for i := range 4 {
		if _, err := r.ask(fmt.Sprint("beside", i)); err != nil {
			t.Errorf("a client beside the hostile worker: %v", err)
		}
	}
	if meanwhile != nil {
		meanwhile(r)
	}
	r.await("the hostile worker is replaced", func(s Status) bool { return allReady(s) && s.Workers[0].Generation > 2 })
	r.allServe(2)
	if !strings.Contains(r.log.String(), "a worker's channel") {
		t.Error("the log does not say why")
	}
}

func TestHostileWorker_returns(t *testing.T) {
	for _, kind := range []string{"pipe", "directory", "path", "epoll", "listener", "datagrams"} {
		for _, n := range []int{1, 2, 253} {
			if n > 1 && kind != "pipe" {
				continue
			}
			t.Run(fmt.Sprint(n, " ", kind), func(t *testing.T) { hostile(t, fmt.Sprintf("hostile return %d %s", n, kind), nil) })
		}
	}
	t.Run("0", func(t *testing.T) { hostile(t, "hostile return 0", nil) })
}

// TestHostileWorker_hungFile: a worker returns a file whose close hangs. The master goes on; the worker itself, which hangs in its own
// end, is replaced when it has ended.
func TestHostileWorker_hungFile(t *testing.T) {
	h, dir := fdtest.HungMount(t)
	hostile(t, "hostile return 1 hung "+dir, func(r *running) {
		if !h.AwaitClose(1) {
			t.Error("the master does not close the file")
		}
		r.await("the hostile worker's channel is ended before that file is closed", func(s Status) bool {
			return s.Workers[0].Generation <= 2 && strings.Contains(r.log.String(), "a worker's channel")
		})
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			c, err := (&net.Dialer{}).DialContext(ctx, "tcp", r.addr)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
			if a, err := r.talk(c, fmt.Sprint("while it hangs", i)[:5]); err != nil || a.place != 2 {
				t.Errorf("worker %d, %v", a.place, err)
			}
			c.Close()
		}
		h.Release()
	})
}

func TestHostileWorker_frames(t *testing.T) {
	for name := range hostileFrames(1) {
		t.Run(name, func(t *testing.T) { hostile(t, "hostile frame "+name, nil) })
	}
}
