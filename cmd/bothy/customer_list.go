package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"bothy/application/directory"
	"bothy/application/odmr"

	site "bothy"
)

// customerListCmd shows who calls, who does not, and what waits for them.
type customerListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (customerListCmd) Help() string {
	return `A customer that has not called for long may be in trouble: its mail expires after queue.lifetime. Where the server does not run, it is not
known who is connected, and what waits.

Examples:

    bothy customer list --json | jq -r '.[] | [.account, .last_contact, .now.waiting] | @tsv'`
}

func (c *customerListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		list := &customerList{asJSON: c.JSON, out: std.out}
		for after, more := "", true; more; {
			var page []directory.Customer
			var err error
			if page, more, err = d.CustomersAfter(ctx, after, pageSize); err != nil {
				return err
			}
			standings := g.standings(ctx, after)
			for _, c := range page {
				if err := list.add(customerNow{c, standings[c.Account]}); err != nil {
					return err
				}
				after = c.Account
			}
		}
		return list.end()
	})
}

// customerList prints customers: as JSON one by one, however many there are; as a table when its columns' widths are known.
type customerList struct {
	asJSON bool
	out    io.Writer
	count  int
	rows   [][]string
	known  bool // how somebody stands: the server runs
}

func (l *customerList) add(c customerNow) error {
	l.count++
	if l.asJSON {
		text, err := json.MarshalIndent(c, "  ", "  ")
		if err != nil {
			return err
		}
		before := ",\n  "
		if l.count == 1 {
			before = "[\n  "
		}
		_, err = fmt.Fprintf(l.out, "%s%s", before, text)
		return err
	}
	row := []string{c.Account, "", called(c.LastContact), "", "", "", strings.Join(c.Domains, " ")}
	if s := c.now; s != nil {
		l.known = true
		row[1], row[2], row[3], row[4], row[5] = connected(s), called(s.LastContact), fmt.Sprint(s.Waiting), octets(s.WaitingOctets), oldest(s)
	}
	l.rows = append(l.rows, row)
	return nil
}

func (l *customerList) end() error {
	switch {
	case l.asJSON && l.count == 0:
		_, err := fmt.Fprintln(l.out, "[]")
		return err
	case l.asJSON:
		_, err := fmt.Fprintln(l.out, "\n]")
		return err
	}
	rows := append([][]string{{"CUSTOMER", "NOW", "LAST CALL", "WAITING", "SIZE", "OLDEST", "DOMAINS"}}, l.rows...)
	if !l.known {
		for i, row := range rows {
			rows[i] = []string{row[0], row[2], row[6]}
		}
	}
	return printTable(l.out, rows)
}

func called(last time.Time) string {
	if last.IsZero() {
		return "never"
	}
	return age(time.Since(last)) + " ago"
}

// connected is what a customer's session is at, and since when there is one.
func connected(s *site.CustomerStatus) string {
	if s.State == odmr.StateAway {
		return "-"
	}
	return s.State.String() + ", for " + age(time.Since(s.Since))
}

func oldest(s *site.CustomerStatus) string {
	if s.Oldest.IsZero() {
		return "-"
	}
	return age(time.Since(s.Oldest))
}

// standings asks the server how the customers behind an account stand, as many as a page has; nil where it does not run.
func (g *globals) standings(ctx context.Context, after string) map[string]*site.CustomerStatus {
	list, err := call[site.CustomerList](ctx, g, http.MethodGet, "/v1/customers", site.CustomersRequest{After: after, Limit: pageSize})
	if err != nil {
		return nil
	}
	all := map[string]*site.CustomerStatus{}
	for _, s := range list.Customers {
		all[s.Account] = &s
	}
	return all
}

// standing asks about one customer.
func (g *globals) standing(ctx context.Context, account string) *site.CustomerStatus {
	s, err := call[site.CustomerStatus](ctx, g, http.MethodGet, "/v1/customers/"+url.PathEscape(account), nil)
	if err != nil {
		return nil
	}
	return &s
}

// standingRows are what the server knows of a customer; none where it does not run.
func standingRows(s *site.CustomerStatus) [][]string {
	if s == nil {
		return nil
	}
	now := connected(s)
	if s.Peer != "" {
		now += ", from " + s.Peer
	}
	rows := [][]string{{"now", now}, {"waiting", fmt.Sprintf("%s, %s, the oldest for %s", plural(s.Waiting, "message"), octets(s.WaitingOctets), oldest(s))}}
	if s.Waiting == 0 {
		rows[1][1] = "nothing"
	}
	if s.LastError != "" {
		rows = append(rows, []string{"last error", called(s.LastFailure) + ": " + s.LastError})
	}
	return rows
}

// invitationState is what has become of an invitation.
func invitationState(i directory.Invitation) string {
	switch {
	case !i.Used.IsZero():
		return "used " + called(i.Used) + " from " + i.UsedBy
	case i.Revoked:
		return "taken back"
	case i.Open(time.Now()):
		return "open for " + age(time.Until(i.Expires))
	}
	return "expired, unused"
}

// customerNow is a customer, and how it stands.
type customerNow struct {
	directory.Customer
	now *site.CustomerStatus // nil: not known
}

// MarshalJSON adds "now" to what there is of a customer.
func (c customerNow) MarshalJSON() ([]byte, error) {
	text, err := json.Marshal(c.Customer)
	if err != nil || c.now == nil {
		return text, err
	}
	members := map[string]any{}
	if err := json.Unmarshal(text, &members); err != nil {
		return nil, err
	}
	members["now"] = c.now
	return json.Marshal(members)
}
