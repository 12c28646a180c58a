package smtp

import (
	"bufio"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"bothy/application/sasl"
	"bothy/lib/sim"
)

// TestAheadBelievesNobody: what stands behind an EHLO reply is worth nothing unless that is the one remembered, and a server that does not
// prove itself is not asked for anything.
func TestAheadBelievesNobody(t *testing.T) {
	for _, c := range []struct {
		name, says string // at once
		same       bool
		want       error
		sends      string // in the end; empty: nothing behind the first flight
	}{
		{"other keywords", "220 p\r\n250 p\r\n", false, ErrChanged, ""},
		{"EHLO refused", "220 p\r\n502 what\r\n", true, ErrChanged, ""},
		{"gone before the greeting", "", true, ErrChanged, ""},
		{"gone before its EHLO reply", "220 p\r\n", true, ErrChanged, ""},
		{"busy", "421 later\r\n", true, Reply{Code: 421, Text: "later"}, ""},
		{"yes without proof", "220 p\r\n250 p\r\n235 fine\r\n250 turned\r\n", true, sasl.ErrServer, ""},
		{"no base64", "220 p\r\n250 p\r\n334 ???\r\n", true, nil, "*"},
		{"no challenge of SCRAM", "220 p\r\n250 p\r\n334 aGVsbG8=\r\n", true, sasl.ErrServer, "*"},
		{"no", "220 p\r\n250 p\r\n535 no\r\n", true, Reply{Code: 535, Text: "no"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			near, far := sim.Pipe(sim.Path{})
			heard := make(chan string)
			go func() {
				lines := bufio.NewReader(far)
				for range 2 { // EHLO, AUTH
					_, _ = lines.ReadString('\n')
				}
				_, _ = io.WriteString(far, c.says)
				_ = far.CloseWrite()
				rest, _ := io.ReadAll(lines)
				heard <- string(rest)
			}()
			client := NewClient(NewConn(near), "site.example", Timeouts{Command: time.Minute})
			_, err := client.Ahead(t.Context(), sasl.SCRAM("a", "b", sasl.Channel{}, false), false, func() bool { return c.same }, "ATRN", time.Minute)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			near.Close()
			if got := <-heard; strings.TrimSpace(got) != c.sends {
				t.Errorf("behind the first flight it sent %q, want %q", got, c.sends)
			}
		})
	}
}
