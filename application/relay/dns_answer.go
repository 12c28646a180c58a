package relay

import (
	"cmp"
	"errors"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// found is what one question came to.
type found struct {
	records []dns.RR // of the type and of the name that was asked for, or of the one CNAMEs lead to; at most maxRecords
	origin  Origin
	proven  bool // without records: the zone says so
	lasts   time.Duration
	aliases int // CNAMEs on the way to them
}

// Bounds of what is believed of an answer.
const (
	maxAliases  = 10               // CNAMEs from one name to its records
	maxRecords  = 100              // of one answer
	maxLasting  = time.Hour        // however long a record says: uplinks and their servers change
	maxDenial   = 15 * time.Minute // RFC 2308 §5 advises one to three hours; a postmaster who mends his zone is served sooner
	longestTime = 1<<31 - 1        // seconds: RFC 2181 §8
)

var (
	// errUnproven is a "no" without the zone's SOA record: a router whose uplink is gone may say so as well.
	errUnproven = errors.New("DNS server denies the name without proof")
	errAliases  = errors.New("CNAMEs lead nowhere")
	// errServerFailure is also what a server that checks DNSSEC says of bogus data (RFC 4035 §5.5).
	errServerFailure = errors.New("answered SERVFAIL")
)

// read takes out of an answer what belongs to the question, whatever else stands in it: the records of qtype that name has, or of the
// name that CNAMEs in the answer, most of them at most, lead to. Where those lead out of the answer, more is true and origin.Name is what to ask next.
func read(answer *dns.Msg, name string, qtype uint16, most int) (f found, more bool, err error) {
	f.lasts = maxLasting
	for ; f.aliases <= most; f.aliases++ {
		var alias *dns.CNAME
		for _, rr := range answer.Answer {
			h := rr.Header()
			switch {
			case h.Class != dns.ClassINET || !strings.EqualFold(h.Name, name):
			case h.Rrtype == qtype && len(f.records) < maxRecords:
				f.records = append(f.records, rr)
				f.lasts = min(f.lasts, lasting(h.Ttl))
			case h.Rrtype == dns.TypeCNAME:
				alias, _ = rr.(*dns.CNAME)
			}
		}
		if len(f.records) > 0 || alias == nil {
			f.origin.Name = plainName(name)
			f.deny(answer, name)
			asked := strings.EqualFold(name, answer.Question[0].Name)
			return f, len(f.records) == 0 && !f.proven && !asked, nil
		}
		name = alias.Target
		f.lasts = min(f.lasts, lasting(alias.Hdr.Ttl))
	}
	return found{}, false, errAliases
}

// deny looks for the proof that name has no records: the SOA record of a zone that it is in (RFC 2308 §3: servers authoritative for
// the zone must include it), which also says how long that holds (RFC 2308 §5).
func (f *found) deny(answer *dns.Msg, name string) {
	if len(f.records) > 0 {
		return
	}
	for _, rr := range answer.Ns {
		if soa, ok := rr.(*dns.SOA); ok && dns.IsSubDomain(soa.Hdr.Name, name) {
			f.proven = true
			f.lasts = min(f.lasts, lasting(min(soa.Hdr.Ttl, soa.Minttl)), maxDenial)
		}
	}
}

// lasting is a TTL as a duration.
func lasting(ttl uint32) time.Duration {
	if ttl > longestTime { // RFC 2181 §8
		return 0
	}
	return time.Duration(ttl) * time.Second
}

// judge returns nil for an answer that says something of its question, and what else it is.
func judge(answer *dns.Msg) error {
	switch answer.Rcode {
	case dns.RcodeSuccess:
		if len(answer.Answer) == 0 && refers(answer) {
			return errors.New("referral in place of an answer: not a recursive server")
		}
		return nil
	case dns.RcodeNameError:
		if f, _, err := read(answer, answer.Question[0].Name, answer.Question[0].Qtype, maxAliases); err != nil || !f.proven {
			return errUnproven
		}
		return nil
	case dns.RcodeServerFailure:
		return errServerFailure
	}
	return errors.New("answered " + cmp.Or(dns.RcodeToString[answer.Rcode], "an unknown code"))
}

// refers reports whether answer names other servers to ask, and no SOA record.
func refers(answer *dns.Msg) bool {
	refers := false
	for _, rr := range answer.Ns {
		switch rr.(type) {
		case *dns.NS:
			refers = true
		case *dns.SOA:
			return false
		}
	}
	return refers
}
