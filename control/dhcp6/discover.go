package dhcp6

import (
	"context"
	"time"
)

// Discover asks once, without a lease, what there is to know on a link (RFC 9915 §6.1), until ctx ends; it closes the wire.
func Discover(ctx context.Context, w ClientWire, duid []byte, mail MailConfig) (Binding, error) {
	defer w.Close()
	messages, failed, done := make(chan []byte), make(chan error, 1), make(chan struct{})
	defer close(done)
	go func() { failed <- receive(w, messages, done) }()
	c := NewClient(ClientOptions{DUID: duid, Mail: mail}, Binding{}, time.Now())
	for {
		timer := time.NewTimer(max(time.Until(c.Next()), 0))
		select {
		case <-ctx.Done():
			timer.Stop()
			return Binding{}, ctx.Err()
		case err := <-failed:
			timer.Stop()
			return Binding{}, err
		case b := <-messages:
			if changed, _ := c.Receive(time.Now(), b); changed {
				timer.Stop()
				return c.Binding(), nil
			}
		case <-timer.C:
			if out := c.Tick(time.Now()); out != nil {
				if err := w.Send(out); err != nil {
					return Binding{}, err
				}
			}
		}
		timer.Stop()
	}
}
