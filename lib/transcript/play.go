package transcript

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

var update = flag.Bool("update", false, "write what comes back into the transcripts")

const (
	patience = 10 * time.Second      // how long one line may take
	silence  = 60 * time.Millisecond // with -update: nothing more comes after this
	remember = 12                    // lines of the dialogue shown with a failure
)

// Run plays each file that pattern names as a subtest of its own. dial returns the tester's end of a new connection to
// the program under test; name is the file's name without folder and ending.
func Run(t *testing.T, pattern string, dial func(t *testing.T, name string) net.Conn) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcript fits %s (%v)", pattern, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
		t.Run(name, func(t *testing.T) { Play(t, file, dial(t, name)) })
	}
}

// Play plays one file on conn and closes it. It may be called in a synctest bubble with an in-memory conn.
func Play(t *testing.T, file string, conn net.Conn) {
	t.Helper()
	lines, err := readFile(file)
	if err != nil {
		t.Fatal(err)
	}
	p := &player{file: file, conn: conn, ear: listen(conn), lines: lines, wait: patience, updating: *update}
	err = p.play()
	p.conn.Close()
	<-p.ear.done
	if err != nil {
		t.Fatal(err)
	}
	if p.updating {
		p.save(t)
	}
}

// WithTLS returns conn with what `TLS: start` needs: start makes the tester's side of TLS, such as tls.Client.
func WithTLS(conn net.Conn, start func(net.Conn) *tls.Conn) net.Conn {
	return &tlsStarter{conn, start}
}

type tlsStarter struct {
	net.Conn
	start func(net.Conn) *tls.Conn
}

type player struct {
	file     string
	conn     net.Conn
	ear      *ear
	lines    []line
	wait     time.Duration
	updating bool
	so       []string // the dialogue so far
	out      []string // with updating: the new file
	over     bool     // the end of the connection is written down
}

// play goes through the file: what the tester says in one breath, then what must come back.
func (p *player) play() error {
	for len(p.lines) > 0 {
		if err := p.talk(); err != nil {
			return err
		}
		if err := p.hear(); err != nil {
			return err
		}
	}
	if line, err := p.ear.next(0); line != "" && !p.updating {
		return fmt.Errorf("%s: at its end more came: %q (%v)%s", p.file, line, err, p.soFar())
	}
	return nil
}

func (p *player) take() line {
	l := p.lines[0]
	p.lines = p.lines[1:]
	return l
}

func (p *player) failed(l line, format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s%s", p.file, l.number, fmt.Sprintf(format, args...), p.soFar())
}

func (p *player) soFar() string {
	return "\nthe dialogue so far:\n\t" + strings.Join(p.so[max(0, len(p.so)-remember):], "\n\t")
}

// talk writes the lines of the tester up to a blank line or one that must come back, in one write.
func (p *player) talk() error {
	var octets []byte
	var last line
	for len(p.lines) > 0 {
		l := p.lines[0]
		if l.kind == hear || l.kind == hearEOF || l.kind == blank && len(octets) > 0 {
			break
		}
		p.out = append(p.out, p.take().source)
		switch l.kind {
		case say:
			octets, last = append(append(octets, l.text...), "\r\n"...), l
		case sayRaw:
			octets, last = append(octets, l.text...), l
		case sayEOF, startTLS:
			if err := p.write(last, octets); err != nil {
				return err
			}
			p.so = append(p.so, l.source)
			if l.kind == startTLS {
				return p.handshake(l)
			}
			return p.closeWrite()
		default:
			continue
		}
		p.so = append(p.so, clip(l.source))
	}
	return p.write(last, octets)
}

func (p *player) write(l line, octets []byte) error {
	if len(octets) == 0 {
		return nil
	}
	if err := p.conn.SetWriteDeadline(time.Now().Add(p.wait)); err != nil && !isClosed(err) {
		return p.failed(l, "%v", err)
	}
	if _, err := p.conn.Write(octets); err != nil && !isClosed(err) { // a peer that closed shows in what comes back
		return p.failed(l, "write: %v", err)
	}
	return nil
}

func (p *player) closeWrite() error {
	if half, ok := p.conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	p.over = true
	return p.conn.Close()
}

// handshake puts TLS on the connection; not an octet may have come ahead of it.
func (p *player) handshake(l line) error {
	starter, ok := p.conn.(*tlsStarter)
	if !ok {
		return p.failed(l, "the connection is not one of WithTLS")
	}
	if unasked, err := p.ear.stop(); err != nil || len(unasked) > 0 {
		return p.failed(l, "before TLS came %q (%v)", unasked, err)
	}
	conn := starter.start(starter.Conn)
	if err := conn.SetDeadline(time.Now().Add(p.wait)); err != nil {
		return p.failed(l, "%v", err)
	}
	if err := conn.Handshake(); err != nil {
		return p.failed(l, "handshake: %v", err)
	}
	if err := conn.SetDeadline(time.Time{}); err != nil {
		return p.failed(l, "%v", err)
	}
	p.conn, p.ear = conn, listen(conn)
	return nil
}

// hear compares the lines that must come back; with updating it takes whatever comes instead.
func (p *player) hear() error {
	var party byte = 'S'
	for {
		l, ok := p.takeHeard()
		if !ok {
			break
		}
		party = l.party
		got, err := p.ear.next(p.patience())
		switch {
		case l.kind == hear && err == nil && matches(l.text, got), l.kind == hearEOF && errors.Is(err, io.EOF):
			p.over = l.kind == hearEOF
			p.so = append(p.so, clip(l.source))
			p.out = append(p.out, l.source)
		case p.updating:
			p.keep(party, got, err)
		default:
			return p.failed(l, "\n\twant %s\n\tgot  %s", clip(l.source), clip(heard(party, got, err)))
		}
	}
	for p.updating { // whatever else comes belongs here
		got, err := p.ear.next(silence)
		p.keep(party, got, err)
		if err != nil {
			break
		}
	}
	return nil
}

// takeHeard takes the next line if it must come back, and with it the comments before it.
func (p *player) takeHeard() (line, bool) {
	n := 0
	for n < len(p.lines) && p.lines[n].kind == comment {
		n++
	}
	if n == len(p.lines) || p.lines[n].kind != hear && p.lines[n].kind != hearEOF {
		return line{}, false
	}
	for range n {
		p.out = append(p.out, p.take().source)
	}
	return p.take(), true
}

func (p *player) patience() time.Duration {
	if p.updating {
		return silence
	}
	return p.wait
}

// keep notes what came for the new file, unless nothing did.
func (p *player) keep(party byte, got string, err error) {
	if p.over || errors.Is(err, errQuiet) && got == "" {
		return
	}
	p.over = errors.Is(err, io.EOF)
	s := heard(party, got, err)
	p.so, p.out = append(p.so, clip(s)), append(p.out, s)
}

// heard shows what came as a line of a file.
func heard(party byte, got string, err error) string {
	switch {
	case err == nil:
		return fmt.Sprintf("%c: %s", party, escape(got))
	case errors.Is(err, io.EOF):
		return fmt.Sprintf("%c: EOF", party)
	case got == "":
		return fmt.Sprintf("# %v", err)
	}
	return fmt.Sprintf("# %s without CRLF: %v", escape(got), err)
}

func clip(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + fmt.Sprintf("... (%d octets)", len(s))
	}
	return s
}

// save writes the new file if it differs.
func (p *player) save(t *testing.T) {
	t.Helper()
	before, err := os.ReadFile(p.file)
	if err != nil {
		t.Fatal(err)
	}
	after := strings.Join(p.out, "\n") + "\n"
	if string(before) == after {
		return
	}
	if err := os.WriteFile(p.file, []byte(after), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s updated", p.file)
}
