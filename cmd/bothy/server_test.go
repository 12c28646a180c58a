package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/drop"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/management/admin"

	site "bothy"
)

// answering runs an admin server with the routes that add gives it.
func answering(t *testing.T, cfg site.Config, add func(*admin.Server)) {
	t.Helper()
	s := &admin.Server{Version: "v1"}
	add(s)
	ln, err := admin.Listen(cfg.AdminSocket(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

func TestQueue(t *testing.T) {
	cfg := inSite(t)
	var items []queue.Item
	for i := range 3 {
		items = append(items, queue.Item{
			ID: message.ID{byte(i + 1)}, Sender: message.Address{Local: "a", Domain: "b.example"}, Size: 1500, Accepted: time.Now().Add(-time.Hour),
			Recipients: []queue.ItemRecipient{{
				Address: message.Address{Local: "c", Domain: "d.example"}, Lane: "mx/d.example", State: queue.StateDeferred, Attempts: i,
				NextTry: time.Now().Add(90 * time.Second), LastReply: smtp.Reply{Code: 450, Enhanced: [3]int{4, 2, 0}, Text: "later\x1b[0m"}, Remote: "mx.d.example",
			}},
		})
	}
	var got site.QueueRequest
	answering(t, cfg, func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/queue", func(_ context.Context, q site.QueueRequest) (site.QueuePage, error) {
			got = q
			i := 0
			for i < len(items) && !q.After.IsZero() && bytes.Compare(items[i].ID[:], q.After[:]) <= 0 {
				i++
			}
			n := min(2, q.Limit, len(items)-i) // short pages, to see the next ones asked for
			return site.QueuePage{Items: items[i : i+n], More: i+n < len(items)}, nil
		})
		admin.Handle(s, http.MethodGet, "/v1/queue/{id}", func(_ context.Context, q struct{ ID string }) (site.QueueMessage, error) {
			return site.QueueMessage{Item: items[0], Header: "Subject: hello\r\nX: \x07\r\n"}, nil
		})
		admin.Handle(s, http.MethodPost, "/v1/queue/hold", func(_ context.Context, q site.QueueRequest) (site.QueueCount, error) {
			got = q
			return site.QueueCount{Count: 2}, nil
		})
		admin.Handle(s, http.MethodPost, "/v1/queue/delete", func(context.Context, site.QueueRequest) (site.QueueCount, error) {
			return site.QueueCount{}, &admin.Error{Status: 404, Text: "no such message", Hint: "see the list"}
		})
	})

	r := bothy(t, "", "queue", "list", "--kind", "mx", "--sender", "@b.example")
	if lines := strings.Split(r.out, "\n"); r.code != 0 || len(lines) != 1+3*3+1 || got.Kind != "mx" || got.Sender != "@b.example" || strings.Contains(r.out, "\x1b") {
		t.Errorf("list: %+v, asked for %+v", r, got)
	}
	if !strings.Contains(r.out, "  1h0m    1.5 kB  a@b.example\n    c@d.example: in 1m2") || !strings.Contains(r.out, "s, 2 tries, mx/d.example\n        450 4.2.0 later") {
		t.Errorf("list:\n%s", r.out)
	}
	for line := range strings.Lines(r.out) {
		if len(line) > 80 {
			t.Errorf("wider than 80 columns: %s", line)
		}
	}
	if r := bothy(t, "", "queue", "list", "--limit", "1"); !strings.HasSuffix(r.out, "and more; see --limit\n") || strings.Count(r.out, "\n") != 5 {
		t.Errorf("limit:\n%s", r.out)
	}
	var page site.QueuePage
	if r := bothy(t, "", "queue", "list", "--json"); json.Unmarshal([]byte(r.out), &page) != nil || len(page.Items) != 3 || page.More {
		t.Errorf("json: %s", r.out)
	}
	id := items[0].ID.String()
	if r := bothy(t, "", "queue", "show", id); r.code != 0 || !strings.Contains(r.out, "Subject: hello\nX: \ufffd\n") {
		t.Errorf("show: %+v", r)
	}
	r = bothy(t, "", "queue", "hold", id, "--recipient", "c@d.example")
	if r.out != "Held: 2 recipients\n" || len(got.IDs) != 1 || got.IDs[0] != items[0].ID || got.Recipient != "c@d.example" {
		t.Errorf("hold: %+v, asked for %+v", r, got)
	}
	if r := bothy(t, "", "queue", "hold", "--all", "--json"); r.out != "{\n  \"count\": 2\n}\n" || !got.All {
		t.Errorf("hold all: %+v", r)
	}
	if r := bothy(t, "", "queue", "delete", id); r.code != 1 || r.err != "bothy: no such message; see the list\n" {
		t.Errorf("refusal: %+v", r)
	}
	items = nil
	if r := bothy(t, "", "queue", "list"); r.out != "Nothing waits.\n" {
		t.Errorf("empty: %+v", r)
	}
	if r := bothy(t, "", "sendmail", "-bp"); r.out != "Nothing waits.\n" {
		t.Errorf("-bp: %+v", r)
	}
}

func TestStatus(t *testing.T) {
	cfg := inSite(t)
	answering(t, cfg, func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/status", func(context.Context, struct{}) (site.Status, error) {
			now := time.Now()
			return site.Status{
				Hostname: "mail.clinic.example", Version: "v1", Started: now.Add(-25 * time.Hour),
				Link:  site.LinkStatus{Up: true, Since: now.Add(-90 * time.Second), Why: "always"},
				Ports: site.Ports{"submission": {"127.0.0.1:587"}, "pop3s": {"127.0.0.1:995"}},
				Lanes: []queue.LaneCount{{Lane: "smarthost/provider", Due: 0, Waiting: 12, Octets: 48_000, Oldest: now.Add(-3 * time.Hour), Paused: true}},
				Free:  5_000_000, Full: true,
				Providers: []site.ProviderStatus{
					{Provider: "a.example:366", Stage: "lingering", Since: now.Add(-2 * time.Hour), Messages: 3, Octets: 4000, LastCall: now.Add(-2 * time.Hour), Outcome: site.NoMail},
					{Provider: "b.example:366", Stage: "ended", LastCall: now.Add(-time.Minute), Outcome: site.Unable, Error: "451 no", Failures: 3, NextCall: now.Add(4*time.Minute + time.Second/2)},
					{Provider: "c.example:366", Stage: "ended"},
				},
			}, nil
		})
	})
	r := bothy(t, "", "status")
	want := "server      mail.clinic.example, v1, since 1d1h\nlink        up since 1m30s: always\npop3s       127.0.0.1:995\nsubmission  127.0.0.1:587\n" +
		"disk full: new mail is refused until there is room, 5.0 MB free\n\n" +
		"PROVIDER       NOW                                     LAST CALL                          NEXT CALL\n" +
		"a.example:366  lingering for 2h0m, 3 messages, 4.0 kB  2h0m ago: no mail                  -\n" +
		"b.example:366  -                                       1m0s ago: unable, 3 times: 451 no  in 4m0s\n" +
		"c.example:366  -                                       never                              -\n\n" +
		"LANE                DUE  WAITING  SIZE   OLDEST\nsmarthost/provider  0    12       48 kB  3h0m    paused\n"
	if r.code != 0 || r.out != want {
		t.Errorf("got\n%swant\n%s%s", r.out, want, r.err)
	}
	if r := bothy(t, "", "status", "--json"); !json.Valid([]byte(r.out)) {
		t.Errorf("json: %s", r.out)
	}
}

func TestFetch(t *testing.T) {
	cfg := inSite(t)
	var events []site.FetchEvent
	var asked []string
	answering(t, cfg, func(s *admin.Server) {
		admin.HandleStream(s, http.MethodPost, "/v1/fetch", func(_ context.Context, q site.FetchRequest, send func(site.FetchEvent) error) error {
			asked = q.Providers
			if events == nil {
				return &admin.Error{Status: http.StatusConflict, Text: "this site has no provider to call", Hint: "set fetch.provider"}
			}
			for _, e := range events {
				if err := send(e); err != nil {
					return err
				}
			}
			return nil
		})
	})
	last := func(o site.FetchOutcome, err string) []site.FetchEvent {
		return []site.FetchEvent{{Stage: "dialing"}, {Stage: "ended", Done: true, Outcome: o, Error: err}}
	}
	for _, tt := range []struct {
		events   []site.FetchEvent
		out, err string
		code     int
	}{
		{nil, "", "bothy: this site has no provider to call; set fetch.provider\n", 1},
		{
			[]site.FetchEvent{
				{Stage: "dialing"},
				{Stage: "receiving"},
				{Stage: "receiving", Messages: 1, Octets: 5000},
				{Stage: "ended", Messages: 2, Octets: 48_000_000, Done: true, Seconds: 10, Outcome: site.Fetched},
			}, "dialing\nreceiving\nFetched 2 messages, 48 MB, 4.8 MB/s, in 10s\n", "", 0,
		},
		{last(site.NoMail, "odmr: no mail"), "dialing\nThere was no mail.\n", "", 3},
		{last(site.Later, "450 too soon"), "dialing\nThe call failed: later\n", "bothy: 450 too soon\n", 4},
		{last(site.Denied, "535 no"), "dialing\nThe call failed: denied\n", "bothy: 535 no\n", 5},
		{last(site.Unable, "451 no"), "dialing\nThe call failed: unable\n", "bothy: 451 no\n", 7},
		{last(site.Open, "odmr: no mail: a session is open"), "dialing\nA session is open: mail comes by itself, and nothing waits.\n", "", 0},
		{
			[]site.FetchEvent{
				{Provider: "a:366", Providers: 2, Stage: "dialing"},
				{Provider: "b:366", Providers: 2, Stage: "dialing"},
				{Provider: "b:366", Providers: 2, Stage: "ended", Done: true, Outcome: site.Unreachable, Error: "no route"},
				{Provider: "a:366", Providers: 2, Stage: "ended", Done: true, Messages: 1, Octets: 1000, Outcome: site.Fetched, Seconds: 1},
			}, "a:366: dialing\nb:366: dialing\nb:366: The call failed: unreachable\na:366: Fetched 1 message, 1.0 kB, 1.0 kB/s, in 1.0s\n", "bothy: b:366: no route\n", 6,
		},
		{
			[]site.FetchEvent{
				{Provider: "a:366", Providers: 2, Stage: "ended", Done: true, Outcome: site.NoMail, Error: "453"},
				{Provider: "b:366", Providers: 2, Stage: "ended", Done: true, Outcome: site.Open, Error: "open"},
			}, "a:366: There was no mail.\nb:366: A session is open: mail comes by itself, and nothing waits.\n", "", 0,
		},
		{last(site.Unreachable, "refused"), "dialing\nThe call failed: unreachable\n", "bothy: refused\n", 6},
		{last(site.Failed, "disk"), "dialing\nThe call failed: failed\n", "bothy: disk\n", 1},
		{[]site.FetchEvent{{Stage: "dialing"}}, "dialing\n", "bothy: the server ended the call without saying how\n", 1},
	} {
		events = tt.events
		if r := bothy(t, "", "fetch"); r != (result{tt.code, tt.out, tt.err}) {
			t.Errorf("%+v", r)
		}
	}
	events = last(site.NoMail, "")
	if r := bothy(t, "", "fetch", "--quiet"); r.out != "" || r.code != 3 {
		t.Errorf("quiet: %+v", r)
	}
	r := bothy(t, "", "fetch", "--json", "provider.example")
	if len(asked) != 1 || asked[0] != "provider.example" {
		t.Errorf("asked for %q", asked)
	}
	for line := range strings.Lines(r.out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("json: %s", line)
		}
	}
}

// On a terminal a line shows how far a call is, and when it will be over where the provider has told how much waits.
func TestFetchProgress(t *testing.T) {
	for _, tt := range []struct {
		e    site.FetchEvent
		took time.Duration
		want string
	}{
		{site.FetchEvent{Stage: "asking"}, time.Minute, "asking"},
		{site.FetchEvent{Stage: "receiving", Messages: 1, Octets: 5000}, 0, "receiving: 1 message, 5.0 kB"},
		{site.FetchEvent{Stage: "receiving", Messages: 2, Octets: 50_000}, 2 * time.Second, "receiving: 2 messages, 50 kB, 25 kB/s"},
		{
			site.FetchEvent{Stage: "receiving", Messages: 12, Octets: 3_400_000, Waited: 40, WaitedOctets: 9_800_000},
			time.Minute, "receiving: 12 of 40 messages, 3.4 MB of 9.8 MB, 57 kB/s, 1m52s left",
		},
		{site.FetchEvent{Stage: "receiving", Messages: 41, Octets: 9_900_000, Waited: 40, WaitedOctets: 9_800_000}, time.Minute, "receiving: 41 messages, 9.9 MB, 165 kB/s"},
	} {
		if got := progress(tt.e, tt.took); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

// post is an SMTP server at the submission socket that keeps what it gets and refuses what the test wants.
type post struct {
	mu   sync.Mutex
	env  message.Envelope
	body string
	mail error
	rcpt map[string]error

	most   int      // recipients of one message; 0: as usual
	ends   bool     // the server goes away behind the first message
	locals []string // of the recipients of all messages
}

func (p *post) Mail(context.Context, *smtp.Session, *message.Envelope) error {
	if p.ends && len(p.locals) > 0 {
		return smtp.Reply{Code: 421, Text: "going"}
	}
	return p.mail
}

func (p *post) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	return p.rcpt[to.Address.String()]
}

func (p *post) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	b, err := io.ReadAll(body)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.env, p.body = *env, string(b)
	for _, to := range env.Recipients {
		p.locals = append(p.locals, to.Address.Local)
	}
	_, p.body, _ = strings.Cut(p.body, "\r\n\tby ") // the Received field of the server is not ours
	for strings.HasPrefix(p.body, "\t") || !strings.Contains(p.body[:strings.IndexByte(p.body, '\n')], ":") || strings.HasPrefix(p.body, "post.example") {
		_, p.body, _ = strings.Cut(p.body, "\r\n")
	}
	return err
}

func (p *post) open(t *testing.T, cfg site.Config) {
	t.Helper()
	ln, err := admin.Listen(cfg.SubmitSocket(), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	server := &smtp.Server{
		Hostname: "post.example", Protocol: smtp.Submission, Identify: func(net.Conn) string { return "local" },
		Limits: smtp.Limits{Recipients: p.most}, Offer: smtp.Offer{Limits: true},
		Policy: p, Accept: p, Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	var sessions sync.WaitGroup
	sessions.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			sessions.Go(func() {
				defer conn.Close()
				_ = server.Serve(t.Context(), smtp.NewConn(conn))
			})
		}
	})
	t.Cleanup(func() { ln.Close(); sessions.Wait() })
}

func TestSendmail(t *testing.T) {
	cfg := inSite(t)
	p := &post{}
	p.open(t, cfg)
	letter := "From: k@clinic.example\nTo: A <a@b.example>,\n c@d.example\nBcc: secret@e.example\nDate: Thu, 1 Jan 2026 00:00:00 +0000\nMessage-ID: <1@x>\n\nOne\n.\nTwo"
	head := "From: k@clinic.example\r\nTo: A <a@b.example>,\r\n c@d.example\r\n"
	rest := "Date: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@x>\r\n\r\nOne\r\n"
	for _, tt := range []struct{ args, sender, to, body string }{
		{"-f k@clinic.example x@y.example", "k@clinic.example", "x@y.example", head + "Bcc: secret@e.example\r\n" + rest},
		{"-fk@clinic.example -i -oem -- x@y.example", "k@clinic.example", "x@y.example", head + "Bcc: secret@e.example\r\n" + rest + ".\r\nTwo\r\n"},
		{"-ti -r <>", "", "a@b.example c@d.example secret@e.example", head + rest + ".\r\nTwo\r\n"},
		{"-t -oi -f k@clinic.example a@b.example root", "k@clinic.example", "a@b.example root@mail.clinic.example c@d.example secret@e.example", head + rest + ".\r\nTwo\r\n"},
	} {
		r := bothy(t, letter, append([]string{"sendmail"}, strings.Fields(tt.args)...)...)
		if r != (result{}) {
			t.Errorf("%s: %+v", tt.args, r)
			continue
		}
		var to []string
		for _, a := range p.env.Recipients {
			to = append(to, a.Address.String())
		}
		if got := p.env.ReversePath.String(); strings.Trim(got, "<>") != tt.sender || strings.Join(to, " ") != tt.to {
			t.Errorf("%s: from %s to %s", tt.args, got, to)
		}
		if p.body != tt.body {
			t.Errorf("%s: body %q, want %q", tt.args, p.body, tt.body)
		}
	}
}

func TestSendmailCompletes(t *testing.T) {
	cfg := inSite(t)
	p := &post{}
	p.open(t, cfg)
	if r := bothy(t, "Subject: h\u00e9\n\nhi", "sendmail", "-F", `The "Keeper"`, "-N", "success,delay", "-R", "hdrs", "-V", "id1", "a@b.example"); r.code != 0 {
		t.Fatal(r.err)
	}
	header, _, _ := strings.Cut(p.body, "\r\n\r\n")
	me := localAddress(cfg.Hostname).String()
	for _, want := range []string{"Subject: h\u00e9", `From: "The \"Keeper\"" <` + me + ">", "Date: ", "Message-ID: <"} {
		if !strings.Contains(header, want) {
			t.Errorf("no %q in\n%s", want, header)
		}
	}
	if p.env.ReversePath.String() != me || !p.env.UTF8 || p.env.Body != message.Body8Bit {
		t.Errorf("envelope %+v", p.env)
	}
}

func TestSendmailRefused(t *testing.T) {
	cfg := inSite(t)
	p := &post{}
	p.open(t, cfg)
	reply := func(code, class, subject, detail int) error {
		return smtp.Reply{Code: code, Enhanced: [3]int{class, subject, detail}, Text: "no"}
	}
	for _, tt := range []struct {
		mail error
		rcpt map[string]error
		code int
	}{
		{nil, map[string]error{"a@b.example": reply(550, 5, 1, 1)}, 67},
		{nil, map[string]error{"a@b.example": reply(451, 4, 3, 0)}, 75},
		{nil, map[string]error{"a@b.example": reply(451, 4, 3, 0), "c@d.example": reply(550, 5, 7, 1)}, 77},
		{nil, map[string]error{"a@b.example": reply(554, 5, 6, 0)}, 65},
		{reply(550, 5, 7, 1), nil, 77},
		{reply(452, 4, 3, 1), nil, 75},
	} {
		p.mail, p.rcpt = tt.mail, tt.rcpt
		if r := bothy(t, "Subject: x\n\nx\n", "sendmail", "a@b.example", "c@d.example"); r.code != tt.code || !strings.Contains(r.err, "no") {
			t.Errorf("%v %v: %+v", tt.mail, tt.rcpt, r)
		}
	}
	for args, code := range map[string]int{"-f a@b@c x@y.example": 64, "not@an@address": 65, "-t": 65, "-B 9BIT x@y.example": 64, "-N perhaps x@y.example": 64, "-f": 64} {
		if r := bothy(t, "Subject: x\n\nx\n", append([]string{"sendmail"}, strings.Fields(args)...)...); r.code != code || r.err == "" {
			t.Errorf("%s: %+v", args, r)
		}
	}
}

// TestSendmailMany: RFC 5321 §4.5.3.1.10: more recipients than the server takes at once go on in further transactions; where it goes away between
// them the others are left on disk, and the program that sent need not send again.
func TestSendmailMany(t *testing.T) {
	var args, want []string
	for i := range 250 {
		args = append(args, fmt.Sprintf("r%d@b.example", i))
		want = append(want, fmt.Sprintf("r%d", i))
	}
	for _, ends := range []bool{false, true} {
		cfg := inSite(t)
		if err := errors.Join(os.MkdirAll(cfg.Data, 0o711), drop.Make(cfg.DropFolder())); err != nil {
			t.Fatal(err)
		}
		p := &post{most: 100, ends: ends}
		p.open(t, cfg)
		if r := bothy(t, "Subject: x\n\nto everybody\n", append([]string{"sendmail"}, args...)...); r != (result{}) {
			t.Fatalf("%+v", r)
		}
		got := p.locals
		left, err := filepath.Glob(filepath.Join(cfg.DropFolder(), "*"))
		if err != nil || len(left) != map[bool]int{false: 0, true: 1}[ends] {
			t.Fatalf("left on disk: %q, %v", left, err)
		}
		for _, file := range left {
			content, err := os.ReadFile(file)
			if err != nil || !strings.HasSuffix(string(content), "\r\n\r\nto everybody\r\n") {
				t.Errorf("%q, %v", content, err)
			}
			var env message.Envelope
			head, _, _ := strings.Cut(string(content), "\n")
			if err := json.Unmarshal([]byte(head), &env); err != nil || len(got) != 100 {
				t.Errorf("%d sent, %v", len(got), err)
			}
			for _, to := range env.Recipients {
				got = append(got, to.Address.Local)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
	}
}

// Nothing is lost while the server is away: once it has run here, what programs send waits for it.
func TestSendmailWhileDown(t *testing.T) {
	cfg := inSite(t)
	if err := os.MkdirAll(cfg.Data, 0o711); err != nil {
		t.Fatal(err)
	}
	if err := drop.Make(cfg.DropFolder()); err != nil {
		t.Fatal(err)
	}
	steps(t, []step{
		{args: "sendmail -f keeper@clinic.example a@b.example", stdin: "Subject: x\n\nx\n"},
		{args: "sendmail -bi"},
		{args: "sendmail -q", code: 1, err: "the server is not running"},
		{args: "sendmail -bp", code: 1, err: "the server is not running"},
		{args: "sendmail -t", stdin: "Resent-From: k@b.example\nResent-Bcc: sent@on.example\nFrom: a@b.example\nTo: not@this.example\n\nx\n"},
	})
	files, err := filepath.Glob(filepath.Join(cfg.DropFolder(), "*"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	var all string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all += string(content)
	}
	for _, want := range []string{`"keeper@clinic.example"`, `"a@b.example"`, `"sent@on.example"`, "\r\n\r\nx\r\n"} {
		if !strings.Contains(all, want) {
			t.Errorf("no %q in %q", want, all)
		}
	}
	if strings.Contains(all, "Resent-Bcc") || strings.Contains(all, `"not@this.example"`) {
		t.Errorf("%q", all)
	}
}

func TestSendmailSMTP(t *testing.T) {
	cfg := inSite(t)
	(&post{}).open(t, cfg)
	r := bothy(t, "EHLO me\r\nQUIT\r\n", "sendmail", "-bs")
	if r.code != 0 || !strings.HasPrefix(r.out, "220 post.example") || !strings.Contains(r.out, "\r\n221 ") {
		t.Errorf("%+v", r)
	}
}

// Line ends come out as CRLF wherever the pieces that are read end.
func TestLines(t *testing.T) {
	long := strings.Repeat("x", maxLine-1)
	for in, want := range map[string]string{
		"": "", "a": "a\r\n", "a\n": "a\r\n", "a\r\n": "a\r\n", "a\rb\n": "a\rb\r\n", "a\n.\nb": "a\r\n", ".\n": "", "a\n.": "a\r\n", "a\n..\n": "a\r\n..\r\n",
		long + "\r\nb\n": long + "\r\nb\r\n", long + "x\r\nb\n": long + "x\r\nb\r\n", long + "\ry\n": long + "\ry\r\n", long + "x.\n": long + "x.\r\n",
		long + "\r": long + "\r\n", "a\r": "a\r\n",
	} {
		got, err := io.ReadAll(newLines(strings.NewReader(in), true))
		if err != nil || string(got) != want {
			t.Errorf("%.20q (%d): %.40q (%d), want %d, %v", in, len(in), got, len(got), len(want), err)
		}
	}
}

// A message of the list is readable on a narrow terminal, whatever it was answered.
func TestQueueWidth(t *testing.T) {
	if got := cut(strings.Repeat("é", 100), replyWidth); len([]rune(got)) != replyWidth || !strings.HasSuffix(got, "é…") {
		t.Errorf("cut: %q", got)
	}
	if got := cut("250 ok", replyWidth); got != "250 ok" {
		t.Errorf("cut: %q", got)
	}
}

// A service manager is told once everything is open, and a refusal by it is an error.
func TestNotify(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	if err := notify("READY=1"); err != nil {
		t.Error(err)
	}
	t.Setenv("NOTIFY_SOCKET", t.TempDir()+"/none")
	if err := notify("READY=1"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("nobody there: %v", err)
	}
	dir, err := os.MkdirTemp("", "bothy") // short, for the socket
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: dir + "/notify", Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	t.Setenv("NOTIFY_SOCKET", dir+"/notify")
	if err := notify("READY=1"); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if n, err := manager.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("told %q, %v", b[:n], err)
	}
}

func TestMain(m *testing.M) {
	os.Unsetenv("BOTHY_CONFIG")
	os.Setenv("COLUMNS", "80")
	os.Exit(m.Run())
}
