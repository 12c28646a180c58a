package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	site "bothy"
)

// statusCmd shows how the running server is.
type statusCmd struct {
	JSON bool `help:"Print JSON."`
}

func (statusCmd) Help() string {
	return `Shows the link, the open ports, how it stands with the providers that are called, and how much waits in each lane: so many recipients, DUE of them may go now, SIZE of their messages
together, and how long the OLDEST has waited.

Exit codes: 0 the server answers, 1 it does not.

Examples:

    bothy status --json | jq .link.up`
}

func (c *statusCmd) Run(ctx context.Context, g *globals, std stdio) error {
	raw, err := call[json.RawMessage](ctx, g, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, raw)
	}
	var s site.Status
	if err := json.Unmarshal(raw, &s); err != nil {
		return err
	}
	now := time.Now()
	state := "down"
	if s.Link.Up {
		state = "up"
	}
	rows := [][]string{
		{"server", s.Hostname + ", " + s.Version + ", since " + age(now.Sub(s.Started))},
		{"link", strings.TrimSuffix(state+" since "+age(now.Sub(s.Link.Since))+": "+s.Link.Why, ": ")},
	}
	for _, service := range slices.Sorted(maps.Keys(s.Ports)) {
		rows = append(rows, []string{service, strings.Join(s.Ports[service], " ")})
	}
	if err := printTable(std.out, rows); err != nil {
		return err
	}
	if s.Full {
		fmt.Fprintln(std.out, "disk full: new mail is refused until there is room,", octets(s.Free), "free")
	}
	for _, d := range s.Damaged {
		fmt.Fprintln(std.out, "damaged:", printable(d))
	}
	if err := showProviders(std.out, s.Providers, now); err != nil {
		return err
	}
	if len(s.Lanes) == 0 {
		_, err = fmt.Fprintln(std.out, "\nNothing waits.")
		return err
	}
	fmt.Fprintln(std.out)
	rows = [][]string{{"LANE", "DUE", "WAITING", "SIZE", "OLDEST", ""}}
	for _, l := range s.Lanes {
		mark := ""
		if l.Paused {
			mark = "paused"
		}
		oldest := ""
		if !l.Oldest.IsZero() {
			oldest = age(now.Sub(l.Oldest))
		}
		rows = append(rows, []string{string(l.Lane), fmt.Sprint(l.Due), fmt.Sprint(l.Waiting), octets(l.Octets), oldest, mark})
	}
	return printTable(std.out, rows)
}

// showProviders tells how this site stands with the providers that it calls.
func showProviders(w io.Writer, providers []site.ProviderStatus, now time.Time) error {
	if len(providers) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	rows := [][]string{{"PROVIDER", "NOW", "LAST CALL", "NEXT CALL"}}
	for _, p := range providers {
		rows = append(rows, []string{p.Provider, underWay(p, now), lastCall(p, now), nextCall(p, now)})
	}
	return printTable(w, rows)
}

// underWay is what the call that is under way is at.
func underWay(p site.ProviderStatus, now time.Time) string {
	switch {
	case p.Since.IsZero():
		return "-"
	case p.Messages == 0:
		return p.Stage + " for " + age(now.Sub(p.Since))
	}
	return fmt.Sprintf("%s for %s, %s, %s", p.Stage, age(now.Sub(p.Since)), plural(p.Messages, "message"), octets(p.Octets))
}

// lastCall is how the last call ended, and how often that was so.
func lastCall(p site.ProviderStatus, now time.Time) string {
	if p.LastCall.IsZero() {
		return "never"
	}
	text := fmt.Sprintf("%s ago: %s", age(now.Sub(p.LastCall)), p.Outcome)
	switch {
	case p.Failures > 1:
		text = fmt.Sprintf("%s, %d times: %s", text, p.Failures, p.Error)
	case p.Failures == 1:
		text += ": " + p.Error
	case p.Brought > 0:
		text += " " + plural(p.Brought, "message")
	}
	if p.Sent > 0 {
		text += ", " + plural(p.Sent, "message") + " sent along"
	}
	return text
}

func nextCall(p site.ProviderStatus, now time.Time) string {
	switch {
	case p.NextCall.IsZero():
		return "-"
	case p.NextCall.Before(now):
		return "when the link is up"
	}
	return "in " + age(p.NextCall.Sub(now))
}
