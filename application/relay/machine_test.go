package relay

import (
	"testing"
	"time"

	"bothy/application/queue"
	"bothy/application/smtp"
)

func TestRetryAfter(t *testing.T) {
	var cfg Config // RFC 5321 §4.5.4.1, with our first step
	for attempts, want := range map[int]time.Duration{
		1: 5 * time.Minute, 2: 10 * time.Minute, 3: 20 * time.Minute, 6: 160 * time.Minute, 7: 4 * time.Hour, 8: 4 * time.Hour,
		1 << 40: 4 * time.Hour, 0: 5 * time.Minute,
	} {
		if got := cfg.RetryAfter(attempts); got != want {
			t.Errorf("after %d attempts %v, want %v", attempts, got, want)
		}
	}
	if got := (Config{FirstRetry: time.Hour, LastRetry: 90 * time.Minute}).RetryAfter(2); got != 90*time.Minute {
		t.Errorf("configured: %v", got)
	}
}

func TestRetryByNextHop(t *testing.T) {
	cfg := Config{NextHops: map[string]NextHop{"far.example": {FirstRetry: time.Minute, LastRetry: 3 * time.Minute}, "192.0.2.7:25": {LastRetry: 7 * time.Minute}}}
	for _, test := range []struct {
		lane     queue.Lane
		attempts int
		want     time.Duration
	}{
		{"mx/far.example", 1, time.Minute},
		{"mx/far.example", 2, 2 * time.Minute},
		{"mx/far.example", 3, 3 * time.Minute},
		{"smarthost/192.0.2.7:25", 1, 5 * time.Minute},
		{"smarthost/192.0.2.7:25", 9, 7 * time.Minute},
		{"mx/else.example", 9, 4 * time.Hour},
	} {
		if got := cfg.retryAfter(test.lane, test.attempts); got != test.want {
			t.Errorf("%s after %d: %v, want %v", test.lane, test.attempts, got, test.want)
		}
	}
}

// TestWindow: additive increase, one for each window full of messages, multiplicative decrease, within one and the bound.
func TestWindow(t *testing.T) {
	w := newWindow
	messages := func(n int) {
		for range n {
			w = w.wider(5)
		}
	}
	if got := w.workers(5); got != 2 {
		t.Errorf("begins with %d", got)
	}
	if messages(3); w.workers(5) != 3 {
		t.Errorf("after 3 messages %v", w)
	}
	if messages(1000); w.workers(5) != 5 || w.workers(3) != 3 {
		t.Errorf("after a thousand %v", w)
	}
	w = w.halved()
	if got := w.workers(5); got != 2 {
		t.Errorf("after a failure %d", got)
	}
	if messages(5); w.workers(5) != 2 {
		t.Errorf("grows as fast as before the failure: %v", w)
	}
	if messages(20); w.workers(5) != 3 {
		t.Errorf("does not recover: %v", w)
	}
	for range 100 {
		w = w.halved()
	}
	if got := w.workers(5); got != 1 {
		t.Errorf("after many failures %d", got)
	}
	if got := newWindow.workers(1); got != 1 {
		t.Errorf("beyond the bound: %d", got)
	}
}

func TestJudgeReply(t *testing.T) {
	retry := time.Unix(5000, 0)
	for _, test := range []struct {
		name  string
		reply smtp.Reply
		about about
		want  string
	}{
		{"2yz", smtp.Reply{Code: 250}, about{}, "done"},
		{"unknown 2yz", smtp.Reply{Code: 299}, about{}, "done"}, // RFC 5321 §4.2.1: by the first digit
		{"4yz", smtp.Reply{Code: 450}, about{}, "deferred"},
		{"unknown 4yz", smtp.Reply{Code: 499}, about{}, "deferred"},
		{"5yz", smtp.Reply{Code: 550}, about{}, "failed"},
		{"unknown 5yz", smtp.Reply{Code: 599}, about{}, "failed"},
		{"3yz where none belongs", smtp.Reply{Code: 354}, about{}, "deferred"},
		{"no reply", smtp.Reply{}, about{}, "deferred"},
		{"no reply on a session that had been good", smtp.Reply{}, about{again: true}, "at once"},
		{"smarthost 5yz", smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}}, about{smarthost: true}, "failed"},
		{"smarthost wants AUTH", smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}}, about{smarthost: true}, "deferred"},
		{"smarthost forgot our login", smtp.Reply{Code: 535}, about{smarthost: true}, "deferred"},
		{"smarthost wants a better mechanism", smtp.Reply{Code: 534}, about{smarthost: true}, "deferred"},
		{"smarthost wants encryption", smtp.Reply{Code: 538}, about{smarthost: true}, "deferred"},
		{"exchanger wants TLS", smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}}, about{}, "failed"},
		{"too many recipients", smtp.Reply{Code: 452, Enhanced: [3]int{4, 5, 3}}, about{}, "deferred"},
		{"too many recipients, others accepted", smtp.Reply{Code: 452, Enhanced: [3]int{4, 5, 3}}, about{progress: true}, "at once"},
		{"too many recipients, by the old code", smtp.Reply{Code: 552, Enhanced: [3]int{5, 5, 3}}, about{progress: true}, "at once"},
		{"mailbox full", smtp.Reply{Code: 552, Enhanced: [3]int{5, 2, 2}}, about{progress: true}, "failed"},
	} {
		test.about.retry, test.about.remote = retry, "mx.far.example"
		v := judgeReply(test.reply, test.about)
		got := "deferred"
		switch {
		case v.Done && v.Failed:
			got = "both"
		case v.Done:
			got = "done"
		case v.Failed:
			got = "failed"
		case v.Retry.IsZero():
			got = "at once"
		case !v.Retry.Equal(retry):
			got = v.Retry.String()
		}
		if got != test.want || v.Reply != test.reply || v.Remote != "mx.far.example" {
			t.Errorf("%s: %s %+v, want %s", test.name, got, v, test.want)
		}
	}
}

func TestTally(t *testing.T) {
	temp, other := later(4, 1, "first"), later(4, 3, "second")
	perm := &failure{reply: smtp.Reply{Code: 554}, remote: "mx.far.example"}
	for _, test := range []struct {
		name string
		in   []*failure
		want *failure
	}{
		{"one passing", []*failure{temp}, temp},
		{"the first passing", []*failure{temp, other}, temp},
		{"a refusal beside a passing", []*failure{perm, other}, other},
		{"a passing beside a refusal", []*failure{temp, perm}, temp},
		{"refusals only", []*failure{perm, perm}, perm},
	} {
		var tally tally
		for _, f := range test.in {
			tally.add(f)
		}
		if got := tally.result(); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}

func TestOurs(t *testing.T) {
	f := (&failure{reply: smtp.Reply{Code: 554, Enhanced: [3]int{5, 7, 1}, Text: "your network is listed"}, remote: "mail.provider.example"}).ours()
	if got := f.reply.Error(); got != "451 4.7.1 mail.provider.example said: 554 5.7.1 your network is listed" {
		t.Error(got)
	}
	f = (&failure{reply: smtp.Reply{Code: 521, Text: "no"}, remote: "mail.provider.example"}).ours()
	if got := f.reply.Error(); got != "451 4.3.0 mail.provider.example said: 521 no" {
		t.Error(got)
	}
}

func TestCheckConfig(t *testing.T) {
	for _, test := range []struct {
		cfg  Config
		keys string
	}{
		{Config{}, ""},
		{Config{TLS: "mandatory"}, "tls"},
		{Config{ViaTLS: "maybe"}, "via_tls"},
		{Config{Username: "site"}, "password"},
		{Config{Password: "x"}, "password"},
		{Config{CAFile: "testdata/absent.pem"}, "ca_file"},
		{Config{CAFile: "machine_test.go"}, "ca_file"},
		{Config{DNS: []string{"192.0.2.53", "[2001:db8::53]:5353", "2001:db8::53"}}, ""},
		{Config{DNS: []string{"ns.provider.example"}}, "dns"},
		{Config{FirstRetry: 5 * time.Hour}, "last_retry"},
		{Config{NextHops: map[string]NextHop{"192.0.2.7:25": {Username: "site"}}}, `next_hops."192.0.2.7:25".password`},
		{Config{NextHops: map[string]NextHop{"far.example": {Username: "site", Password: "x"}}}, `next_hops."far.example".username`},
		{Config{NextHops: map[string]NextHop{"far.example": {TLS: "maybe"}}}, `next_hops."far.example".tls`},
		{Config{NextHops: map[string]NextHop{"far.example": {FirstRetry: 5 * time.Hour}}}, `next_hops."far.example".last_retry`},
		{Config{NextHops: map[string]NextHop{"far.example": {TLS: "required", FirstRetry: time.Minute, Connections: 2}}}, ""},
	} {
		keys := ""
		test.cfg.CheckConfig(func(key string, err error) { keys += key })
		if keys != test.keys {
			t.Errorf("%+v: faults in %q, want %q", test.cfg, keys, test.keys)
		}
	}
}
