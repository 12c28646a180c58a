package site

import (
	"context"
	"io"
	"log/slog"
	"time"

	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// Event is one step of one message's way, or of the link's, for whoever watches: `bothy try` shows them, tests wait for them.
type Event struct {
	At        time.Time  `json:"at"`
	What      What       `json:"what"`
	ID        message.ID `json:"id,omitzero"`
	Recipient string     `json:"recipient,omitempty"`
	Lane      queue.Lane `json:"lane,omitempty"`
	Text      string     `json:"text,omitempty"` // the peer's reply, why the link changed
}

// What happened.
type What string

// The steps, in the order of a message's way.
const (
	Received  What = "received"  // the end of data has come
	OnDisk    What = "on disk"   // synced: the 250 goes out now
	Routed    What = "routed"    // in the lane of what carries it on
	Held      What = "held"      // in the lane of a customer, until it calls
	Called    What = "called"    // this site has called the provider
	Turned    What = "turned"    // the provider has turned a connection round
	Relayed   What = "relayed"   // the next hop has it
	Delivered What = "delivered" // in the mailbox
	LinkUp    What = "link up"
	LinkDown  What = "link down"
)

// watched is the spool with an event before and after the disk.
func (s *Site) watched(next smtp.Acceptor) smtp.Acceptor {
	if s.env.Event == nil {
		return next
	}
	return acceptorFunc(func(ctx context.Context, env *message.Envelope, body io.Reader) error {
		ended := &ending{Reader: body, onEnd: func() { s.event(Event{What: Received, ID: env.ID, Text: env.ReversePath.String()}) }}
		if err := next.Accept(ctx, env, ended); err != nil {
			return err
		}
		s.event(Event{What: OnDisk, ID: env.ID})
		for i := range env.Recipients {
			to := &env.Recipients[i]
			lane, what := s.router.Lane(env, to), Routed
			if lane.Kind() == "odmr" {
				what = Held
			}
			s.event(Event{What: what, ID: env.ID, Recipient: to.Address.String(), Lane: lane})
		}
		return nil
	})
}

type acceptorFunc func(context.Context, *message.Envelope, io.Reader) error

func (f acceptorFunc) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	return f(ctx, env, body)
}

// ending tells of a reader's first io.EOF.
type ending struct {
	io.Reader
	onEnd func()
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if err == io.EOF && e.onEnd != nil {
		e.onEnd()
		e.onEnd = nil
	}
	return n, err
}

func (s *Site) sent(lane queue.Lane, id message.ID, to message.Address, reply smtp.Reply) {
	s.count(lane, reply)
	if reply.Positive() {
		s.event(Event{What: Relayed, ID: id, Recipient: to.String(), Lane: lane, Text: reply.Error()})
	}
}

func (s *Site) observeProvider(e odmr.Event) {
	s.countCall(e)
	switch e.What {
	case odmr.Turned:
		s.event(Event{What: Turned, Recipient: e.Account})
	case odmr.Transferred:
		s.event(Event{What: Relayed, ID: e.ID, Recipient: e.Recipient.String(), Text: e.Reply.Error()})
	}
}

// observeCall tells of the start of each call.
func (s *Site) observeCall() func(odmr.Progress) {
	last := odmr.Ended
	return func(p odmr.Progress) { // called from one goroutine at a time
		if p.Stage == odmr.Asking && last != odmr.Asking {
			s.event(Event{What: Called})
		}
		last = p.Stage
	}
}

// followLink tells of the link's changes. It is down, and nobody knows why, until its source has looked.
func (s *Site) followLink(ctx context.Context) error {
	states, stop := s.link.Watch()
	defer stop()
	up := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case state := <-states:
			if state.Up == up {
				continue
			}
			up = state.Up
			what := LinkDown
			if up {
				what = LinkUp
			}
			s.env.Log.Info("link", slog.Bool("up", up), slog.String("why", state.Why))
			s.event(Event{What: what, Text: state.Why})
		}
	}
}
