package odmr

import (
	"slices"
	"strings"

	"bothy/application/message"
)

const (
	maxDomains = 100 // in one ATRN; the command line is shorter than that many domains anyway (RFC 5321 §4.5.3.1.4)
	maxCommand = 510 // octets of a command line without its CRLF (RFC 5321 §4.5.3.1.4)
)

// Protocols are the names of what is spoken on a port that begins with TLS (ALPN, RFC 7301), the best first. None is registered: "odmr" is ours,
// "smtp" is what other mail servers say. Who names others alone is on the wrong port and is refused (RFC 7301 §3.2); who names none is not.
func Protocols() []string { return []string{"odmr", "smtp"} }

// parseDomains reads what follows ATRN and its space (RFC 2645 §5.2.1): domains in lower case, each once, in the order
// given; none for an empty string. ok is false for anything that the grammar does not have.
func parseDomains(arg string) (domains []string, ok bool) {
	if arg == "" {
		return nil, true
	}
	if strings.Count(arg, ",") >= maxDomains {
		return nil, false
	}
	for d := range strings.SplitSeq(arg, ",") {
		if !isDomain(d) {
			return nil, false
		}
		if d = strings.ToLower(d); !slices.Contains(domains, d) {
			domains = append(domains, d)
		}
	}
	return domains, true
}

// isDomain reports whether s is a domain of RFC 2645 §5.2.1: it has a dot. An internationalized domain comes as A-labels.
func isDomain(s string) bool { return strings.Contains(s, ".") && message.IsDomain(s) }

// atrn is the command that asks for domains, or for all of the account's.
func atrn(domains []string) string {
	if len(domains) == 0 {
		return "ATRN"
	}
	return "ATRN " + strings.Join(domains, ",")
}
