package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"

	"bothy/application/relay"

	site "bothy"
)

// dnsRecord is one record that mail for a customer needs, and whether it is there.
type dnsRecord struct {
	Name  string   `json:"name"`
	Type  string   `json:"type"`
	Want  string   `json:"want"`
	State dnsState `json:"state"`
	Why   string   `json:"why,omitempty"`
}

// dnsState is what the DNS says of it.
type dnsState string

const (
	dnsThere   dnsState = "there"
	dnsMissing dnsState = "missing"
	dnsUnknown dnsState = "unknown" // no answer
)

// dnsPatience is how long all questions together may take.
const dnsPatience = 3 * time.Second

// checkDNS looks for what mail for domains needs to come to this server, and to be believed when it comes from there. Sites reach it as called.
func checkDNS(ctx context.Context, cfg *site.Config, called string, domains []string) []dnsRecord {
	ctx, cancel := context.WithTimeout(ctx, dnsPatience)
	defer cancel()
	host := strings.ToLower(strings.TrimSuffix(cfg.Hostname, "."))
	names := []string{host}
	if called = strings.ToLower(strings.TrimSuffix(called, ".")); called != host && net.ParseIP(called) == nil {
		names = append(names, called)
	}
	resolver := &relay.DNS{Servers: cfg.Relay.DNS}
	var records []dnsRecord
	for _, name := range names {
		_, _, err := resolver.Addrs(ctx, name)
		records = append(records, judged(dnsRecord{Name: name, Type: "A or AAAA", Want: "this server's public address"}, err == nil, err))
	}
	for _, domain := range domains {
		mx, _, err := resolver.MX(ctx, domain)
		here := slices.ContainsFunc(mx, func(m relay.MX) bool { return m.Host == host })
		r := judged(dnsRecord{Name: domain, Type: "MX", Want: "10 " + host + "."}, here, err) // RFC 5321 §5.1
		if r.State == dnsMissing && len(mx) > 0 {
			r.Why = "its mail goes to " + mx[0].Host
		}
		records = append(records, r)
		texts, err := resolver.TXT(ctx, domain)
		spf := slices.ContainsFunc(texts, func(s string) bool { return s == "v=spf1" || strings.HasPrefix(s, "v=spf1 ") }) // RFC 7208 §4.5
		records = append(records, judged(dnsRecord{Name: domain, Type: "TXT", Want: `"v=spf1 mx -all"`}, spf, err))
	}
	return records
}

// judged fills in what an answer says.
func judged(r dnsRecord, there bool, err error) dnsRecord {
	switch {
	case there:
		r.State = dnsThere
	case err == nil, errors.Is(err, relay.ErrNoDomain), errors.Is(err, relay.ErrNoAddress):
		r.State = dnsMissing
	default:
		r.State, r.Why = dnsUnknown, "the DNS did not answer"
	}
	return r
}

// printDNS shows what is missing, as it would stand in a zone.
func printDNS(w io.Writer, records []dnsRecord) error {
	var missing, unknown []string
	for _, r := range records {
		line := fmt.Sprintf("    %s.  %s  %s", r.Name, r.Type, r.Want)
		if r.Why != "" {
			line += "   ; " + r.Why
		}
		switch r.State {
		case dnsMissing:
			missing = append(missing, line)
		case dnsUnknown:
			unknown = append(unknown, line)
		}
	}
	for _, part := range []struct {
		title string
		lines []string
	}{{"The DNS lacks:", missing}, {"Not known whether the DNS has:", unknown}} {
		if len(part.lines) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "\n%s\n\n%s\n", part.title, strings.Join(part.lines, "\n")); err != nil {
			return err
		}
	}
	return nil
}
