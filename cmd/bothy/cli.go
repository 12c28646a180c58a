package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"

	"bothy/application/join"
	"bothy/management/admin"
	"bothy/management/config"

	site "bothy"
)

// cli is everything that can be said.
type cli struct {
	globals
	Serve      serveCmd      `cmd:"" help:"Run the server."`
	Try        tryCmd        `cmd:"" help:"Show what Bothy does: a provider and a site in one process, no set-up."`
	Init       initCmd       `cmd:"" help:"Write a first configuration file."`
	Join       joinCmd       `cmd:"" help:"Set up this site with the line that its provider has printed."`
	Conf       confCmd       `cmd:"" name:"config" help:"Check, print and explain the configuration."`
	Account    accountCmd    `cmd:"" help:"Who may log in, and their mailboxes."`
	Domain     domainCmd     `cmd:"" help:"Domains whose mail this server takes."`
	Customer   customerCmd   `cmd:"" help:"Who may call for the mail of which domains (ODMR, RFC 2645)."`
	Dkim       dkimCmd       `cmd:"" help:"The keys that sign outgoing mail."`
	Queue      queueCmd      `cmd:"" help:"Mail that waits."`
	Mail       mailCmd       `cmd:"" help:"Where this host's network says that mail is."`
	Lease      leaseCmd      `cmd:"" help:"The addresses given to hosts (DHCP)."`
	Fetch      fetchCmd      `cmd:"" help:"Call the provider for mail now."`
	Status     statusCmd     `cmd:"" help:"How the running server is."`
	Faults     faultsCmd     `cmd:"" help:"What people's mail programs do wrong."`
	Track      trackCmd      `cmd:"" help:"Ask what became of a message."`
	Sendmail   sendmailCmd   `cmd:"" help:"Send a message from standard input, as other sendmail commands do."`
	Completion completionCmd `cmd:"" help:"Print a completion script for a shell."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// globals are the flags of every command.
type globals struct {
	Config string `short:"c" placeholder:"FILE" env:"BOTHY_CONFIG" help:"Configuration file; without it ./bothy.toml if it is there, else /etc/bothy/bothy.toml."`
}

const description = `Mail for a site at the far end of a bad uplink, and for the provider at the other end.

Exit codes: 0 done, 1 failed, 2 wrong usage. "fetch" and "sendmail" have more; see their --help.`

// The exit codes of every command.
const (
	exitFailed = 1
	exitUsage  = 2
)

// exit is an error with an exit code of its own.
type exit struct {
	code int
	err  error // nil: everything was said already
}

func (e exit) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit %d", e.code)
	}
	return e.err.Error()
}

func (e exit) Unwrap() error { return e.err }

// run is the whole program: it parses args, runs one command and returns the exit code.
func run(ctx context.Context, args []string, std stdio) int {
	var c cli
	ended := false // by --help
	parser, err := kong.New(&c, kong.Name("bothy"), kong.Description(description), kong.Writers(std.out, std.err),
		kong.Exit(func(int) { ended = true }), kong.ConfigureHelp(kong.HelpOptions{Compact: true, NoExpandSubcommands: true, WrapUpperBound: 110}),
		kong.BindTo(ctx, (*context.Context)(nil)), kong.Bind(std, &c.globals))
	if err != nil {
		fmt.Fprintln(std.err, "bothy:", err)
		return exitFailed
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(shield(args))
	switch {
	case ended:
		return 0
	case err != nil:
		fmt.Fprintf(std.err, "bothy: %v\nSee %s --help.\n", err, at(err))
		return exitUsage
	}
	return report(std, parsed.Run(parser))
}

// at is the command that an error of usage is about.
func at(err error) string {
	if pe, ok := errors.AsType[*kong.ParseError](err); ok && pe.Context != nil {
		if node := pe.Context.Selected(); node != nil {
			return node.FullPath()
		}
	}
	return "bothy"
}

// report prints what went wrong, and what to do about it, and returns the exit code.
func report(std stdio, err error) int {
	if err == nil {
		return 0
	}
	code := exitFailed
	if e, ok := errors.AsType[exit](err); ok {
		if code = e.code; e.err == nil {
			return code
		}
	}
	if es, ok := errors.AsType[config.Errors](err); ok {
		fmt.Fprintln(std.err, es)
		return code
	}
	fmt.Fprintln(std.err, "bothy:", err)
	if e, ok := errors.AsType[*admin.Error](err); !ok || e.Hint == "" {
		if hint := wayOut(err); hint != "" {
			fmt.Fprintln(std.err, hint)
		}
	}
	return code
}

// wayOut names the fix for what goes wrong most.
func wayOut(err error) string {
	switch {
	case errors.Is(err, admin.ErrNotRunning):
		return "Start it with `bothy serve`, or see that --config names the file it runs with."
	case errors.Is(err, admin.ErrForbidden):
		return "Use the account that the server runs as, or root."
	case errors.Is(err, errNoConfig):
		return "Write one with `bothy init --role site` or `bothy init --role provider`, or name it with --config."
	case errors.Is(err, join.ErrUnknown), errors.Is(err, join.ErrRefused), errors.Is(err, join.ErrPin):
		return "Ask the provider for another line, which `bothy customer invite` prints there."
	case errors.Is(err, join.ErrUnreachable), errors.Is(err, join.ErrTrouble):
		return "The line is as good as before: run the same once more when this is mended. `bothy join --dry-run` shows whom it calls."
	}
	return ""
}

// shield keeps kong from reading the flags of sendmail, which are not made like others.
func shield(args []string) []string {
	for i, a := range args {
		switch {
		case a == "sendmail":
			if slices.Equal(args[i+1:], []string{"--help"}) {
				return args
			}
			return slices.Concat(args[:i+1], []string{"--"}, args[i+1:])
		case i > 0 && (args[i-1] == "-c" || args[i-1] == "--config"): // its value
		case !strings.HasPrefix(a, "-"):
			return args // another command
		}
	}
	return args
}

var errNoConfig = errors.New("there is no configuration file")

// system is where the configuration is when it is nowhere nearer.
const system = "/etc/bothy/bothy.toml"

// file is the configuration file to use.
func (g *globals) file() string {
	if g.Config != "" {
		return g.Config
	}
	if _, err := os.Stat("bothy.toml"); err == nil {
		return "bothy.toml"
	}
	return system
}

// load reads the configuration for a command that needs none of its secrets.
func (g *globals) load() (*site.Config, error) {
	cfg := &site.Config{}
	return cfg, missing(g.file(), config.Peek(g.file(), cfg))
}

// missing says what a missing file means.
func missing(file string, err error) error {
	if errors.Is(err, fs.ErrNotExist) && !errors.As(err, new(config.Errors)) {
		return fmt.Errorf("%w at %s", errNoConfig, file)
	}
	return err
}

// client is for calls to the running server.
func (g *globals) client() (*admin.Client, error) {
	cfg, err := g.load()
	if err != nil {
		return nil, err
	}
	return admin.Dial(cfg.AdminSocket()), nil
}

// call asks the running server for one thing.
func call[Resp any](ctx context.Context, g *globals, method, path string, req any) (resp Resp, err error) {
	client, err := g.client()
	if err != nil {
		return resp, err
	}
	defer client.Close()
	return resp, client.Call(ctx, method, path, req, &resp)
}

// plural is "1 message", "2 messages".
func plural(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, cmp.Or(noun, "thing"))
}
