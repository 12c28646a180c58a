package main

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bothy/application/submission"
)

// faultsCmd shows what mail programs do wrong (RFC 6409 §5.2).
type faultsCmd struct {
	Account string `placeholder:"NAME" help:"Only this account's."`
	JSON    bool   `help:"Print JSON."`
}

func (faultsCmd) Help() string {
	return `Mail programs that leave out Date or Message-ID, write in names that are not theirs, or forget to log in work, or nearly, and their owners
never hear of it. The running server counts such faults by account since it started, the latest first here, with the program that the
message names. "-" stands for clients that have not logged in.

Examples:

    bothy faults
    bothy faults --account meter@clinic.example
    bothy faults --json | jq -r '.[] | select(.kind == "sends no Date").account'`
}

func (c *faultsCmd) Run(ctx context.Context, g *globals, std stdio) error {
	all, err := call[[]submission.Fault](ctx, g, http.MethodGet, "/v1/faults", nil)
	if err != nil {
		return err
	}
	shown := []submission.Fault{} // [] and not null
	for _, f := range all {
		if c.Account == "" || strings.EqualFold(c.Account, f.Account) {
			shown = append(shown, f)
		}
	}
	switch {
	case c.JSON:
		return printJSON(std.out, shown)
	case len(shown) == 0:
		_, err := fmt.Fprintln(std.out, "No faults since the server started.")
		return err
	}
	now := time.Now()
	rows := [][]string{{"ACCOUNT", "TIMES", "LAST", "FAULT", "PROGRAM"}}
	for _, f := range shown {
		rows = append(rows, []string{cmp.Or(f.Account, "-"), fmt.Sprint(f.Count), age(now.Sub(f.Last)) + " ago", string(f.Kind), cmp.Or(f.Client, "-")})
	}
	return printTable(std.out, rows)
}
