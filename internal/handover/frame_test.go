package handover

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
)

// body is a message that can be read back.
type body interface {
	AppendBody([]byte) []byte
	ParseBody([]byte) error
}

func meta() Meta {
	return Meta{Cookie: 1 << 60, Accepted: -5, Listener: 7, Hops: 2, Client: "10.1.2.3:4", Local: "[::1]:9", Preread: []byte("abc"), State: []byte{0, 1}}
}

func messages() []body {
	return []body{
		&Hello{Min: 1, Max: 3, Features: 1 << 40, Required: 2, Generation: 9, Index: 4, Slots: 64, Credit: 32},
		&Welcome{Version: 1, Features: 5, PID: 1 << 20, Files: 1 << 33},
		&Ready{Credit: 7},
		&Failed{Code: 12, Text: "it is locked"},
		&Report{Answered: 1 << 50, Live: 3, Credit: 64, Draining: true},
		&Refuse{Sequence: 44, Reason: ReasonMetadata, Text: "another one"},
		&Return{To: 3, Meta: meta()},
		&Drain{Time: 1500 * time.Millisecond},
		&Goodbye{Code: GoodbyeVersion, Text: "too old"},
	}
}

// TestMessages reads every message back, whole and with members of a later version behind it, and refuses it at every other length.
func TestMessages(t *testing.T) {
	for _, m := range messages() {
		whole := m.AppendBody(nil)
		for _, b := range [][]byte{whole, append(bytes.Clone(whole), 1, 2, 3)} {
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(body)
			if err := got.ParseBody(b); err != nil {
				t.Errorf("%T: %v", m, err)
			} else if !reflect.DeepEqual(got, m) {
				t.Errorf("%T: got %+v, want %+v", m, got, m)
			}
		}
		for n := range whole {
			got := reflect.New(reflect.TypeOf(m).Elem()).Interface().(body)
			if err := got.ParseBody(whole[:n]); !errors.Is(err, ErrFrame) {
				t.Errorf("%T cut to %d of %d bytes: %v", m, n, len(whole), err)
			}
		}
	}
}

func TestOffers(t *testing.T) {
	var b []byte
	var want []Offer
	for i := range MaxOffers {
		o := Offer{Sequence: uint64(i), Slot: uint32(i), Meta: meta()}
		want = append(want, o)
		b = AppendOffer(b, &o)
		if len(b) != (i+1)*o.Size() {
			t.Fatalf("%d bytes, Size says %d", len(b), (i+1)*o.Size())
		}
	}
	got, err := ParseOffers(b, nil)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%v, %+v", err, got)
	}
	one := want[0].Size()
	for _, bad := range [][]byte{nil, b[:one-1], b[:one+1], append(bytes.Clone(b), b[:one]...), {0, 0}, {255, 255, 1}} {
		if _, err := ParseOffers(bad, nil); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes: %v", len(bad), err)
		}
	}
	heavy := Offer{Meta: Meta{Preread: make([]byte, MaxCarry), State: []byte{1}}}
	if _, err := ParseOffers(AppendOffer(nil, &heavy), nil); !errors.Is(err, ErrFrame) {
		t.Errorf("%d bytes that go along: %v", MaxCarry+1, err)
	}
}

func TestLimits_texts(t *testing.T) {
	long := strings.Repeat("x", MaxText+1)
	var f Failed
	if err := f.ParseBody((&Failed{Text: long}).AppendBody(nil)); err != nil || len(f.Text) != MaxText {
		t.Errorf("%v, %d bytes", err, len(f.Text))
	}
	o := Offer{Meta: Meta{Client: long}}
	list, err := ParseOffers(AppendOffer(nil, &o), nil)
	if err != nil || len(list[0].Client) != MaxAddr {
		t.Errorf("%v, %v", err, list)
	}
	for _, h := range []Hello{
		{Min: 0, Max: 1, Slots: 1, Credit: 1}, {Min: 2, Max: 1, Slots: 1, Credit: 1}, {Min: 1, Max: 1, Slots: 0, Credit: 1},
		{Min: 1, Max: 1, Slots: MaxSlots + 1, Credit: 1}, {Min: 1, Max: 1, Slots: 1, Credit: 0}, {Min: 1, Max: 1, Slots: 1, Credit: MaxCredit + 1},
	} {
		if err := new(Hello).ParseBody(h.AppendBody(nil)); !errors.Is(err, ErrFrame) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// TestFrame_bits turns over every bit of a frame: each is noticed.
func TestFrame_bits(t *testing.T) {
	good := AppendFrame(nil, Frame{Version: 1, Kind: KindReport, Critical: true, Files: 1, Generation: 3, Body: []byte("some body")})
	if f, err := ParseFrame(good); err != nil || f.Kind != KindReport || !f.Critical || f.Files != 1 || f.Generation != 3 || string(f.Body) != "some body" {
		t.Fatalf("%+v, %v", f, err)
	}
	for bit := range len(good) * 8 {
		bad := bytes.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		if _, err := ParseFrame(bad); !errors.Is(err, ErrFrame) {
			t.Errorf("bit %d: %v", bit, err)
		}
	}
	for n := range good {
		if _, err := ParseFrame(good[:n]); !errors.Is(err, ErrFrame) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := ParseFrame(AppendFrame(nil, Frame{Body: make([]byte, MaxFrame-headerSize)})); err != nil {
		t.Error(err)
	}
	if _, err := ParseFrame(AppendFrame(nil, Frame{Body: make([]byte, MaxFrame-headerSize+1)})); !errors.Is(err, ErrFrame) {
		t.Error(err)
	}
}

// FuzzFrame parses anything as a frame, its body as every message, and writes what it understood again.
func FuzzFrame(f *testing.F) {
	for _, m := range messages() {
		f.Add(AppendFrame(nil, Frame{Version: 1, Kind: KindHello, Body: m.AppendBody(nil)}))
	}
	o := Offer{Sequence: 1, Slot: 2, Meta: meta()}
	f.Add(AppendFrame(nil, Frame{Version: 1, Kind: KindOffer, Files: 2, Body: AppendOffer(AppendOffer(nil, &o), &o)}))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := ParseFrame(b)
		if err != nil {
			frame = Frame{Body: b} // the bodies are worth a look all the same
		} else if again := AppendFrame(nil, frame); !bytes.Equal(again, b) {
			t.Fatalf("%x became %x", b, again)
		}
		for _, m := range messages() {
			m = reflect.New(reflect.TypeOf(m).Elem()).Interface().(body)
			if m.ParseBody(frame.Body) != nil {
				continue
			}
			again := reflect.New(reflect.TypeOf(m).Elem()).Interface().(body)
			if err := again.ParseBody(m.AppendBody(nil)); err != nil || !reflect.DeepEqual(again, m) {
				t.Fatalf("%+v became %+v: %v", m, again, err)
			}
		}
		list, err := ParseOffers(frame.Body, nil)
		if err != nil {
			return
		}
		var wrote []byte
		for i := range list {
			if carry := len(list[i].Preread) + len(list[i].State); carry > MaxCarry {
				t.Fatalf("%d bytes go along", carry)
			}
			wrote = AppendOffer(wrote, &list[i])
		}
		if again, err := ParseOffers(wrote, nil); err != nil || !reflect.DeepEqual(again, list) {
			t.Fatalf("%+v became %+v: %v", list, again, err)
		}
	})
}
