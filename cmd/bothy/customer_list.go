package main

import (
	"context"
	"encoding/json"
	"fmt"
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
		customers, err := d.Customers(ctx)
		if err != nil {
			return err
		}
		standings := g.standings(ctx)
		if c.JSON {
			all := []customerNow{} // [] and not null
			for _, c := range customers {
				all = append(all, customerNow{c, standings[c.Account]})
			}
			return printJSON(std.out, all)
		}
		rows := [][]string{{"CUSTOMER", "LAST CALL", "DOMAINS"}}
		if standings != nil {
			rows = [][]string{{"CUSTOMER", "NOW", "LAST CALL", "WAITING", "SIZE", "OLDEST", "DOMAINS"}}
		}
		for _, c := range customers {
			domains := strings.Join(c.Domains, " ")
			s := standings[c.Account]
			if s == nil {
				rows = append(rows, []string{c.Account, called(c.LastContact), domains})
				continue
			}
			rows = append(rows, []string{c.Account, connected(s), called(s.LastContact), fmt.Sprint(s.Waiting), octets(s.WaitingOctets), oldest(s), domains})
		}
		return printTable(std.out, rows)
	})
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

// standings asks the server how the customers stand, by account; nil where it does not run.
func (g *globals) standings(ctx context.Context) map[string]*site.CustomerStatus {
	list, err := call[site.CustomerList](ctx, g, http.MethodGet, "/v1/customers", nil)
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
