package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"bothy/lib/file"
	"bothy/management/config"

	site "bothy"
)

// initCmd writes a first configuration file.
type initCmd struct {
	Role         string   `required:"" enum:"site,provider" placeholder:"site|provider" help:"What this machine is: \"site\", at the far end of the link, or \"provider\"."`
	Hostname     string   `placeholder:"NAME" help:"This server's name. At a site, without it: mail. and the first domain."`
	Provider     string   `placeholder:"HOST" help:"Site: the provider's server, which holds our mail (port 366) and takes what we send (port 587)."`
	Domain       []string `placeholder:"NAME" help:"Site: a domain whose mail we call for; may be repeated."`
	Account      string   `placeholder:"NAME" help:"Site: our account at the provider; without it the first domain's first label."`
	CAFile       string   `name:"ca-file" placeholder:"FILE" help:"Site: PEM file of the authority that certifies the provider, if it is none that the system knows."`
	PasswordFile string   `placeholder:"FILE" help:"Site: file with that account's password; without it provider.password beside the configuration."`
	Data         string   `placeholder:"DIR" default:"/var/lib/bothy" help:"Where mail and accounts are kept (${default})."`
	Force        bool     `help:"Replace a file that is there."`
}

func (initCmd) Help() string {
	return `Writes a file in which every key stands with its meaning, those that are not needed as comments, and asks nothing. It goes where
--config says, else to ./bothy.toml. A file that is there stays, unless --force.

Examples:

    bothy init --role provider --hostname provider.example
    bothy init --role site --domain clinic.example --provider provider.example --config /etc/bothy/bothy.toml`
}

// placeholder is what the password file of a new site holds, so that the file that names it loads.
const placeholder = "write the provider's password here"

func (c *initCmd) Run(g *globals, std stdio) error {
	file := g.Config
	if file == "" {
		file = "bothy.toml"
	}
	if err := c.complete(); err != nil {
		return exit{exitUsage, err}
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Bothy, role %s. Keys that are comments show their default. All that is wrong here: bothy config check\n\n", c.Role)
	if err := config.Template(&b, site.Config{}, c.values()); err != nil {
		return err
	}
	if err := c.write(file, b.Bytes()); err != nil {
		return err
	}
	fmt.Fprintf(std.out, "Wrote %s.\n", file)
	password, err := c.passwordFile(file)
	if err != nil {
		return err
	}
	if password != "" {
		fmt.Fprintf(std.out, "Wrote %s, a placeholder.\n", password)
	}
	return c.next(file, password, std)
}

// complete fills what follows from the rest.
func (c *initCmd) complete() error {
	if c.Role == "provider" {
		if c.Hostname == "" {
			return errors.New("a provider needs a name: give --hostname")
		}
		if c.Provider != "" || len(c.Domain) > 0 || c.Account != "" || c.PasswordFile != "" || c.CAFile != "" {
			return errors.New("--provider, --domain, --account, --password-file and --ca-file are for --role site")
		}
		return nil
	}
	if len(c.Domain) == 0 || c.Provider == "" {
		return errors.New("a site needs --domain and --provider")
	}
	if c.Hostname == "" {
		c.Hostname = "mail." + c.Domain[0]
	}
	if c.Account == "" {
		c.Account, _, _ = strings.Cut(c.Domain[0], ".")
	}
	for _, file := range []*string{&c.PasswordFile, &c.CAFile} {
		if *file == "" {
			continue
		}
		abs, err := filepath.Abs(*file) // the server may be started elsewhere
		if err != nil {
			return err
		}
		*file = abs
	}
	return nil
}

// defaultPassword stands beside the configuration file.
const defaultPassword = "provider.password"

func (c *initCmd) values() config.Values {
	v := config.Values{"hostname": c.Hostname, "data": c.Data}
	v["submission.listen"], v["submission.listen_tls"] = []string{":587"}, []string{":465"} // RFC 6409 §3.1, RFC 8314 §3.3
	if c.Role == "provider" {
		v["smtp.listen"] = []string{":25"}
		v["odmr.listen"], v["odmr.listen_tls"] = []string{":366"}, []string{":10366"} // RFC 2645 §4; none is registered for TLS first
		return v
	}
	password := cmp.Or(c.PasswordFile, defaultPassword)
	v["pop3.listen"], v["pop3.listen_tls"] = []string{":110"}, []string{":995"} // RFC 1939 §3, RFC 8314 §3.1
	calling := c.Provider + ":366"                                              // RFC 2645 §4
	fetch := config.Values{"provider": calling, "domains": c.Domain, "username": c.Account, "password_file": password}
	if c.CAFile != "" {
		fetch["ca_file"], v["relay.ca_file"] = c.CAFile, c.CAFile
	}
	v["fetch"] = []config.Values{fetch}
	v["route.smarthost"] = c.Provider + ":587" // RFC 6409 §3.1
	v["relay.username"], v["relay.password_file"] = c.Account, password
	v["link.source"], v["link.address"] = "probe", calling
	return v
}

// write puts text into a file if it is a configuration that can be used, and leaves alone what is there if it may not be replaced.
func (c *initCmd) write(name string, text []byte) error {
	if _, err := os.Lstat(name); err == nil && !c.Force {
		return fmt.Errorf("%s is there already; --force replaces it", name)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return err
	}
	fresh := name + ".new"
	if err := file.Replace(fresh, text, 0o644); err != nil { // no secret is in it
		return err
	}
	var cfg site.Config
	err := config.Peek(fresh, &cfg)
	if err == nil && c.Force {
		return errors.Join(os.Rename(fresh, name), file.SyncDir(filepath.Dir(name)))
	}
	if err == nil {
		err = os.Link(fresh, name) // unlike a rename, never replaces
	}
	if es, ok := errors.AsType[config.Errors](err); ok {
		for _, e := range es {
			e.File = name // as it would have been called
		}
	}
	return errors.Join(err, os.Remove(fresh), file.SyncDir(filepath.Dir(name)))
}

// passwordFile makes the file that the configuration names, unless it was given or is there; it returns its name if it made it.
func (c *initCmd) passwordFile(beside string) (string, error) {
	if c.Role != "site" || c.PasswordFile != "" {
		return "", nil
	}
	name := filepath.Join(filepath.Dir(beside), defaultPassword)
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(placeholder + "\n")
	return name, errors.Join(err, share(f), f.Sync(), f.Close(), file.SyncDir(filepath.Dir(name)))
}

// serviceGroup is the group that the server runs as where it is installed as a service.
const serviceGroup = "bothy"

// share lets the service read a file that root has made, and nobody else.
func share(f *os.File) error {
	group, err := user.LookupGroup(serviceGroup)
	if err != nil || os.Geteuid() != 0 {
		return nil // not installed as a service
	}
	gid, err := strconv.Atoi(group.Gid)
	if err != nil {
		return err
	}
	return errors.Join(f.Chown(0, gid), f.Chmod(0o640))
}

// next tells what is left to do.
func (c *initCmd) next(file, password string, std stdio) error {
	var steps []string
	var add, flag string
	if file != "bothy.toml" && file != system {
		flag = " --config " + file
	}
	if password != "" {
		steps = append(steps, fmt.Sprintf("Write the password of %q at %s into %s.", c.Account, c.Provider, password))
	}
	if c.Role == "provider" {
		add = "Add a customer:  bothy customer add clinic.example" + flag
	} else {
		add = "Add a person:    bothy account add keeper@" + c.Domain[0] + flag
	}
	steps = append(steps, "Check the file:  bothy config check"+flag, "Start:           bothy serve"+flag, add)
	fmt.Fprintln(std.out, "\nNext:")
	for i, s := range steps {
		fmt.Fprintf(std.out, "  %d. %s\n", i+1, s)
	}
	return nil
}
