//go:build linux || darwin || freebsd

// Package control is the socket on which a server tells its operator how it does: one request, a line, and one answer, a JSON object.
package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"

	"ndferry/fdpass"
)

const (
	maxRequest = 1 << 10
	maxAnswer  = 4 << 20
	patience   = 5 * time.Second // for a request and its answer
	maxClients = 16
)

// DefaultPath is where a server's control socket is unless one says otherwise: below $XDG_RUNTIME_DIR; for root below /run; else in a
// directory of the user's own among the temporary files.
func DefaultPath(lookupEnv func(string) (string, bool)) string {
	const name = "control.sock"
	if dir, ok := lookupEnv("XDG_RUNTIME_DIR"); ok && filepath.IsAbs(dir) {
		return filepath.Join(dir, "ndferry", name)
	}
	uid := os.Geteuid()
	if uid == 0 {
		return filepath.Join("/run/ndferry", name)
	}
	return filepath.Join(os.TempDir(), "ndferry-"+strconv.Itoa(uid), name)
}

// Errors of Listen to test for with errors.Is, beside those of package fs.
var (
	ErrInUse     = fdpass.ErrInUse
	ErrNotSocket = fdpass.ErrNotSocket
	ErrDirectory = fdpass.ErrDirectory
)

// Server answers requests. Close ends it.
type Server struct {
	ln      *fdpass.PathListener
	answers map[string]func() any // immutable
	slots   chan struct{}
}

// Listen answers on the path, which only this user and root may use, with what the functions return for the requests that they are
// named for. They are called from several goroutines. The directory is made with mode 0700 when it is missing, and must be this user's own.
func Listen(path string, answers map[string]func() any) (*Server, error) {
	ln, err := fdpass.ListenPath(path, fdpass.PathConfig{Type: fdpass.Stream})
	if err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	s := &Server{ln: ln, answers: answers, slots: make(chan struct{}, maxClients)}
	go s.serve()
	return s, nil
}

// Close stops answering and removes the socket.
func (s *Server) Close() error { return s.ln.Close() }

func (s *Server) serve() {
	for {
		c, err := s.ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(50 * time.Millisecond) // out of descriptors, most likely
			continue
		}
		s.slots <- struct{}{}
		go func() {
			defer func() { <-s.slots }()
			defer c.Close()
			_ = s.answer(c) // the client sees it
		}()
	}
}

func (s *Server) answer(c net.Conn) error {
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	line, err := bufio.NewReader(io.LimitReader(c, maxRequest)).ReadString('\n')
	if err != nil {
		return err
	}
	var result any = map[string]string{"error": fmt.Sprintf("unknown request %q", line)}
	if f, ok := s.answers[strings.TrimSuffix(line, "\n")]; ok {
		result = f()
	}
	text, err := json.Marshal(result, json.Deterministic(true))
	if err != nil {
		return err
	}
	_, err = c.Write(append(text, '\n'))
	return err
}

// Ask sends a request to the server at the path and decodes its answer into result. What this program does not know of it is ignored.
// Errors to test for: syscall.ECONNREFUSED and fs.ErrNotExist when no server is there.
func Ask(ctx context.Context, path, request string, result any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return fmt.Errorf("control: %w", err)
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	if err := c.SetDeadline(deadline); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	if _, err := io.WriteString(c, request+"\n"); err != nil {
		return fmt.Errorf("control: ask %s: %w", path, err)
	}
	text, err := io.ReadAll(io.LimitReader(c, maxAnswer))
	if err != nil {
		return fmt.Errorf("control: ask %s: %w", path, err)
	}
	var failed struct {
		Error string `json:"error"`
	}
	if err := json.Unmarshal(text, &failed); err != nil {
		return fmt.Errorf("control: the answer of %s: %w", path, err)
	}
	if failed.Error != "" {
		return fmt.Errorf("control: %s says: %s", path, failed.Error)
	}
	if err := json.Unmarshal(text, result); err != nil {
		return fmt.Errorf("control: the answer of %s: %w", path, err)
	}
	return nil
}
