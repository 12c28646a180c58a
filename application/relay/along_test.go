package relay

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/operational/link"
)

const homeLane = "smarthost/mail.provider.example:587"

// along opens a session with x as somebody else would, for SendAlong.
func along(t *testing.T, x *remote) *smtp.Client {
	t.Helper()
	near, far := net.Pipe()
	go x.serve(far)
	t.Cleanup(func() { near.Close() })
	client := smtp.NewClient(smtp.NewConn(near), "mail.light.example", smtp.Timeouts{})
	if err := client.Greet(t.Context()); err != nil {
		t.Fatal(err)
	}
	return client
}

// TestHold: nobody begins to work on a lane that is held, whatever wakes it; what has come meanwhile goes when the last one lets go.
func TestHold(t *testing.T) {
	bubble(t, func(t *testing.T) {
		x := newRemote(nil)
		uplink, hand := link.New("uplink"), new(link.Manual)
		go uplink.Run(t.Context(), hand)
		g := newRig(t, at(x), Options{Link: uplink, Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		hand.Set(true, "plugged in")
		release, again := g.relay.Hold(homeLane), g.relay.Hold(homeLane)
		g.accept("hello", "bob@home.example carol@far.example")
		pass(time.Minute)
		g.expect("far.example carol 250") // others go on
		hand.Set(false, "pulled out")
		pass(time.Minute)
		hand.Set(true, "plugged in")
		pass(time.Minute)
		release()
		release() // once is enough
		pass(time.Minute)
		g.expect("")
		g.left(homeLane, 1, 1)
		again()
		pass(time.Second)
		g.expect("mail.provider.example:587 bob 250")
	})
}

// TestSendAlong: what waits in one lane, deferred or not, goes over a session of somebody else's, and each recipient has his own verdict; the session is ready
// for what comes next.
func TestSendAlong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(t, &internet{}, Options{Resolver: oneExchanger}, plainConfig) // where the smarthost's port is not reached
		defer g.stop()
		g.accept("deferred", "bob@home.example gone@home.example")
		g.accept("other", "carol@far.example")
		pass(2 * time.Minute)
		g.expect("mail.provider.example:587 bob 451, mail.provider.example:587 gone 451, far.example carol 451")
		release := g.relay.Hold(homeLane)
		defer release()
		g.accept("new", "full@home.example")
		x := newRemote(map[string]smtp.Reply{
			"gone": {Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"},
			"full": {Code: 452, Enhanced: [3]int{4, 2, 2}, Text: "no room"},
		})
		client := along(t, x)
		taken, err := g.relay.SendAlong(t.Context(), client, homeLane, "mail.provider.example")
		if got := x.taken(); taken != 1 || err != nil || got != "deferred bob" {
			t.Errorf("%d, %v: %q", taken, err, got)
		}
		g.expect("mail.provider.example:587 bob 250, mail.provider.example:587 gone 550, mail.provider.example:587 full 452")
		g.left(homeLane, 0, 1)
		g.left("mx/far.example", 0, 1)
		if got := g.failures(); got != "gone@home.example 5.1.1" {
			t.Errorf("failed: %q", got)
		}
		// No transaction is open: the next one begins at once.
		if reply, err := client.Do(t.Context(), "MAIL FROM:<a@b.example>", time.Minute); err != nil || reply.Code != 250 {
			t.Errorf("MAIL: %v, %v", reply, err)
		}
	})
}

// TestSendAlongEnds: where the server takes no more, the mail is as it was, or deferred where the server said so; never a notice.
func TestSendAlongEnds(t *testing.T) {
	demand := func(env *message.Envelope) { env.RequireTLS = true }
	for name, c := range map[string]struct {
		mail   smtp.Reply
		limits smtp.Limits
		change func(*message.Envelope)
		taken  int
		over   bool
		due    int
	}{
		"not implemented": {mail: smtp.Reply{Code: 502, Enhanced: [3]int{5, 5, 1}, Text: "no mail here"}, due: 3},
		"login wanted":    {mail: smtp.Reply{Code: 530, Enhanced: [3]int{5, 7, 0}, Text: "log in"}},
		"it closes":       {mail: smtp.Reply{Code: 421, Enhanced: [3]int{4, 3, 2}, Text: "the end"}, over: true, due: 2},
		"two mails":       {limits: smtp.Limits{Mails: 2}, taken: 2, due: 1},
		"TLS required":    {change: demand, due: 3},
	} {
		bubble(t, func(t *testing.T) {
			g := newRig(t, &internet{}, Options{Resolver: oneExchanger}, plainConfig)
			defer g.stop()
			defer g.relay.Hold(homeLane)()
			if c.change == nil {
				c.change = func(*message.Envelope) {}
			}
			for _, to := range []string{"a@home.example", "b@home.example", "c@home.example"} {
				g.acceptAs("hello", to, c.change)
			}
			x := newRemote(nil)
			x.server.Limits, x.server.Offer.Limits = c.limits, true
			x.mail = func(*smtp.Session) error {
				if c.mail.Code != 0 {
					return c.mail
				}
				return nil
			}
			taken, err := g.relay.SendAlong(t.Context(), along(t, x), homeLane, "mail.provider.example")
			if taken != c.taken || (err != nil) != c.over {
				t.Errorf("%s: %d, %v", name, taken, err)
			}
			g.left(homeLane, c.due, 3-c.taken)
			if got := g.failures(); got != "" {
				t.Errorf("%s: failed: %q", name, got)
			}
		})
	}
}

// TestSendAlongClosesApart: no transaction is open behind a message that went in several, the last of which nobody was accepted in.
func TestSendAlongClosesApart(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(t, &internet{}, Options{Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		defer g.relay.Hold(homeLane)()
		g.accept("hello\r\n"+strings.Repeat("a line of text\r\n", 10_000), "bob@home.example gone@home.example")
		x := newRemote(map[string]smtp.Reply{"gone": {Code: 550, Enhanced: [3]int{5, 1, 1}, Text: "who?"}})
		x.server.Limits, x.server.Offer.Limits = smtp.Limits{Recipients: 1}, true
		client := along(t, x)
		taken, err := g.relay.SendAlong(t.Context(), client, homeLane, "mail.provider.example")
		if got := x.taken(); taken != 1 || err != nil || !strings.HasSuffix(got, " bob") {
			t.Errorf("%d, %v: %q", taken, err, got)
		}
		if reply, err := client.Do(t.Context(), "MAIL FROM:<a@b.example>", time.Minute); err != nil || reply.Code != 250 {
			t.Errorf("MAIL: %v, %v", reply, err)
		}
	})
}

// TestSendAlongPasses: a message that cannot go along, since its sender requires TLS, keeps none behind it.
func TestSendAlongPasses(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(t, &internet{}, Options{Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		defer g.relay.Hold(homeLane)()
		g.acceptAs("secret", "a@home.example", func(env *message.Envelope) { env.RequireTLS = true })
		pass(time.Second)
		g.accept("hello", "bob@home.example")
		x := newRemote(nil)
		taken, err := g.relay.SendAlong(t.Context(), along(t, x), homeLane, "mail.provider.example")
		if got := x.taken(); taken != 1 || err != nil || got != "hello bob" {
			t.Errorf("%d, %v: %q", taken, err, got)
		}
		g.left(homeLane, 1, 1)
	})
}

// TestSendAlongOdd: what a server that takes MAIL says to the rest of a message is about that message, whatever the code; it keeps none behind it.
func TestSendAlongOdd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		g := newRig(t, &internet{}, Options{Resolver: oneExchanger}, plainConfig)
		defer g.stop()
		defer g.relay.Hold(homeLane)()
		g.accept("odd", "odd@home.example")
		g.accept("hello", "bob@home.example")
		x := newRemote(map[string]smtp.Reply{"odd": {Code: 500, Text: "line too long"}})
		taken, err := g.relay.SendAlong(t.Context(), along(t, x), homeLane, "mail.provider.example")
		if got := x.taken(); taken != 1 || err != nil || got != "hello bob" {
			t.Errorf("%d, %v: %q", taken, err, got)
		}
		g.left(homeLane, 0, 0)
	})
}

// TestSendAlongExcused: a session that is lost with its link, or because the call was told to end, is not held against the message: it stays due.
func TestSendAlongExcused(t *testing.T) {
	for name, want := range map[string]int{"flap": 1, "told": 1, "lost": 0} {
		bubble(t, func(t *testing.T) {
			uplink, hand := link.New("uplink"), new(link.Manual)
			go uplink.Run(t.Context(), hand)
			g := newRig(t, &internet{}, Options{Link: uplink, Resolver: oneExchanger}, plainConfig)
			defer g.stop()
			hand.Set(true, "plugged in")
			pass(time.Second)
			defer g.relay.Hold(homeLane)()
			g.accept("hello", "bob@home.example")
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			x := newRemote(nil)
			client := along(t, x)
			x.during = func() error {
				switch name {
				case "flap":
					hand.Set(false, "pulled out")
					time.Sleep(time.Second)
					hand.Set(true, "plugged in")
					time.Sleep(time.Second)
				case "told":
					cancel()
				}
				return client.Conn.Close()
			}
			if taken, err := g.relay.SendAlong(ctx, client, homeLane, "mail.provider.example"); taken != 0 || err == nil {
				t.Errorf("%s: %d, %v", name, taken, err)
			}
			g.left(homeLane, want, 1)
		})
	}
}
