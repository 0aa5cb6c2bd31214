package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
)

// getInfo is the JSON of ndferry get.
type getInfo struct {
	Name    string  `json:"name"`
	File    string  `json:"file"`
	DType   string  `json:"dtype"`
	Shape   []int   `json:"shape"`
	Bytes   int64   `json:"bytes"`
	Digest  string  `json:"digest"` // none: written by another program, nothing was recorded to check it with
	Seconds float64 `json:"seconds"`
}

func newGetCmd(a *app) *cobra.Command {
	var region string
	var flags getFlags
	cmd := &cobra.Command{
		Use:   "get NAME [FILE.npy|-]",
		Short: "Fetch an array",
		Long: `Fetch an array into a .npy file: the one given, else one named like the last
part of the array's name. Every chunk is checked against what was recorded when
it was stored, and the file appears under its name when all of it has come.
With - the .npy goes to standard output as it comes: when the command fails,
what came before is not to be used.

When the connection breaks the command connects again and asks for what is
missing. What was interrupted stays in two hidden files beside the target,
.FILE.npy.part and .FILE.npy.part.state, and goes on when the same command is
run again, unless the array was replaced since.`,
		Example: `  ndferry get lab/run7
  ndferry get lab/run7 /tmp/copy.npy --force
  ndferry get lab/run7 part.npy --region '0:10,:,5'
  ndferry get lab/run7 thin.npy --region '::-10,...'
  ndferry get lab/run7 - | python3 -c 'import numpy, sys; print(numpy.load(sys.stdin.buffer).mean())'`,
		Args: arguments(1, 2),
	}
	conn := addClientFlags(cmd)
	cmd.Flags().BoolVar(&flags.force, "force", false, "replace an existing file")
	cmd.Flags().StringVar(&region, "region", "", "only this part, as in NumPy: '0:10,:,5', '::-2,...,3'; only its chunks travel")
	cmd.Flags().IntVar(&flags.streams, "streams", 1, "connections to use, at most 64; with --region and - it is 1")
	cmd.Flags().StringVar(&flags.resume, "resume", resumeAuto, "go on with what was interrupted: auto (some of what came is read again, all of it when the file was touched), verify (all of it is) or off")
	cmd.Flags().IntVar(&flags.retries, "retries", 5, "attempts after one that failed for a reason that may pass, without --region")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name := args[0]
		if err := flags.check(); err != nil {
			return err
		}
		if err := array.CheckName(name); err != nil {
			return usageErrorf("get: %w", err)
		}
		file := name[strings.LastIndexByte(name, '/')+1:] + ".npy"
		if len(args) == 2 {
			file = args[1]
		}
		if cmd.Flags().Changed("region") {
			return a.getRegion(cmd.Context(), conn, name, file, region, flags.force)
		}
		if file == "-" {
			return a.getStream(cmd.Context(), conn, name, flags)
		}
		return a.getFile(cmd.Context(), conn, name, file, flags)
	}
	return cmd
}

// getFlags are the flags of get.
type getFlags struct {
	force   bool
	streams int
	resume  string
	retries int
}

func (f *getFlags) check() error {
	switch {
	case f.streams < 1 || f.streams > client.MaxStreams:
		return usageErrorf("get: --streams %d: want 1 to %d", f.streams, client.MaxStreams)
	case f.resume != resumeAuto && f.resume != resumeVerify && f.resume != resumeOff:
		return usageErrorf("get: --resume %q: want auto, verify or off", f.resume)
	case f.retries < 0:
		return usageErrorf("get: --retries %d: want a number that is not negative", f.retries)
	}
	return nil
}

// sink begins the file.
func (f *getFlags) sink(a *app, file string) (*client.NPYSink, error) {
	if f.resume == resumeOff {
		return client.CreateNPY(file, f.force)
	}
	return client.ResumeNPY(file, client.ResumeOptions{
		Replace: f.force, Verify: f.resume == resumeVerify,
		Note: func(text string) { a.log.Info("get: " + text + "; --resume off begins anew") },
	})
}

// getStream writes an array to standard output.
func (a *app) getStream(ctx context.Context, conn *clientFlags, name string, flags getFlags) error {
	if terminal(a.stdout) != nil {
		return usageErrorf("get: standard output is a terminal; redirect it or name a file")
	}
	flags.streams = 1
	st, err := a.fetch(ctx, conn, name, &client.NPYWriter{W: a.stdout}, flags)
	if err == nil {
		a.noteUnchecked(st)
		a.noteNPYType(st.DType)
	}
	return err
}

// noteUnchecked says of what another program wrote that it is not known to be what was written.
func (a *app) noteUnchecked(st *client.Stat) {
	if st.Digest == client.Unchecked {
		fmt.Fprintf(a.stderr, "ndferry: %s: another program wrote it, and there are no stored checks\n", st.Name)
	}
}

func (a *app) getFile(ctx context.Context, conn *clientFlags, name, file string, flags getFlags) error {
	begin := a.now()
	sink, err := flags.sink(a, file)
	if err != nil {
		return forceAdvice(err, flags.force)
	}
	defer sink.Close()
	st, err := a.fetch(ctx, conn, name, sink, flags)
	if err != nil {
		if sink.Kept() > 0 && sink.Close() == nil {
			return fmt.Errorf("%w; the same command goes on where this one ended", err)
		}
		return err
	}
	a.noteUnchecked(st)
	a.noteNPYType(st.DType)
	if err := sink.Commit(); err != nil {
		return forceAdvice(err, flags.force)
	}
	if flags.resume == resumeOff {
		if err := client.DiscardNPY(file); err != nil {
			a.log.Warn("get: what an earlier attempt left is still there", "err", err)
		}
	}
	took := a.now().Sub(begin)
	info := getInfo{Name: name, File: file, DType: st.DType.Name(), Shape: notNil(st.Shape), Bytes: st.Bytes, Digest: st.Digest, Seconds: took.Seconds()}
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s %v, %s, %s\n", info.File, info.DType, st.Shape, formatSize(st.Bytes), seconds(took))
		return err
	})
}

func forceAdvice(err error, force bool) error {
	if !force && errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w; replace it with --force", err)
	}
	return err
}

// fetch gets an array and shows progress.
func (a *app) fetch(ctx context.Context, conn *clientFlags, name string, sink client.Sink, flags getFlags) (st *client.Stat, err error) {
	var p *progress
	defer func() {
		if p != nil {
			p.finish()
		}
	}()
	var report func(done, total int64)
	opts := client.GetOptions{Retries: flags.retries, Streams: flags.streams, Progress: func(done, total int64) {
		if p == nil {
			p = a.newProgress("get "+name, total)
			report = p.report()
		}
		report(done, total)
	}}
	err = conn.connected(ctx, func(ctx context.Context, c *client.Client) error {
		st, err = c.GetTo(ctx, name, sink, opts)
		return err
	})
	return st, err
}
