package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"bothy/control/hosts"
	"bothy/control/lease"

	site "bothy"
)

// leaseCmd is about the addresses that hosts have.
type leaseCmd struct {
	List   leaseListCmd   `cmd:"" help:"List the addresses and who has them, or had them last."`
	Show   leaseShowCmd   `cmd:"" help:"Show all that is known of one address."`
	Pin    leasePinCmd    `cmd:"" help:"Keep an address for who has it, even after its lease ends."`
	Unpin  leaseUnpinCmd  `cmd:"" help:"Take back pin."`
	Delete leaseDeleteCmd `cmd:"" help:"Forget an address: it is free for anybody."`
	Export leaseExportCmd `cmd:"" help:"Write all leases for other programs."`
}

func (leaseCmd) Help() string {
	return `Asks the running server, through its admin socket, which takes orders from the server's own user and from root.

Examples:

    bothy lease list
    bothy lease pin 192.0.2.100`
}

// leases are what the running server knows.
func leases(ctx context.Context, g *globals) ([]site.Lease, error) {
	return call[[]site.Lease](ctx, g, http.MethodGet, "/v1/leases", nil)
}

type leaseListCmd struct {
	All  bool `help:"Also those that ended."`
	JSON bool `help:"Print JSON."`
}

func (leaseListCmd) Help() string {
	return `Those that ended are remembered, so that a host which comes back has its address again.

Examples:

    bothy lease list --all
    bothy lease list --json | jq -r '.[] | select(.pinned) | .prefix'`
}

func (c *leaseListCmd) Run(ctx context.Context, g *globals, std stdio) error {
	all, err := leases(ctx, g)
	if err != nil {
		return err
	}
	shown := []site.Lease{}
	for _, l := range all {
		if c.All || l.Current || l.Pinned || l.State == lease.Declined {
			shown = append(shown, l)
		}
	}
	if c.JSON {
		return printJSON(std.out, shown)
	}
	if len(shown) == 0 {
		_, err := fmt.Fprintln(std.out, "Nobody has an address.")
		return err
	}
	rows := [][]string{{"ADDRESS", "HOST", "HARDWARE", "STATE", "ENDS"}}
	for _, l := range shown {
		rows = append(rows, []string{addressText(l), l.Hostname, hardwareText(l), stateText(l), endText(l, time.Now())})
	}
	return printTable(std.out, rows)
}

type leaseShowCmd struct {
	Address string `arg:"" help:"The address, or delegated prefix."`
	JSON    bool   `help:"Print JSON."`
}

func (leaseShowCmd) Help() string {
	return `Examples:

    bothy lease show 192.0.2.100`
}

func (c *leaseShowCmd) Run(ctx context.Context, g *globals, std stdio) error {
	all, err := leases(ctx, g)
	if err != nil {
		return err
	}
	for _, l := range all {
		if addressText(l) != c.Address && l.Prefix.String() != c.Address {
			continue
		}
		if c.JSON {
			return printJSON(std.out, l)
		}
		return printTable(std.out, [][]string{
			{"address", addressText(l)},
			{"state", stateText(l)},
			{"ends", endText(l, time.Now())},
			{"changed", l.Updated.Format(time.RFC3339)},
			{"client", l.Client.String()},
			{"hardware", hardwareText(l)},
			{"host", l.Hostname},
			{"circuit", l.Circuit},
			{"remote", l.Remote},
		})
	}
	return fmt.Errorf("%s was never given to anybody: bothy lease list --all shows what was", c.Address)
}

type leasePinCmd struct {
	Address []string `arg:"" help:"The addresses."`
}

func (leasePinCmd) Help() string {
	return `The address stays with its client, whoever else asks, without a line in the configuration.

Examples:

    bothy lease pin 192.0.2.100`
}

func (c *leasePinCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return changeLeases(ctx, g, std, "Pinned", "pin", c.Address, true)
}

type leaseUnpinCmd struct {
	Address []string `arg:"" help:"The addresses."`
}

func (leaseUnpinCmd) Help() string {
	return `Examples:

    bothy lease unpin 192.0.2.100`
}

func (c *leaseUnpinCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return changeLeases(ctx, g, std, "Not pinned any more:", "pin", c.Address, false)
}

type leaseDeleteCmd struct {
	Address []string `arg:"" help:"The addresses."`
}

func (leaseDeleteCmd) Help() string {
	return `Only for an address that you know nobody uses: its host is not told, and another may be given it at once.

Examples:

    bothy lease delete 192.0.2.100`
}

func (c *leaseDeleteCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return changeLeases(ctx, g, std, "Forgotten:", "delete", c.Address, false)
}

func changeLeases(ctx context.Context, g *globals, std stdio, did, how string, addresses []string, pinned bool) error {
	return each(std, did, addresses, func(address string) error {
		_, err := call[site.Lease](ctx, g, http.MethodPost, "/v1/leases/"+how, site.LeaseRequest{Address: address, Pinned: pinned})
		return err
	})
}

type leaseExportCmd struct {
	Format string `default:"csv" enum:"csv,json,hosts" help:"csv, json, or hosts, the format of /etc/hosts (${default})."`
}

func (leaseExportCmd) Help() string {
	return `csv and json have all there is; hosts has the current leases of hosts with a name.

Examples:

    bothy lease export > leases.csv
    bothy lease export --format hosts`
}

func (c *leaseExportCmd) Run(ctx context.Context, g *globals, std stdio) error {
	all, err := leases(ctx, g)
	if err != nil {
		return err
	}
	switch c.Format {
	case "json":
		return printJSON(std.out, all)
	case "hosts":
		return exportHosts(std.out, all)
	}
	return exportCSV(std.out, all)
}

func exportCSV(w io.Writer, all []site.Lease) error {
	out := csv.NewWriter(w)
	out.Write([]string{"address", "state", "current", "pinned", "expires", "updated", "client", "iaid", "hardware", "hostname", "kind", "circuit", "remote"}) // Error says it
	for _, l := range all {
		expires := ""
		if !l.Expires.IsZero() {
			expires = l.Expires.UTC().Format(time.RFC3339)
		}
		out.Write([]string{
			addressText(l), l.State.String(), strconv.FormatBool(l.Current), strconv.FormatBool(l.Pinned), expires,
			l.Updated.UTC().Format(time.RFC3339), l.Client.String(), strconv.FormatUint(uint64(l.IAID), 10), hardwareText(l), l.Hostname, l.Kind, l.Circuit, l.Remote,
		})
	}
	out.Flush()
	return out.Error()
}

func exportHosts(w io.Writer, all []site.Lease) error {
	for _, l := range all {
		name := strings.ToLower(l.Hostname)
		if !l.Current || !hosts.IsName(name) {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s\t%s\n", addressText(l), name); err != nil {
			return err
		}
	}
	return nil
}

// addressText is an address without its length, or a prefix.
func addressText(l site.Lease) string {
	if l.Prefix.IsSingleIP() {
		return l.Prefix.Addr().String()
	}
	return l.Prefix.String()
}

// hardwareText is the hardware address, or the identifier of a client that has told none.
func hardwareText(l site.Lease) string { return cmp.Or(l.Hardware, l.Client).String() }

func stateText(l site.Lease) string {
	state := l.State.String()
	if l.State == lease.Bound && !l.Current {
		state = "ended"
	}
	if l.Pinned {
		state += ", pinned"
	}
	return state
}

func endText(l site.Lease, now time.Time) string {
	switch {
	case l.State == lease.Released:
		return age(now.Sub(l.Updated)) + " ago"
	case l.Expires.IsZero():
		return "never"
	case !l.Expires.After(now):
		return age(now.Sub(l.Expires)) + " ago"
	}
	return "in " + age(l.Expires.Sub(now))
}
