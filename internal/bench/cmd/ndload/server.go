package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
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

// files is how many descriptors the server has open.
func (s server) files() int {
	if s == "" {
		return 0
	}
	list, err := os.ReadDir(filepath.Join(string(s), "fd"))
	if err != nil {
		return 0
	}
	return len(list)
}

// settled is files when it is back at before, or after 20 s.
func (s server) settled(before int) int {
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if n := s.files(); n <= before || time.Now().After(deadline) {
			return n
		}
	}
}
