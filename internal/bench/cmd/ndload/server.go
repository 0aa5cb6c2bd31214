package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// server is the directory of the server's process in /proc; empty when it is not found.
type server string

// serverOf finds the process on this machine that serves addr.
func serverOf(addr string) server {
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, name := range lines {
		text, err := os.ReadFile(name)
		args := bytes.Split(text, []byte{0})
		has := func(s string) bool {
			return slices.ContainsFunc(args, func(a []byte) bool { return string(a) == s })
		}
		if err == nil && has("serve") && has(addr) {
			return server(filepath.Dir(name))
		}
	}
	return ""
}

// files is how many descriptors the server has open, but for arrays in memory: a store keeps some of these for the next.
func (s server) files() (n int) {
	if s == "" {
		return 0
	}
	list, err := os.ReadDir(filepath.Join(string(s), "fd"))
	if err != nil {
		return 0
	}
	for _, e := range list {
		to, err := os.Readlink(filepath.Join(string(s), "fd", e.Name()))
		if err == nil && !strings.HasPrefix(to, "/memfd:") {
			n++
		}
	}
	return n
}

// quiet is files when nobody is connected any more: the least of some time.
func (s server) quiet() int {
	n := s.files()
	for range 20 {
		time.Sleep(10 * time.Millisecond)
		n = min(n, s.files())
	}
	return n
}

// settled is files when it is back at before, or after 20 s.
func (s server) settled(before int) int {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if n := s.files(); n <= before || time.Now().After(deadline) {
			return n
		}
	}
}

// peak is the most memory that the server had, in MiB.
func (s server) peak() float64 {
	text, _ := os.ReadFile(filepath.Join(string(s), "status"))
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	kib := 0.0
	_, _ = fmt.Sscan(rest, &kib)
	return kib / 1024
}
