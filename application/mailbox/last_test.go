package mailbox

import (
	"slices"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
)

// TestLast: mail that has nobody else to be told of it goes to the postmaster, and waits while there is none (RFC 5321 §6.1).
func TestLast(t *testing.T) {
	host := func(a message.Address) ([]string, bool) {
		switch a.Domain {
		case "mail.clinic.example":
			return []string{"keeper"}, true
		case "mail.new.example":
			return nil, true
		}
		return nil, false
	}
	stranger := message.Address{Local: "aunt", Domain: "elsewhere.example"}
	for _, test := range []struct {
		what     string
		env      message.Envelope
		to       string
		accounts []string
	}{
		{"a name somebody has", message.Envelope{}, "nurse@ward.example", []string{"nurse"}},
		{"cron's mail", message.Envelope{ReversePath: stranger, Account: "uid:0"}, "root@mail.clinic.example", []string{"keeper"}},
		{"a notice to cron", message.Envelope{}, "root@mail.clinic.example", []string{"keeper"}},
		{"a stranger can be told", message.Envelope{ReversePath: stranger}, "root@mail.clinic.example", nil},
		{"a stranger to the postmaster", message.Envelope{ReversePath: stranger}, "postmaster@mail.clinic.example", []string{"keeper"}},
		{"elsewhere", message.Envelope{}, "gone@clinic.example", nil},
		{"nobody yet", message.Envelope{}, "postmaster@mail.new.example", []string{nobodyYet}},
	} {
		to, err := message.ParseAddress(test.to)
		if err != nil {
			t.Fatal(err)
		}
		d := &Deliverer{Directory: everybody, Last: host}
		if got := d.accounts(&test.env, to); !slices.Equal(got, test.accounts) {
			t.Errorf("%s: %q, want %q", test.what, got, test.accounts)
		}
	}
}

// TestWaitsForAnAccount: a server that has just been set up loses no mail for its postmaster.
func TestWaitsForAnAccount(t *testing.T) {
	t.Parallel()
	b := newBench(t, Options{})
	b.Last = func(message.Address) ([]string, bool) { return nil, true }
	b.accept(t, "Subject: early\r\n\r\n", "postmaster@clinic.example", "keeper@clinic.example")
	b.run(t)
	eventually(t, func() bool { return len(b.arrivals()) == 1 })
	eventually(t, func() bool { due, _ := b.spool.Waiting(clinic); return due == 0 })
	if due, all := b.spool.Waiting(clinic); all != 1 {
		t.Errorf("%d due of %d wait", due, all)
	}
	if len(b.notices.failed) != 0 {
		t.Errorf("failed: %v", b.notices.failed)
	}
	v := verdict([]error{errNobodyYet}, 0, time.Unix(0, 0))
	if v.Done || v.Failed || !strings.Contains(v.Reply.Text, "no account") {
		t.Errorf("%+v", v)
	}
}
