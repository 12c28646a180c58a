package main

import (
	"cmp"
	"fmt"
	"runtime"
	"runtime/debug"
)

// versionCmd prints what this binary was made from.
type versionCmd struct {
	JSON bool `help:"Print JSON."`
}

func (versionCmd) Help() string {
	return `Examples:

    bothy version --json`
}

// build is what this binary was made from.
type build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"` // of the revision
	Modified bool   `json:"modified"`       // there were changes that are in no revision
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func version() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.Version = cmp.Or(info.Main.Version, b.Version)
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String is the version with enough of the revision to find it.
func (b build) String() string {
	s := b.Version
	if b.Revision != "" && b.Version == "(devel)" {
		s = b.Revision[:min(12, len(b.Revision))]
		if b.Modified {
			s += "+changes"
		}
	}
	return s
}

func (c *versionCmd) Run(std stdio) error {
	b := version()
	if c.JSON {
		return printJSON(std.out, b)
	}
	_, err := fmt.Fprintf(std.out, "bothy %s (%s, %s)\n", b, b.Go, b.Platform)
	return err
}
