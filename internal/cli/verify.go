package cli

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"ndferry/client"
)

// verifyInfo is the JSON of ndferry verify.
type verifyInfo struct {
	Arrays []verifiedInfo `json:"arrays"`
}

type verifiedInfo struct {
	Name     string        `json:"name"`
	Good     bool          `json:"good"`
	Chunks   int           `json:"chunks"`
	Bytes    int64         `json:"bytes"`
	BadCount int           `json:"bad_count"`
	Bad      []problemInfo `json:"bad"`             // at most 100
	Digest   string        `json:"digest,omitzero"` // none: written by another program, nothing was recorded to check it with
	Error    string        `json:"error,omitzero"`
}

type problemInfo struct {
	File    string `json:"file,omitzero"`
	Chunk   *int   `json:"chunk,omitzero"`
	Problem string `json:"problem"`
}

func newVerifyCmd(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "verify NAME...|--all",
		Short: "Check what is stored",
		Long: `Have the server read everything that is stored of an array and check it against
what was recorded. Every chunk that is not what was stored is named, and the
exit code is 11 when there is one; when an array could not be checked for
another reason the others are, and the exit code is 6.`,
		Example: "  ndferry verify lab/run7\n  ndferry verify --all",
	}
	conn := addClientFlags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "check every array of the store")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if all != (len(names) == 0) {
			return usageErrorf("verify: give names or --all")
		}
		return conn.connected(cmd.Context(), func(ctx context.Context, c *client.Client) error {
			if all {
				entries, err := c.List(ctx, "")
				if err != nil {
					return err
				}
				for _, e := range entries {
					names = append(names, e.Name)
				}
			}
			return a.verify(ctx, cmd, c, names)
		})
	}
	return cmd
}

func (a *app) verify(ctx context.Context, cmd *cobra.Command, c *client.Client, names []string) error {
	info := verifyInfo{Arrays: []verifiedInfo{}}
	err := a.each(cmd, c, names, func(name string) error {
		v, err := a.verifyOne(ctx, c, name)
		info.Arrays = append(info.Arrays, v)
		return err
	})
	if printErr := a.printResult(info, info.print); printErr != nil {
		return printErr
	}
	return err
}

func (a *app) verifyOne(ctx context.Context, c *client.Client, name string) (verifiedInfo, error) {
	v := verifiedInfo{Name: name, Bad: []problemInfo{}}
	var p *progress
	chunk, last := int64(0), 0
	st, err := c.Stat(ctx, name)
	if err == nil {
		chunk, v.Digest = chunkBytes(st), st.Digest
		p = a.newProgress("verify "+name, chunk*int64(st.Cells))
		defer p.finish()
		var report *client.Report
		report, err = c.Verify(ctx, name, func(cells, _ int) {
			p.add(int64(cells-last) * chunk)
			last = cells
		})
		if report != nil {
			v.add(report)
		}
	}
	v.Good = err == nil
	if err != nil && !errors.Is(err, client.ErrIntegrity) {
		v.Error = err.Error()
	}
	return v, err
}

func (v *verifiedInfo) add(r *client.Report) {
	v.Chunks, v.Bytes, v.BadCount = r.Cells, r.Bytes, r.BadCount
	for _, bad := range r.Problems {
		p := problemInfo{File: bad.File, Problem: bad.Text}
		if bad.Cell >= 0 {
			p.Chunk = &bad.Cell
		}
		v.Bad = append(v.Bad, p)
	}
}

// chunkBytes is the raw size of one chunk.
func chunkBytes(st *client.Stat) int64 {
	n, err := st.Chunks.Bytes(st.DType.ItemSize())
	if err != nil {
		return 0
	}
	return int64(n)
}

// print writes a line for every array, and below it one for everything that is wrong.
func (info verifyInfo) print(w io.Writer) error {
	for _, v := range info.Arrays {
		text := fmt.Sprintf("ok, %s, %s", chunkCount(v.Chunks), formatSize(v.Bytes))
		if v.Digest == client.Unchecked {
			text = fmt.Sprintf("can be decoded, %s, %s; another program wrote it, and there are no stored checks", chunkCount(v.Chunks), formatSize(v.Bytes))
		}
		switch {
		case v.Error != "":
			text = "not checked"
		case !v.Good:
			text = fmt.Sprintf("DAMAGED, %d found wrong in %s", v.BadCount, chunkCount(v.Chunks))
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", v.Name, text); err != nil {
			return err
		}
		for _, p := range v.Bad {
			where := p.File
			if p.Chunk != nil {
				where = fmt.Sprintf("chunk %d", *p.Chunk)
				if p.File != "" {
					where += " in " + p.File
				}
			}
			if _, err := fmt.Fprintf(w, "  %s: %s\n", where, p.Problem); err != nil {
				return err
			}
		}
		if more := v.BadCount - len(v.Bad); more > 0 {
			if _, err := fmt.Fprintf(w, "  and %d more\n", more); err != nil {
				return err
			}
		}
	}
	return nil
}
