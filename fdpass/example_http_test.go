//go:build linux

package fdpass_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"

	"ndferry/fdpass"
)

// One process accepts, another serves: the parent never reads a byte of a
// client, and a client never sees more than one server.
func Example_httpServer() {
	if os.Getenv("EXAMPLE_WORKER") != "" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
		os.Exit(0)
	}
	worker, stop, err := startWorker()
	if err != nil {
		fmt.Println(err)
		return
	}
	defer stop()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer ln.Close()
	go accept(ln, worker)

	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range 3 {
		resp, err := client.Get("http://" + ln.Addr().String())
		if err != nil {
			fmt.Println(err)
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			fmt.Println(err)
			return
		}
		pid, _ := strconv.Atoi(string(body))
		fmt.Println(resp.StatusCode, "from another process:", pid > 0 && pid != os.Getpid())
	}
	// Output:
	// 200 from another process: true
	// 200 from another process: true
	// 200 from another process: true
}

// startWorker starts this program again with one end of a channel.
func startWorker() (*fdpass.Conn, func(), error) {
	channel, end, err := fdpass.PairFile(fdpass.Seqpacket)
	if err != nil {
		return nil, nil, err
	}
	defer end.Close()
	cmd := exec.Command("/proc/self/exe", "-test.run=^Example_httpServer$")
	cmd.Env = append(os.Environ(), "EXAMPLE_WORKER=1")
	cmd.ExtraFiles = []*os.File{end}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		channel.Close()
		return nil, nil, err
	}
	return channel, func() { channel.Close(); cmd.Wait() }, nil
}

// accept lends each connection to the worker. It keeps its own copy until the
// worker has answered: until then the worker may die without having it.
func accept(ln net.Listener, worker *fdpass.Conn) {
	for {
		c, err := ln.Accept()
		if err != nil {
			return
		}
		err = worker.Send([]byte(c.RemoteAddr().String()), c.(*net.TCPConn))
		if err == nil {
			_, _, err = worker.Recv(make([]byte, 1))
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, "not served:", err)
		}
		c.Close()
	}
}

// serve runs in the worker. It is an ordinary HTTP server whose connections
// come out of the channel.
func serve() error {
	channel, err := fdpass.Inherited(3)
	if err != nil {
		return err
	}
	defer channel.Close()
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, os.Getpid()) })
	err = (&http.Server{Handler: handler}).Serve(received{channel})
	if errors.Is(err, fdpass.ErrPeerGone) {
		return nil
	}
	return err
}

// received is a net.Listener on a channel.
type received struct{ channel *fdpass.Conn }

func (r received) Accept() (net.Conn, error) {
	buf := make([]byte, 256)
	_, files, err := r.channel.RecvContext(context.Background(), buf)
	if err != nil {
		return nil, err
	}
	defer files.Close()
	if err := files.Expect(1); err != nil {
		return nil, err
	}
	c, err := files.TakeConn(0)
	if err != nil {
		return nil, err
	}
	if err := r.channel.Send([]byte{1}); err != nil { // taken: the parent may let go
		c.Release()
		return nil, err
	}
	return c, nil
}

func (r received) Close() error   { return r.channel.Close() }
func (r received) Addr() net.Addr { return &net.UnixAddr{Net: "unixpacket"} }
