package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestProviderAndSite is a provider and a site as two programs: what the site tells of its recipients, its budget, and a customer that
// cannot ATRN and says ETRN.
func TestProviderAndSite(t *testing.T) {
	t.Parallel()
	mx, call, land, etrn := peer.FreePort(t), peer.FreePort(t), peer.FreePort(t), peer.FreePort(t)
	provider := serve(t, fmt.Sprintf("hostname = \"provider.example\"\n[smtp]\nlisten = [%q]\n[odmr]\nlisten = [%q]\ntake_mail = true\n", mx, call), mx, call)
	site := serve(t, fmt.Sprintf("hostname = \"mail.clinic.example\"\n[smtp]\nlisten = [%q]\n[fetch]\nprovider = %q\ntls = \"none\"\nusername = \"clinic\"\n"+
		"password = \"correct horse\"\ndomains = [\"clinic.example\"]\ninterval = \"1h\"\nlargest = \"2kB\"\n", land, call), land)
	old := serve(t, fmt.Sprintf("hostname = \"mail.old.example\"\n[smtp]\nlisten = [%q]\n", etrn), etrn)
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("correct horse\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	bothy(t, "account", "add", "--config", site, "--password-file", password, "nurse@clinic.example")
	bothy(t, "account", "add", "--config", old, "--password-file", password, "keeper@old.example")
	bothy(t, "customer", "add", "--config", provider, "--password-file", password, "clinic", "clinic.example")
	bothy(t, "customer", "add", "--config", provider, "--password-file", password, "--etrn-host", etrn, "old", "old.example")

	send := func(code, subject string, size int, to ...string) {
		t.Helper()
		s := dial(t, mx)
		s.say(t, "250", "EHLO sender.example")
		s.say(t, "250", "MAIL FROM:<aunt@sender.example>")
		for _, a := range to {
			s.say(t, code, "RCPT TO:<%s>", a)
		}
		if code == "250" {
			s.say(t, "354", "DATA")
			s.say(t, "250", "Subject: %s\r\n\r\n%s\r\n.", subject, strings.Repeat("x", size))
		}
		s.say(t, "221", "QUIT")
	}
	waits := func(config string) int {
		return strings.Count(bothy(t, "queue", "list", "--config", config), "@clinic.example:")
	}
	send("250", "small", 10, "nurse@clinic.example")
	send("250", "large", 5000, "nurse@clinic.example")
	send("250", "for nobody", 10, "nobody@clinic.example") // nothing is known yet
	bothy(t, "fetch", "--config", site)
	peer.Eventually(t, waitDelivery, "the large one waits", func() bool { return waits(provider) == 1 })
	send("450", "", 0, "nobody@clinic.example")
	send("250", "known", 10, "nurse+detail@clinic.example", "Nurse@Clinic.Example", "postmaster@clinic.example")
	bothy(t, "fetch", "--config", site) // the list is confirmed
	send("550", "", 0, "nobody@clinic.example")
	bothy(t, "fetch", "--config", site, "--all")
	peer.Eventually(t, waitDelivery, "nothing waits", func() bool { return waits(provider) == 0 })

	// ETRN, by whoever it is.
	send("250", "held", 10, "keeper@old.example")
	s := dial(t, mx)
	s.say(t, "250", "EHLO mail.old.example")
	s.say(t, "459", "ETRN clinic.example")
	s.say(t, "250", "ETRN old.example")
	s.say(t, "221", "QUIT")
	peer.Eventually(t, waitDelivery, "the keeper's mail is gone", func() bool {
		return !strings.Contains(bothy(t, "queue", "list", "--config", provider), "keeper@old.example")
	})

	// Mail is taken here too, of customers.
	s = dial(t, call)
	s.say(t, "250", "EHLO mail.clinic.example")
	s.say(t, "530", "MAIL FROM:<nurse@clinic.example>")
	s.say(t, "530", "ATRN")
}
