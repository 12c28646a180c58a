package queue_test

import (
	"testing"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/queue/queuetest"
)

func TestSpool(t *testing.T) {
	queuetest.Run(t, func(t testing.TB, o queue.Options) queue.Store { return queuetest.OpenWith(t, o) })
}

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
