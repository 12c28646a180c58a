package main

import (
	"fmt"

	"bothy/management/config"

	site "bothy"
)

// confCmd is about the configuration file.
type confCmd struct {
	Check confCheckCmd `cmd:"" help:"Find everything that is wrong with the file."`
	Print confPrintCmd `cmd:"" help:"Print the configuration in force: the file's values and the defaults of all others."`
	Docs  confDocsCmd  `cmd:"" help:"Print the reference of all keys, in Markdown."`
}

type confCheckCmd struct {
	File string `arg:"" optional:"" help:"File to check, in place of --config."`
}

func (confCheckCmd) Help() string {
	return `Says nothing about the running server and changes nothing. Each error names file, line, column and key, and what would mend it. Warnings,
such as a secret that others can read, do not count as errors.

Exit codes: 0 the file can be used, 1 it cannot.

Examples:

    bothy config check && systemctl reload bothy`
}

func (c *confCheckCmd) Run(g *globals, std stdio) error {
	file := c.File
	if file == "" {
		file = g.file()
	}
	var cfg site.Config
	warnings, err := config.Check(file, &cfg)
	if err != nil {
		return missing(file, err)
	}
	for _, w := range warnings {
		fmt.Fprintln(std.err, "warning:", w)
	}
	if todo := unwritten(file, &cfg); len(todo) > 0 {
		return todo
	}
	if err := cfg.CheckFileLimit(); err != nil {
		fmt.Fprintln(std.err, "warning: started from here:", err)
	}
	_, err = fmt.Fprintf(std.out, "%s: good\n", file)
	return err
}

// unwritten are the passwords that `bothy init` left to be written. The server starts without: what it does for people here needs none.
func unwritten(file string, cfg *site.Config) (errs config.Errors) {
	type secret struct{ key, password string }
	all := []secret{}
	for i, fetch := range cfg.Fetch {
		key := "fetch.password"
		if len(cfg.Fetch) > 1 {
			key = fmt.Sprintf("fetch[%d].password", i+1)
		}
		all = append(all, secret{key, fetch.Password})
	}
	for _, p := range append(all, secret{"relay.password", cfg.Relay.Password}) {
		if p.password == placeholder {
			errs = append(errs, &config.Error{
				File: file, Key: p.key, Text: "still the text that `bothy init` wrote",
				Hint: "write the provider's password into the file that " + p.key + "_file names",
			})
		}
	}
	return errs
}

type confPrintCmd struct{}

func (confPrintCmd) Help() string {
	return `Prints TOML. Keys at their default are marked; secrets are not shown.

Examples:

    bothy config print | grep -v '# default'`
}

func (c *confPrintCmd) Run(g *globals, std stdio) error {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	return config.Print(std.out, cfg)
}

type confDocsCmd struct{}

func (confDocsCmd) Help() string {
	return `Examples:

    bothy config docs > config.md`
}

func (c *confDocsCmd) Run(std stdio) error { return config.Docs(std.out, site.Config{}) }
