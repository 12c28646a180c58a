package smtp

import (
	"slices"
	"strings"
	"testing"

	"bothy/application/message"
)

// TestDSNLimits: RFC 3461 §5.4: a RCPT with a path, an ORCPT and a NOTIFY of the greatest length is taken, and a MAIL with an ENVID of it; RFC 3461
// §5.1: the reply is the same as without them.
func TestDSNLimits(t *testing.T) {
	path := "<" + strings.Repeat("l", 64) + "@" + strings.Repeat("d.", 90) + "example>"
	orcpt := "rfc822;" + strings.Repeat("o", 493)
	st := &store{}
	srv := newServer(st)
	srv.Offer, srv.Policy = Offer{DSN: true}, nil
	converse := func(lines ...string) []string {
		conn := &script{in: strings.NewReader(strings.Join(lines, "\r\n") + "\r\n"), n: 1 << 10}
		_ = srv.Serve(t.Context(), NewConn(conn)) // it ends with the script
		replies := strings.Split(strings.TrimSuffix(conn.out.String(), "\r\n"), "\r\n")
		return slices.DeleteFunc(replies, func(line string) bool { return strings.HasPrefix(line, "250-") })
	}
	with := converse("EHLO a.example", "MAIL FROM:"+path+" RET=FULL ENVID="+strings.Repeat("e", 100),
		"RCPT TO:"+path+" NOTIFY=SUCCESS,FAILURE,DELAY ORCPT="+orcpt, "DATA", "Subject: x", "", ".")
	bare := converse("EHLO a.example", "MAIL FROM:"+path, "RCPT TO:"+path)
	for i, reply := range bare {
		if with[i] != reply || i > 0 && !strings.HasPrefix(reply, "250") {
			t.Errorf("%q with, %q without", with[i], reply)
		}
	}
	if len(st.mails) != 1 {
		t.Fatal(with)
	}
	env := st.mails[0].env
	if to := env.Recipients[0]; to.Original != orcpt || to.Notify != message.NotifySuccess|message.NotifyFailure|message.NotifyDelay ||
		len(env.EnvelopeID) != 100 || env.Return != message.ReturnFull {
		t.Errorf("%+v", env)
	}
}
