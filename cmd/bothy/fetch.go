package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	site "bothy"
)

// fetchCmd makes the server call its provider now.
type fetchCmd struct {
	Provider []string `arg:"" optional:"" help:"Host of a provider; without it all are called, at once."`
	All      bool     `help:"Take all mail, whatever fetch.budget and fetch.largest say, or the provider does."`
	JSON     bool     `help:"Print each step as JSON, one object a line."`
	Quiet    bool     `short:"q" help:"Print nothing but errors."`
}

func (fetchCmd) Help() string {
	return `Waits for the end of the call and shows how it goes. Where a session is open already, in which mail comes by itself, it says so.
How the last call ended, how often it was so, and when the server makes the next one by itself: bothy status.

Exit codes:

    0  mail was fetched, or a session is open and nothing waits
    1  failed: the server is not running, or a cause not named here
    2  wrong usage
    3  there was no mail (453)
    4  the provider refuses, or wants to be called later (450; 5yz)
    5  the provider did not take our login (530, 535), or cannot be trusted
    6  the network: not reached, or the call was interrupted
    7  the provider is not able to, for now (451, 421)

Of several providers the first that failed counts, then 0, then 3.

Examples:

    bothy fetch || [ $? -eq 3 ]
    bothy fetch provider.example
    bothy fetch --all`
}

// outcomes are the exit codes of what a call has come to; all others are exitFailed.
var outcomes = map[site.FetchOutcome]int{
	site.Fetched:     0,
	site.Open:        0,
	site.NoMail:      exitNoMail,
	site.Later:       4,
	site.Refused:     4,
	site.Denied:      5,
	site.Insecure:    5,
	site.Unreachable: 6,
	site.Interrupted: 6,
	site.Unable:      7,
}

const exitNoMail = 3

func (c *fetchCmd) Run(ctx context.Context, g *globals, std stdio) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	defer client.Close()
	show := c.display(std)
	var ends []site.FetchEvent
	err = client.Stream(ctx, http.MethodPost, "/v1/fetch", site.FetchRequest{All: c.All, Providers: c.Provider}, func(raw json.RawMessage) error {
		e := site.FetchEvent{}
		if err := json.Unmarshal(raw, &e); err != nil {
			return err
		}
		if e.Done {
			ends = append(ends, e)
		}
		return show(e, raw)
	})
	switch {
	case err != nil:
		return err
	case len(ends) == 0:
		return errors.New("the server ended the call without saying how")
	}
	return verdict(ends)
}

// verdict is the exit of what all calls have come to: the first failure, else 0 if there was anything to fetch anywhere.
func verdict(ends []site.FetchEvent) error {
	code := exitNoMail
	var errs []string
	for _, e := range ends {
		own, known := outcomes[e.Outcome]
		switch {
		case !known:
			own = exitFailed
		case own == 0 && code == exitNoMail:
			code = 0
			continue
		case own == 0, own == exitNoMail:
			continue
		}
		if code == 0 || code == exitNoMail {
			code = own
		}
		if e.Error != "" {
			errs = append(errs, of(e)+printable(e.Error))
		}
	}
	switch {
	case code == 0:
		return nil
	case len(errs) > 0:
		return exit{code, errors.New(strings.Join(errs, "\nbothy: "))}
	}
	return exit{code, nil}
}

// of names the provider, where several are called.
func of(e site.FetchEvent) string {
	if e.Providers <= 1 {
		return ""
	}
	return printable(e.Provider) + ": "
}

// display returns what shows the steps: a line that changes on a terminal, a line for each stage elsewhere.
func (c *fetchCmd) display(std stdio) func(site.FetchEvent, json.RawMessage) error {
	if c.JSON {
		return func(_ site.FetchEvent, raw json.RawMessage) error {
			_, err := fmt.Fprintf(std.out, "%s\n", raw)
			return err
		}
	}
	if c.Quiet {
		return func(site.FetchEvent, json.RawMessage) error { return nil }
	}
	tty, _ := std.out.(*os.File)
	s := &fetching{out: std.out, live: tty != nil && isTerminal(tty), stages: map[string]string{}, turned: map[string]time.Time{}}
	return func(e site.FetchEvent, _ json.RawMessage) error { return s.show(e, time.Now()) }
}

// fetching shows the calls to one provider or several.
type fetching struct {
	out    io.Writer
	live   bool                 // a terminal
	stages map[string]string    // of each provider
	turned map[string]time.Time // when mail began to come
}

func (s *fetching) show(e site.FetchEvent, now time.Time) (err error) {
	last := s.stages[e.Provider]
	s.stages[e.Provider] = e.Stage
	if s.turned[e.Provider].IsZero() && (e.Waited > 0 || e.Octets > 0) {
		s.turned[e.Provider] = now
	}
	whose := of(e)
	switch {
	case e.Done:
		if s.live {
			fmt.Fprint(s.out, "\r\x1b[K")
		}
		if e.Sent > 0 {
			fmt.Fprintln(s.out, whose+"Sent "+plural(e.Sent, "message")+" along.")
		}
		_, err = fmt.Fprintln(s.out, whose+summary(e))
	case s.live:
		_, err = fmt.Fprintf(s.out, "\r\x1b[K%s", whose+progress(e, now.Sub(cmp.Or(s.turned[e.Provider], now))))
	case e.Stage != last:
		_, err = fmt.Fprintln(s.out, whose+printable(e.Stage))
	}
	return err
}

// progress is one step: "receiving: 12 of 40 messages, 3.4 of 9.8 MB, 56 kB/s, 1m54s left".
func progress(e site.FetchEvent, took time.Duration) string {
	if e.Messages == 0 && e.Octets == 0 {
		return printable(e.Stage)
	}
	count := plural(e.Messages, "message")
	if e.Waited > e.Messages {
		count = fmt.Sprintf("%d of %s", e.Messages, plural(e.Waited, "message"))
	}
	text := printable(e.Stage) + ": " + count + ", " + octets(e.Octets)
	left := e.WaitedOctets - e.Octets
	if left > 0 {
		text += " of " + octets(e.WaitedOctets)
	}
	if took < time.Second { // too early to tell
		return text
	}
	speed := float64(e.Octets) / took.Seconds()
	text += ", " + octets(int64(speed)) + "/s"
	if left > 0 && speed > 0 {
		text += ", " + age(time.Duration(float64(left)/speed*float64(time.Second))) + " left"
	}
	return text
}

// summary is how the call ended.
func summary(e site.FetchEvent) string {
	switch {
	case e.Outcome == site.NoMail, e.Outcome == site.Fetched && e.Messages == 0: // it turned, and had nothing
		return "There was no mail."
	case e.Outcome == site.Open:
		return "A session is open: mail comes by itself, and nothing waits."
	case e.Messages == 0 && e.Octets == 0:
		return "The call failed: " + printable(string(e.Outcome))
	}
	took := time.Duration(e.Seconds * float64(time.Second))
	s := fmt.Sprintf("Fetched %s, %s, in %s", plural(e.Messages, "message"), rate(e.Octets, took), lasted(took))
	if e.Outcome != site.Fetched {
		s += ", then: " + printable(string(e.Outcome))
	}
	return s
}

// lasted is how long a call took; most take less than a second.
func lasted(d time.Duration) string {
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return age(d)
}

func rate(n int64, took time.Duration) string {
	if took < time.Millisecond {
		return octets(n)
	}
	return octets(n) + ", " + octets(int64(float64(n)/took.Seconds())) + "/s"
}
