package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"ndferry/array"
	"ndferry/client"
)

// receiptInfo is the JSON of ndferry put.
type receiptInfo struct {
	Name        string    `json:"name"`
	ID          string    `json:"id"`
	DType       string    `json:"dtype"`
	Shape       []int     `json:"shape"`
	Bytes       int64     `json:"bytes"`
	StoredBytes int64     `json:"stored_bytes"`
	Chunks      int       `json:"chunks"`
	Codec       string    `json:"codec"`
	CodecWhy    string    `json:"codec_why,omitzero"`
	Ratio       float64   `json:"ratio"` // raw bytes over stored ones
	Validated   string    `json:"validated"`
	Digest      string    `json:"digest"`
	Root        string    `json:"root,omitzero"`
	Durability  string    `json:"durability"`
	Created     time.Time `json:"created"`
	Seconds     float64   `json:"seconds"`
}

// putFlags are the flags of put.
type putFlags struct {
	chunk    sizeValue
	codec    codecFlags
	digest   string
	attrs    []string
	dims     []string
	ifAbsent bool
	dtype    string

	durability string
	resume     string
	retries    int
	streams    int
}

func newPutCmd(a *app) *cobra.Command {
	flags := putFlags{chunk: client.DefaultChunk}
	cmd := &cobra.Command{
		Use:   "put FILE.npy|- [NAME]",
		Short: "Store an array",
		Long: `Store the array of a .npy file, or of standard input, under a name: the one
given, else the file's own without .npy. What has the name already is replaced
at once when the new array is complete. When the command succeeds the array
survives a crash of the server's machine, unless the server keeps arrays in
memory or --durability relaxed was asked for; the receipt says which.

When the connection breaks the command connects again and sends what is
missing. What was interrupted goes on when the same command is run again: it
is remembered in $XDG_STATE_HOME/ndferry, and the file must be the same one,
unchanged. The server keeps it for 48 hours.`,
		Example: `  ndferry put temperatures.npy
  ndferry put run7.npy lab/run7 --digest sha256 --attr station=4 --attr unit=K
  python3 -c 'import numpy, sys; numpy.save(sys.stdout.buffer, numpy.arange(10))' | ndferry put - ten`,
		Args: arguments(1, 2),
	}
	conn := addClientFlags(cmd)
	flags.add(cmd)
	cmd.Flags().BoolVar(&flags.ifAbsent, "if-absent", false, "fail with exit code 12 when the name is taken")
	cmd.Flags().StringVar(&flags.dtype, "dtype", "", "what the elements are, of the same size as the file says: bfloat16, float8_e4m3fn, '<M8[s]', ...")
	cmd.Flags().StringVar(&flags.durability, "durability", "durable", "what success means: durable, or relaxed, which does not wait for the disk")
	cmd.Flags().StringVar(&flags.resume, "resume", resumeAuto, "go on with what was interrupted: auto (when samples of the file are what they were), verify (all of it is read first, now and then) or off")
	cmd.Flags().IntVar(&flags.streams, "streams", 1, "connections to use, at most 64")
	cmd.Flags().IntVar(&flags.retries, "retries", 5, "attempts after one that failed for a reason that may pass")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		name, err := putName(args)
		if err != nil {
			return err
		}
		opts, err := flags.options("put")
		if err != nil {
			return err
		}
		return a.put(cmd.Context(), conn, args[0], name, flags, opts)
	}
	return cmd
}

// add gives a command the flags that say how an array is sent.
func (f *putFlags) add(cmd *cobra.Command) {
	cmd.Flags().Var(&f.chunk, "chunk", "target size of a chunk, at most "+formatSize(client.MaxChunk))
	f.codec.add(cmd)
	cmd.Flags().StringVar(&f.digest, "digest", client.CRC32C, "what is recorded of each chunk: crc32c or sha256")
	cmd.Flags().StringSliceVar(&f.dims, "dims", nil, "`NAMES` of the axes: time,y,x; one that is empty has none")
	cmd.Flags().StringArrayVar(&f.attrs, "attr", nil, "attribute `KEY=VALUE`; the value is JSON, or else a string; may be repeated")
}

// putName is the name to put under.
func putName(args []string) (string, error) {
	switch {
	case len(args) == 2:
		return args[1], nil
	case args[0] == "-":
		return "", usageErrorf("put: standard input needs a name: ndferry put - NAME")
	}
	return strings.TrimSuffix(filepath.Base(args[0]), ".npy"), nil
}

// options are what the flags of the command op mean.
func (f *putFlags) options(op string) (client.PutOptions, error) {
	switch {
	case f.durability != "durable" && f.durability != "relaxed":
		return client.PutOptions{}, usageErrorf("%s: --durability %q: want durable or relaxed", op, f.durability)
	case f.resume != resumeAuto && f.resume != resumeVerify && f.resume != resumeOff:
		return client.PutOptions{}, usageErrorf("%s: --resume %q: want auto, verify or off", op, f.resume)
	case f.streams < 1 || f.streams > client.MaxStreams:
		return client.PutOptions{}, usageErrorf("%s: --streams %d: want 1 to %d", op, f.streams, client.MaxStreams)
	case f.retries < 0:
		return client.PutOptions{}, usageErrorf("%s: --retries %d: want a number that is not negative", op, f.retries)
	case f.chunk < 1 || f.chunk > client.MaxChunk:
		return client.PutOptions{}, usageErrorf("%s: --chunk %v: want 1B to %s", op, &f.chunk, formatSize(client.MaxChunk))
	}
	attrs, err := parseAttrs(op, f.attrs)
	if err != nil {
		return client.PutOptions{}, err
	}
	opts := client.PutOptions{
		ChunkBytes: int(f.chunk), Digest: f.digest, Attributes: attrs, Dims: f.dims, IfAbsent: f.ifAbsent,
		Relaxed: f.durability == "relaxed", Resume: f.resume != resumeOff, Retries: f.retries, Streams: f.streams,
	}
	err = f.codec.options(op, &opts)
	return opts, err
}

// parseAttrs makes one JSON object of the attributes, nil when there are none. The text of a value that is JSON stays as it is,
// so that no number is rounded.
func parseAttrs(op string, list []string) ([]byte, error) {
	if len(list) == 0 {
		return nil, nil
	}
	members := map[string]jsontext.Value{}
	for _, attr := range list {
		key, text, ok := strings.Cut(attr, "=")
		switch _, twice := members[key]; {
		case !ok || key == "":
			return nil, usageErrorf("%s: --attr %q: want KEY=VALUE", op, attr)
		case twice:
			return nil, usageErrorf("%s: --attr %q: the key was given before", op, attr)
		}
		value := jsontext.Value(text)
		if !value.IsValid() {
			var err error
			if value, err = json.Marshal(text); err != nil {
				return nil, usageErrorf("%s: --attr %q: %w", op, attr, err)
			}
		}
		members[key] = value
	}
	object, err := json.Marshal(members, json.Deterministic(true))
	if err != nil {
		return nil, usageErrorf("%s: --attr: %w", op, err)
	}
	return object, nil
}

func (a *app) put(parent context.Context, conn *clientFlags, file, name string, flags putFlags, opts client.PutOptions) error {
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
	from, err := retyped(src, flags.dtype)
	if err != nil {
		return err
	}
	dtype, shape, _ := from.Describe()
	size, err := shape.Bytes(dtype.ItemSize())
	if err != nil {
		return err
	}
	begun := a.rememberPut(conn.addr.String(), file, name, flags, &opts, size)
	c, err := conn.dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	p := a.newProgress("put "+name, int64(size))
	defer p.finish()
	opts.Progress = p.report()
	begin := a.now()
	r, err := a.putRemembered(ctx, c, name, begun, from, opts)
	if err != nil {
		return err
	}
	p.finish()
	return a.printReceipt(r, dtype, shape, a.now().Sub(begin))
}

func (a *app) printReceipt(r *client.Receipt, dtype array.DType, shape array.Shape, took time.Duration) error {
	info := receiptInfo{
		Name: r.Name, ID: r.ID.String(), DType: dtype.Name(), Shape: notNil(shape), Bytes: r.Bytes, StoredBytes: r.StoredBytes,
		Chunks: r.Cells, Codec: r.Codec, CodecWhy: r.CodecWhy, Ratio: ratio(r.Bytes, r.StoredBytes), Validated: r.Validated, Digest: r.Digest, Root: r.Root, Durability: r.Durability, Created: r.Created,
		Seconds: took.Seconds(),
	}
	packed := codecText(r.Codec, r.CodecWhy, info.Ratio)
	if r.Codec == "none" {
		packed = "codec " + packed
	}
	return a.printResult(info, func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%s: %s %v, %s in %s, %s, %s, %s, %s\n",
			r.Name, info.DType, shape, formatSize(r.Bytes), chunkCount(r.Cells), packed, r.Digest, r.Durability, seconds(took))
		return err
	})
}

// retyped is the source with another dtype, unless as is "".
func retyped(src client.Source, as string) (client.Source, error) {
	if as == "" {
		return src, nil
	}
	dtype, err := array.ParseDType(as)
	if err != nil {
		return nil, usageErrorf("put: --dtype: %w", err)
	}
	from, err := client.Retyped(src, dtype)
	if err != nil {
		return nil, usageErrorf("put: --dtype: %w", err)
	}
	return from, nil
}

// rememberPut looks for what was interrupted of a put, and prepares opts. It returns nil when nothing is to be remembered: a stream cannot be
// read twice, and what has one chunk is as quickly sent again.
func (a *app) rememberPut(server, file, name string, flags putFlags, opts *client.PutOptions, size int) *begunPut {
	if file == "-" {
		opts.Resume, opts.Retries = false, 0
	}
	if !opts.Resume || size <= opts.ChunkBytes {
		opts.Resume = false
		return nil
	}
	t, err := a.recallTransfer(server, name, file, flags, opts)
	if err != nil {
		a.log.Warn("put: an interruption will not be remembered", "err", err)
		opts.Resume = false
	}
	return t
}

// putRemembered puts, and goes on with what was interrupted, unless t is nil.
func (a *app) putRemembered(ctx context.Context, c *client.Client, name string, t *begunPut, src client.Source, opts client.PutOptions) (*client.Receipt, error) {
	if t == nil {
		return c.PutFrom(ctx, name, src, opts)
	}
	opts.ID = t.ID
	resumed := t.recalled
	if resumed {
		a.log.Info("put: going on with what was interrupted; --resume off begins anew", "id", t.ID)
	} else if err := t.begin(); err != nil {
		a.log.Warn("put: an interruption will not be remembered", "err", err)
		opts.Resume = false
		return c.PutFrom(ctx, name, src, opts)
	}
	if opts.Digest == client.SHA256 {
		known, err := openLeaves(t.leaves(), t.ID)
		if err != nil {
			return nil, err
		}
		defer known.Close()
		opts.Leaves = known
	}
	if resumed {
		opts.Confirm = t.confirm
	}
	r, err := c.PutFrom(ctx, name, src, opts)
	if err == nil && resumed && !t.asked { // the receipt of an earlier attempt
		if err = t.confirm(); err == nil {
			a.noteStoredBefore(ctx, c, r)
		}
	}
	if failed := t.settled(); failed != nil {
		a.log.Warn("put: an interruption will not be remembered", "err", failed)
		resumed = false
		if err != nil {
			return nil, err
		}
	}
	if resumed && (errors.Is(err, errChanged) || !opts.IfAbsent && errors.Is(err, client.ErrConflict)) {
		// The file was changed, or the codec that auto chooses is another one today: the transfer begins anew.
		a.log.Info("put: what was interrupted is of no use: it begins anew", "why", err)
		if err := t.renew(); err != nil {
			return nil, err
		}
		opts.ID, opts.Leaves, opts.Confirm = t.ID, nil, nil
		r, err = c.PutFrom(ctx, name, src, opts)
	}
	if err != nil && resumable(err) {
		return nil, fmt.Errorf("%w; the same command goes on where this one ended", err)
	}
	if failed := t.end(); failed != nil {
		a.log.Warn("put: cannot forget the transfer", "err", failed)
	}
	return r, err
}

// noteStoredBefore warns when what an earlier attempt stored, without being told so, has lost its name since: a receipt is never given twice.
func (a *app) noteStoredBefore(ctx context.Context, c *client.Client, r *client.Receipt) {
	const advice = "; --resume off stores the file again"
	switch st, err := c.Stat(ctx, r.Name); {
	case errors.Is(err, client.ErrNotFound):
		a.log.Warn("put: an earlier attempt had stored this array, and it was deleted since"+advice, "created", r.Created)
	case err == nil && st.ID != r.ID:
		a.log.Warn("put: an earlier attempt had stored this array, and another one took its name since"+advice, "created", r.Created)
	}
}

// sourceCloser is a source of an array that holds a file.
type sourceCloser interface {
	client.Source
	io.Closer
}

// openSource opens a .npy file, or standard input for "-", which ctx interrupts.
func (a *app) openSource(ctx context.Context, file string) (sourceCloser, error) {
	if file != "-" {
		return client.OpenNPY(file)
	}
	r, w := io.Pipe()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	go func() {
		_, err := io.CopyBuffer(w, struct{ io.Reader }{a.stdin}, make([]byte, 1<<20))
		w.CloseWithError(err)
	}()
	s, err := client.NewNPYStream(r)
	if err != nil {
		r.Close()
		return nil, err
	}
	return streamSource{s, r}, nil
}

type streamSource struct {
	*client.NPYStream
	*io.PipeReader
}

func chunkCount(n int) string {
	if n == 1 {
		return "1 chunk"
	}
	return fmt.Sprintf("%d chunks", n)
}

// notNil keeps the shape of a 0-d array [] in JSON.
func notNil(shape []int) []int {
	if shape == nil {
		return []int{}
	}
	return shape
}
