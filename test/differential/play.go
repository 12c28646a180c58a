package differential

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"strings"
	"time"
)

// Pace is how long the player waits.
type Pace struct {
	Reply time.Duration // for a reply that must come
	First time.Duration // for a reply that may come
	Quiet time.Duration // for another behind it
}

// reply is one reply as it came.
type reply struct {
	code  string
	lines []string
}

// Played is what a server said to an input.
type Played struct {
	Outcome
	replies []reply
	faults  []string // of the form of the replies
}

// ids returns the ids of the messages that were accepted, in their order.
func (p *Played) ids(form *regexp.Regexp) (ids []string) {
	for _, r := range p.replies {
		for _, line := range r.lines {
			if m := form.FindStringSubmatch(line); m != nil {
				ids = append(ids, m[1])
			}
		}
	}
	return ids
}

// Play speaks the input to the server at address. Where want is known, as many replies are waited for as it has in each step, so that a
// slow machine changes nothing; else the player waits until the server is quiet. An error is one of the network.
func (in *Input) Play(address string, want *Outcome, pace Pace) (*Played, error) {
	conn, err := net.DialTimeout("tcp", address, pace.Reply)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	p := &player{conn: conn, raw: conn.(*net.TCPConn), pace: pace, want: want}
	if !in.Early {
		p.step(pace.Reply)
	}
	for _, s := range in.Steps {
		if p.ended {
			break
		}
		if s.TLS {
			if p.last() == "220" {
				p.secure()
			}
			continue
		}
		if s.Text && p.last() != "354" {
			p.Steps = append(p.Steps, nil)
			continue
		}
		p.send(s.Send)
		if s.More {
			time.Sleep(10 * time.Millisecond) // so that it is a segment of its own
			continue
		}
		p.step(pace.First)
	}
	p.end()
	return &p.Played, nil
}

// player is one connection.
type player struct {
	Played
	conn  net.Conn
	raw   *net.TCPConn
	pace  Pace
	want  *Outcome
	buf   []byte
	ended bool // nothing more comes
}

// last is the code of the last reply.
func (p *player) last() string {
	if len(p.replies) == 0 {
		return ""
	}
	return p.replies[len(p.replies)-1].code
}

// send writes; a server that closes, or does not read on, does not stop us from reading.
func (p *player) send(s string) {
	_ = p.conn.SetWriteDeadline(time.Now().Add(p.pace.Reply))
	_, _ = io.WriteString(p.conn, s) // what became of it, the replies tell
}

// step notes the replies to what was sent, for which it waits so long.
func (p *player) step(wait time.Duration) {
	var codes []string
	expected := -1
	switch {
	case p.want == nil:
	case len(p.Steps) < len(p.want.Steps):
		expected = len(p.want.Steps[len(p.Steps)])
	default:
		expected = 0
	}
	for !p.ended && len(codes) != expected {
		if expected > 0 {
			wait = p.pace.Reply
		}
		r, ok := p.reply(wait)
		if !ok {
			break
		}
		codes = append(codes, r.code)
		wait = p.pace.Quiet
	}
	if expected == 0 && !p.ended {
		if r, ok := p.reply(p.pace.Quiet); ok {
			codes = append(codes, r.code)
		}
	}
	p.Steps = append(p.Steps, codes)
}

// end notes whether the server has closed the connection, closes our side, and notes what comes then.
func (p *player) end() {
	wait := p.pace.First
	switch {
	case p.want != nil && p.want.Closed:
		wait = p.pace.Reply
	case p.want != nil:
		wait = p.pace.Quiet
	}
	var late []string
	read := func() {
		for !p.ended {
			r, ok := p.reply(wait)
			if !ok {
				return
			}
			late = append(late, r.code)
		}
	}
	read()
	p.Closed = p.ended
	_ = p.raw.CloseWrite()
	wait = p.pace.Reply
	read()
	if len(late) > 0 {
		p.Steps = append(p.Steps, late)
	}
	for len(p.Steps) > 0 && len(p.Steps[len(p.Steps)-1]) == 0 { // when the end was noticed is chance
		p.Steps = p.Steps[:len(p.Steps)-1]
	}
	if bytes.HasPrefix(p.buf, tlsAlert) {
		p.Steps, p.buf = append(p.Steps, []string{"TLS-alert"}), nil
	}
	if len(p.buf) > 0 {
		p.faults = append(p.faults, fmt.Sprintf("half a line at the end: %q", p.buf))
	}
}

// secure begins TLS.
func (p *player) secure() {
	c := tls.Client(p.conn, &tls.Config{InsecureSkipVerify: true})
	_ = p.conn.SetDeadline(time.Now().Add(p.pace.Reply))
	if err := c.Handshake(); err != nil {
		p.Steps = append(p.Steps, []string{"no-TLS"})
		p.ended = errors.Is(err, io.EOF)
		return
	}
	p.conn = c
	p.Steps = append(p.Steps, []string{"TLS"})
}

// reply returns the next reply; ok is false if none came within the wait, or none can come any more.
func (p *player) reply(wait time.Duration) (r reply, ok bool) {
	deadline := time.Now().Add(wait)
	for {
		if r, n := p.parse(); n > 0 {
			p.buf = p.buf[n:]
			p.replies = append(p.replies, r)
			return r, true
		}
		if p.ended {
			return reply{}, false
		}
		_ = p.conn.SetReadDeadline(deadline)
		var b [4096]byte
		n, err := p.conn.Read(b[:])
		p.buf = append(p.buf, b[:n]...)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return reply{}, false
		case err != nil: // a reset is an end too
			p.ended = true
		}
	}
}

// tlsAlert begins what a server says that began TLS and got none (RFC 8446 §5.1).
var tlsAlert = []byte{21, 3}

var replyLine = regexp.MustCompile(`^[2-5][0-5][0-9](?:[ -][\t -~]*)?$`)

// parse takes a whole reply off the front of what was read (RFC 5321 §4.2.1) and notes what is wrong with it; n is 0 if there is none yet.
func (p *player) parse() (r reply, n int) {
	if bytes.HasPrefix(p.buf, tlsAlert) {
		return reply{}, 0
	}
	for {
		i := bytes.IndexByte(p.buf[n:], '\n')
		if i < 0 {
			return reply{}, 0
		}
		line := string(p.buf[n : n+i+1])
		n += i + 1
		text, crlf := strings.CutSuffix(line, "\r\n")
		switch {
		case !crlf:
			p.faults = append(p.faults, fmt.Sprintf("ends with a lone LF: %q", line))
		case len(line) > 512: // RFC 5321 §4.5.3.1.5
			p.faults = append(p.faults, fmt.Sprintf("%d octets: %.60q", len(line), line))
		case !replyLine.MatchString(text):
			p.faults = append(p.faults, fmt.Sprintf("no reply: %q", line))
		case r.code != "" && text[:3] != r.code:
			p.faults = append(p.faults, fmt.Sprintf("two codes in one reply: %s and %q", r.code, line))
		}
		if len(text) < 3 {
			return reply{code: "???", lines: []string{text}}, n
		}
		r.code = text[:3]
		r.lines = append(r.lines, text)
		if len(text) == 3 || text[3] != '-' {
			return r, n
		}
	}
}
