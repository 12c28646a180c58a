package differential

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Sink is the next hop of every server: it takes all mail and keeps what came octet by octet. Nothing but CRLF.CRLF ends a text, and
// nothing in it shares code with what is tested.
type Sink struct {
	mu  sync.Mutex
	got []Delivery
}

// Delivery is one message as the next hop received it.
type Delivery struct {
	From string
	To   []string
	ID   string // of its first Received field
	Text string // without that field
}

// Listen opens the sink's port.
func (s *Sink) Listen(t testing.TB) (address string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				s.Serve(conn, "8BITMIME", "SMTPUTF8", "DSN", "PIPELINING")
			}()
		}
	}()
	return ln.Addr().String()
}

// Deliveries returns what came under each id; copies of one message to several recipients are one, the recipients sorted.
func (s *Sink) Deliveries() map[string][]Delivery {
	s.mu.Lock()
	defer s.mu.Unlock()
	byID := map[string][]Delivery{}
	for _, d := range s.got {
		same := slices.IndexFunc(byID[d.ID], func(e Delivery) bool { return e.Text == d.Text && e.From == d.From })
		if same < 0 {
			d.To = slices.Sorted(slices.Values(d.To))
			byID[d.ID] = append(byID[d.ID], d)
			continue
		}
		e := &byID[d.ID][same]
		e.To = append(e.To, d.To...)
		slices.Sort(e.To)
	}
	return byID
}

// Serve is a session: the client is a server under test.
func (s *Sink) Serve(conn net.Conn, keywords ...string) {
	r := bufio.NewReaderSize(conn, 1<<16)
	say := func(reply string) bool {
		_, err := io.WriteString(conn, reply+"\r\n")
		return err == nil
	}
	var d Delivery
	var text strings.Builder
	take := func() string {
		d.ID, d.Text = cutReceived(text.String())
		s.mu.Lock()
		s.got = append(s.got, d)
		s.mu.Unlock()
		d = Delivery{}
		text.Reset()
		return "250 taken"
	}
	say("220 sink.example")
	for {
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		verb, arg, _ := strings.Cut(line, " ")
		reply := "250 ok"
		switch strings.ToUpper(verb) {
		case "EHLO":
			reply = "250-sink.example\r\n250-" + strings.Join(keywords, "\r\n250-") + "\r\n250 SIZE"
		case "MAIL":
			d = Delivery{From: path(arg)}
		case "RCPT":
			d.To = append(d.To, path(arg))
		case "DATA":
			say("354 go on")
			raw, err := readData(r)
			if err != nil {
				return
			}
			text.WriteString(unstuffed(raw))
			reply = take()
		case "BDAT":
			size, last, _ := strings.Cut(arg, " ")
			n, _ := strconv.ParseInt(size, 10, 64)
			if _, err := io.CopyN(&text, r, n); err != nil {
				return
			}
			if last != "" {
				reply = take()
			}
		case "RSET":
			d = Delivery{}
			text.Reset()
		case "QUIT":
			say("221 bye")
			return
		}
		if !say(reply) {
			return
		}
	}
}

// readData reads as far as CRLF.CRLF.
func readData(r *bufio.Reader) (string, error) {
	var raw strings.Builder
	for tail := "\r\n"; ; {
		line, err := r.ReadString('\n')
		if err != nil {
			return "", err
		}
		raw.WriteString(line)
		if tail == "\r\n" && line == ".\r\n" {
			return raw.String(), nil
		}
		tail = line[max(0, len(line)-2):]
	}
}

// path is what stands in the angle brackets of MAIL or RCPT: as far as the last ">" that the parameters do not hold.
func path(arg string) string {
	if _, s, ok := strings.Cut(arg, "<"); ok {
		if i := strings.LastIndex(s, "> "); i >= 0 {
			return s[:i]
		}
		return strings.TrimSuffix(s, ">")
	}
	return arg
}

var (
	// The date ends the field; a line behind it that is folded is the message's own.
	firstField = regexp.MustCompile(`(?s)^Received: .*?\d\d:\d\d:\d\d [+-]\d{4}(?: \([A-Z]+\))?\r\n`)
	receivedID = regexp.MustCompile(`\bid ([0-9A-Za-z-]+)`)
)

// cutReceived takes off the trace field that the server put in front of a message, and reads the id in it.
func cutReceived(message string) (id, text string) {
	field := firstField.FindString(message)
	if all := receivedID.FindAllStringSubmatch(field, -1); len(all) > 0 {
		id = all[len(all)-1][1]
	}
	return id, message[len(field):]
}
