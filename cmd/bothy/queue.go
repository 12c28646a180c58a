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
	List    queueListCmd    `cmd:"" help:"List the messages that wait, and for whom."`
	Show    queueShowCmd    `cmd:"" help:"Show one message and what became of each recipient."`
	Retry   queueRetryCmd   `cmd:"" help:"Try now."`
	Hold    queueHoldCmd    `cmd:"" help:"Do not try until released."`
	Release queueReleaseCmd `cmd:"" help:"Let what is held go on."`
	Delete  queueDeleteCmd  `cmd:"" help:"Forget mail: nobody gets it and nobody is told."`
	Verify  queueVerifyCmd  `cmd:"" help:"Read all that waits and say whether it is whole."`
	Export  queueExportCmd  `cmd:"" help:"Write all that waits, with its state, for another server."`
	Import  queueImportCmd  `cmd:"" help:"Take in what was exported."`
	Backup  queueBackupCmd  `cmd:"" help:"Copy all that waits to a directory that can take the spool's place."`
}

func (queueCmd) Help() string {
	return `Asks the running server, through its admin socket, which takes orders from the server's own user and from root. Where no server runs,
verify, export, import and backup open the spool themselves.

Examples:

    bothy queue list
    bothy queue retry --all`
}

// queueFilter chooses recipients by what they are. Pointers are flags that may be absent but not empty: an error lists every word allowed.
type queueFilter struct {
	Lane      queue.Lane   `placeholder:"LANE" help:"Only this lane, such as odmr/clinic.example."`
	Kind      *string      `placeholder:"KIND" enum:"mailbox,odmr,smarthost,mx,lan" help:"Only lanes of this kind: mailbox, odmr, smarthost, mx or lan."`
	State     *queue.State `placeholder:"STATE" enum:"due,deferred,leased,held,paused,damaged" help:"Only what is due, deferred, leased, held, paused or damaged."`
	Sender    string       `placeholder:"ADDRESS" help:"Only this sender, all of a domain (@example.org), or none (<>)."`
	Recipient string       `placeholder:"ADDRESS" help:"Only this recipient, or all of a domain."`
}

func (f queueFilter) request() site.QueueRequest {
	req := site.QueueRequest{Lane: f.Lane, Sender: f.Sender, Recipient: f.Recipient}
	if f.Kind != nil {
		req.Kind = *f.Kind
	}
	if f.State != nil {
		req.State = *f.State
	}
	return req
}

type queueListCmd struct {
	queueFilter
	Limit int  `default:"1000" help:"Most messages (${default}); 0 for all."`
	JSON  bool `help:"Print JSON."`
}

func (queueListCmd) Help() string {
	return `Each message stands with its recipients below it: what happens next, the lane it waits in, the tries so far, and what was answered last.
What happens next is "due", "in" a time, "held" by the operator, "paused" while the link is down, "damaged", or who is at it right now.
Kinds of lanes: "mailbox" is delivery here, "odmr" waits for a customer's call, "smarthost" and "mx" are other servers,
"lan" those on this side of the uplink.

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
	fmt.Fprintf(std.out, messageLine, "ID", "AGE", "SIZE", "SENDER")
	for _, m := range list.Items {
		sender := printable(cmp.Or(m.Sender.String(), "<>"))
		if _, err := fmt.Fprintf(std.out, messageLine, m.ID, age(now.Sub(m.Accepted)), octets(m.Size), sender); err != nil {
			return err
		}
		for _, r := range m.Recipients {
			state := next(r, now)
			if r.Attempts > 0 {
				state += ", " + tries(r.Attempts)
			}
			fmt.Fprintf(std.out, "    %s: %s, %s\n", printable(r.Address.String()), printable(state), printable(string(r.Lane)))
			if text := reply(r); text != "" {
				fmt.Fprintf(std.out, "        %s\n", cut(printable(text), replyWidth))
			}
		}
	}
	if !list.More {
		return nil
	}
	_, err := fmt.Fprintln(std.out, "and more; see --limit")
	return err
}

// messageLine is one message of the list. An ID has 20 characters.
const messageLine = "%-20v  %-6s  %-6s  %s\n"

// replyWidth keeps a list readable on a narrow terminal: a reply may have 512 characters, and `bothy queue show` has them all.
const replyWidth = 72

// cut is text of at most width characters.
func cut(s string, width int) string {
	if runes := []rune(s); len(runes) > width {
		return string(runes[:width-1]) + "…"
	}
	return s
}

func tries(n int) string {
	if n == 1 {
		return "1 try"
	}
	return fmt.Sprintf("%d tries", n)
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

func (queueShowCmd) Help() string {
	return `Shows the message's header too, not its text.

Examples:

    bothy queue show 06h00nko07m0rdbte1lg`
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
	if m.Unverified {
		rows = append(rows, []string{"sender may be", "forged: neither SPF nor DKIM vouches for it"})
	}
	if err := printTable(std.out, rows); err != nil {
		return err
	}
	for _, r := range m.Recipients {
		fmt.Fprintln(std.out)
		rows = [][]string{
			{"recipient", r.Address.String()},
			{"lane", string(r.Lane)},
			{"next", next(r, time.Now())},
			{"tries", fmt.Sprint(r.Attempts)},
		}
		if text := reply(r); text != "" {
			rows = append(rows, []string{"last reply", text})
		}
		if err := printTable(std.out, rows); err != nil {
			return err
		}
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
	return `Makes what waits for a later try due now. What is held stays held, and what waits for the link or for a customer's call goes on waiting.

Examples:

    bothy queue retry --kind smarthost
    bothy queue retry --all` + choiceHelp
}

func (c *queueRetryCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return c.change(ctx, g, std, "retry", "Trying now")
}

type queueHoldCmd struct{ queueChoice }

func (queueHoldCmd) Help() string {
	return `What is held is neither tried nor given back to its sender, until "bothy queue release".

Examples:

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
