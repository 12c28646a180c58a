package smtp

import (
	"testing"
	"time"

	"bothy/application/message"
)

// TestDeadlineEnds: RFC 2852 §4.1.4.2: DELAY is added, and a relayed notice owed, where a deadline of mode N that is still to come goes no further;
// nowhere else.
func TestDeadlineEnds(t *testing.T) {
	hour := time.Now().Add(time.Hour)
	for name, test := range map[string]struct {
		by      message.Deadline
		offered bool
		want    message.Notify
		owed    bool
	}{
		"no deadline":             {message.Deadline{}, false, 0, false},
		"mode N, goes no further": {message.Deadline{At: hour}, false, message.NotifyFailure | message.NotifyDelay, true},
		"mode N, goes on":         {message.Deadline{At: hour}, true, 0, false},
		"mode R":                  {message.Deadline{At: hour, Return: true}, false, 0, false},
		"mode N, over":            {message.Deadline{At: time.Now().Add(-time.Hour)}, false, 0, false},
		"mode N with trace, on":   {message.Deadline{At: hour, Trace: true}, true, 0, true},
		"mode R with trace, on":   {message.Deadline{At: hour, Trace: true, Return: true}, true, 0, true},
		"mode N with trace, over": {message.Deadline{At: time.Now().Add(-time.Hour), Trace: true}, true, 0, true},
	} {
		c := &Client{keywords: map[string]string{"DSN": ""}}
		if test.offered {
			c.keywords["DELIVERBY"] = ""
		}
		env, to := &message.Envelope{ReversePath: message.Address{Local: "a", Domain: "site.example"}, DeliverBy: test.by}, new(message.Recipient)
		if got := (&transfer{c: c, env: env}).notify(to); got != test.want {
			t.Errorf("%s: NOTIFY=%v, want %v", name, got, test.want)
		}
		if got := c.OwesRelayed(env, to); got != test.owed {
			t.Errorf("%s: owed: %v", name, got)
		}
	}
}
