package test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/test/peer"
)

// TestKill9ODMR kills a provider and the site that fetches from it, either one at random, while mail for two customers arrives at the
// provider, much of it for both at once. In the end each has all of its own and nothing of the other's: the site would take the other's
// mail, for it has an account of that name. Duplicates are counted by the window that they came through.
func TestKill9ODMR(t *testing.T) {
	t.Parallel()
	rounds := often(6)
	smtp, calls := peer.FreePort(t), peer.FreePort(t)
	provider := newVictim(t, filepath.Join(t.TempDir(), "provider"), smtp, fmt.Sprintf("hostname = \"localhost\"\n[connections]\nper_peer = 2000\n[smtp]\nlisten = [%q]\n[odmr]\nlisten_tls = [%q]\n", smtp, calls))
	provider.start(t)
	clinic, ship := newCaller(t, provider, calls, "clinic"), newCaller(t, provider, calls, "ship")
	bothy(t, "account", "add", "--config", clinic.file, "--password-file", clinic.password, "crew@ship.example") // open to a leak
	clinic.start(t)

	mail := newPost("crew@clinic.example", "crew@ship.example")
	ctx, end := context.WithCancel(t.Context())
	defer end()
	var busy sync.WaitGroup
	for range 3 {
		busy.Go(func() { mail.send(ctx, smtp) })
	}
	busy.Go(func() { clinic.fetch(ctx) })
	for range rounds {
		time.Sleep(time.Duration(50+rand.IntN(700)) * time.Millisecond)
		one := []*victim{provider, clinic.victim}[rand.IntN(2)]
		one.kill()
		one.start(t)
	}
	end()
	busy.Wait()
	if n := len(mail.promised()); n < rounds {
		t.Fatalf("only %d messages accepted: nothing arrived", n)
	}

	ship.start(t)
	ctx, end = context.WithCancel(t.Context())
	defer end()
	for _, site := range []*caller{clinic, ship} {
		busy.Go(func() { site.fetch(ctx) })
	}
	boxes := map[string]*maildir{"crew@clinic.example": mailOf(clinic.data, "crew@clinic.example"), "crew@ship.example": mailOf(ship.data, "crew@ship.example")}
	lost := func() (n int) {
		for to, box := range boxes {
			box.read(t)
			for token, l := range mail.promised() {
				if l.to[to] && len(box.copies[token]) == 0 {
					n++
				}
			}
		}
		return n
	}
	for deadline := time.Now().Add(2*time.Minute + time.Duration(rounds)*2*time.Second); lost() > 0 && time.Now().Before(deadline); {
		time.Sleep(time.Second)
	}
	end()
	busy.Wait()

	leaked := mailOf(clinic.data, "crew@ship.example")
	leaked.read(t)
	for to, box := range boxes {
		for token := range box.copies {
			if l, ok := mail.of(token); !ok || !l.to[to] {
				t.Errorf("%s is in the mailbox of %s and was not sent there", token, to)
			}
		}
	}
	w := boxes["crew@clinic.example"].windows(provider.log.String())
	delivered := len(boxes["crew@clinic.example"].copies) + len(boxes["crew@ship.example"].copies)
	shown(t, "killed %d times: accepted %d, delivered %d, lost %d, foreign %d; twice %d (killed before the provider read the 250: %d, before it had that on disk: %d); offered twice and known: %d",
		rounds, mail.rows(), delivered, lost(), len(leaked.copies), w.unread+w.unsynced, w.unread, w.unsynced, w.known)
	if n := lost(); n > 0 {
		t.Errorf("%d recipients that got 250 have not got their message", n)
	}
	if n := len(leaked.copies); n > 0 {
		t.Errorf("%d messages of another customer came to this one", n)
	}
	if w.unexplained > 0 {
		t.Errorf("%d duplicates that no window explains", w.unexplained)
	}
}

// caller is a site that fetches the mail of <name>.example.
type caller struct {
	*victim
	password string // file
}

func newCaller(t *testing.T, provider *victim, calls, name string) *caller {
	t.Helper()
	password := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(password, []byte("ahoy ahoy\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(calls)
	site := newVictim(t, filepath.Join(t.TempDir(), name), "", fmt.Sprintf(`hostname = "mail.%[1]s.example"
[fetch]
provider = "localhost:%[2]s"
tls = "implicit"
ca_file = %[3]q
username = %[1]q
password_file = %[4]q
interval = "10s"
`, name, port, filepath.Join(provider.data, "tls", "ca.pem"), password))
	bothy(t, "customer", "add", "--config", provider.file, "--password-file", password, "--linger", "40m", name, name+".example")
	bothy(t, "account", "add", "--config", site.file, "--password-file", password, "crew@"+name+".example")
	return &caller{site, password}
}

// fetch calls the provider again and again: after a kill nobody wants to wait for the schedule.
func (c *caller) fetch(ctx context.Context) {
	for ctx.Err() == nil {
		if err := runUntil(ctx, program, "fetch", "--config", c.file); err != nil {
			sleep(ctx, 300*time.Millisecond)
		}
	}
}

// letter is one message that was offered.
type letter struct {
	to       map[string]bool
	accepted bool
}

// post makes messages for some or all of its recipients and remembers which of them were accepted.
type post struct {
	recipients []string
	mu         sync.Mutex
	sent       map[string]*letter // by the token in the subject
}

func newPost(recipients ...string) *post {
	return &post{recipients: recipients, sent: map[string]*letter{}}
}

// next is a new letter, for one recipient or for all, in either order.
func (p *post) next() (token string, to []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token = fmt.Sprintf("token-%06d", len(p.sent))
	for i := range p.recipients {
		to = append(to, p.recipients[(i+len(p.sent))%len(p.recipients)])
	}
	if rand.IntN(2) == 0 {
		to = to[:1]
	}
	one := &letter{to: map[string]bool{}}
	for _, r := range to {
		one.to[r] = true
	}
	p.sent[token] = one
	return token, to
}

func (p *post) accepted(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sent[token].accepted = true
}

func (p *post) of(token string) (*letter, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	one, ok := p.sent[token]
	return one, ok
}

// promised are those that got their 250.
func (p *post) promised() map[string]*letter {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := map[string]*letter{}
	for token, one := range p.sent {
		if one.accepted {
			all[token] = one
		}
	}
	return all
}

// rows counts the recipients of those.
func (p *post) rows() (n int) {
	for _, one := range p.promised() {
		n += len(one.to)
	}
	return n
}

// send is an MX client that dials again when its server is gone, until ctx ends.
func (p *post) send(ctx context.Context, server string) {
	for ctx.Err() == nil {
		conn, err := dialFrom(ctx, "127.0.0.2", server)
		if err == nil {
			err = p.speak(ctx, conn)
			conn.Close()
		}
		if err != nil {
			sleep(ctx, 20*time.Millisecond)
		}
	}
}

func (p *post) speak(ctx context.Context, conn net.Conn) error {
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })()
	r := bufio.NewReader(conn)
	say := func(code, format string, args ...any) error {
		if format != "" {
			if _, err := fmt.Fprintf(conn, format+"\r\n", args...); err != nil {
				return err
			}
		}
		for {
			line, err := r.ReadString('\n')
			if err == nil && !strings.HasPrefix(line, code) {
				err = errors.New(line)
			}
			if err != nil || line[3] != '-' {
				return err
			}
		}
	}
	err := say("220", "")
	if err == nil {
		err = say("250", "EHLO a.example")
	}
	for err == nil {
		token, to := p.next()
		err = say("250", "MAIL FROM:<aunt@elsewhere.example>")
		for _, r := range to {
			if err == nil {
				err = say("250", "RCPT TO:<%s>", r)
			}
		}
		if err == nil {
			err = say("354", "DATA")
		}
		if err == nil {
			err = say("250", "Subject: %s\r\n\r\n%s\r\n.", token, strings.Repeat("hello\r\n", rand.IntN(1000)))
		}
		if err == nil {
			p.accepted(token)
			sleep(ctx, 20*time.Millisecond)
		}
	}
	return err
}

// maildir is an account's mail on the disk of a site.
type maildir struct {
	dir    string
	seen   map[string]bool
	copies map[string][]string // by token: the id that the provider gave each copy
}

func mailOf(data, account string) *maildir {
	return &maildir{filepath.Join(data, "mailboxes", "accounts", account, "mail"), map[string]bool{}, map[string][]string{}}
}

var subject = regexp.MustCompile(`\r\nSubject: (token-[0-9]{6})\r\n`)

// read adds what has come since the last call.
func (m *maildir) read(t *testing.T) {
	t.Helper()
	entries, err := os.ReadDir(m.dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	for _, e := range entries {
		if m.seen[e.Name()] {
			continue
		}
		m.seen[e.Name()] = true
		content, err := os.ReadFile(filepath.Join(m.dir, e.Name()))
		token, ids := subject.FindSubmatch(content), arrivedID.FindAllSubmatch(content, -1)
		if strings.HasPrefix(string(content), "Return-Path: <>\r\n") && token == nil {
			continue // not from a post
		}
		if err != nil || token == nil || len(ids) == 0 {
			t.Fatalf("%s: %v\n%.500s", e.Name(), err, content)
		}
		m.copies[string(token[1])] = append(m.copies[string(token[1])], string(ids[len(ids)-1][1]))
	}
}

// windows counts what came more than once, by when it was that one of the two was killed.
type windows struct {
	unread      int // after the site had the message on disk, before the provider read its 250
	unsynced    int // after the provider read the 250, before that was on its disk
	known       int // offered again after either, and the site said that it has it
	unexplained int
}

// windows tells them apart by the provider's log, which has a line for every 250 that it read.
func (m *maildir) windows(log string) (w windows) {
	read := map[string]int{}
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, `msg="recipient settled"`) && strings.Contains(line, "account=clinic") && strings.Contains(line, "what=transferred") {
			if id := loggedID.FindStringSubmatch(line); id != nil {
				read[id[1]]++
			}
		}
	}
	for _, ids := range m.copies {
		for i, id := range ids[1:] {
			switch {
			case id != ids[0]: // the sender got no 250 from the provider and sent it again: this one does not
				w.unexplained++
			case i+1 < read[id]:
				w.unsynced++
			default:
				w.unread++
			}
		}
		w.known += max(0, read[ids[0]]-len(ids))
	}
	return w
}

var loggedID = regexp.MustCompile(` id=([0-9a-v]{20}) `)

// sleep returns early when ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
