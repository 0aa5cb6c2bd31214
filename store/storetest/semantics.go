package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"ndferry/array"
	"ndferry/store"
)

// want fails the test unless err wraps target.
func (s *suite) want(what string, err, target error) {
	s.Helper()
	if !errors.Is(err, target) {
		s.Errorf("%s: error %v, want one that wraps %q", what, err, target)
	}
}

func (s *suite) ok(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

func (s *suite) shapes() {
	for i, c := range []struct {
		shape, cell array.Shape
		order       array.Order
	}{
		{array.Shape{}, nil, nil},
		{array.Shape{1}, nil, nil},
		{array.Shape{5}, array.Shape{2}, nil},
		{array.Shape{0}, nil, nil},
		{array.Shape{3, 0, 2}, nil, nil},
		{array.Shape{7, 5}, array.Shape{2, 3}, nil},
		{array.Shape{7, 5}, array.Shape{2, 3}, array.Order{1, 0}},
		{array.Shape{4, 6, 5}, array.Shape{3, 2, 5}, array.Order{2, 0, 1}},
		{array.Shape{100, 100}, nil, array.Order{1, 0}},
		{array.Shape{100, 100}, nil, nil},
		{array.Shape{2, 2}, array.Shape{9, 9}, nil},
		{array.Shape{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}, nil, nil},
		{array.Shape{300000}, array.Shape{100}, nil}, // more cells than a page of a table has
	} {
		x := NewSample(s, fmt.Sprintf("shapes/a%d", i), "<f8", c.shape, c.cell, c.order, "", uint64(i))
		r := x.Put(s, s.s)
		if r.Bytes != int64(len(x.Whole)) || r.Cells != len(x.Cells) {
			s.Errorf("shape %v: receipt %+v", c.shape, r)
		}
		x.Check(s, s.s)
	}
}

func (s *suite) dtypes() {
	for _, d := range []string{
		"|b1", "|i1", "<i2", ">i2", "<i4", ">i4", "<i8", ">i8", "|u1", "<u2", ">u2", "<u4", ">u4", "<u8", ">u8",
		"<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16",
	} {
		x := NewSample(s, "dtypes/x"+d[1:]+strings.Map(func(r rune) rune { return map[rune]rune{'<': 'l', '>': 'b', '|': 'n'}[r] }, d[:1]), d, array.Shape{11, 3}, array.Shape{4, 3}, nil, "", 1)
		x.Put(s, s.s)
		x.Check(s, s.s)
	}
}

func (s *suite) receipt() {
	begun := time.Now().Add(-time.Second)
	x := NewSample(s, "a/b", "<i2", array.Shape{7, 5}, array.Shape{2, 3}, nil, store.DigestSHA256, 3)
	r := x.Put(s, s.s)
	want := store.Receipt{
		ID: x.ID, Name: "a/b", Bytes: 70, StoredBytes: 8 * 12, Cells: 8, Codec: "none", Digest: store.DigestSHA256,
		Root: x.Root, Durability: s.options.Durability, Created: r.Created,
	}
	if r != want {
		s.Errorf("receipt %+v, want %+v", r, want)
	}
	if r.Created.Before(begun) || r.Created.After(time.Now()) || r.Created.Location() != time.UTC {
		s.Errorf("created %v", r.Created)
	}
}

func (s *suite) info() {
	x := s.sample("info/x", 1)
	r := x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "info/x")
	s.ok("Open", err)
	defer a.Close()
	i := a.Info()
	if i.Receipt != r || i.ID != x.ID || i.Name != x.Name || i.NumPy != x.NumPy || i.Digest != store.DigestCRC32C {
		s.Errorf("info %+v", i)
	}
	if !bytes.Equal(i.Attributes, x.Attributes) {
		s.Errorf("attributes %s, want %s to the byte", i.Attributes, x.Attributes)
	}
	if !i.Meta.Equal(&x.Meta) {
		s.Errorf("meta %+v, want %+v", i.Meta, x.Meta)
	}
}

func (s *suite) sha256() {
	x := NewSample(s, "sha", "<u2", array.Shape{2, 3}, array.Shape{1, 3}, nil, store.DigestSHA256, 3)
	x.Whole, x.Cells, x.Info = []byte{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, nil, nil
	x.cut(s)
	// The vector of spec/WIRE.md §5.7.
	if got := fmt.Sprintf("%x", x.Root); got != "e046e9b345eafdd0e67f4e7afd693e66b57c4457bdfd7ebd37527a42b25d1d06" {
		s.Fatalf("root %s", got)
	}
	x.Put(s, s.s)
	x.Check(s, s.s)
	a, err := s.s.Open(s.Context(), "sha")
	s.ok("Open", err)
	defer a.Close()
	if a.Info().Receipt.Root != x.Root {
		s.Errorf("root %x, want %x", a.Info().Receipt.Root, x.Root)
	}
}

func (s *suite) defaults() {
	x := s.sample("g/plain", 1)
	x.Digest, x.Attributes, x.NumPy, x.Meta.DimNames = "", nil, "", nil
	x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "g/plain")
	s.ok("Open", err)
	defer a.Close()
	i := a.Info()
	if i.Digest != store.DigestCRC32C || string(i.Attributes) != "{}" || i.NumPy != "" || i.Meta.DimNames[1].Name != "plain_1" {
		s.Errorf("info %+v", i)
	}
}

func (s *suite) badSpecs() {
	for name, change := range map[string]func(*store.Spec){
		"zero id":         func(x *store.Spec) { x.ID = store.ID{} },
		"no name":         func(x *store.Spec) { x.Name = "" },
		"name above":      func(x *store.Spec) { x.Name = "../x" },
		"absolute name":   func(x *store.Spec) { x.Name = "/x" },
		"NUL in name":     func(x *store.Spec) { x.Name = "a\x00" },
		"reserved name":   func(x *store.Spec) { x.Name = "a/zarr.json" },
		"long name":       func(x *store.Spec) { x.Name = strings.Repeat("x", 256) },
		"attributes":      func(x *store.Spec) { x.Attributes = []byte(`[1]`) },
		"twice the same":  func(x *store.Spec) { x.Attributes = []byte(`{"a":1,"a":2}`) },
		"digest":          func(x *store.Spec) { x.Digest = "md5" },
		"no dtype":        func(x *store.Spec) { x.Meta.DType = array.DType{} },
		"negative shape":  func(x *store.Spec) { x.Meta.Shape = array.Shape{-1, 1} },
		"shape overflows": func(x *store.Spec) { x.Meta.Shape = array.Shape{1 << 40, 1 << 40} },
		"cell of 0":       func(x *store.Spec) { x.Meta.Cell = array.Shape{0, 1} },
		"cell of 2 axes":  func(x *store.Spec) { x.Meta.Cell = array.Shape{1} },
		"cell too large":  func(x *store.Spec) { x.Meta.Shape, x.Meta.Cell = array.Shape{1 << 23, 1}, array.Shape{1 << 23, 1} },
		"order":           func(x *store.Spec) { x.Meta.Order = array.Order{0, 0} },
		"unknown codec":   func(x *store.Spec) { x.Meta.Codecs = []array.Codec{{Name: "rot13"}} },
	} {
		x := s.sample("bad", 1)
		change(&x.Spec)
		_, _, err := s.s.Begin(s.Context(), x.Spec)
		s.want(name, err, store.ErrInvalid)
	}
	for _, name := range []string{"", "..", "/", "a//b", ".ndferry"} {
		_, err := s.s.Open(s.Context(), name)
		s.want("Open "+name, err, store.ErrInvalid)
		s.want("Delete "+name, s.s.Delete(s.Context(), name), store.ErrInvalid)
	}
	s.wantNames("")
}

func (s *suite) badCells() {
	x := s.sample("x", 1)
	u := s.begin(x.Spec)
	for _, i := range []int{-1, 10, 1 << 40} {
		s.want("cell out of range", u.Write(s.Context(), store.Cell{Index: i}, x.Cells[0]), store.ErrInvalid)
	}
	s.want("short cell", u.Write(s.Context(), x.Info[0], x.Cells[0][1:]), store.ErrInvalid)
	s.want("long cell", u.Write(s.Context(), x.Info[0], append(x.Cells[0], 0)), store.ErrInvalid)
	s.want("no bytes", u.Write(s.Context(), x.Info[0], nil), store.ErrInvalid)
	s.write(u, x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	s.want("cell twice", u.Write(s.Context(), x.Info[4], x.Cells[5]), store.ErrInvalid)
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	x.Check(s, s.s)
}

func (s *suite) badReads() {
	x := s.sample("x", 1)
	x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "x")
	s.ok("Open", err)
	defer a.Close()
	for _, i := range []int{-1, 10} {
		_, _, err := a.Cell(i)
		s.want("Cell", err, store.ErrInvalid)
		s.want("Read", a.Read(s.Context(), i, x.Cells[0]), store.ErrInvalid)
	}
	s.want("short buffer", a.Read(s.Context(), 0, make([]byte, 5)), store.ErrInvalid)
	_, err = s.s.Open(s.Context(), "y")
	s.want("Open", err, store.ErrNotFound)
	_, err = s.s.Open(s.Context(), "x/y")
	s.want("Open below an array", err, store.ErrNotFound)
	for _, limit := range []int{0, -1} {
		_, _, err = s.s.List(s.Context(), "", "", limit)
		s.want("List", err, store.ErrInvalid)
	}
}

func (s *suite) incomplete() {
	x := s.sample("g/x", 1)
	u := s.begin(x.Spec)
	s.write(u, x, 0, 1, 2, 3, 4, 5, 6, 7, 8)
	_, err := s.s.Open(s.Context(), "g/x")
	s.want("Open before the commit", err, store.ErrNotFound)
	s.wantNames("")
	_, err = u.Commit(s.Context(), x.Root)
	s.want("Commit", err, store.ErrInvalid)
	s.ok("Close", u.Close())
	s.wantNames("")
	// The upload is gone, and its id free.
	x.Put(s, s.s)
	x.Check(s, s.s)
}

func (s *suite) replaceWhileReading() {
	old, new := s.sample("r/x", 1), s.sample("r/x", 2)
	new.Spec.Meta.Cell = array.Shape{7, 7}
	new.Cells, new.Info = nil, nil
	new.cut(s)
	old.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "r/x")
	s.ok("Open", err)
	new.Put(s, s.s)
	old.CheckArray(s, a)
	new.Check(s, s.s)
	s.wantVerified(a)
	s.ok("Close", a.Close())
	new.Check(s, s.s)
	s.wantNames("r/x")
}

func (s *suite) deleteWhileReading() {
	x, other := s.sample("d/x", 1), s.sample("d/y", 2)
	x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "d/x")
	s.ok("Open", err)
	s.ok("Delete", s.s.Delete(s.Context(), "d/x"))
	_, err = s.s.Open(s.Context(), "d/x")
	s.want("Open", err, store.ErrNotFound)
	other.Put(s, s.s)
	x.CheckArray(s, a)
	s.wantVerified(a)
	s.ok("Close", a.Close())
}

func (s *suite) delete() {
	x, y := s.sample("d/e/x", 1), s.sample("d/y", 2)
	s.want("Delete", s.s.Delete(s.Context(), "d/e/x"), store.ErrNotFound)
	x.Put(s, s.s)
	y.Put(s, s.s)
	s.want("Delete of a group", s.s.Delete(s.Context(), "d/e"), store.ErrNotFound)
	s.want("Delete below an array", s.s.Delete(s.Context(), "d/y/z"), store.ErrNotFound)
	s.ok("Delete", s.s.Delete(s.Context(), "d/e/x"))
	s.want("Delete again", s.s.Delete(s.Context(), "d/e/x"), store.ErrNotFound)
	s.wantNames("d/y")
	// The group d/e is gone, so an array may have its name.
	z := s.sample("d/e", 3)
	z.Put(s, s.s)
	z.Check(s, s.s)
	s.wantNames("d/e d/y")
}

func (s *suite) ifAbsent() {
	x, y := s.sample("n/x", 1), s.sample("n/x", 2)
	x.IfAbsent, y.IfAbsent = true, true
	u := s.begin(y.Spec)
	s.write(u, y, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	x.Put(s, s.s)
	_, err := u.Commit(s.Context(), y.Root)
	s.want("Commit", err, store.ErrConflict)
	s.ok("Discard", u.Discard())
	_, _, err = s.s.Begin(s.Context(), y.Spec)
	s.want("Begin", err, store.ErrConflict)
	x.Check(s, s.s)
	s.ok("Delete", s.s.Delete(s.Context(), "n/x"))
	y.Put(s, s.s)
	y.Check(s, s.s)
}

func (s *suite) commitOnce() {
	x, y := s.sample("once/x", 1), s.sample("once/x", 2)
	want := x.Put(s, s.s)
	again := func(when string) {
		s.Helper()
		for _, resume := range []bool{false, true} {
			x.Spec.Resume = resume
			u, r, err := s.s.Begin(s.Context(), x.Spec)
			if u != nil || r == nil || *r != want || err != nil {
				s.Errorf("Begin again %s: upload %v, receipt %+v, error %v", when, u, r, err)
			}
		}
	}
	again("after the commit")
	y.Put(s, s.s)
	again("after a replacement")
	y.Check(s, s.s)
	s.ok("Delete", s.s.Delete(s.Context(), "once/x"))
	again("after a deletion")
	s.wantNames("")
}

func (s *suite) busy() {
	x := s.sample("x", 1)
	u := s.begin(x.Spec)
	for _, resume := range []bool{false, true} {
		x.Spec.Resume = resume
		_, _, err := s.s.Begin(s.Context(), x.Spec)
		s.want("Begin", err, store.ErrBusy)
	}
	s.ok("Discard", u.Discard())
	x.Put(s, s.s)
	x.Check(s, s.s)
}

func (s *suite) beginAgain() {
	x := s.sample("x", 1)
	for range 3 {
		u := s.begin(x.Spec)
		s.write(u, x, 3, 4)
		s.ok("Sync", u.Sync(s.Context()))
		s.ok("Close", u.Close())
	}
	u := s.begin(x.Spec)
	if d := u.Durable(); len(d) != 0 {
		s.Errorf("durable %v of an upload that begins anew", d)
	}
	s.write(u, x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	x.Check(s, s.s)
}

func (s *suite) resume() {
	if !s.options.Resume {
		x := s.sample("x", 1)
		x.Spec.Resume = true
		u := s.begin(x.Spec)
		s.write(u, x, 1)
		s.ok("Sync", u.Sync(s.Context()))
		s.ok("Close", u.Close())
		u = s.begin(x.Spec)
		if d := u.Durable(); len(d) != 0 {
			s.Errorf("durable %v in a store that does not resume", d)
		}
		s.ok("Close", u.Close())
		return
	}
	for _, digest := range []store.DigestKind{store.DigestCRC32C, store.DigestSHA256} {
		x := NewSample(s, "resume/x", "<f4", array.Shape{100, 30}, array.Shape{10, 30}, nil, digest, uint64(len(digest)))
		x.Spec.Resume = true
		u := s.begin(x.Spec)
		s.write(u, x, 7, 1, 2)
		s.ok("Sync", u.Sync(s.Context()))
		s.write(u, x, 3) // not durable, so it may be lost
		s.ok("Close", u.Close())
		u = s.begin(x.Spec)
		s.wantDurable(u, "[{1 2} {7 1}]")
		s.want("a durable cell again", u.Write(s.Context(), x.Info[7], x.Cells[7]), store.ErrInvalid)
		s.write(u, x, 9, 3)
		s.ok("Sync", u.Sync(s.Context()))
		s.ok("Sync", u.Sync(s.Context()))
		s.wantDurable(u, "[{1 3} {7 1} {9 1}]")
		s.ok("Close", u.Close())

		other := *x
		other.Attributes = []byte(`{}`)
		_, _, err := s.s.Begin(s.Context(), other.Spec)
		s.want("Begin with the id of another array", err, store.ErrConflict)

		u = s.begin(x.Spec)
		s.wantDurable(u, "[{1 3} {7 1} {9 1}]")
		s.write(u, x, 0, 4, 5, 6, 8)
		_, err = u.Commit(s.Context(), x.Root)
		s.ok("Commit", err)
		x.Check(s, s.s)
	}
}

func (s *suite) wantDurable(u store.Upload, want string) {
	s.Helper()
	if got := fmt.Sprint(u.Durable()); got != want {
		s.Fatalf("durable %s, want %s", got, want)
	}
}

func (s *suite) places() {
	s.sample("p/array", 1).Put(s, s.s)
	s.sample("p/q/r/deep", 2).Put(s, s.s)
	for _, c := range []struct {
		name string
		want error
	}{
		{"p/array/below", store.ErrConflict},
		{"p/array/far/below", store.ErrConflict},
		{"p/q/r", store.ErrConflict},
		{"p", store.ErrConflict},
		{"p/array", nil},
		{"p/arra", nil},
		{"p/array2", nil},
		{"p/array-2", nil},
		{"p/q/r/deep2", nil},
	} {
		_, err := s.sample(c.name, 3).TryPut(s, s.s)
		if !errors.Is(err, c.want) {
			s.Errorf("put %s: error %v, want %v", c.name, err, c.want)
		}
	}
	s.wantNames("p/arra p/array p/array-2 p/array2 p/q/r/deep p/q/r/deep2")
}

func (s *suite) conflictKeeps() {
	x := s.sample("c/x", 1)
	u := s.begin(x.Spec)
	s.write(u, x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	above := s.sample("c", 2)
	above.Put(s, s.s)
	for range 2 {
		_, err := u.Commit(s.Context(), x.Root)
		s.want("Commit", err, store.ErrConflict)
	}
	s.ok("Delete", s.s.Delete(s.Context(), "c"))
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	s.ok("Close", u.Close())
	x.Check(s, s.s)
}

// wantNames fails the test unless the store lists exactly the names, which blanks separate.
func (s *suite) wantNames(want string) {
	s.Helper()
	infos, more, err := s.s.List(s.Context(), "", "", 1000)
	s.ok("List", err)
	if got := names(infos); got != want || more {
		s.Errorf("listed %q, want %q", got, want)
	}
}

func names(infos []store.Info) string {
	var list []string
	for _, i := range infos {
		list = append(list, i.Name)
	}
	return strings.Join(list, " ")
}

func (s *suite) wantVerified(a store.Array) {
	s.Helper()
	err := a.Verify(s.Context(), nil, func(p store.Problem) { s.Errorf("problem %+v", p) })
	s.ok("Verify", err)
}

func (s *suite) verify() {
	x := NewSample(s, "v/x", "<i4", array.Shape{70, 50}, array.Shape{20, 30}, array.Order{1, 0}, store.DigestSHA256, 1)
	x.Put(s, s.s)
	a, err := s.s.Open(s.Context(), "v/x")
	s.ok("Open", err)
	defer a.Close()
	var cells int
	var bytes int64
	err = a.Verify(s.Context(), func(c int, b int64) {
		if c < cells || b < bytes {
			s.Errorf("progress goes back from %d, %d to %d, %d", cells, bytes, c, b)
		}
		cells, bytes = c, b
	}, func(p store.Problem) { s.Errorf("problem %+v", p) })
	s.ok("Verify", err)
	if r := a.Info().Receipt; cells != r.Cells || bytes != r.StoredBytes {
		s.Errorf("progress ends at %d cells, %d bytes of %+v", cells, bytes, r)
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	s.want("Verify", a.Verify(ctx, nil, func(store.Problem) {}), context.Canceled)
	// Stores must not believe a caller's numbers, but say what is wrong with them.
	wrong := s.sample("v/wrong", 2)
	wrong.Info[3].CRC ^= 1
	wrong.Put(s, s.s)
	b, err := s.s.Open(s.Context(), "v/wrong")
	s.ok("Open", err)
	defer b.Close()
	var problems []store.Problem
	s.ok("Verify", b.Verify(s.Context(), nil, func(p store.Problem) { problems = append(problems, p) }))
	if len(problems) != 1 || problems[0].Cell != 3 || !strings.Contains(problems[0].Text, "CRC32C") {
		s.Errorf("problems %+v, want one with the CRC of cell 3", problems)
	}
}

func (s *suite) parallelCells() {
	x := NewSample(s, "par", "<f8", array.Shape{4096, 64}, array.Shape{16, 64}, nil, store.DigestSHA256, 5)
	u := s.begin(x.Spec)
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := worker; i < len(x.Cells); i += 8 {
				if err := u.Write(s.Context(), x.Info[i], x.Cells[i]); err != nil {
					s.Error(err)
				}
			}
		})
	}
	wg.Wait()
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	x.Check(s, s.s)
}

func (s *suite) cancelled() {
	ctx, cancel := context.WithCancel(s.Context())
	x := s.sample("x", 1)
	u := s.begin(x.Spec)
	s.write(u, x, 0)
	cancel()
	s.want("Write", u.Write(ctx, x.Info[1], x.Cells[1]), context.Canceled)
	s.want("Sync", u.Sync(ctx), context.Canceled)
	s.write(u, x, 1, 2, 3, 4, 5, 6, 7, 8, 9)
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	_, _, err = s.s.Begin(ctx, s.sample("y", 2).Spec)
	s.want("Begin", err, context.Canceled)
	_, err = s.s.Open(ctx, "x")
	s.want("Open", err, context.Canceled)
	_, _, err = s.s.List(ctx, "", "", 1)
	s.want("List", err, context.Canceled)
	s.want("Delete", s.s.Delete(ctx, "x"), context.Canceled)
	x.Check(s, s.s)
}

func (s *suite) afterTheEnd() {
	for name, end := range map[string]func(store.Upload) error{
		"Commit":  func(u store.Upload) error { _, err := u.Commit(s.Context(), [32]byte{}); return err },
		"Close":   store.Upload.Close,
		"Discard": store.Upload.Discard,
	} {
		x := s.sample("end/"+name, uint64(len(name)))
		u := s.begin(x.Spec)
		s.write(u, x, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
		s.ok(name, end(u))
		if err := u.Write(s.Context(), x.Info[0], x.Cells[0]); err == nil {
			s.Errorf("Write after %s does not fail", name)
		}
		if err := u.Sync(s.Context()); err == nil {
			s.Errorf("Sync after %s does not fail", name)
		}
		if _, err := u.Commit(s.Context(), [32]byte{}); err == nil {
			s.Errorf("Commit after %s does not fail", name)
		}
		s.ok("Close after "+name, u.Close())
		s.ok("Discard after "+name, u.Discard())
	}
	s.wantNames("end/Commit")
}

func (s *suite) lendAndView() {
	x := NewSample(s, "lend", "|u1", array.Shape{1 << 20}, array.Shape{1 << 17}, nil, "", 1)
	u := s.begin(x.Spec)
	defer u.Discard()
	lender, ok := u.(store.Lender)
	if !ok {
		return
	}
	for i, data := range x.Cells {
		mem := lender.Lend(i, len(data))
		if mem == nil {
			s.Fatalf("no memory for cell %d", i)
		}
		if len(mem) != len(data) || cap(mem) != len(data) {
			s.Fatalf("memory of %d bytes, capacity %d, for a cell of %d", len(mem), cap(mem), len(data))
		}
		copy(mem, data)
		if err := u.Write(s.Context(), x.Info[i], mem); err != nil {
			s.Fatal(err)
		}
	}
	for _, bad := range [][2]int{{-1, 1 << 17}, {8, 1 << 17}, {0, 5}, {0, 1 << 17}} {
		if mem := lender.Lend(bad[0], bad[1]); mem != nil {
			s.Errorf("Lend(%d, %d) gives memory", bad[0], bad[1])
		}
	}
	_, err := u.Commit(s.Context(), x.Root)
	s.ok("Commit", err)
	x.Check(s, s.s)
	a, err := s.s.Open(s.Context(), "lend")
	s.ok("Open", err)
	defer a.Close()
	if v, ok := a.(store.Viewer); ok {
		for i, want := range x.Cells {
			if !bytes.Equal(v.View(i), want) {
				s.Errorf("view of cell %d differs", i)
			}
		}
	}
}
