package main

import (
	"context"
	"encoding/json"
	"fmt"
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
	return `Shows the link, the open ports and how much waits in each lane: so many recipients, DUE of them may go now, SIZE of their messages
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
