package smtp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"bothy/application/message"
)

// loopback runs srv on a TCP port and returns the client's end of one connection.
func loopback(b *testing.B, srv *Server) net.Conn {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = srv.Serve(context.Background(), NewConn(nc))
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close(); <-done })
	return nc
}

// A kept session over loopback, message after message: the engine alone, both ends of it in one process.
func BenchmarkSend(b *testing.B) {
	text := bytes.Repeat(line, 4096/len(line))
	for name, drop := range map[string][]string{"BDAT": nil, "DATA": {"CHUNKING"}, "lockstep": {"CHUNKING", "PIPELINING"}} {
		b.Run(name, func(b *testing.B) {
			srv := newServer(discard{})
			c := NewClient(NewConn(loopback(b, srv)), "site.example", Timeouts{})
			if err := c.Greet(b.Context()); err != nil {
				b.Fatal(err)
			}
			for _, keyword := range drop {
				delete(c.keywords, keyword)
			}
			env := envelope(recipients("keeper"))
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				replies, err := c.Send(b.Context(), env, bytes.NewReader(text), int64(len(text)))
				if err != nil || replies[0].Code != 250 {
					b.Fatal(replies, err)
				}
			}
		})
	}
}

// The same with 20 messages under way at once.
func BenchmarkSendMany(b *testing.B) {
	text := bytes.Repeat(line, 4096/len(line))
	for name, drop := range map[string][]string{"BDAT": nil, "DATA": {"CHUNKING"}} {
		b.Run(name, func(b *testing.B) {
			c := NewClient(NewConn(loopback(b, newServer(discard{}))), "site.example", Timeouts{})
			if err := c.Greet(b.Context()); err != nil {
				b.Fatal(err)
			}
			for _, keyword := range drop {
				delete(c.keywords, keyword)
			}
			env := envelope(recipients("keeper"))
			taken := 0
			b.ReportAllocs()
			b.SetBytes(int64(len(text)))
			b.ResetTimer()
			err := c.SendMany(b.Context(), func(yield func(Outgoing) bool) {
				for range b.N {
					if !yield(Outgoing{Envelope: env, Body: bytes.NewReader(text), Size: int64(len(text)), Done: func(r []Reply) { taken += r[0].Code / 250 }}) {
						return
					}
				}
			}, 20)
			if err != nil || taken != b.N {
				b.Fatal(taken, err)
			}
		})
	}
}

// loop is a connection whose peer sends the same n times over; what comes back is forgotten.
type loop struct {
	script
	text []byte
	rest []byte
	left int
}

func (l *loop) Read(p []byte) (int, error) {
	if len(l.rest) == 0 {
		if l.left == 0 {
			return 0, io.EOF
		}
		l.left--
		l.rest = l.text
	}
	n := copy(p, l.rest)
	l.rest = l.rest[n:]
	return n, nil
}

func (l *loop) Write(p []byte) (int, error) { return len(p), nil }

// The server by itself: a pipelined message of 4 KiB out of memory.
func BenchmarkServe(b *testing.B) {
	text := bytes.Repeat(line, 4096/len(line))
	session := append([]byte("MAIL FROM:<a@site.example> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<keeper@light.example>\r\nDATA\r\n"), text...)
	session = append(session, ".\r\n"...)
	b.ReportAllocs()
	b.SetBytes(int64(len(session)))
	conn := &loop{text: session, left: b.N, rest: []byte("EHLO site.example\r\n")}
	b.ResetTimer()
	if err := newServer(discard{}).Serve(context.Background(), NewConn(conn)); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}

// The same with BDAT, in chunks of 2 KiB: whoever reads octets needs not look at their lines.
func BenchmarkServeBDAT(b *testing.B) {
	text := bytes.Repeat(line, 4096/len(line))
	session := []byte("MAIL FROM:<a@site.example> SIZE=4096 BODY=8BITMIME\r\nRCPT TO:<keeper@light.example>\r\n")
	session = append(fmt.Appendf(session, "BDAT %d\r\n", len(text)/2), text[:len(text)/2]...)
	session = append(fmt.Appendf(session, "BDAT %d LAST\r\n", len(text)-len(text)/2), text[len(text)/2:]...)
	b.ReportAllocs()
	b.SetBytes(int64(len(session)))
	conn := &loop{text: session, left: b.N, rest: []byte("EHLO site.example\r\n")}
	b.ResetTimer()
	if err := newServer(discard{}).Serve(context.Background(), NewConn(conn)); !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}

// A header section as many have it: what is looked at stands among what is not.
func BenchmarkHeaderScan(b *testing.B) {
	header := []byte("Received: from a.example (a.example [192.0.2.1])\r\n\tby b.example with ESMTPS id 1;\r\n\tSun, 1 Mar 2026 12:00:00 +0100\r\n" +
		"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d=a.example; s=x;\r\n\th=from:to:subject; bh=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=;\r\n\tb=aaaa\r\n" +
		"From: keeper@light.example\r\nTo: nurse@clinic.example\r\nSubject: lamp oil\r\nDate: Sun, 1 Mar 2026 12:00:00 +0100\r\nMessage-ID: <1@light.example>\r\n\r\n")
	b.ReportAllocs()
	b.SetBytes(int64(len(header)))
	for b.Loop() {
		var h headerScan
		if h.write(header); !h.over {
			b.Fatal(h)
		}
	}
}

func BenchmarkParseReply(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		code, _, text, err := parseReplyLine([]byte("250 2.1.5 recipient ok"))
		if e, _ := parseEnhanced(code, string(text)); err != nil || e[0] != 2 {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnstuff(b *testing.B) {
	text := bytes.Repeat(line, dataSize/len(line))
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		var u unstuffer
		for rest := text; len(rest) > 0; {
			_, used, _ := u.next(rest)
			if used == 0 {
				break
			}
			rest = rest[used:]
		}
	}
}

func BenchmarkStuff(b *testing.B) {
	text := bytes.Repeat(line, blockSize/len(line))
	out := make([]byte, 0, 2*blockSize)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		var s stuffer
		out = s.appendTo(out[:0], text)
	}
}

func BenchmarkCommand(b *testing.B) {
	s := &Session{server: newServer(nil), limits: Limits{}.or(), table: commands, state: ready, Extended: true}
	s.server.Policy = nil
	command := []byte("MAIL FROM:<keeper@light.example> SIZE=123456 BODY=8BITMIME")
	b.ReportAllocs()
	for b.Loop() {
		verb, arg, _ := splitCommand(command)
		row := s.find(string(verb))
		if r, _ := row.run(s, context.Background(), string(arg)); r.Code != 250 {
			b.Fatal(r)
		}
		s.reset()
	}
}

func BenchmarkReceived(b *testing.B) {
	t := trace{helo: "site.example", by: "light.example", extended: true, at: clock(), env: &message.Envelope{Recipients: recipients("keeper")}}
	b.ReportAllocs()
	var buf []byte
	for b.Loop() {
		buf = t.appendReceived(buf[:0])
	}
}
