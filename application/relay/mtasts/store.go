package mtasts

import (
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"bothy/lib/file"
)

// Store finds the policies of domains and keeps them. Safe for concurrent use.
type Store struct {
	Dir    string                                                   // of the policies, one file a domain; made when needed
	TXT    func(ctx context.Context, name string) ([]string, error) // asks the DNS; that there are none is no error
	Client *http.Client                                             // as NewClient makes it
	Log    *slog.Logger                                             // nil: silent
	Now    func() time.Time                                         // nil: time.Now

	mu      sync.Mutex
	domains map[string]*domain // those in use or lately used
}

// domain is what is known of one.
type domain struct {
	sync.Mutex         // held while somebody finds its policy
	loaded     bool    // the disk has been read
	kept       *policy // nil: none
	failed     time.Time
	failedID   string // of the policy that could not be fetched then
	users      int    // guarded by the store's mutex
}

// policy is a Policy with its history.
type policy struct {
	Policy
	id      string
	fetched time.Time
	text    string
}

// When to ask and how much to keep.
const (
	refreshAfter = 24 * time.Hour  // RFC 8461 §3.3
	failurePause = 5 * time.Minute // RFC 8461 §3.3: after a fetch that failed
	maxInMemory  = 1000            // domains
	maxOnDisk    = 10_000          // policies
)

func (s *Store) now() time.Time {
	if s.Now != nil {
		return s.Now()
	}
	return time.Now()
}

func (s *Store) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.New(slog.DiscardHandler)
}

// Policy returns the policy to send by to domain, a lower-case name in A-labels; nil when there is none. It may take a minute, for the
// first who asks; the others wait for that one.
func (s *Store) Policy(ctx context.Context, name string) *Policy {
	if !isDomain(name) {
		return nil
	}
	d := s.use(name)
	defer s.leave(d)
	d.Lock()
	defer d.Unlock()
	if !d.loaded {
		d.kept, d.loaded = s.load(name), true
	}
	s.renew(ctx, name, d)
	if d.kept == nil || d.kept.Mode == None || s.now().Sub(d.kept.fetched) >= d.kept.MaxAge {
		return nil
	}
	p := d.kept.Policy
	return &p
}

// renew fetches the policy where the domain's TXT record names one that is not kept, or that is kept for a day. What is kept holds
// whatever goes wrong (RFC 8461 §3.3).
func (s *Store) renew(ctx context.Context, name string, d *domain) {
	texts, err := s.TXT(ctx, "_mta-sts."+name)
	if err != nil {
		s.log().Debug("MTA-STS record not found out", "domain", name, "err", err)
		return
	}
	id, ok := ParseRecord(texts)
	now := s.now()
	switch {
	case !ok:
		return
	case d.kept != nil && d.kept.id == id && now.Sub(d.kept.fetched) < min(refreshAfter, d.kept.MaxAge):
		return
	case d.failedID == id && now.Sub(d.failed) < failurePause:
		return
	}
	text, err := fetch(ctx, s.Client, name)
	var parsed Policy
	if err == nil {
		parsed, err = ParsePolicy(text)
	}
	if err != nil {
		if ctx.Err() == nil {
			d.failed, d.failedID = now, id
		}
		s.log().Warn("MTA-STS policy not fetched", "domain", name, "kept", d.kept != nil, "err", err)
		return
	}
	d.failedID = ""
	d.kept = &policy{Policy: parsed, id: id, fetched: now, text: text}
	s.log().Info("MTA-STS policy", "domain", name, "mode", parsed.Mode, "id", id)
	if err := s.save(name, d.kept); err != nil {
		s.log().Error("MTA-STS policy not kept", "domain", name, "err", err)
	}
}

// use finds what is known of a domain, and makes room for it.
func (s *Store) use(name string) *domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.domains == nil {
		s.domains = make(map[string]*domain)
	}
	if s.domains[name] == nil {
		for n, d := range s.domains { // by chance: the disk remembers
			if len(s.domains) < maxInMemory {
				break
			}
			if d.users == 0 {
				delete(s.domains, n)
			}
		}
		s.domains[name] = new(domain)
	}
	d := s.domains[name]
	d.users++
	return d
}

func (s *Store) leave(d *domain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.users--
}

// load reads a policy from the disk: its id, when it was fetched, and behind an empty line its text; nil where there is none to use.
func (s *Store) load(name string) *policy {
	content, err := os.ReadFile(filepath.Join(s.Dir, name))
	if err != nil || len(content) > maxSize+1024 {
		return nil
	}
	head, text, _ := strings.Cut(string(content), "\n\n")
	id, when, _ := strings.Cut(head, " ")
	fetched, err := time.Parse(time.RFC3339, when)
	if err != nil {
		return nil
	}
	parsed, err := ParsePolicy(text)
	if err != nil || fetched.After(s.now()) {
		return nil
	}
	return &policy{Policy: parsed, id: id, fetched: fetched, text: text}
}

// save has a policy on the disk, whole or not at all.
func (s *Store) save(name string, p *policy) error {
	if err := os.MkdirAll(s.Dir, 0o700); err != nil {
		return err
	}
	s.prune()
	content := fmt.Appendf(nil, "%s %s\n\n%s", p.id, p.fetched.UTC().Format(time.RFC3339), p.text)
	return file.Replace(filepath.Join(s.Dir, name), content, 0o600)
}

// prune makes room on the disk: the policies fetched longest ago go.
func (s *Store) prune() {
	s.mu.Lock()
	defer s.mu.Unlock()
	entries, err := os.ReadDir(s.Dir)
	if err != nil || len(entries) < maxOnDisk {
		return
	}
	age := make(map[fs.DirEntry]time.Time, len(entries))
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			age[e] = info.ModTime()
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return cmp.Or(age[a].Compare(age[b]), strings.Compare(a.Name(), b.Name())) })
	for _, e := range entries[:len(entries)/4] {
		os.Remove(filepath.Join(s.Dir, e.Name()))
	}
}
