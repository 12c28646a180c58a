package relay

import (
	"crypto/tls"
	"slices"
	"testing"
	"time"

	"bothy/application/smtp"
)

// TestResumption: RFC 8446 §2.2: the next session with a server resumes the TLS of the last.
func TestResumption(t *testing.T) {
	ca := newAuthority(t)
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		x.server.TLS = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, "what.ever.example")}}
		var resumed []bool
		x.mail = func(s *smtp.Session) error {
			resumed = append(resumed, s.Conn.TLS().DidResume)
			return nil
		}
		g := newRig(t, at(x), Options{Resolver: oneExchanger}, Config{})
		defer g.stop()
		for range 2 {
			g.accept("hello", "bob@far.example")
			pass(time.Minute) // the session ends meanwhile
		}
		if want := []bool{false, true}; !slices.Equal(resumed, want) {
			t.Errorf("resumed: %v, want %v", resumed, want)
		}
		if got := g.net.dials(); got != "192.0.2.1:25 192.0.2.1:25" {
			t.Errorf("dialled %q", got)
		}
	})
}
