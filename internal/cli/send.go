package cli

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
	"ndferry/internal/worker"
)

// directFlags are what send and recv share.
type directFlags struct {
	timeout  time.Duration
	deadline time.Duration
}

func (f *directFlags) add(cmd *cobra.Command) {
	cmd.Flags().DurationVar(&f.timeout, "timeout", client.DefaultTimeout, "longest wait for progress, 0 for none")
	cmd.Flags().DurationVar(&f.deadline, "deadline", 0, "longest time for the whole command, 0 for none")
}

// connection is what flags of the same names mean to a command that speaks to a server.
func (f *directFlags) connection(addr *client.Addr) *clientFlags {
	return &clientFlags{addr: addr, timeout: f.timeout, deadline: f.deadline}
}

func newSendCmd(a *app) *cobra.Command {
	flags := putFlags{chunk: client.DefaultChunk, durability: "durable", resume: resumeOff, streams: 1}
	var direct directFlags
	var to addrValue
	cmd := &cobra.Command{
		Use:   "send FILE.npy|- --to ADDR",
		Short: "Send an array directly to another program",
		Long: `Send the array of a .npy file, or of standard input, to a program that waits for
it at an address: ndferry recv, a Python program that calls ndferry.recv_array,
or any other that follows chapter 11 of spec/WIRE.md. There is no server in
between. When the command succeeds the other side has verified the array.`,
		Example: `  ndferry recv --listen tcp://127.0.0.1:9001 copy.npy &
  ndferry send run7.npy --to tcp://127.0.0.1:9001`,
		Args: arguments(1, 1),
	}
	cmd.Flags().Var(&to, "to", "where the receiver listens: tcp://HOST:PORT, unix:///path or unix://@name")
	flags.add(cmd)
	direct.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if to.Addr == (client.Addr{}) {
			return usageErrorf("send: --to is missing: the address where the receiver listens")
		}
		opts, err := flags.options("send")
		if err != nil {
			return err
		}
		return a.send(cmd.Context(), direct.connection(&to.Addr), args[0], opts)
	}
	return cmd
}

func (a *app) send(parent context.Context, conn *clientFlags, file string, opts client.PutOptions) error {
	ctx, cancel, err := conn.context(parent)
	if err != nil {
		return err
	}
	defer cancel()
	src, err := a.openSource(ctx, file)
	if err != nil {
		return err
	}
	defer src.Close()
	name := "array"
	if file != "-" {
		name = strings.TrimSuffix(filepath.Base(file), ".npy")
	}
	d := net.Dialer{Timeout: conn.timeout}
	nc, err := d.DialContext(ctx, conn.addr.Network, conn.addr.Address)
	if err != nil {
		return fmt.Errorf("send: connect to %v: %w", conn.addr, err)
	}
	defer nc.Close()
	dtype, shape, _ := src.Describe()
	size, err := shape.Bytes(dtype.ItemSize())
	if err != nil {
		return err
	}
	p := a.newProgress("send "+name, int64(size))
	defer p.finish()
	opts.Progress = p.report()
	begin := a.now()
	r, err := client.SendFrom(ctx, nc, name, src, conn.config(), opts)
	if err != nil {
		return err
	}
	p.finish()
	return a.printReceipt(r, dtype, shape, a.now().Sub(begin))
}

// recvInfo is the JSON of ndferry recv.
type recvInfo struct {
	Name       string  `json:"name"`
	File       string  `json:"file"`
	DType      string  `json:"dtype"`
	Shape      []int   `json:"shape"`
	Bytes      int64   `json:"bytes"`
	Digest     string  `json:"digest"`
	Root       string  `json:"root,omitzero"`
	Attributes string  `json:"attributes"`
	Seconds    float64 `json:"seconds"`
}

// recvFlags are the flags of recv.
type recvFlags struct {
	listen   string
	force    bool
	insecure bool
	direct   directFlags
}

func newRecvCmd(a *app) *cobra.Command {
	var flags recvFlags
	cmd := &cobra.Command{
		Use:   "recv --listen ADDR [FILE.npy]",
		Short: "Receive an array directly from another program",
		Long: `Wait at an address for one program that sends an array (ndferry send, a Python
program that calls ndferry.send_array) and write it to a .npy file: the one
given, else one with the name that the sender gives. Every chunk is checked, and
the file appears under its name when all of it has come. Then the command ends.

Nobody is authenticated: an address that other machines could reach needs
--insecure-no-auth. A log line says the address, with the real port for port 0.`,
		Example: `  ndferry recv --listen tcp://127.0.0.1:9001 copy.npy
  ndferry recv --listen unix:///tmp/arrays.sock --deadline 1m`,
		Args: arguments(0, 1),
	}
	cmd.Flags().StringVar(&flags.listen, "listen", "", "`ADDR` to wait at: tcp://HOST:PORT, unix:///path or unix://@name")
	cmd.Flags().BoolVar(&flags.force, "force", false, "replace an existing file")
	cmd.Flags().BoolVar(&flags.insecure, "insecure-no-auth", false, "allow an address that other machines may reach")
	flags.direct.add(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if flags.listen == "" {
			return usageErrorf("recv: --listen is missing: the address to wait at")
		}
		addr, err := client.ParseAddr(flags.listen)
		if err != nil {
			return usageErrorf("recv: --listen: %w", err)
		}
		if !addr.Loopback() && !flags.insecure {
			return usageErrorf("recv: --listen %v: other machines may reach it and nobody is authenticated; "+
				"listen on 127.0.0.1 or a Unix socket, or accept that with --insecure-no-auth", addr)
		}
		file := ""
		if len(args) == 1 {
			file = args[0]
		}
		return a.recv(cmd.Context(), flags, addr, file)
	}
	return cmd
}

func (a *app) recv(parent context.Context, flags recvFlags, addr client.Addr, file string) error {
	conn := flags.direct.connection(&addr)
	ctx, cancel, err := conn.context(parent)
	if err != nil {
		return err
	}
	defer cancel()
	nc, err := a.acceptOne(ctx, addr)
	if err != nil {
		return err
	}
	defer nc.Close()
	begin := a.now()
	sink := &fileSink{path: file, replace: flags.force}
	defer sink.Close()
	var p *progress
	var report func(done, total int64)
	opts := client.ReceiveOptions{Progress: func(done, total int64) {
		if p == nil {
			p = a.newProgress("recv", total)
			report = p.report()
		}
		report(done, total)
	}}
	st, err := client.ReceiveTo(ctx, nc, sink, conn.config(), opts)
	if p != nil {
		p.finish()
	}
	if err != nil {
		return forceAdvice(err, flags.force)
	}
	if err := sink.Commit(); err != nil {
		return forceAdvice(err, flags.force)
	}
	took := a.now().Sub(begin)
	info := recvInfo{
		Name: st.Name, File: sink.Path(), DType: st.DType.Name(), Shape: notNil(st.Shape), Bytes: st.Bytes, Digest: st.Digest,
		Root: st.Root, Attributes: string(st.Attributes), Seconds: took.Seconds(),
	}
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s %v, %s, %s, %s\n", info.File, info.DType, st.Shape, formatSize(st.Bytes), info.Digest, seconds(took))
		return err
	})
}

// acceptOne waits for one connection.
func (a *app) acceptOne(ctx context.Context, addr client.Addr) (net.Conn, error) {
	ln, err := worker.Listen(ctx, addr.Network, addr.Address, worker.ListenConfig{SocketMode: fs.FileMode(0o600)})
	if err != nil {
		return nil, fmt.Errorf("recv: %w", err)
	}
	defer ln.Close()
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	a.log.Info("recv: listening", "addr", client.Addr{Network: addr.Network, Address: ln.Addr().String()}.String())
	nc, err := ln.Accept()
	if ctx.Err() != nil {
		return nil, fmt.Errorf("recv: nobody sent anything: %w", ctx.Err())
	}
	return nc, err
}

// fileSink is a file that is named when the array is known.
type fileSink struct {
	path    string
	replace bool
	*client.NPYSink
}

func (f *fileSink) Begin(st *client.Stat, g array.Grid) error {
	if f.path == "" {
		f.path = st.Name[strings.LastIndexByte(st.Name, '/')+1:] + ".npy"
	}
	sink, err := client.CreateNPY(f.path, f.replace)
	if err != nil {
		return err
	}
	f.NPYSink = sink
	return sink.Begin(st, g)
}

func (f *fileSink) Close() error {
	if f.NPYSink == nil {
		return nil
	}
	return f.NPYSink.Close()
}
