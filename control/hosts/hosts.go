package hosts

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"bothy/control/lease"
	"bothy/lib/file"
)

// Config says which file.
type Config struct {
	File   string `doc:"File to keep, in the format of /etc/hosts: the names and addresses of hosts with leases. Point the site's resolver at it. Empty: none." example:"/run/bothy/hosts"`
	Domain string `doc:"Domain of these names: each stands there whole and short. Empty: only short." example:"clinic.example"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *Config) CheckConfig(report func(key string, err error)) {
	if cfg.File != "" && !filepath.IsAbs(cfg.File) {
		report("file", fmt.Errorf("%q is not an absolute path", cfg.File))
	}
	if cfg.Domain != "" && !IsName(strings.ToLower(cfg.Domain)) {
		report("domain", fmt.Errorf("%q is not a domain name", cfg.Domain))
	}
}

// Store is where leases are: lease.Store.
type Store interface {
	List() []lease.Lease
	Now() time.Time
	Changed() <-chan struct{}
}

// Writer keeps one file.
type Writer struct {
	Config   Config
	Stores   []Store  // at most two: IPv4 and IPv6; nobody else reads their Changed
	Reserved []string // names no host may take: the servers', in any case, whole or short
	Log      *slog.Logger

	owners map[string]lease.ID // who has a name
	last   []byte
}

// settle is how long changes are gathered before the file is written: hosts come in crowds when the power is back.
const settle = time.Second

// Run writes the file, and again when leases change or end, until ctx ends. A file that cannot be written is logged and tried again at
// the next change, or in a minute.
func (w *Writer) Run(ctx context.Context) error {
	var changed [2]<-chan struct{}
	for i, s := range w.Stores {
		changed[i] = s.Changed()
	}
	for {
		next, err := w.write()
		if err != nil {
			w.Log.Error("file of hosts not written", "file", w.Config.File, "err", err)
			next = time.Minute
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		case <-changed[0]:
		case <-changed[1]:
		}
		timer.Stop()
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settle):
		}
	}
}

// write replaces the file when its content has changed, and says when the next lease ends.
func (w *Writer) write() (next time.Duration, err error) {
	content, next := w.content()
	if w.last != nil && bytes.Equal(content, w.last) {
		return next, nil
	}
	if err := file.Replace(w.Config.File, content, 0o644); err != nil {
		return 0, err
	}
	w.last = content
	return next, nil
}

// idle is the longest time between two looks.
const idle = time.Hour

// content is the file as it should be now.
func (w *Writer) content() (_ []byte, next time.Duration) {
	next = idle
	var named []lease.Lease
	for _, s := range w.Stores {
		now := s.Now()
		for _, l := range s.List() {
			if !l.Current(now) || !l.Prefix.IsSingleIP() {
				continue
			}
			if !l.Expires.IsZero() {
				next = min(next, max(l.Expires.Sub(now), 0)+settle)
			}
			if l.Hostname = w.short(l.Hostname); l.Hostname != "" {
				named = append(named, l)
			}
		}
	}
	owners := map[string]lease.ID{}
	for _, l := range named { // who had a name and is still there keeps it
		if w.owners[l.Hostname] == l.Client {
			owners[l.Hostname] = l.Client
		}
	}
	var b bytes.Buffer
	b.WriteString("# Written by bothy as leases change; edits are lost.\n")
	for _, l := range named { // else who has the lower address: List is sorted
		if _, taken := owners[l.Hostname]; !taken {
			owners[l.Hostname] = l.Client
		}
		if owners[l.Hostname] == l.Client {
			writeLine(&b, l.Prefix.Addr(), l.Hostname, w.Config.Domain)
		}
	}
	w.owners = owners
	return b.Bytes(), next
}

func writeLine(b *bytes.Buffer, a netip.Addr, name, domain string) {
	if domain != "" {
		name = name + "." + strings.ToLower(domain) + " " + name
	}
	fmt.Fprintf(b, "%v\t%s\n", a, name)
}

// short is the first label of what a client calls itself, or nothing when no host may be called so.
func (w *Writer) short(name string) string {
	name, rest, _ := strings.Cut(strings.ToLower(name), ".")
	if rest != "" && w.Config.Domain != "" && rest != strings.ToLower(w.Config.Domain) || !IsName(name) || name == "localhost" {
		return ""
	}
	if slices.ContainsFunc(w.Reserved, func(server string) bool {
		server = strings.ToLower(server)
		first, _, _ := strings.Cut(server, ".")
		return name == server || name == first
	}) {
		return ""
	}
	return name
}

// IsName reports whether a lower-case name may be a host's (RFC 1123 §2.1).
func IsName(name string) bool {
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return len(name) <= 253 && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && strings.Trim(name, "0123456789.") != ""
}
