package test

import (
	"bufio"
	"crypto/tls"
	"slices"
	"strings"
	"testing"
)

// TestALPN: on the port where calls begin with TLS, who names no protocol is served, and who names none of ours is refused (RFC 7301 §3.2).
func TestALPN(t *testing.T) {
	t.Parallel()
	p := startProvider(t, "")
	for _, c := range []struct {
		names  []string
		spoken string // "-": refused
	}{
		{nil, ""},
		{[]string{"odmr"}, "odmr"},
		{[]string{"smtp"}, "smtp"},
		{[]string{"smtp", "odmr"}, "odmr"},
		{[]string{"h2", "http/1.1"}, "-"},
	} {
		conn, err := tls.Dial("tcp", p.calls, &tls.Config{InsecureSkipVerify: true, NextProtos: c.names})
		if err != nil {
			if c.spoken != "-" || !strings.Contains(err.Error(), "no application protocol") {
				t.Errorf("%q: %v", c.names, err)
			}
			continue
		}
		defer conn.Close()
		greeting, err := bufio.NewReader(conn).ReadString('\n')
		if spoken := conn.ConnectionState().NegotiatedProtocol; spoken != c.spoken || err != nil || !strings.HasPrefix(greeting, "220 ") || !slices.Contains(append(c.names, ""), spoken) {
			t.Errorf("%q: %q is spoken, %q, %v", c.names, spoken, greeting, err)
		}
	}
}
