package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"

	site "bothy"
)

// fetchCmd makes the server call its provider now.
type fetchCmd struct {
	JSON  bool `help:"Print each step as JSON, one object a line."`
	Quiet bool `short:"q" help:"Print nothing but errors."`
}

func (fetchCmd) Help() string {
	return `Waits for the end of the call and shows how it goes.

Exit codes:

    0  mail was fetched
    1  failed: the server is not running, or a cause not named here
    2  wrong usage
    3  there was no mail
    4  the provider refuses, or asks to call later
    5  the provider did not take our login, or cannot be trusted
    6  the network: not reached, or the call was interrupted

Examples:

    bothy fetch || [ $? -eq 3 ]`
}

// outcomes are the exit codes of what a call has come to; all others are exitFailed.
var outcomes = map[site.FetchOutcome]int{
	site.Fetched:     0,
	site.NoMail:      3,
	site.Later:       4,
	site.Refused:     4,
	site.Denied:      5,
	site.Insecure:    5,
	site.Unreachable: 6,
	site.Interrupted: 6,
}

func (c *fetchCmd) Run(ctx context.Context, g *globals, std stdio) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	defer client.Close()
	show := c.display(std)
	var last site.FetchEvent
	err = client.Stream(ctx, http.MethodPost, "/v1/fetch", struct{}{}, func(raw json.RawMessage) error {
		last = site.FetchEvent{}
		if err := json.Unmarshal(raw, &last); err != nil {
			return err
		}
		return show(last, raw)
	})
	switch {
	case err != nil:
		return err
	case !last.Done:
		return errors.New("the server ended the call without saying how")
	}
	code, known := outcomes[last.Outcome]
	if !known {
		code = exitFailed
	}
	switch {
	case code == 0:
		return nil
	case last.Error != "" && last.Outcome != site.NoMail:
		return exit{code, errors.New(printable(last.Error))}
	}
	return exit{code, nil}
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
	live := tty != nil && isTerminal(tty)
	began, stage := time.Now(), ""
	return func(e site.FetchEvent, _ json.RawMessage) error {
		var err error
		switch {
		case e.Done:
			if live {
				fmt.Fprint(std.out, "\r\x1b[K")
			}
			_, err = fmt.Fprintln(std.out, summary(e))
		case live:
			_, err = fmt.Fprintf(std.out, "\r\x1b[K%s", progress(e, time.Since(began)))
		case e.Stage != stage:
			_, err = fmt.Fprintln(std.out, printable(e.Stage))
		}
		stage = e.Stage
		return err
	}
}

// progress is one step: "receiving: 12 messages, 3.4 MB, 56 kB/s".
func progress(e site.FetchEvent, took time.Duration) string {
	if e.Messages == 0 && e.Octets == 0 {
		return printable(e.Stage)
	}
	return fmt.Sprintf("%s: %s, %s", printable(e.Stage), plural(e.Messages, "message"), rate(e.Octets, took))
}

// summary is how the call ended.
func summary(e site.FetchEvent) string {
	switch {
	case e.Outcome == site.NoMail:
		return "There was no mail."
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
