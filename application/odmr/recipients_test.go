package odmr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
)

func TestListing(t *testing.T) {
	l := listing{"clinic.example": nil, "empty.example": {}}
	for i := range 100 {
		l["clinic.example"] = append(l["clinic.example"], hashRecipient(fmt.Sprint("u", i), "clinic.example"))
	}
	slices.Sort(l["clinic.example"])
	reply := smtp.Reply{Code: 250, Enhanced: [3]int{2, 0, 0}, Text: l.text()}
	for line := range strings.Lines(string(reply.AppendTo(nil))) {
		if len(line) > 512 {
			t.Errorf("a line of %d octets", len(line))
		}
	}
	got, ok := parseListing(l.text())
	if !ok || len(got) != 2 || !slices.Equal(got["clinic.example"], l["clinic.example"]) || got.tag() != l.tag() {
		t.Errorf("%v, %v", got, ok)
	}
	for a, want := range map[string]bool{
		"u7@clinic.example": true, "U7@clinic.example": true, "u7+x@clinic.example": true, "u100@clinic.example": false, "postmaster@clinic.example": true,
		"PostMaster+x@empty.example": true, "u7@empty.example": false,
	} {
		if got.has(address(t, a)) != want {
			t.Errorf("%s: %v", a, !want)
		}
	}
	for _, text := range []string{
		"", "x", l.tag(), "x\nclinic.example", l.text() + "\nlocalhost", l.text() + "\nclinic.example AAAA", strings.Replace(l.text(), " ", " AAAAAAAAAAA ", 1),
	} {
		if got, ok := parseListing(text); ok {
			t.Errorf("%.80q: %v", text, got)
		}
	}
}

func FuzzParseListing(f *testing.F) {
	f.Add(listing{"clinic.example": {1, 2, 3}}.text())
	f.Fuzz(func(t *testing.T, text string) {
		if l, ok := parseListing(text); ok {
			if again, ok := parseListing(l.text()); !ok || !maps.EqualFunc(l, again, slices.Equal) {
				t.Errorf("%q: %v, then %v", text, l, again)
			}
		}
	})
}

// people is a site's directory that changes.
type people struct {
	mu sync.Mutex
	mailboxes
}

func (p *people) Local(domain string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mailboxes.Local(domain)
}

func (p *people) Resolve(a message.Address) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.mailboxes.Resolve(a)
}

func (p *people) names(domain string) (locals []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for a := range p.mailboxes {
		if local, d, _ := strings.Cut(a, "@"); d == domain {
			locals = append(locals, local)
		}
	}
	return locals
}

func (p *people) add(a string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mailboxes[a] = true
}

// taking is a policy that takes everybody.
type taking struct{}

func (taking) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }

func (taking) Rcpt(context.Context, *smtp.Session, *message.Envelope, *message.Recipient) error {
	return nil
}

// TestStrangers: who is not at the site is refused at the provider, at once where the site is connected, and nobody because a list is old.
func TestStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		x := emptyExchange(t)
		x.lingering(time.Hour)
		x.provider.Known = new(Known)
		site := &people{mailboxes: maps.Clone(mine)}
		gate := Strangers{Next: taking{}, Known: x.provider.Known, Held: x.provider.Directory.(*guarded).Held}
		rcpt := func(from, to string) string {
			t.Helper()
			env := &message.Envelope{ReversePath: address(t, from)}
			err := gate.Rcpt(t.Context(), nil, env, &message.Recipient{Address: address(t, to)})
			if r, ok := errors.AsType[smtp.Reply](err); ok {
				return r.Error()[:9]
			}
			return ""
		}
		expect := func(what, to, want string) {
			t.Helper()
			time.Sleep(time.Millisecond) // no two come at the same instant
			if got := rcpt("a@sender.example", to); got != want {
				t.Errorf("%s, %s: %q, want %q", what, to, got, want)
			}
		}
		expect("nothing is known", "gone@clinic.example", "")
		c := x.customer()
		c.Recipients, c.Names, c.Config.Domains = site, site.names, []string{"clinic.example", "clinic.example.net"}
		end := run(c)
		time.Sleep(time.Minute)
		expect("connected", "a@clinic.example", "")
		expect("connected", "A+detail@CLINIC.example", "")
		expect("connected", "postmaster@clinic.example", "")
		expect("connected", "gone@clinic.example", "550 5.1.1")
		expect("connected, another's domain", "gone@light.example", "")
		expect("asked too often", "gone2@clinic.example", "450 4.1.1")
		site.add("gone@clinic.example")
		time.Sleep(time.Minute)
		expect("somebody new", "gone@clinic.example", "")
		expect("again, later", "gone2@clinic.example", "550 5.1.1")
		site.add("gone2@clinic.example")
		time.Sleep(time.Second)
		expect("a new message, asked too often", "gone2@clinic.example", "450 4.1.1")
		time.Sleep(5 * time.Minute) // its next NOOP
		expect("who came too early", "gone2@clinic.example", "")
		end()
		x.serving.Wait()

		expect("away", "b@clinic.example", "450 4.1.1")
		expect("away", "later@clinic.example", "450 4.1.1")
		site.add("later@clinic.example")
		time.Sleep(time.Hour)
		expect("still away", "later@clinic.example", "450 4.1.1")
		x.lingering(0)
		c.Dial = x.dial
		if _, err := c.Call(t.Context(), nil); !errors.Is(err, ErrNoMail) {
			t.Error(err) // 453: nobody was asked
		}
		x.later("mail", "a@clinic.example")
		if _, err := c.Call(t.Context(), nil); err != nil {
			t.Error(err)
		}
		x.serving.Wait()
		expect("called", "later@clinic.example", "")
		expect("called", "b@clinic.example", "550 5.1.1")
		expect("called, a new message", "b@clinic.example", "450 4.1.1")
		time.Sleep(listLife + time.Hour)
		expect("away for long", "b@clinic.example", "")

		c.Names = nil // the site tells no more
		x.later("mail", "a@clinic.example")
		if _, err := c.Call(t.Context(), nil); err != nil {
			t.Error(err)
		}
		x.serving.Wait()
		expect("not told", "b@clinic.example", "")
		if n := len(x.provider.Known.lists); n != 0 {
			t.Errorf("%d lists are left", n)
		}
	})
}

// TestStrangersBounded: knocking fills nothing.
func TestStrangersBounded(t *testing.T) {
	n := new(Known)
	s := &session{account: "clinic", domains: []string{"clinic.example"}}
	n.tell(s, "x", listing{"clinic.example": {}, "other.example": {}}, time.Now())
	n.leave(s)
	for i := range 5 * maxKnocks {
		if err := n.judge(t.Context(), "clinic", message.Address{}, address(t, fmt.Sprintf("u%d@clinic.example", i))); err != replyPerhaps {
			t.Fatal(err)
		}
	}
	if k := len(n.lists["clinic.example"].knocks); k > maxKnocks || len(n.lists) != 1 {
		t.Errorf("%d strangers, %d lists", k, len(n.lists))
	}
	if err := n.judge(t.Context(), "another", message.Address{}, address(t, "u@clinic.example")); err != nil { // the domain has moved
		t.Error(err)
	}
}

// TestLearned: of a site that tells no list, whom it refuses is a stranger for an hour; 550 needs a refusal that came after the sender did.
func TestLearned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n, gone := new(Known), smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "gone"}
		answer := func(to string, r smtp.Reply) { n.answered("clinic", address(t, to), r, time.Now()) }
		judge := func(what, from, to string, want error) {
			t.Helper()
			time.Sleep(time.Millisecond)
			if err := n.judge(t.Context(), "clinic", address(t, from), address(t, to)); err != want {
				t.Errorf("%s: %v, want %v", what, err, want)
			}
		}
		const aunt, uncle, a, b = "aunt@sender.example", "uncle@sender.example", "a@clinic.example", "b@clinic.example"
		judge("nothing is known", aunt, a, nil)
		for _, r := range []smtp.Reply{{Code: 450, Enhanced: [3]int{4, 1, 1}}, {Code: 550, Enhanced: [3]int{5, 7, 1}}, {Code: 552, Enhanced: [3]int{5, 2, 2}}, {Code: 550}} {
			answer(a, r)
			judge("refused, but not for being nobody", aunt, a, nil)
		}
		answer(a, gone)
		judge("refused", aunt, a, replyPerhaps)
		judge("again", aunt, a, replyPerhaps)
		judge("perhaps somebody else there", aunt, "A@clinic.example", nil)
		judge("another recipient", aunt, b, nil)
		time.Sleep(time.Minute)
		answer(a, gone) // a message that was under way
		judge("refused once more since", aunt, a, replyStranger)
		judge("who came since", uncle, a, replyPerhaps)
		time.Sleep(refusalLife)
		judge("an hour later: to see", uncle, a, nil)
		answer(a, gone)
		judge("who came before", uncle, a, replyStranger)
		answer(a, smtp.Reply{Code: 250})
		judge("somebody is there now", uncle, a, nil)

		answer(a, gone)
		s := &session{account: "clinic", domains: []string{"clinic.example"}}
		n.tell(s, "x", listing{"clinic.example": {hashRecipient("a", "clinic.example")}}, time.Now())
		judge("it tells a list now", aunt, a, nil)
		answer(a, gone)
		judge("which goes before", aunt, a, nil)
		n.forget(s)
		judge("no longer", aunt, b, nil)
		for i := range 2 * maxRefused {
			answer(fmt.Sprintf("u%d@clinic.example", i), gone)
		}
		if got := len(n.lists["clinic.example"].refused); got > maxRefused {
			t.Errorf("%d are remembered", got)
		}
		if n.answered("another", address(t, a), gone, time.Now()); len(n.lists) != 1 || len(n.lists["clinic.example"].refused) != 1 {
			t.Error("the domain has moved, and what its first account said stays")
		}
	})
}

// caseful is a site that tells no list, tells letters by case, and refuses a text for all where it does not know one of them.
type caseful struct {
	*exchange
	late bool // it looks at nobody before it has the text
}

func (caseful) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }

func (c caseful) Rcpt(_ context.Context, _ *smtp.Session, _ *message.Envelope, to *message.Recipient) error {
	if c.late {
		return nil
	}
	return c.judge(to)
}

func (c caseful) judge(to *message.Recipient) error {
	if !mine[to.Address.String()] {
		return smtp.Reply{Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"}
	}
	return nil
}

func (c caseful) Accept(ctx context.Context, env *message.Envelope, body io.Reader) error {
	for i := range env.Recipients {
		if err := c.judge(&env.Recipients[i]); err != nil {
			return err
		}
	}
	return c.exchange.Accept(ctx, env, body)
}

// TestLearnedNobodyElse: whom such a site refuses is a stranger; nobody else is made one, whatever somebody sends.
func TestLearnedNobodyElse(t *testing.T) {
	for _, late := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			x := emptyExchange(t)
			x.provider.Known = new(Known)
			x.later("mail", "gone@clinic.example", "A@clinic.example", "a@clinic.example")
			nc, err := x.dial(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			client := smtp.NewClient(smtp.NewConn(nc), "clinic.example", smtp.Timeouts{})
			if err := client.Greet(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := client.Auth(t.Context(), sasl.CRAM("foobar.net", "x")); err != nil {
				t.Fatal(err)
			}
			if r, err := client.Do(t.Context(), "ATRN clinic.example", time.Minute); err != nil || r.Code != 250 {
				t.Fatal(r, err)
			}
			site := caseful{x, late}
			server := &smtp.Server{Hostname: "clinic.example", Policy: site, Accept: site}
			if err := server.Serve(t.Context(), client.Conn); err != nil {
				t.Error(err)
			}
			x.serving.Wait()
			for to, refused := range map[string]bool{"a": false, "A": !late, "gone": !late, "Gone": false, "b": false} {
				err := x.provider.Known.judge(t.Context(), "foobar.net", message.Address{}, address(t, to+"@clinic.example"))
				if refused != (err != nil) {
					t.Errorf("late %v, %s: %v", late, to, err)
				}
			}
		})
	}
}
