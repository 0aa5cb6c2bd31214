package session

import (
	"context"
	"errors"
	"testing"

	"ndferry/store"
)

// meanwhile is a store where something happens when it has said that a transfer is busy.
type meanwhile struct {
	store.Store
	busy func(times int)
	said int
}

func (m *meanwhile) Begin(ctx context.Context, spec store.Spec) (store.Upload, *store.Receipt, error) {
	up, receipt, err := m.Store.Begin(ctx, spec)
	if errors.Is(err, store.ErrBusy) {
		m.said++
		m.busy(m.said)
	}
	return up, receipt, err
}

// TestFence has a resumable PUT come again while an older connection has it open, or has just let go of it when it is looked for.
func TestFence(t *testing.T) {
	for name, open := range stores {
		for _, c := range []struct {
			name string
			when func(older *rig, times int) // the store has said that the transfer is busy
			kick func(older *rig)
			want string
			said int
		}{
			{
				name: "it is ended", want: "ACCEPT ", said: 1,
				when: func(*rig, int) {},
				kick: func(older *rig) { older.ex.Close() },
			},
			{
				name: "it ends before it is looked for", want: "ACCEPT ", said: 1,
				when: func(older *rig, _ int) { older.ex.Close() },
				kick: func(older *rig) { older.t.Error("a connection that has ended was ended") },
			},
			{
				name: "nobody here has it", want: "ERROR ", said: beginTries,
				when: func(older *rig, _ int) { older.ex.owners.release(store.ID{1}, older.ex) },
				kick: func(*rig) {},
			},
		} {
			t.Run(name+"/"+c.name, func(t *testing.T) {
				st := open(t)
				owners := &Owners{}
				older := newRig(t, st)
				older.ex.Share(owners, func() { c.kick(older) })
				m := &meanwhile{Store: st, busy: func(times int) { c.when(older, times) }}
				newer := newRig(t, m)
				newer.ex.Share(owners, func() {})
				a := newTestArray(t, "a", 1, "")
				a.msg.Resume = true
				for _, r := range []*rig{older, newer} {
					r.say(hello(), a.put(1))
				}
				if got := newer.kinds(1); got != c.want || m.said != c.said {
					t.Errorf("answers %q, busy %d times, want %q and %d", got, m.said, c.want, c.said)
				}
			})
		}
	}
}
