package smtp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"bothy/application/message"
	"bothy/lib/transcript"
)

const hello = "Subject: hello\r\n\r\nhello\r\n"

// send sends text to locals at light.example and tells what became of it.
func send(ctx context.Context, c *Client, text string, locals ...string) string {
	return sendEnvelope(ctx, c, text, &message.Envelope{
		ReversePath: message.Address{Local: "a", Domain: "site.example"}, Recipients: recipients(locals...),
	})
}

func sendEnvelope(ctx context.Context, c *Client, text string, env *message.Envelope) string {
	replies, err := c.Send(ctx, env, strings.NewReader(text), int64(len(text)))
	var b strings.Builder
	for i, r := range replies {
		fmt.Fprintf(&b, "%s: %v\n", env.Recipients[i].Address.Local, r)
	}
	if err != nil {
		fmt.Fprintf(&b, "error: %v\n", err)
	}
	return b.String()
}

// said makes one line of an error or a reply.
func said(err error) string {
	var r Reply
	switch {
	case err == nil:
		return "ok\n"
	case errors.As(err, &r):
		return "reply: " + r.Error() + "\n"
	}
	return "error: " + err.Error() + "\n"
}

// TestClientTranscripts runs the client against scripted servers; each file has its case here, and what the client tells
// its caller.
func TestClientTranscripts(t *testing.T) {
	config := testTLS(t)
	twice := func(ctx context.Context, c *Client) string {
		return send(ctx, c, hello, "keeper") + send(ctx, c, hello, "keeper")
	}
	once := func(locals ...string) func(context.Context, *Client) string {
		return func(ctx context.Context, c *Client) string { return send(ctx, c, hello, locals...) }
	}
	noop := func(ctx context.Context, c *Client) string { return said(c.Noop(ctx)) }
	soon := func(back, trace bool) message.Deadline {
		return message.Deadline{At: time.Now().Add(time.Hour), Return: back, Trace: trace}
	}
	long := strings.Repeat("a", chunkSize-2) + "\r\n" + strings.Repeat("b", 100) + "\r\n"
	longs := func() func(context.Context, *Client) string { // two of them, to two recipients
		return func(ctx context.Context, c *Client) string {
			results := make([][]Reply, 2)
			err := c.SendMany(ctx, outgoing([]string{long, long}, results, "a", "b"), 9)
			return fmt.Sprintln(results, err)
		}
	}
	named := func(tried bool) func(context.Context, *Client) string { // two of them, with names
		return func(ctx context.Context, c *Client) string {
			results := make([][]Reply, 2)
			err := c.SendMany(ctx, func(yield func(Outgoing) bool) {
				i := 0
				for m := range outgoing([]string{long, long}, results, "a") {
					i++
					if m.TransID, m.Tried = fmt.Sprintf("<%d@site.example>", i), tried || i == 2; !yield(m) {
						return
					}
				}
			}, 9)
			return fmt.Sprintln(results, err)
		}
	}
	asking := func() *message.Envelope { // for notices of all kinds
		env := &message.Envelope{
			ReversePath: message.Address{Local: "a", Domain: "site.example"}, Recipients: recipients("a", "b", "c"),
			Return: message.ReturnHeaders, EnvelopeID: "QQ 1+1",
		}
		env.Recipients[0].Notify, env.Recipients[0].Original = message.NotifySuccess|message.NotifyFailure, "rfc822;A@Light+2Bexample"
		env.Recipients[1].Notify = message.NotifyNever
		return env
	}
	owes := func(c *Client, env *message.Envelope) (out string) {
		for i := range env.Recipients {
			out += fmt.Sprintln(env.Recipients[i].Address.Local, "owes", c.OwesRelayed(env, &env.Recipients[i]))
		}
		return out
	}
	cases := map[string]struct {
		run  func(context.Context, *Client) string // after Greet
		want string                                // what Greet, run and Quit said
	}{
		"greet":            {want: "ok\n"},
		"greet-helo":       {run: once("keeper"), want: "ok\nkeeper: 250 ok\n"},
		"greet-refused":    {want: "reply: 554 no SMTP service here\n"},
		"greet-ehlo":       {want: "reply: 550 5.7.1 not you\nof no use\n"},
		"greet-521":        {want: "reply: 521 host does not accept mail\n"},
		"greet-250":        {want: "error: smtp: peer out of step: 250 in reply to the connection\nof no use\n"},
		"greet-closed":     {want: "error: EOF\n"},
		"data":             {run: twice, want: "ok\nkeeper: 250 2.0.0 taken\nkeeper: 250 2.0.0 taken\n"},
		"data-lockstep":    {run: once("keeper", "nobody"), want: "ok\nkeeper: 250 taken\nnobody: 550 who?\n"},
		"bdat":             {run: twice, want: "ok\nkeeper: 250 2.0.0 taken\nkeeper: 250 2.0.0 taken\n"},
		"bdat-lockstep":    {run: twice, want: "ok\nkeeper: 452 4.3.1 full\nkeeper: 250 taken\n"},
		"rcpt-some":        {run: once("a", "b", "c", "d", "e"), want: "ok\na: 250 taken\nb: 550 5.1.1 who?\nc: 450 4.2.1 busy\nd: 250 taken\ne: 599 what a code\n"},
		"rcpt-none":        {run: twice, want: "ok\nkeeper: 550 5.1.1 who?\nkeeper: 250 taken\n"},
		"rcpt-none-354":    {run: twice, want: "ok\nkeeper: 550 5.1.1 who?\nkeeper: 250 taken\n"},
		"rcpt-none-bdat":   {run: twice, want: "ok\nkeeper: 550 5.1.1 who?\nkeeper: 250 taken\n"},
		"rcpt-none-step":   {run: twice, want: "ok\nkeeper: 550 5.1.1 who?\nkeeper: 250 taken\n"},
		"rcpt-552":         {run: once("a", "b", "c"), want: "ok\na: 250 taken\nb: 452 4.5.3 too many\nc: 552 5.2.2 mailbox full\n"},
		"mail-refused":     {run: twice, want: "ok\nkeeper: 550 5.7.1 no\nkeeper: 250 taken\n"},
		"mail-refused-one": {run: twice, want: "ok\nkeeper: 451 4.3.0 later\nkeeper: 250 taken\n"},
		"data-refused":     {run: twice, want: "ok\nkeeper: 451 4.3.0 later\nkeeper: 554 5.6.0 no\n"},
		"replies":          {run: twice, want: "ok\nkeeper: 250 \nkeeper: 250 2.0.0 first\nsecond\n\nlast\n"},
		"lost-rcpt":        {run: once("a", "b"), want: "ok\na: 550 5.1.1 who?\nb: 0 \nerror: EOF\n"},
		"lost-end":         {run: once("a", "b"), want: "ok\na: 550 5.1.1 who?\nb: 0 \nerror: EOF\n"},
		"lost-421":         {run: once("a", "b"), want: "ok\na: 421 4.3.2 bye\nb: 0 \nerror: EOF\n"},
		"step-greeting":    {want: "error: smtp: peer out of step: a reply came unasked\nof no use\n"},
		"step-354":         {run: once("a"), want: "ok\na: 0 \nerror: smtp: peer out of step: 354 in reply to an envelope command\n"},
		"step-data":        {run: once("a"), want: "ok\na: 0 \nerror: smtp: peer out of step: 250 in reply to DATA\n"},
		"step-end":         {run: once("a"), want: "ok\na: 0 \nerror: smtp: peer out of step: 354 in reply to the end of the message\n"},
		"step-codes":       {run: noop, want: "ok\nerror: smtp: peer out of step: \"251 ok\"\n"},
		"step-code":        {run: noop, want: "ok\nerror: smtp: peer out of step: \"199 ok\"\n"},
		"step-text":        {run: noop, want: "ok\nerror: smtp: peer out of step: \"hello\"\n"},
		"step-lf":          {run: noop, want: "ok\nerror: smtp: peer out of step: smtp: CR or LF alone in a line\n"},
		"step-size":        {run: noop, want: "ok\nerror: smtp: peer out of step: \"250-" + strings.Repeat("a", 76) + "\"\n"},
		"step-unasked":     {run: func(ctx context.Context, c *Client) string { return noop(ctx, c) + noop(ctx, c) }, want: "ok\nok\nerror: smtp: peer out of step: a reply came unasked\n"},
		"size":             {run: once("keeper"), want: "ok\nkeeper: 552 5.3.4 message of 25 octets, the next server takes 24\n"},
		"dots": {run: func(ctx context.Context, c *Client) string {
			return send(ctx, c, ".\r\n..\r\na.\r\n.b", "keeper") + send(ctx, c, "", "keeper")
		}, want: "ok\nkeeper: 250 taken\nkeeper: 250 taken\n"},
		"parameters": {run: func(ctx context.Context, c *Client) string {
			c.authed = true
			env := &message.Envelope{Body: message.Body8Bit, UTF8: true, Submitter: "a+b@site.example", Recipients: []message.Recipient{
				{Address: message.Address{Local: "fyr vokter", Domain: "søster.example"}},
			}}
			out := sendEnvelope(ctx, c, hello, env)
			env.UTF8, env.Submitter, env.Recipients[0].Address.Local = false, "", "postmaster"
			env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: "bjørn", Domain: "b.example"}})
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\nfyr vokter: 250 taken\npostmaster: 250 taken\nbjørn: 553 5.6.7 non-ASCII recipient without SMTPUTF8\n"},
		"parameters-none": {run: func(ctx context.Context, c *Client) string {
			out := sendEnvelope(ctx, c, hello, &message.Envelope{Body: message.Body8Bit, Recipients: recipients("a")})
			out += sendEnvelope(ctx, c, hello, &message.Envelope{Body: message.BodyBinary, Recipients: recipients("b")})
			return out + sendEnvelope(ctx, c, hello, &message.Envelope{UTF8: true, Recipients: recipients("c")})
		}, want: "ok\na: 554 5.6.3 8-bit message, the next server does not offer 8BITMIME\n" +
			"b: 554 5.6.3 binary message, the next server does not offer BINARYMIME\n" +
			"c: 553 5.6.7 internationalized message, the next server does not offer SMTPUTF8\n"},
		"dsn": {run: func(ctx context.Context, c *Client) string {
			env := asking()
			out := sendEnvelope(ctx, c, hello, env) + owes(c, env)
			env.ReversePath = message.Address{}
			env.DeliverBy = soon(false, false)
			return out + sendEnvelope(ctx, c, hello, env) + owes(c, env)
		}, want: "ok\na: 250 taken\nb: 250 taken\nc: 250 taken\na owes false\nb owes false\nc owes false\n" +
			"a: 250 taken\nb: 250 taken\nc: 250 taken\na owes false\nb owes false\nc owes false\n"},
		"dsn-none": {run: func(ctx context.Context, c *Client) string {
			env := asking()
			out := sendEnvelope(ctx, c, hello, env) + owes(c, env)
			env.DeliverBy = soon(false, false)
			return out + owes(c, env)
		}, want: "ok\na: 250 taken\nb: 250 taken\nc: 250 taken\na owes true\nb owes false\nc owes false\na owes true\nb owes false\nc owes true\n"},
		"priority": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			out := sendEnvelope(ctx, c, hello, env)
			env.Priority = -4
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\na: 250 taken\na: 250 taken\n"},
		"solicit": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			env.Solicit = "net.example:ADV,org.example:FUN"
			out := sendEnvelope(ctx, c, hello, env)
			env.Solicit = ""
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\na: 550 5.7.1 SOLICIT=net.example:ADV\na: 250 taken\n"},
		"deliverby": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			env.DeliverBy = soon(true, true)
			out := sendEnvelope(ctx, c, hello, env) + owes(c, env)
			env.DeliverBy = message.Deadline{At: time.Now().Add(-100 * time.Second)}
			out += sendEnvelope(ctx, c, hello, env) + owes(c, env)
			env.DeliverBy = message.Deadline{At: time.Now().Add(200 * time.Second), Return: true}
			out += sendEnvelope(ctx, c, hello, env)
			env.DeliverBy.At = time.Now()
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\na: 250 taken\na owes true\na: 250 taken\na owes false\n" +
			"a: 554 5.3.3 the sender's deadline, or one so near, means nothing to the next server\na: 554 5.4.7 delivery time expired\n"},
		"deliverby-none": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			env.DeliverBy = soon(true, false)
			out := sendEnvelope(ctx, c, hello, env)
			env.DeliverBy.Return = false
			return out + sendEnvelope(ctx, c, hello, env) + owes(c, env)
		}, want: "ok\na: 554 5.3.3 the sender's deadline, or one so near, means nothing to the next server\na: 250 taken\na owes true\n"},
		"requiretls": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			env.RequireTLS = true
			out := sendEnvelope(ctx, c, hello, env) + said(c.StartTLS(ctx, testTLSClient))
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\na: 550 5.7.10 the sender requires TLS, there is none to the next server\nok\na: 250 taken\n"},
		"requiretls-none": {run: func(ctx context.Context, c *Client) string {
			env := envelope(recipients("a"))
			env.RequireTLS = true
			out := said(c.StartTLS(ctx, testTLSClient)) + sendEnvelope(ctx, c, hello, env)
			env.ReversePath = message.Address{}
			return out + sendEnvelope(ctx, c, hello, env)
		}, want: "ok\nok\na: 550 5.7.30 the sender requires TLS all the way, the next server does not offer REQUIRETLS\na: 250 taken\n"},
		"limits": {run: func(ctx context.Context, c *Client) string {
			out := send(ctx, c, hello, "a", "b", "c")
			env := envelope(recipients("d"))
			env.Recipients[0].Address.Domain = "other.example"
			return out + sendEnvelope(ctx, c, hello, env) + send(ctx, c, hello, "e") + send(ctx, c, hello, "f")
		}, want: "ok\na: 250 taken\nb: 250 taken\nc: 452 4.5.3 the next server takes no more recipients with this message\n" +
			"d: 452 4.5.3 the next server takes no more recipients with this message\ne: 250 taken\n" +
			"f: 421 4.5.0 the next server takes no more messages in this session\n"},
		"limits-lockstep": {run: func(ctx context.Context, c *Client) string {
			return send(ctx, c, hello, "a") + send(ctx, c, hello, "b")
		}, want: "ok\na: 250 taken\nb: 421 4.5.0 the next server takes no more messages in this session\n"},
		"binary": {run: func(ctx context.Context, c *Client) string {
			return sendEnvelope(ctx, c, "a: b\r\n\r\n\x00\n\r\r\n", &message.Envelope{Body: message.BodyBinary, Recipients: recipients("a")})
		}, want: "ok\na: 250 taken\n"},
		"many": {run: func(ctx context.Context, c *Client) (out string) {
			texts := []string{"a: 1\r\n", "a: 2\r\n", "a: 3\r\n"}
			results := make([][]Reply, 3)
			err := c.SendMany(ctx, outgoing(texts, results, "a"), 2)
			return fmt.Sprintln(results, err)
		}, want: "ok\n[[250 first] [554 no] [250 third]] <nil>\n"},
		"many-data": {run: func(ctx context.Context, c *Client) (out string) {
			texts := []string{"a: 1\r\n", "a: 2\r\n", "a: 3\r\n"}
			results := make([][]Reply, 3)
			err := c.SendMany(ctx, outgoing(texts, results, "a"), 9)
			return fmt.Sprintln(results, err)
		}, want: "ok\n[[250 first] [550 who?] [250 third]] <nil>\n"},
		"many-ahead":        {run: longs(), want: "ok\n[[250 first 250 first] [250 second 250 second]] <nil>\n"},
		"many-ahead-none":   {run: longs(), want: "ok\n[[550 5.1.1 who? 450 4.2.1 busy] [250 second 550 5.1.1 who?]] <nil>\n"},
		"many-ahead-some":   {run: longs(), want: "ok\n[[550 5.1.1 who? 250 first] [450 4.2.1 busy 250 second]] <nil>\n"},
		"many-ahead-452":    {run: longs(), want: "ok\n[[452 4.3.1 full 452 4.3.1 full] [250 second 250 second]] <nil>\n"},
		"many-ahead-mail":   {run: longs(), want: "ok\n[[451 4.3.0 later 451 4.3.0 later] [250 second 250 second]] <nil>\n"},
		"many-ahead-cut":    {run: longs(), want: "ok\n[[550 5.1.1 who? 0 ] []] EOF\n"},
		"many-offset":       {run: named(false), want: "ok\n[[250 first] [250 second]] <nil>\n"},
		"many-offset-asked": {run: named(true), want: "ok\n[[250 first] [250 second]] <nil>\n"},
		"many-offset-taken": {run: named(false), want: "ok\n[[250 first] [451 4.5.1 " + NotOfTransaction.Text + "]] <nil>\n"},
		"rcpt-556": {run: func(ctx context.Context, c *Client) string {
			replies, err := c.Send(ctx, envelope(recipients("a", "b")), strings.NewReader(hello), int64(len(hello)))
			return fmt.Sprintln(replies[0], replies[1], err)
		}, want: "ok\n556 5.1.10 its domain takes no mail 250 taken <nil>\n"},
		"auth": {run: func(ctx context.Context, c *Client) string {
			out := said(c.Auth(ctx, answer{initial: "keeper"})) + said(c.Auth(ctx, answer{say: "keeper"}))
			return out + said(c.Auth(ctx, answer{initial: strings.Repeat("k", 400), say: "x"}))
		}, want: "ok\nreply: 535 5.7.8 no\nok\nok\n"},
		"auth-cancel": {run: func(ctx context.Context, c *Client) string {
			return said(c.Auth(ctx, answer{say: "keeper"})) + said(c.Auth(ctx, answer{say: "keeper"}))
		}, want: "ok\nerror: odd question\nerror: smtp: challenge is not base64\n"},
		"starttls": {run: func(ctx context.Context, c *Client) string {
			out := said(c.StartTLS(ctx, testTLSClient)) + said(c.StartTLS(ctx, testTLSClient))
			_, before := c.Has("STARTTLS")
			return out + fmt.Sprintln(before, c.Conn.TLS() != nil)
		}, want: "ok\nreply: 454 4.7.0 not now\nok\nfalse true\n"},
		"starttls-buffered": {run: func(ctx context.Context, c *Client) string {
			return said(c.StartTLS(ctx, testTLSClient))
		}, want: "ok\nerror: smtp: input behind a command that must be last\n"},
		"atrn": {run: func(ctx context.Context, c *Client) string {
			r, err := c.Do(ctx, "ATRN a.example,b.example", 10*time.Minute)
			out := fmt.Sprint(r, " ", err, "\n")
			r, err = c.Do(ctx, "ATRN", 10*time.Minute)
			return out + fmt.Sprint(r, " ", err, " ", c.Conn.Turn(), "\n")
		}, want: "ok\n453 you have no mail <nil>\n250 now reversing <nil> <nil>\n"},
	}
	transcript.Run(t, "testdata/client/*.txt", func(t *testing.T, name string) net.Conn {
		c, ok := cases[name]
		if !ok {
			t.Fatalf("no case for %s", name)
		}
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer far.Close()
			client := NewClient(NewConn(far), "site.example", Timeouts{})
			err := client.Greet(t.Context())
			got := said(err)
			if err == nil && c.run != nil {
				got += c.run(t.Context(), client)
			}
			if client.Quit(t.Context()) != nil && strings.Contains(c.want, "of no use") {
				got += "of no use\n"
			}
			if got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		}()
		t.Cleanup(func() { <-done })
		return transcript.WithTLS(near, func(nc net.Conn) *tls.Conn { return tls.Server(nc, config) })
	})
	for name := range cases {
		if _, err := os.Stat("testdata/client/" + name + ".txt"); err != nil {
			t.Error(err)
		}
	}
}

// A body that fails must never look like a whole message: the peer sees the connection end inside it.
func TestBrokenBody(t *testing.T) {
	fault := errors.New("disk on fire")
	for name, c := range map[string]struct {
		drop string
		body io.Reader
		size int64
		want error
	}{
		"DATA, read error":  {"CHUNKING", io.MultiReader(strings.NewReader(hello), iotest.ErrReader(fault)), 100, fault},
		"BDAT, read error":  {"", io.MultiReader(strings.NewReader(hello), iotest.ErrReader(fault)), 100, fault},
		"DATA, too short":   {"CHUNKING", strings.NewReader(hello), 100, io.ErrUnexpectedEOF},
		"BDAT, too short":   {"", strings.NewReader(hello), 100, io.ErrUnexpectedEOF},
		"chunks, too short": {"", strings.NewReader(hello), eagerSize + 1, io.ErrUnexpectedEOF},
		"steps, too short":  {"PIPELINING", strings.NewReader(hello), 100, io.ErrUnexpectedEOF},
		"DATA, too long":    {"CHUNKING", strings.NewReader(hello), 10, nil},
		"BDAT, too long":    {"", strings.NewReader(hello), 10, nil},
		"DATA, error last":  {"CHUNKING", io.MultiReader(strings.NewReader(hello), iotest.ErrReader(fault)), 25, fault},
		"BDAT, error last":  {"", io.MultiReader(strings.NewReader(hello), iotest.ErrReader(fault)), 25, fault},
		"DATA, bare LF":     {"CHUNKING", strings.NewReader("a\nb\r\n"), 5, replyBareText},
		"DATA, last CR":     {"CHUNKING", strings.NewReader("a\r"), 2, replyBareText},
	} {
		t.Run(name, func(t *testing.T) {
			st := &store{}
			client := NewClient(NewConn(serve(t, newServer(st))), "site.example", Timeouts{})
			if err := client.Greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			delete(client.keywords, c.drop)
			replies, err := client.Send(t.Context(), &message.Envelope{Recipients: recipients("a", "nobody")}, c.body, c.size)
			if err == nil || c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if want := (Reply{}); c.want == error(replyBareText) {
				want = replyBareText
				if replies[0] != want {
					t.Errorf("reply %v, want %v", replies[0], want)
				}
			} else if replies[0] != want {
				t.Errorf("reply %v, want none", replies[0])
			}
			if err := client.Noop(t.Context()); err == nil {
				t.Error("the connection is of use still")
			}
			if st.mu.Lock(); len(st.mails) > 0 {
				t.Errorf("the server took %q", st.mails[0].body)
			}
			st.mu.Unlock()
		})
	}
}
