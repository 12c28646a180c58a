package odmr

import (
	"errors"
	"testing"

	"bothy/application/message"
	"bothy/application/smtp"
)

// TestGate: what the site would only send back to the provider is not taken from it (RFC 5321 §6.1).
func TestGate(t *testing.T) {
	here := mailboxes{"keeper@clinic.example": true}
	handed := func(domain string) bool { return domain == "mta.example" || domain == "clinic.example" }
	for _, c := range []struct {
		asked []string
		to    string
		want  string
	}{
		{[]string{"clinic.example", "lab.example"}, "keeper@clinic.example", ""},
		{[]string{"clinic.example", "lab.example"}, "nobody@clinic.example", "550 5.1.1"},
		{[]string{"clinic.example", "lab.example"}, "PostMaster@clinic.example", ""},
		{[]string{"clinic.example", "lab.example"}, "doctor@lab.example", "450 4.1.1"},
		{[]string{"clinic.example", "lab.example"}, "postmaster@lab.example", "450 4.1.1"},
		{[]string{"clinic.example"}, "doctor@lab.example", "550 5.7.1"},
		{nil, "keeper@clinic.example", ""},
		{nil, "doctor@lab.example", "550 5.7.1"},
		{[]string{"mta.example"}, "anybody@mta.example", ""}, // another server here knows who there is
		{nil, "anybody@mta.example", ""},
		{[]string{"clinic.example"}, "anybody@mta.example", "550 5.7.1"}, // and yet nobody relays through us
		{[]string{"clinic.example"}, "nobody@clinic.example", "550 5.1.1"},
	} {
		a, err := message.ParseAddress(c.to)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		err = gate{c.asked, here, handed, func() {}}.Rcpt(t.Context(), nil, nil, &message.Recipient{Address: a})
		if reply, ok := errors.AsType[smtp.Reply](err); ok {
			got = reply.Error()[:9]
		}
		if got != c.want {
			t.Errorf("asked for %q, %s: %v, want %q", c.asked, c.to, err, c.want)
		}
	}
}
