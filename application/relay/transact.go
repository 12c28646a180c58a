package relay

import (
	"bytes"
	"context"
	"io"
	"slices"
	"sync"

	"bothy/application/message"
	"bothy/application/message/convert"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// draft is a message as it goes to some of its recipients in one transaction.
type draft struct {
	lease      *queue.Lease
	content    *convert.Plan
	signature  []byte // stands before it
	recipients []message.Recipient
	apart      bool // there are others, in transactions of their own
}

// transid names the transaction: the same for the same text to the same place whenever it is sent, so that it goes on where the connection
// broke, and does not come twice when the reply was lost (RFC 1845 §3).
func (d *draft) transid(host, remote string) string {
	parts := []string{"relay", remote, d.lease.Envelope.ID.String(), d.content.Body.String(), string(d.signature)}
	if d.apart {
		for _, to := range d.recipients {
			parts = append(parts, to.Address.String())
		}
	}
	return smtp.TransID(host, parts...)
}

// transact sends the message in one transaction, or in two where the server has taken it from us already, but not for everybody. lost says
// that the session is over, failed that the message cannot be read.
func (r *Relay) transact(ctx context.Context, s *session, d draft) (replies []smtp.Reply, lost, failed error) {
	body, err := d.lease.Open()
	if err != nil {
		return make([]smtp.Reply, len(d.recipients)), nil, err
	}
	env := d.lease.Envelope
	env.Body, env.Recipients = d.content.Body, d.recipients
	s.sent++
	replies, err = s.client.Transfer(ctx, smtp.Outgoing{
		Envelope: &env, Body: io.MultiReader(bytes.NewReader(d.signature), d.content.Reader(body)), Size: d.content.Size + int64(len(d.signature)),
		TransID: d.transid(r.o.Hostname, s.remote), Asked: func(int, smtp.Reply) { s.mailed = true },
	})
	body.Close()
	if err != nil {
		return replies, err, nil
	}
	r.begun.forget(d.lease)
	if d.apart || !slices.Contains(replies, smtp.NotOfTransaction) || s.full() {
		return replies, nil, nil
	}
	rest := d
	rest.apart, rest.recipients = true, nil
	for i, reply := range replies {
		if reply == smtp.NotOfTransaction {
			rest.recipients = append(rest.recipients, d.recipients[i])
		}
	}
	others, lost, failed := r.transact(ctx, s, rest)
	for i, reply := range replies {
		if reply == smtp.NotOfTransaction {
			replies[i], others = others[0], others[1:]
		}
	}
	return replies, lost, failed
}

// maxBegun bounds the messages whose signatures are remembered.
const maxBegun = 256

// begun remembers the signatures of messages whose session was lost: with another, which has another time in it, the text would be another one,
// and none of it could be taken up.
type begun struct {
	mu         sync.Mutex
	signatures map[message.ID]prefix
}

type prefix struct {
	fields []byte
	body   message.BodyType
	size   int64
}

func (b *begun) of(lease *queue.Lease, content *convert.Plan) (fields []byte, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.signatures[lease.Envelope.ID]
	return s.fields, ok && s.body == content.Body && s.size == content.Size
}

// keep remembers a signature until forget.
func (b *begun) keep(lease *queue.Lease, content *convert.Plan, fields []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.signatures == nil {
		b.signatures = map[message.ID]prefix{}
	}
	for id := range b.signatures {
		if len(b.signatures) < maxBegun {
			break
		}
		delete(b.signatures, id)
	}
	b.signatures[lease.Envelope.ID] = prefix{fields: fields, body: content.Body, size: content.Size}
}

func (b *begun) forget(lease *queue.Lease) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.signatures, lease.Envelope.ID)
}
