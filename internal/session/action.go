package session

import (
	"time"

	"ndferry/wire"
)

// Verb is what an Action asks the driver to do.
type Verb uint8

const (
	Send    Verb = iota + 1 // write Segments, in order; then call OnSent(Token) when Token is not 0
	Submit                  // run Op with an Executor, after all that were submitted before it, and call OnDone
	Abandon                 // cancel what runs for Stream, it still ends with OnDone
	Arm                     // call OnTick at At, and not at an earlier At any more
	Close                   // write what was sent, then close; Err is why, nil when the peer left
)

// Action is an output of a Session: plain values, to be logged, recorded and compared.
type Action struct {
	Do       Verb
	Segments [][]byte // Send: to be written in order and not to be changed before OnSent
	Urgent   bool     // Send: may overtake what is not urgent, between two sends
	Token    uint64
	Op       Operation
	Stream   uint32
	At       time.Time
	Err      error
}

// Verdict is what to do with the payload of a frame.
type Verdict uint8

const (
	Read   Verdict = iota // read it to Memory (empty: there is none) and call OnPayload
	Skip                  // read it and its trailer and forget them
	Wait                  // ask OnHeader again with the same header after the next OnDone or OnSent
	Refuse                // read nothing more; a Close is among the actions
)

// Payload is the answer to a header.
type Payload struct {
	Verdict Verdict
	Memory  []byte // of exactly the header's length
	Full    bool   // Wait: for memory, which others may have to give back
}

func (s *Session) push(a Action) { s.actions = append(s.actions, a) }

// Next returns the next action, in order; ok is false when there is none.
func (s *Session) Next() (a Action, ok bool) {
	if s.head == len(s.actions) {
		s.actions, s.head = s.actions[:0], 0
		return Action{}, false
	}
	a = s.actions[s.head]
	s.actions[s.head] = Action{}
	s.head++
	return a, true
}

// send queues a control frame. HELLO is urgent because those that are would overtake it otherwise.
func (s *Session) send(h wire.Header, message any) {
	urgent := h.Kind == wire.Pong || h.Kind == wire.Credit || h.Kind == wire.GoAway || h.Kind == wire.Hello
	s.push(Action{Do: Send, Segments: [][]byte{wire.EncodeFrame(h, message)}, Urgent: urgent, Stream: h.Stream})
}

// fail ends the stream with an ERROR; on stream 0 it ends the connection.
func (s *Session) fail(stream uint32, f *wire.Failure) {
	s.send(wire.Header{Kind: wire.Fail, Stream: stream}, f)
	if stream == 0 {
		s.close(f)
	}
}

func (s *Session) close(err error) {
	if !s.closed {
		s.closed = true
		s.push(Action{Do: Close, Err: err})
	}
}

// refuse answers what breaks the protocol and closes.
func (s *Session) refuse(err error) Payload {
	s.fail(0, wire.NewFailure(wire.CodeOf(err), err.Error()))
	return Payload{Verdict: Refuse}
}
