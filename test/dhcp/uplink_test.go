//go:build dhcp

package dhcp

import (
	"os"
	"path/filepath"
	"slices"
	"strings"

	"bothy/test/peer"
)

// uplink is our own client as the whole program runs it, before a server of somebody else.
type uplink struct {
	host
	ours     *site
	settings string // without release
	hooked   string // a file: what the hook was told
}

// uplink lays out a client's configuration; dial starts it.
func (l *lab) uplink(ns, settings string) uplink {
	l.t.Helper()
	u := uplink{host: host{lab: l, ns: ns, wire: sniff(l.t, ns, "eth0")}, hooked: filepath.Join(l.dir, "hooked")}
	hook := l.file("hook", "#!/bin/sh\ncat >> "+u.hooked+"\n")
	if err := os.Chmod(hook, 0o755); err != nil {
		l.t.Fatal(err)
	}
	u.settings = "[link]\nsource = \"lease\"\n" + settings + "hook = \"" + hook + "\"\n"
	return u
}

// dial starts the program; or, killed before, again, and to give back what it has when it is stopped.
func (u *uplink) dial(release bool) {
	u.t.Helper()
	settings := u.settings
	if release {
		settings += "release = true\n"
	}
	if u.ours != nil {
		end(u.t, u.ours.cmd, kill)
	}
	u.ours = u.site("uplink", u.ns, settings)
}

// link waits until the program says that the link is up because of an address, or down.
func (u *uplink) link(up bool, why string) {
	u.t.Helper()
	peer.Eventually(u.t, within, "a link that follows the lease", func() bool {
		var s struct {
			Link struct {
				Up  bool   `json:"up"`
				Why string `json:"why"`
			} `json:"link"`
		}
		u.ours.tells(&s, "status")
		return s.Link.Up == up && strings.Contains(s.Link.Why, why)
	})
}

// discovers waits until `bothy mail discover` shows the servers of a service.
func (u *uplink) discovers(service string, want ...string) {
	u.t.Helper()
	peer.Eventually(u.t, within, "servers of "+service, func() bool {
		var found map[string][]struct {
			Address string `json:"address"`
		}
		u.ours.tells(&found, "mail", "discover")
		var addresses []string
		for _, s := range found[service] {
			addresses = append(addresses, s.Address)
		}
		return slices.Equal(addresses, want)
	})
}

// has reports whether `ip` shows something of the client's host.
func (u *uplink) shows(what string, args ...string) bool {
	u.t.Helper()
	return strings.Contains(run(u.t, "ip", append([]string{"-n", u.ns}, args...)...), what)
}
