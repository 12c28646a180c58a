package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"bothy/application/authres"
)

// dkimCmd is about the keys that sign outgoing mail.
type dkimCmd struct {
	Add  dkimAddCmd  `cmd:"" help:"Make a key and print its DNS record."`
	List dkimListCmd `cmd:"" help:"Print the DNS records of all keys."`
}

func (dkimCmd) Help() string {
	return `Mail that people of this server submit is signed for the domain of its author when there is a key for that domain (RFC 6376), as it leaves. The
receiver finds the public half in the DNS.

Examples:

    bothy dkim add clinic.example
    bothy dkim list`
}

type dkimAddCmd struct {
	Domain    string `arg:"" help:"The domain to sign for."`
	Selector  string `help:"The key's name below the domain; without it this month's." placeholder:"NAME"`
	Algorithm string `help:"\"rsa\", which every receiver knows, or \"ed25519\", with a short record (RFC 8463). A domain may have one of each." default:"rsa" enum:"rsa,ed25519"`
}

func (dkimAddCmd) Help() string {
	return `Publish the record first, then reload the server, which signs with the new key from then on. Leave an old key's record for a week after its
file has gone from DATA/dkim: signed mail may still be under way.

Examples:

    bothy dkim add clinic.example
    bothy dkim add clinic.example --selector ed2026 --algorithm ed25519`
}

func (c *dkimAddCmd) Run(g *globals, std stdio) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	selector := c.Selector
	if selector == "" {
		selector = "b" + time.Now().UTC().Format("200601")
	}
	key, err := authres.NewKey(c.Domain, selector, c.Algorithm)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(cfg.KeyFolder(), 0o700); err != nil {
		return err
	}
	err = authres.WriteKey(cfg.KeyFolder(), key)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("there is a key %s already; take another --selector", key.Name())
	}
	if err = errors.Join(err, giveAway(cfg.KeyFolder()), giveAway(cfg.KeyFolder()+"/"+key.Name())); err != nil {
		return err
	}
	zone, err := key.Zone()
	if err != nil {
		return err
	}
	fmt.Fprintf(std.err, "Publish this record, then reload the server (SIGHUP):\n")
	_, err = fmt.Fprintln(std.out, zone)
	return err
}

type dkimListCmd struct {
	JSON bool `help:"Print JSON."`
}

func (dkimListCmd) Help() string {
	return `Examples:

    bothy dkim list
    bothy dkim list --json | jq -r '.[].name'`
}

func (c *dkimListCmd) Run(g *globals, std stdio) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	keys, err := authres.ReadKeys(cfg.KeyFolder())
	if err != nil {
		return err
	}
	type listed struct {
		Name      string `json:"name"` // of the TXT record
		Domain    string `json:"domain"`
		Selector  string `json:"selector"`
		Algorithm string `json:"algorithm"`
		Record    string `json:"record"`
	}
	all := []listed{}
	for _, k := range keys {
		record, err := k.Record()
		if err != nil {
			return err
		}
		all = append(all, listed{k.Name(), k.Domain, k.Selector, k.Algorithm(), record})
		if zone, err := k.Zone(); err == nil && !c.JSON {
			fmt.Fprintln(std.out, zone)
		}
	}
	if c.JSON {
		return printJSON(std.out, all)
	}
	if len(all) == 0 {
		fmt.Fprintln(std.err, "No keys: mail leaves unsigned. `bothy dkim add DOMAIN` makes one.")
	}
	return nil
}
