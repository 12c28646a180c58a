package dsn

import (
	"strings"
	"testing"
	"time"

	"bothy/application/message"
)

// TestStranger: RFC 5321 §6.2, RFC 3461 §5.2: a sender who may be forged is told of nothing, whatever the message asks for; the postmaster hears of the failure.
func TestStranger(t *testing.T) {
	r := report(everything, Failed, Delayed, Expanded, Relayed, Delivered)
	r.Envelope.Unverified, r.Envelope.Return = true, message.ReturnFull
	telling := &Composer{Hostname: "mail.light.example"}
	notice, content := compose(t, telling, r)
	if notice == nil || notice.Recipients[0].Address.String() != "postmaster@mail.light.example" {
		t.Fatalf("%+v", notice)
	}
	_, parts := parse(t, content)
	if found := groups(t, parts[1].body)[1:]; len(found) != 1 || found[0].Get("Action") != "failed" {
		t.Errorf("%v", found)
	}
	golden(t, "stranger.eml", r.Envelope, notice, content)

	for policy, want := range map[string]string{"sender": r.Envelope.ReversePath.String(), "postmaster": "postmaster@mail.light.example", "nobody": ""} {
		c := &Composer{Hostname: "mail.light.example", Config: Config{Strangers: policy}}
		notice, _ := compose(t, c, r)
		if got := ""; notice != nil {
			if got = notice.Recipients[0].Address.String(); got != want {
				t.Errorf("%s: to %q, want %q", policy, got, want)
			}
		} else if want != "" {
			t.Errorf("%s: no notice", policy)
		}
	}
	quiet := report(everything, Delayed, Expanded, Relayed, Delivered)
	quiet.Envelope.Unverified = true
	if notice, _ := compose(t, telling, quiet); notice != nil {
		t.Error("the postmaster is told of what did not fail")
	}
	// one to the postmaster himself is not forgotten: nobody is left to tell
	r.Outcomes = r.Outcomes[:1]
	r.Outcomes[0].Recipient.Address = message.Address{Local: "Postmaster", Domain: "mail.light.example"}
	if notice, _ := compose(t, telling, r); notice != nil {
		t.Error("a notice of mail to the postmaster, to the postmaster")
	}
	if !telling.Keeps(r.Envelope, &r.Outcomes[0].Recipient) {
		t.Error("it is forgotten")
	}
	r.Envelope.Unverified = false
	if telling.Keeps(r.Envelope, &r.Outcomes[0].Recipient) {
		t.Error("kept, though its sender is told")
	}
}

// TestStrangersMax: a flood of forged mail is told of in bounds, and how much was not told.
func TestStrangersMax(t *testing.T) {
	c := &Composer{Hostname: "mail.light.example", Config: Config{StrangersMax: 2}}
	r := report(0, Failed)
	r.Envelope.Unverified = true
	for i, want := range []bool{true, true, false, false, false} {
		if notice, _ := compose(t, c, r); (notice != nil) != want {
			t.Errorf("notice %d: %v", i, notice != nil)
		}
	}
	r.Now = r.Now.Add(time.Hour)
	_, content := compose(t, c, r)
	if !strings.Contains(string(content), "Not counted here: 3 more such messages") {
		t.Errorf("%s", content)
	}
	if _, content = compose(t, c, r); strings.Contains(string(content), "Not counted here") {
		t.Error("counted twice")
	}
}
