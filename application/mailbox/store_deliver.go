package mailbox

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"slices"

	"bothy/application/message"
	"bothy/application/smtp"
)

// The refusals of a delivery. All of them wait in the queue but errTooBig.
var (
	errFull     = smtp.Reply{Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "mailbox full"}                    // RFC 3463 §3.3
	errTooBig   = smtp.Reply{Code: 552, Enhanced: [3]int{5, 2, 3}, Text: "message larger than the mailbox"} // RFC 3463 §3.3
	errNoSpace  = smtp.Reply{Code: 452, Enhanced: [3]int{4, 3, 1}, Text: "disk full"}                       // RFC 3463 §3.4
	errMailbox  = smtp.Reply{Code: 451, Enhanced: [3]int{4, 3, 0}, Text: "mailbox not available"}           // RFC 3463 §3.4
	errShortage = errors.New("message body is not as long as it was")
)

// delivery is one message on its way into an account.
type delivery struct {
	id      message.ID
	path    string // of the body in tmp/
	size    int64  // octets of that
	settled bool
	err     error
}

// Deliver puts a message into an account's INBOX: it is on disk, synced and indexed when it returns nil. body has lines that end
// with CRLF and is read once, in bounded pieces; size is its exact number of octets, negative when not known. env.Recipients
// are those that led to this account. Delivering the same env.ID again changes nothing. An error is a Reply: 452 4.2.2 over
// quota, 552 5.2.3 when the message alone is more, 452 4.3.1 on a full disk, else 451 4.3.0; or ctx's own.
func (s *Store) Deliver(ctx context.Context, account string, env *message.Envelope, body io.Reader, size int64) error {
	err := s.deliver(ctx, account, env, body, size)
	var reply smtp.Reply
	switch {
	case err == nil, ctx.Err() != nil, errors.As(err, &reply):
		return err
	case isFull(err):
		return fmt.Errorf("%w: %w", errNoSpace, err)
	default:
		return fmt.Errorf("%w: %w", errMailbox, err)
	}
}

func (s *Store) deliver(ctx context.Context, account string, env *message.Envelope, body io.Reader, size int64) error {
	if env.ID.IsZero() {
		return errors.New("mailbox: a message has an id")
	}
	if !s.ballast.Hold() {
		return errNoSpace
	}
	if s.quota > 0 { // before anything is written
		if err := s.with(account, func(b *inbox) error {
			b.commit.Lock()
			defer b.commit.Unlock()
			return s.room(b, size)
		}); err != nil {
			return err
		}
	}
	path, written, err := s.disk.stage(s.tmp(), env.ID.String()+"-*", func(w io.Writer) error {
		if _, err := w.Write(appendTrace(nil, env)); err != nil {
			return err
		}
		read, err := copyMessage(ctx, w, body)
		if err == nil && size >= 0 && read != size {
			err = fmt.Errorf("%w: %d octets, not %d", errShortage, read, size)
		}
		return err
	})
	if err != nil {
		return err
	}
	err = s.with(account, func(b *inbox) error {
		return s.commit(context.WithoutCancel(ctx), b, &delivery{id: env.ID, path: path, size: written})
	})
	s.disk.remove(path) // it is there still when nothing became of it
	return err
}

// room reports whether octets more fit into the account. b.commit is held.
func (s *Store) room(b *inbox, octets int64) error {
	switch {
	case s.quota == 0 || b.octets+octets <= s.quota:
		return nil
	case octets > s.quota:
		return errTooBig
	default:
		return errFull
	}
}

// commit gives a body its name and its row. Whoever gets b.commit does this for all who wait: they share one sync of the
// folder and one of the index.
func (s *Store) commit(ctx context.Context, b *inbox, d *delivery) error {
	b.waiting.Lock()
	b.waiting.deliveries = append(b.waiting.deliveries, d)
	b.waiting.Unlock()
	b.commit.Lock()
	defer b.commit.Unlock()
	for !d.settled {
		s.commitAll(ctx, b, b.takeWaiting())
	}
	return d.err
}

// takeWaiting takes those who wait for a commit. One message may come twice at once, by two addresses: the second goes on waiting
// until the first is in the index.
func (b *inbox) takeWaiting() (batch []*delivery) {
	b.waiting.Lock()
	defer b.waiting.Unlock()
	b.waiting.deliveries = slices.DeleteFunc(b.waiting.deliveries, func(d *delivery) bool {
		twice := slices.ContainsFunc(batch, func(e *delivery) bool { return e.id == d.id })
		if !twice {
			batch = append(batch, d)
		}
		return !twice
	})
	return batch
}

// commitAll settles a batch of different messages: each gets its own outcome, but for what they share.
func (s *Store) commitAll(ctx context.Context, b *inbox, batch []*delivery) {
	var fresh []*delivery
	octets := b.octets
	for _, d := range batch {
		d.settled = true
		known, err := b.known(ctx, d.id)
		if err == nil && !known {
			if err = s.room(b, d.size); err == nil {
				err = s.disk.rename(d.path, b.body(d.id))
			}
			if err == nil {
				b.octets += d.size
				fresh = append(fresh, d)
			}
		}
		d.err = err
	}
	if len(fresh) == 0 {
		return
	}
	err := s.disk.syncDir(b.mail())
	if err == nil {
		err = s.disk.step("commit", b.index())
	}
	if err == nil {
		received := s.now()
		err = inTx(ctx, b.db, func(tx *sql.Tx) error {
			for _, d := range fresh {
				if err := insert(ctx, tx, d.id, d.size, received); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err != nil {
		// The bodies stay: a commit that failed may be on disk after all, and must not lack its body then.
		b.octets = octets
		for _, d := range fresh {
			d.err = err
		}
		return
	}
	s.notify(b)
}
