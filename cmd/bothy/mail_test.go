package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"bothy/control/dhcp4"
	"bothy/control/dhcp6"
	"bothy/management/admin"

	site "bothy"
)

// What the network says of mail servers is shown with who said it, and that nothing proves it.
func TestMailDiscover(t *testing.T) {
	up := site.Uplink{
		DHCP4: &dhcp4.Binding{Server: netip.MustParseAddr("192.0.2.1"), SMTP: []netip.Addr{netip.MustParseAddr("192.0.2.25")}},
		DHCP6: &dhcp6.Binding{Server: "\x00\x04\x01", SMTP: []netip.Addr{netip.MustParseAddr("2001:db8::25")}},
	}
	answering(t, inSite(t), func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/uplink", func(context.Context, struct{}) (site.Uplink, error) { return up, nil })
	})
	const note = "Unproven: whoever answered first on the link is believed. --name asks the servers for proof of their name.\n"
	steps(t, []step{
		{args: "mail discover", out: "SERVICE  SERVER        SAID BY                  TRUST\n" +
			"SMTP     2001:db8::25  DHCPv6 server 00:04:01   unproven\n" +
			"SMTP     192.0.2.25    DHCPv4 server 192.0.2.1  unproven\n" + note},
		{args: "mail discover --name mail.clinic.example --ca nowhere", code: 1, err: "nowhere"},
	})
	up.DHCP4.SMTP, up.DHCP6.SMTP = nil, nil
	steps(t, []step{{args: "mail discover", code: 1, err: "names no mail servers"}})
}

// A server is trusted when it has a certificate for the name that the operator knows, and for no other reason.
func TestProve(t *testing.T) {
	server := httptest.NewUnstartedServer(http.NotFoundHandler())
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	at := netip.MustParseAddrPort(server.Listener.Addr().String())
	pool := x509.NewCertPool()
	pool.AddCert(server.Certificate())
	for _, c := range []struct {
		name  string
		roots *x509.CertPool
		want  trust
	}{
		{"example.com", pool, proven},
		{"mail.clinic.example", pool, failed},
		{"example.com", x509.NewCertPool(), failed},
	} {
		s := learnt{Address: at.Addr(), Trust: unproven}
		s.prove(t.Context(), &tls.Config{ServerName: c.name, RootCAs: c.roots}, at.Port())
		if s.Trust != c.want || (s.Why == "") != (c.want == proven) {
			t.Errorf("%s: %+v", c.name, s)
		}
	}
}
