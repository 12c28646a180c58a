package smtp

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/checkpoint"
	"bothy/application/message"
	"bothy/lib/sim"
)

// memory is an Acceptor that keeps mail with its transactions, as a queue does.
type memory struct {
	store
	mu    sync.Mutex
	known map[message.TransactionKey]message.Envelope
}

func (m *memory) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	if err := m.store.Accept(ctx, env, body); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.known == nil {
		m.known = map[message.TransactionKey]message.Envelope{}
	}
	if !env.Transaction.Key.IsZero() {
		m.known[env.Transaction.Key] = env.Clone()
	}
	return nil
}

func (m *memory) transaction(key message.TransactionKey) (message.Transaction, message.ID, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	env, ok := m.known[key]
	return env.Transaction, env.ID, ok
}

// keeping is a server that keeps transactions, and its Acceptor.
func keeping(t testing.TB) (*Server, *memory) {
	t.Helper()
	m := new(memory)
	srv := newServer(m)
	checkpoints, err := checkpoint.Open(checkpoint.Options{Dir: "partial", FS: sim.NewDisk(), Accepted: m.transaction})
	if err != nil {
		t.Fatal(err)
	}
	srv.Checkpoints, srv.PeerName = checkpoints, "site"
	return srv, m
}

// checkpointed is one that has seen the first session of RFC 1845 §5, cut off behind 1,000 lines of 40 octets and some more, and in another the
// message <taken@claremont.example>, whose reply was lost, to mrose and to nobody, who is not here.
func checkpointed(t testing.TB) *Server {
	t.Helper()
	srv, m := keeping(t)
	const hello = "EHLO ymir.claremont.example\r\nMAIL FROM:<ned@ymir.claremont.example> TRANSID="
	const rcpt = "\r\nRCPT TO:<mrose@light.example>\r\n"
	lines := "Subject: long\r\n\r\n" + strings.Repeat(strings.Repeat("a", 38)+"\r\n", 1000)
	for _, said := range []string{
		hello + "<12345@claremont.example>" + rcpt + "DATA\r\n" + lines + "half a li",
		hello + "<binary@claremont.example> BODY=BINARYMIME" + rcpt + "BDAT 40001\r\n" + strings.Repeat("b", 40001),
		hello + "<taken@claremont.example>" + rcpt + "RCPT TO:<nobody@light.example>\r\nDATA\r\nSubject: short\r\n\r\n.\r\n",
	} {
		srv.Offer.BinaryMIME = true
		_ = srv.Serve(t.Context(), NewConn(&script{in: strings.NewReader(said), n: 1 << 20})) // it breaks
	}
	srv.Offer.BinaryMIME = false
	if n := srv.Checkpoints.Stats().Messages; n != 2 || len(m.mails) != 1 {
		t.Fatalf("%d parts and %d messages, want 2 and 1", n, len(m.mails))
	}
	return srv
}

// letterOf is a text of about size octets in lines of many lengths, some of them dots.
func letterOf(size int) string {
	var b strings.Builder
	b.WriteString("Subject: long\r\n\r\n")
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%s line %d %s\r\n", strings.Repeat(".", i%3), i, strings.Repeat("x", i*i%97))
	}
	return b.String()
}

// TestResume: RFC 1845 §3: a transfer that is cut again and again goes on where it was cut, with DATA and with BDAT, and arrives once.
func TestResume(t *testing.T) {
	text := letterOf(400_000)
	for _, drop := range []string{"", "PIPELINING", "CHUNKING", "CHUNKING PIPELINING", "XCHECKPOINT"} {
		t.Run(drop, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, m := keeping(t)
				var sent int64
				for try, cut := range []int64{50_000, 90_000, 100_000, 60_000, 80_000, 40, 300, 1 << 40} {
					err := over(sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: cut, How: sim.Reset}}, srv, drop, func(c *Client) error {
						replies, err := c.Transfer(t.Context(), Outgoing{
							Envelope: envelope(recipients("a", "b")), Body: strings.NewReader(text), Size: int64(len(text)), TransID: TransID("site.example", "1"),
						})
						for _, r := range replies {
							if err == nil && r.Code != 250 {
								t.Errorf("try %d: %v", try, r)
							}
						}
						sent += c.Conn.Conn.(*sim.End).Written()
						return err
					})
					if (err == nil) != (cut == 1<<40) {
						t.Fatalf("try %d: %v", try, err)
					}
				}
				if len(m.mails) != 1 || m.store.text(t, 0) != text {
					t.Fatalf("%d messages came", len(m.mails))
				}
				if most := int64(len(text) + 8*blockSize); sent > most { // what each cut caught in a buffer is counted too
					t.Errorf("%d octets were sent for a text of %d", sent, len(text))
				}
				if srv.Checkpoints.Stats() != (checkpoint.Stats{}) {
					t.Errorf("%+v is kept", srv.Checkpoints.Stats())
				}
			})
		})
	}
}

// TestResumeReplyLost: RFC 1845 §1: who did not hear that the message was accepted asks again, and it does not come twice. A short text
// is sent in one flight all the same.
func TestResumeReplyLost(t *testing.T) {
	for _, size := range []int{100, 400_000} {
		for _, drop := range []string{"", "PIPELINING", "CHUNKING", "CHUNKING PIPELINING"} {
			t.Run(fmt.Sprint(size, drop), func(t *testing.T) {
				text := letterOf(size)
				srv, m := keeping(t)
				for range 3 {
					// The client hears its greeting, EHLO and the envelope, but never that it is accepted.
					near, far := sim.Pipe(sim.Path{})
					done := make(chan struct{})
					go func() {
						defer close(done)
						defer far.Close()
						_ = srv.Serve(context.Background(), NewConn(mute{far}))
					}()
					c := NewClient(NewConn(near), "site.example", Timeouts{})
					if err := c.Greet(t.Context()); err != nil {
						t.Fatal(err)
					}
					for keyword := range strings.FieldsSeq(drop) {
						delete(c.keywords, keyword)
					}
					if _, err := c.Transfer(t.Context(), outgoingNamed(text)); err == nil {
						t.Fatal("it heard the reply")
					}
					near.Close()
					<-done
				}
				err := over(sim.Path{}, srv, drop, func(c *Client) error {
					replies, err := c.Transfer(t.Context(), outgoingNamed(text))
					if replies[0].Code != 250 || replies[1].Code != 550 || replies[2].Code != 250 {
						t.Errorf("%v", replies)
					}
					if n := c.Conn.Conn.(*sim.End).Written(); size > LeastResumed && n > 2000 {
						t.Errorf("%d octets for a message that was here", n)
					}
					return err
				})
				if err != nil || len(m.mails) != 1 || m.store.text(t, 0) != text {
					t.Fatalf("%v, %d messages came", err, len(m.mails))
				}
			})
		}
	}
}

// LeastResumed is what a text must be longer than to be asked for from its middle.
const LeastResumed = 32 << 10

func outgoingNamed(text string) Outgoing {
	return Outgoing{
		Envelope: envelope(recipients("a", "nobody", "b")), Body: strings.NewReader(text), Size: int64(len(text)),
		TransID: TransID("site.example", "lost"),
	}
}

// mute loses the connection instead of the reply to a message.
type mute struct{ net.Conn }

func (m mute) Write(b []byte) (int, error) {
	if strings.Contains(string(b), " accepted\r\n") {
		m.Close()
		return 0, net.ErrClosed
	}
	return m.Conn.Write(b)
}

// TestResumeTakesOver: RFC 1845 §3: a client whose connection died unseen gets its transaction though the dead session has it.
func TestResumeTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := letterOf(200_000)
		srv, m := keeping(t)
		serving := make(chan struct{})
		near, far := sim.Pipe(sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: 100_000, How: sim.Silent}})
		go func() {
			defer close(serving)
			_ = srv.Serve(context.Background(), NewConn(far))
		}()
		c := NewClient(NewConn(near), "site.example", Timeouts{DataBlock: time.Second, DataDone: time.Second})
		if err := c.Greet(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Transfer(t.Context(), outgoingNamed(text)); err == nil {
			t.Fatal("nothing broke")
		}
		err := over(sim.Path{}, srv, "", func(c *Client) error {
			replies, err := c.Transfer(t.Context(), outgoingNamed(text))
			if replies[0].Code != 250 || c.Conn.Conn.(*sim.End).Written() > 120_000 {
				t.Errorf("%v after %d octets", replies, c.Conn.Conn.(*sim.End).Written())
			}
			return err
		})
		select {
		case <-serving:
		default:
			t.Error("the dead session lives")
		}
		if err != nil || len(m.mails) != 1 || m.store.text(t, 0) != text {
			t.Fatalf("%v, %d messages came", err, len(m.mails))
		}
	})
}

// parted is a client that said all it had to say, and is gone by the time that a chunk is answered.
type parted struct {
	script
	gone bool
}

func (p *parted) Write(b []byte) (int, error) {
	if p.gone = p.gone || strings.Contains(string(b), "chunk taken"); p.gone {
		return 0, syscall.EPIPE
	}
	return len(b), nil
}

// TestHeardOut holds that what came of a transaction with a name is kept, to its last whole line, though its client takes no replies any more; where
// all of it came, the message is accepted. A client that gave it no name would send it again, and it would come twice: it is not.
func TestHeardOut(t *testing.T) {
	line := strings.Repeat("a", 38) + "\r\n"
	chunk := strings.Repeat(line, 1000)
	for name, c := range map[string]struct {
		transid, chunks string
		kept            int64
		messages        int
	}{
		"part":    {" TRANSID=<1@site.example>", "BDAT 40000\r\n" + chunk + "BDAT 40000\r\n" + chunk + "BDAT 40000\r\n" + line + "half a li", 2001 * 40, 0},
		"all":     {" TRANSID=<1@site.example>", "BDAT 40000\r\n" + chunk + "BDAT 40000 LAST\r\n" + chunk, 0, 1},
		"no name": {"", "BDAT 40000\r\n" + chunk + "BDAT 40000 LAST\r\n" + chunk, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv, m := keeping(t)
			said := "EHLO site.example\r\nMAIL FROM:<a@light.example>" + c.transid + "\r\nRCPT TO:<b@light.example>\r\n" + c.chunks
			_ = srv.Serve(t.Context(), NewConn(&parted{script: script{in: strings.NewReader(said), n: 5000}})) // it broke
			var kept int64
			for _, part := range srv.Checkpoints.Parts("site", 9) {
				kept += part.Octets
			}
			if kept != c.kept || len(m.mails) != c.messages {
				t.Errorf("%d octets are kept and %d messages came, want %d and %d", kept, len(m.mails), c.kept, c.messages)
			}
		})
	}
}

// TestTakenOverBehindWhatArrived holds that a client that comes back is not asked for what has arrived from it and was not read yet.
func TestTakenOverBehindWhatArrived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		srv, _ := keeping(t)
		gate := make(chan struct{})
		srv.Arrived = func(int64) { <-gate }
		const mail = "EHLO site.example\r\nMAIL FROM:<a@light.example> TRANSID=<1@site.example>\r\n"
		text := strings.Repeat(strings.Repeat("a", 38)+"\r\n", 1500)
		var near [2]*sim.End
		var serving sync.WaitGroup
		for i, said := range []string{mail + "RCPT TO:<b@light.example>\r\nBDAT 99999\r\n" + text, mail} {
			var far *sim.End
			near[i], far = sim.Pipe(sim.Path{})
			serving.Go(func() {
				defer far.Close()
				_ = srv.Serve(context.Background(), NewConn(far)) // the client leaves
			})
			_, _ = io.WriteString(near[i], said) // the 355 says how much arrived
			synctest.Wait()
		}
		close(gate)
		synctest.Wait()
		near[1].CloseWrite()
		heard, _ := io.ReadAll(near[1])
		if want := fmt.Sprintf("\r\n355 %d ", len(text)); !strings.Contains(string(heard), want) {
			t.Errorf("%q, want %q", heard, want)
		}
		serving.Wait()
	})
}

// tireless never stops talking.
type tireless struct {
	script
	closed atomic.Bool
}

func (e *tireless) CloseRead() error { return nil }
func (e *tireless) Close() error     { e.closed.Store(true); return nil }

// TestTakenOverInTime holds that a client that comes back does not wait for one that goes on.
func TestTakenOverInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := new(tireless)
		(&Session{Conn: NewConn(e)}).stopper()()
		time.Sleep(hearingOut - 1)
		if e.closed.Load() {
			t.Error("closed before its time")
		}
		time.Sleep(time.Nanosecond)
		if synctest.Wait(); !e.closed.Load() {
			t.Errorf("open after %v", hearingOut)
		}
	})
}

// TestResumeNotAnothers: RFC 1845 §2: the name of the client is part of the transaction; so is, here, the account it logged in to.
func TestResumeNotAnothers(t *testing.T) {
	text := letterOf(100_000)
	srv, m := keeping(t)
	cut := sim.Path{Cut: &sim.Cut{Side: sim.Dialer, After: 80_000, How: sim.Reset}}
	_ = over(cut, srv, "", func(c *Client) error {
		_, err := c.Transfer(t.Context(), outgoingNamed(text))
		return err
	})
	srv.PeerName = "another"
	secret := sha256.Sum256([]byte(text))
	other := strings.Replace(text, "line 5 ", fmt.Sprintf("%.7x", secret), 1)
	err := over(sim.Path{}, srv, "", func(c *Client) error {
		_, err := c.Transfer(t.Context(), outgoingNamed(other))
		return err
	})
	if err != nil || len(m.mails) != 1 || m.store.text(t, 0) != other {
		t.Fatalf("%v, %d messages came", err, len(m.mails))
	}
	if srv.Checkpoints.Stats().Messages != 1 {
		t.Error("the first one's part is gone")
	}
}

func TestTransID(t *testing.T) {
	for s, want := range map[string]bool{
		"<12345@claremont.edu>": true, "<a.b@c>": true, "<!#$%&'*+-^_`{|}~@c.d>": true,
		"": false, "12345@claremont.edu": false, "<@a>": false, "<a@>": false, "<a>": false, "<a..b@c>": false, "<a@b@c>": false, "<a b@c>": false,
		"<a\"@b>": false, "<a@[192.0.2.1]>": false, "<" + strings.Repeat("a", 76) + "@b>": true, "<" + strings.Repeat("a", 77) + "@b>": false,
	} {
		if isTransID(s) != want {
			t.Errorf("%q: %t, want %t", s, !want, want)
		}
	}
	for _, host := range []string{"light.example", "[192.0.2.1]", strings.Repeat("a.", 40) + "example", ""} {
		if id := TransID(host, "1"); !isTransID(id) || id != TransID(host, "1") || id == TransID(host, "1", "") || id == TransID(host+"x", "1") {
			t.Errorf("of %q: %s", host, id)
		}
	}
}

// FuzzCutPart holds that one transaction is found once, and that the others stay as they were.
func FuzzCutPart(f *testing.F) {
	f.Add("<a@b>=1 <c@d>=99", "<c@d>")
	f.Add("<a@b>=1 <a@b>=2  <a@b>= =1", "<a@b>")
	f.Add(string(appendPart(nil, "<a@b>", math.MaxInt64)), "<a@b>")
	f.Fuzz(func(t *testing.T, listed, id string) {
		octets, rest, ok := cutPart(listed, id)
		fields, others := strings.Fields(listed), strings.Fields(rest)
		if ok && (octets < 0 || len(others) != len(fields)-1) || !ok && !slices.Equal(fields, others) {
			t.Fatalf("%q of %q: %d, %q", id, listed, octets, rest)
		}
		if !isTransID(id) {
			return
		}
		if n, left, ok := cutPart(string(appendPart(nil, id, max(octets, 0)))+" "+rest, id); !ok || n != octets || left != strings.Join(others, " ") {
			t.Fatalf("%q put back: %d, %q", id, n, left)
		}
	})
}

// TestListedParts: an EHLO reply lists the latest parts, in a line within the bounds of RFC 5321 §4.5.3.1.5, however long their names, to nobody else.
func TestListedParts(t *testing.T) {
	srv, _ := keeping(t)
	name := func(i int) string { return fmt.Sprintf("<%s.%d@light.example>", strings.Repeat("x", 60), i) }
	for i := range 7 {
		said := "EHLO site.example\r\nMAIL FROM:<a@light.example> TRANSID=" + name(i) + "\r\nRCPT TO:<b@light.example>\r\nBDAT 99999\r\n" + letterOf(50_000+i)
		_ = srv.Serve(t.Context(), NewConn(&script{in: strings.NewReader(said), n: 1 << 20})) // it breaks
	}
	s := &Session{server: srv, Conn: NewConn(nil)}
	var listed string
	for line := range strings.Lines(s.keywords()) {
		if strings.HasPrefix(line, KeywordOffset) {
			listed = line
		}
	}
	for i := range 7 {
		if _, _, ok := cutPart(strings.TrimPrefix(strings.TrimSpace(listed), KeywordOffset), name(i)); ok != (i >= 7-listedParts) {
			t.Errorf("%d: listed is %t, in %q", i, ok, listed)
		}
	}
	if len("250-"+listed) > 511 {
		t.Errorf("a line of %d octets", len(listed))
	}
	srv.PeerName = ""
	if strings.Contains(s.keywords(), KeywordOffset) {
		t.Error("a stranger is told")
	}
}

// FuzzTransID holds that what is taken for a transid-value is a msg-id (RFC 1845 §2) and fits into a command.
func FuzzTransID(f *testing.F) {
	f.Add("<12345@claremont.edu>", "6135 is the transaction offset")
	f.Fuzz(func(t *testing.T, id, text string) {
		if isTransID(id) && (len(id) > maxTransID || !isPrintable(id) || strings.Count(id, "@") != 1 || strings.ContainsAny(id, " =")) {
			t.Errorf("%q is none", id)
		}
		if n, ok := parseOffset(text); ok && (n < 0 || !strings.HasPrefix(strings.TrimLeft(text, "0"), strings.TrimLeft(fmt.Sprint(n), "0"))) {
			t.Errorf("%q is not %d", text, n)
		}
	})
}
