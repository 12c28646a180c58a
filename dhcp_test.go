package site

import (
	"net/netip"
	"slices"
	"testing"

	"bothy/application/pop3"
	"bothy/application/submission"
)

// Hosts are told of the mail servers that they can reach, and of no others.
func TestMailServersOfHosts(t *testing.T) {
	cfg := Config{
		SMTP:       SMTPConfig{Listen: []string{"192.0.2.5:25", "[::1]:25", "127.0.0.1:25"}},
		Submission: submission.Config{Listen: []string{":587"}, ListenTLS: []string{"[2001:db8::5]:465", "mail.clinic.example:465"}},
		POP3:       pop3.Config{Listen: []string{"0.0.0.0:110"}, ListenTLS: []string{"[::]:995"}},
	}
	addrs := func(all ...string) (a []netip.Addr) {
		for _, s := range all {
			a = append(a, netip.MustParseAddr(s))
		}
		return a
	}
	four, six := cfg.mail4(), cfg.mail6()
	for _, c := range []struct {
		name      string
		got, want []netip.Addr
	}{
		{"SMTP over IPv4", four.SMTP, addrs("0.0.0.0", "192.0.2.5")},
		{"POP3 over IPv4", four.POP3, addrs("0.0.0.0")},
		{"SMTP over IPv6", six.SMTP, addrs("::", "2001:db8::5")},
		{"POP3 over IPv6", six.POP3, addrs("::")},
	} {
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
		}
	}
}
