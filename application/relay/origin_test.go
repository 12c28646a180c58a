package relay

import (
	"io"
	"net/netip"
	"strings"
	"testing"

	"bothy/application/smtp"
)

// TestOrigin: who is named to the server behind us was named by our provider, and by nobody else.
func TestOrigin(t *testing.T) {
	const (
		ours   = "Received: from mail.provider.example ([192.0.2.1])\r\n\tby mail.clinic.example via ODMR with ESMTPS\r\n\t(TLS 1.3 TLS_AES_128_GCM_SHA256)\r\n\tid 1; Mon, 2 Mar 2026 12:00:00 +0000\r\n"
		theirs = "Received: from mx.elsewhere.example ([203.0.113.9])\r\n\tby mail.provider.example with ESMTP\r\n\tid 2; Mon, 2 Mar 2026 12:00:00 +0000\r\n"
	)
	known := smtp.Origin{Addr: netip.MustParseAddr("203.0.113.9"), Helo: "mx.elsewhere.example"}
	for _, c := range []struct {
		what, header string
		want         smtp.Origin
	}{
		{"fetched", ours + theirs, known},
		{"with verdicts between", ours + "Authentication-Results: x; none\r\n" + theirs, known},
		{"IPv6", ours + strings.Replace(theirs, "203.0.113.9", "IPv6:2001:db8::9", 1), smtp.Origin{Addr: netip.MustParseAddr("2001:db8::9"), Helo: "mx.elsewhere.example"}},
		{"not over a turned connection", strings.Replace(ours, " via ODMR", "", 1) + theirs, smtp.Origin{}},
		{"by another server", strings.Replace(ours, "by mail.clinic", "by mail.other", 1) + theirs, smtp.Origin{}},
		{"written by the sender, below what the provider leaves out", ours + strings.Replace(theirs, "by mail.provider", "by mail.other", 1), smtp.Origin{}},
		{"from here", theirs, smtp.Origin{}},
		{"no trace", "", smtp.Origin{}},
		{"no address", ours + strings.Replace(theirs, "203.0.113.9", "1.2.3", 1), smtp.Origin{}},
	} {
		open := func() (io.ReadCloser, error) {
			return io.NopCloser(strings.NewReader(c.header + "Subject: x\r\n\r\ntext\r\n")), nil
		}
		if got := originOf("mail.clinic.example", open); got != c.want {
			t.Errorf("%s: %+v", c.what, got)
		}
	}
}

func FuzzOrigin(f *testing.F) {
	f.Add("Received: from a ([192.0.2.1]) by b via ODMR with ESMTP\r\nReceived: from c ([::1]) by a with SMTP\r\n\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		o := originOf("b", func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(s)), nil })
		if strings.ContainsAny(o.Helo, " \r\n") {
			t.Errorf("%q", o.Helo)
		}
	})
}
