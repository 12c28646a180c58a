package smtp

import (
	"bufio"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"bothy/lib/sim"
)

// scripted is a server that answers each line that begins with a prefix, and a text with what ".": has. It returns the lines it heard.
func scripted(far io.ReadWriteCloser, greeting string, answers map[string]string) <-chan []string {
	heard := make(chan []string, 1)
	go func() {
		defer far.Close()
		var lines []string
		_, _ = io.WriteString(far, greeting)
		in, text := bufio.NewReader(far), false
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				heard <- lines
				return
			}
			line = strings.TrimRight(line, "\r\n")
			lines = append(lines, line)
			if text && line != "." {
				continue
			}
			text = false
			for prefix, answer := range answers {
				if strings.HasPrefix(line, prefix) {
					_, _ = io.WriteString(far, answer)
					text = strings.HasPrefix(answer, "354")
				}
			}
		}
	}()
	return heard
}

// TestLMTP: each recipient has its own reply behind the text, in the order of those that were accepted (RFC 2033 §4.2).
func TestLMTP(t *testing.T) {
	for _, offers := range []string{"250-l\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 8BITMIME\r\n", "250 l\r\n"} {
		near, far := sim.Pipe(sim.Path{})
		heard := scripted(far, "220 l LMTP\r\n", map[string]string{
			"LHLO": offers, "MAIL": "250 ok\r\n", "RCPT TO:<a@": "250 ok\r\n", "RCPT TO:<b@": "550 no\r\n", "RCPT TO:<c@": "250 ok\r\n", "RCPT TO:<d@": "250 ok\r\n",
			"DATA": "354 go\r\n", ".": "250 a has it\r\n452 c is full\r\n550 d has gone\r\n", "QUIT": "221 bye\r\n",
		})
		client := NewClient(NewConn(near), "site.example", Timeouts{})
		client.LMTP = true
		if err := client.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		env := envelope(recipients("a", "b", "c", "d"))
		replies, err := client.Send(t.Context(), env, strings.NewReader("Subject: x\r\n\r\n.\r\n"), 17)
		if err != nil {
			t.Fatal(err)
		}
		var got []int
		for _, r := range replies {
			got = append(got, r.Code)
		}
		if want := []int{250, 550, 452, 550}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		if err := client.Quit(t.Context()); err != nil {
			t.Error(err)
		}
		near.Close()
		if lines := <-heard; slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "EHLO") || strings.HasPrefix(l, "BDAT") }) {
			t.Errorf("%q", lines)
		}
	}
	// Fewer replies than recipients: those that came are certain, and the rest are in doubt.
	near, far := sim.Pipe(sim.Path{})
	heard := scripted(far, "220 l\r\n", map[string]string{"LHLO": "250 l\r\n", "MAIL": "250 ok\r\n", "RCPT": "250 ok\r\n", "DATA": "354 go\r\n", ".": "250 a has it\r\n421 bye\r\n"})
	client := NewClient(NewConn(near), "site.example", Timeouts{})
	client.LMTP = true
	if err := client.Greet(t.Context()); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = <-heard, far.Close() }()
	replies, _ := client.Send(t.Context(), envelope(recipients("a", "b")), strings.NewReader("x\r\n"), 3)
	if replies[0].Code != 250 || replies[1].Code != 421 {
		t.Errorf("%v", replies)
	}
	near.Close()
}

// TestXClient: what the server lists is told, the rest is not; EHLO comes again, and a refusal changes nothing.
func TestXClient(t *testing.T) {
	for _, c := range []struct {
		offers string
		origin Origin
		answer string
		line   string
		err    bool
	}{
		{"NAME ADDR PROTO HELO REVERSE_NAME", Origin{netip.MustParseAddr("192.0.2.1"), "mx=1.example"}, "220 p\r\n", "XCLIENT NAME=[UNAVAILABLE] ADDR=192.0.2.1 HELO=mx+3D1.example", false},
		{"ADDR", Origin{netip.MustParseAddr("2001:db8::1"), "a"}, "220 p\r\n", "XCLIENT ADDR=IPV6:2001:db8::1", false},
		{"ADDR HELO", Origin{}, "220 p\r\n", "XCLIENT ADDR=[UNAVAILABLE] HELO=[UNAVAILABLE]", false},
		{"ADDR", Origin{netip.MustParseAddr("192.0.2.1"), ""}, "550 no\r\n", "XCLIENT ADDR=192.0.2.1", true},
	} {
		near, far := sim.Pipe(sim.Path{})
		heard := scripted(far, "220 p\r\n", map[string]string{"EHLO": "250-p\r\n250 XCLIENT " + c.offers + "\r\n", "XCLIENT": c.answer})
		client := NewClient(NewConn(near), "site.example", Timeouts{})
		if err := client.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		err := client.XClient(t.Context(), c.origin)
		if (err != nil) != c.err || c.err && !errors.As(err, new(Reply)) {
			t.Errorf("%s: %v", c.line, err)
		}
		near.Close()
		want := []string{"EHLO site.example", c.line}
		if !c.err {
			want = append(want, "EHLO site.example")
		}
		if lines := <-heard; !slices.Equal(lines, want) {
			t.Errorf("%q, want %q", lines, want)
		}
	}
}
