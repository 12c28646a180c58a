package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"

	site "bothy"
)

// queueCmd is about mail that waits.
type queueCmd struct {
	List    queueListCmd    `cmd:"" help:"List the recipients that wait, one a line."`
	Show    queueShowCmd    `cmd:"" help:"Show one message and what became of each recipient."`
	Retry   queueRetryCmd   `cmd:"" help:"Try now."`
	Hold    queueHoldCmd    `cmd:"" help:"Do not try until released."`
	Release queueReleaseCmd `cmd:"" help:"Let what is held go on."`
	Delete  queueDeleteCmd  `cmd:"" help:"Forget mail: nobody gets it and nobody is told."`
}

func (queueCmd) Help() string { return `Asks the running server, through its admin socket.` }

// queueFilter chooses recipients by what they are.
type queueFilter struct {
	Lane      queue.Lane  `placeholder:"LANE" help:"Only this lane, such as odmr/clinic."`
	Kind      string      `placeholder:"KIND" help:"Only lanes of this kind: mailbox, odmr, smarthost, via, mx."`
	State     queue.State `placeholder:"STATE" help:"Only what is due, deferred, leased, held, paused or damaged."`
	Sender    string      `placeholder:"ADDRESS" help:"Only this sender, all of a domain (@example.org), or none (<>)."`
	Recipient string      `placeholder:"ADDRESS" help:"Only this recipient, or all of a domain."`
}

func (f queueFilter) request() site.QueueRequest {
	return site.QueueRequest{Lane: f.Lane, Kind: f.Kind, State: f.State, Sender: f.Sender, Recipient: f.Recipient}
}

type queueListCmd struct {
	queueFilter
	Limit int  `default:"1000" help:"Most messages (${default}); 0 for all."`
	JSON  bool `help:"Print JSON."`
}

func (queueListCmd) Help() string {
	return `STATE is what happens next: "due", "in" a time, "held" by the operator, "paused" while the link is down, or who is at it right now.

Examples:

    bothy queue list --kind odmr
    bothy queue list --json | jq -r '.items[].id'`
}

// pageSize is how many messages one call asks for.
const pageSize = 1000

func (c *queueListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	client, err := g.client()
	if err != nil {
		return err
	}
	defer client.Close()
	req, list := c.request(), site.QueuePage{Items: []queue.Item{}, More: true}
	for list.More && (c.Limit <= 0 || len(list.Items) < c.Limit) {
		req.Limit = pageSize
		if c.Limit > 0 {
			req.Limit = min(pageSize, c.Limit-len(list.Items))
		}
		var page site.QueuePage
		if err := client.Call(ctx, http.MethodGet, "/v1/queue", req, &page); err != nil {
			return err
		}
		list.Items, list.More = append(list.Items, page.Items...), page.More && len(page.Items) > 0
		if list.More {
			req.After = page.Items[len(page.Items)-1].ID
		}
	}
	if c.JSON {
		return printJSON(std.out, list)
	}
	return printQueue(std, list, time.Now())
}

func printQueue(std stdio, list site.QueuePage, now time.Time) error {
	if len(list.Items) == 0 {
		_, err := fmt.Fprintln(std.out, "Nothing waits.")
		return err
	}
	rows := [][]string{{"ID", "AGE", "SIZE", "TRIES", "STATE", "LANE", "SENDER", "RECIPIENT", "LAST REPLY"}}
	for _, m := range list.Items {
		for _, r := range m.Recipients {
			rows = append(rows, []string{
				m.ID.String(), age(now.Sub(m.Accepted)), octets(m.Size), fmt.Sprint(r.Attempts), next(r, now), string(r.Lane),
				cmp.Or(m.Sender.String(), "<>"), r.Address.String(), reply(r),
			})
		}
	}
	if err := printTable(std.out, rows); err != nil || !list.More {
		return err
	}
	_, err := fmt.Fprintln(std.out, "and more; see --limit")
	return err
}

// next is what happens to the recipient next.
func next(r queue.ItemRecipient, now time.Time) string {
	switch {
	case r.State == queue.StateLeased && r.Holder != "":
		return r.Holder
	case r.State == queue.StateDeferred && r.NextTry.After(now):
		return "in " + age(r.NextTry.Sub(now))
	}
	return string(r.State)
}

// reply is what was said last; empty when nothing was.
func reply(r queue.ItemRecipient) string {
	switch {
	case r.LastReply == smtp.Reply{}:
		return ""
	case r.Remote != "":
		return r.LastReply.Error() + " (" + r.Remote + ")"
	}
	return r.LastReply.Error()
}

type queueShowCmd struct {
	ID   message.ID `arg:"" help:"The message."`
	JSON bool       `help:"Print JSON."`
}

func (c *queueShowCmd) Run(ctx context.Context, g *globals, std stdio) error {
	m, err := call[site.QueueMessage](ctx, g, http.MethodGet, "/v1/queue/"+c.ID.String(), nil)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, m)
	}
	rows := [][]string{
		{"message", m.ID.String()},
		{"sender", cmp.Or(m.Sender.String(), "<>")},
		{"accepted", m.Accepted.Local().Format(time.RFC1123Z)},
		{"size", octets(m.Size)},
	}
	if m.Account != "" {
		rows = append(rows, []string{"account", m.Account})
	}
	if err := printTable(std.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(std.out)
	rows = [][]string{{"RECIPIENT", "TRIES", "STATE", "LANE", "LAST REPLY"}}
	for _, r := range m.Recipients {
		rows = append(rows, []string{r.Address.String(), fmt.Sprint(r.Attempts), next(r, time.Now()), string(r.Lane), reply(r)})
	}
	if err := printTable(std.out, rows); err != nil {
		return err
	}
	fmt.Fprintln(std.out)
	for line := range strings.Lines(m.Header) {
		fmt.Fprintln(std.out, printable(strings.TrimRight(line, "\r\n")))
	}
	return nil
}

// queueChoice are the arguments of commands that change the queue.
type queueChoice struct {
	ID []message.ID `arg:"" optional:"" help:"Messages."`
	queueFilter
	All  bool `help:"Everything."`
	JSON bool `help:"Print the count as JSON."`
}

func (c *queueChoice) change(ctx context.Context, g *globals, std stdio, what, done string) error {
	switch chosen := len(c.ID) > 0 || c.queueFilter != (queueFilter{}); {
	case !chosen && !c.All:
		return exit{exitUsage, errors.New("which? Give message ids, a filter, or --all")}
	case chosen && c.All:
		return exit{exitUsage, errors.New("--all goes with neither ids nor filters")}
	}
	req := c.request()
	req.IDs, req.All = c.ID, c.All
	changed, err := call[site.QueueCount](ctx, g, http.MethodPost, "/v1/queue/"+what, req)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, changed)
	}
	_, err = fmt.Fprintf(std.out, "%s: %s\n", done, plural(changed.Count, "recipient"))
	return err
}

const choiceHelp = `

Ids and filters together choose what fits both.`

type queueRetryCmd struct{ queueChoice }

func (queueRetryCmd) Help() string {
	return `Examples:

    bothy queue retry --kind smarthost
    bothy queue retry --all` + choiceHelp
}

func (c *queueRetryCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return c.change(ctx, g, std, "retry", "Trying now")
}

type queueHoldCmd struct{ queueChoice }

func (queueHoldCmd) Help() string {
	return `Examples:

    bothy queue hold --sender @newsletter.example` + choiceHelp
}

func (c *queueHoldCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return c.change(ctx, g, std, "hold", "Held")
}

type queueReleaseCmd struct{ queueChoice }

func (queueReleaseCmd) Help() string {
	return `Examples:

    bothy queue release --all` + choiceHelp
}

func (c *queueReleaseCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return c.change(ctx, g, std, "release", "Released")
}

type queueDeleteCmd struct{ queueChoice }

func (queueDeleteCmd) Help() string {
	return `There is no way back.

Examples:

    bothy queue delete --recipient typo@clinic.exampel` + choiceHelp
}

func (c *queueDeleteCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return c.change(ctx, g, std, "delete", "Deleted")
}
