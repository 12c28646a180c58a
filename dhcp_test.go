package site

import (
	"net/netip"
	"slices"
	"testing"

	"bothy/application/pop3"
	"bothy/application/submission"
	"bothy/control/lease"
)

// TestShownLease: RFC 3046 §3.1, §3.2: a lease is reported with where its client is; of a delegated prefix it is said that it is one.
func TestShownLease(t *testing.T) {
	store, err := lease.Open(lease.Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	for _, c := range []struct {
		prefix string
		data   []byte
		want   Lease
	}{
		{"192.0.2.7/32", []byte("\x01\x04eth1\x02\x02\xab\xcd"), Lease{Kind: "address", Circuit: "eth1", Remote: "ab:cd"}},
		{"192.0.2.7/32", []byte("\x01\x04eth"), Lease{Kind: "address"}}, // cut off
		{"192.0.2.7/32", nil, Lease{Kind: "address"}},
		{"2001:db8::7/128", []byte("\x01\x01x"), Lease{Kind: "address"}}, // not of a relay agent of DHCPv4
		{"2001:db8:100::/56", nil, Lease{Kind: "prefix"}},
	} {
		got := shownLease(store, lease.Lease{Prefix: netip.MustParsePrefix(c.prefix), State: lease.Bound, Data: c.data})
		if got.Kind != c.want.Kind || got.Circuit != c.want.Circuit || got.Remote != c.want.Remote || !got.Current {
			t.Errorf("%s %x: %+v", c.prefix, c.data, got)
		}
	}
}

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
