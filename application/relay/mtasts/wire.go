package mtasts

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Mode is what a policy wants of a sender whose connection it does not fit (RFC 8461 §5).
type Mode string

// The modes.
const (
	Enforce Mode = "enforce" // do not send
	Testing Mode = "testing" // send, and take note
	None    Mode = "none"    // the domain has done with it
)

// Policy is what a domain demands (RFC 8461 §3.2).
type Policy struct {
	Mode   Mode
	MX     []string // exact names, and "*." with what must follow one label; lower case
	MaxAge time.Duration
}

// Bounds of a policy.
const (
	maxAge      = 31557600 * time.Second // RFC 8461 §3.2
	maxSize     = 64 << 10               // octets: RFC 8461 §3.3
	maxPatterns = 1000
)

var errPolicy = errors.New("mtasts: not a policy")

// ParsePolicy reads the text of a policy (RFC 8461 §3.2). Unknown fields are passed over, and so are all but the first of each
// but mx.
func ParsePolicy(text string) (Policy, error) {
	fields := make(map[string]string)
	var p Policy
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n\t ")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimLeft(value, " \t")
		switch {
		case !ok || name == "" || strings.ContainsAny(name, " \t"):
			return Policy{}, fmt.Errorf("%w: %.40q is no field", errPolicy, line)
		case name == "mx" && len(p.MX) == maxPatterns:
			return Policy{}, fmt.Errorf("%w: more than %d mx", errPolicy, maxPatterns)
		case name == "mx":
			pattern := strings.ToLower(value)
			if !isDomain(strings.TrimPrefix(pattern, "*.")) {
				return Policy{}, fmt.Errorf("%w: mx %.40q", errPolicy, value)
			}
			p.MX = append(p.MX, pattern)
		default:
			if _, again := fields[name]; !again {
				fields[name] = value
			}
		}
	}
	if fields["version"] != "STSv1" {
		return Policy{}, fmt.Errorf("%w: version %.40q", errPolicy, fields["version"])
	}
	if p.Mode = Mode(fields["mode"]); !slices.Contains([]Mode{Enforce, Testing, None}, p.Mode) {
		return Policy{}, fmt.Errorf("%w: mode %.40q", errPolicy, fields["mode"])
	}
	if len(p.MX) == 0 && p.Mode != None {
		return Policy{}, fmt.Errorf("%w: no mx", errPolicy)
	}
	seconds, err := strconv.ParseUint(fields["max_age"], 10, 64)
	if err != nil || len(fields["max_age"]) > 10 {
		return Policy{}, fmt.Errorf("%w: max_age %.40q", errPolicy, fields["max_age"])
	}
	p.MaxAge = min(time.Duration(min(seconds, 1<<32))*time.Second, maxAge)
	return p, nil
}

// Matches reports whether the policy names host, a lower-case name, as an exchanger. RFC 8461 §4.1: "*" is one whole label.
func (p Policy) Matches(host string) bool {
	_, parent, _ := strings.Cut(host, ".")
	return slices.ContainsFunc(p.MX, func(pattern string) bool {
		suffix, wild := strings.CutPrefix(pattern, "*.")
		return wild && suffix == parent || pattern == host
	})
}

// ParseRecord returns the id in the TXT records of "_mta-sts" below a domain; ok is false where not exactly one is a record of ours
// (RFC 8461 §3.1).
func ParseRecord(texts []string) (id string, ok bool) {
	found := false
	for _, text := range texts {
		version, rest, _ := strings.Cut(text, ";")
		if strings.TrimRight(version, " \t") != "v=STSv1" {
			continue
		}
		if found {
			return "", false
		}
		found = true
		for field := range strings.SplitSeq(rest, ";") {
			name, value, _ := strings.Cut(strings.Trim(field, " \t"), "=")
			if name == "id" && id == "" && isID(value) {
				id = value
			}
		}
	}
	return id, id != ""
}

// isID reports whether s is 1 to 32 letters and digits (RFC 8461 §3.1).
func isID(s string) bool {
	return len(s) >= 1 && len(s) <= 32 && strings.IndexFunc(s, func(c rune) bool { return !isAlphanumeric(c) }) < 0
}

// isDomain reports whether s is a lower-case domain name in A-labels (RFC 5321 §4.1.2), and nothing that a file name must not be.
func isDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || strings.IndexFunc(label, func(c rune) bool { return !isAlphanumeric(c) && c != '-' && c != '_' }) >= 0 {
			return false
		}
	}
	return s == strings.ToLower(s)
}

func isAlphanumeric(c rune) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}
