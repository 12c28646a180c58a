package queue_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
)

// envelope makes an envelope for addresses.
func envelope(t testing.TB, from string, to ...string) *message.Envelope {
	t.Helper()
	env := new(message.Envelope)
	var err error
	if from != "" {
		if env.ReversePath, err = message.ParseAddress(from); err != nil {
			t.Fatal(err)
		}
	}
	for _, s := range to {
		a, err := message.ParseAddress(s)
		if err != nil {
			t.Fatal(err)
		}
		env.Recipients = append(env.Recipients, message.Recipient{Address: a})
	}
	return env
}

func body(l *queue.Lease) (string, error) {
	r, err := l.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	b, err := io.ReadAll(r)
	return string(b), err
}

func TestSmoke(t *testing.T) {
	o := queue.Options{Dir: t.TempDir(), Router: queuetest.Router(queuetest.ByDomain)}
	o.Config.SegmentSize = 1 << 20
	s, err := queue.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	texts := map[message.ID]string{}
	for i, n := range []int{0, 1, 4000, 16 << 10, 16<<10 + 1, 128 << 10, 128<<10 + 1, 1 << 20} {
		text := fmt.Sprintf("Subject: %d\r\n\r\n", i) + strings.Repeat("x", n)
		env := envelope(t, "a@b.example", "c@d.example", "e@f.example", "g@d.example")
		if err := s.Accept(context.Background(), env, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		texts[env.ID] = text
	}
	check := func() {
		t.Helper()
		var leases []*queue.Lease
		for {
			l, err := s.Lease("test/d.example", "me")
			if err != nil {
				t.Fatal(err)
			}
			if l == nil {
				break
			}
			leases = append(leases, l)
			got, err := body(l)
			if err != nil || got != texts[l.Envelope.ID] || len(l.Envelope.Recipients) != 2 {
				t.Fatalf("lease of %v: %d octets, %v, %v", l.Envelope.ID, len(got), err, l.Envelope)
			}
		}
		if len(leases) != len(texts) {
			t.Fatalf("%d leases", len(leases))
		}
		for _, l := range leases {
			l.Release()
		}
	}
	check()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if s, err = queue.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	check()
}
