package odmr

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"bothy/application/message"
)

// keywordRecipients is the EHLO keyword, and the command, with which a site that was turned to tells its provider who is there: "XRECIPIENTS"
// and a tag. The provider that knows the list of that tag asks no more. Else it says XRECIPIENTS, and the reply holds the tag and then, on
// each line, a domain and the hashes of recipients in it. With a tag as its argument the reply is that tag alone if it still holds.
// A domain that is not in the list is one of which nobody knows.
const keywordRecipients = "XRECIPIENTS"

// listing is who is there, by domain: hashes, sorted. They keep names short, and out of logs; they hide no name that can be guessed.
type listing map[string][]uint64

const (
	hashesOnLine = 36   // a reply line holds 512 octets (RFC 5321 §4.5.3.1.5)
	maxRecipient = 4000 // in a listing: a reply holds 64 KiB
)

var hashText = base64.RawURLEncoding

// hashRecipient is the hash of a recipient; the domain is in lower-case A-labels. Case in local parts means nothing at a site of ours.
func hashRecipient(local, domain string) uint64 {
	sum := sha256.Sum256([]byte(strings.ToLower(local) + "@" + domain))
	return binary.BigEndian.Uint64(sum[:])
}

// has reports whether a recipient is in the list of its domain: as it is, or without its detail (RFC 5233 §1). There is always a postmaster
// (RFC 5321 §4.5.1).
func (l listing) has(to message.Address) bool {
	hashes := l[to.Domain]
	known := func(local string) bool {
		_, ok := slices.BinarySearch(hashes, hashRecipient(local, to.Domain))
		return ok
	}
	user, _, _ := strings.Cut(to.Local, "+")
	return strings.EqualFold(user, "postmaster") || known(to.Local) || known(user)
}

// size is the number of recipients.
func (l listing) size() (n int) {
	for _, hashes := range l {
		n += len(hashes)
	}
	return n
}

// lines are the list without its tag.
func (l listing) lines() (lines []string) {
	for domain, hashes := range l {
		for first := true; first || len(hashes) > 0; first = false {
			line := domain
			for _, h := range hashes[:min(len(hashes), hashesOnLine)] {
				line += " " + hashText.EncodeToString(binary.BigEndian.AppendUint64(nil, h))
			}
			hashes = hashes[min(len(hashes), hashesOnLine):]
			lines = append(lines, line)
		}
	}
	slices.Sort(lines)
	return lines
}

// tag names the list.
func (l listing) tag() string {
	sum := sha256.Sum256([]byte(strings.Join(l.lines(), "\n")))
	return hashText.EncodeToString(sum[:8])
}

// text is the reply to XRECIPIENTS.
func (l listing) text() string { return strings.Join(append([]string{l.tag()}, l.lines()...), "\n") }

// parseListing reads the reply to XRECIPIENTS. Its tag must be that of the list.
func parseListing(text string) (l listing, ok bool) {
	l = listing{}
	tag, text, _ := strings.Cut(text, "\n")
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		if len(words) == 0 || !isDomain(words[0]) {
			return nil, false
		}
		hashes := l[words[0]]
		for _, word := range words[1:] {
			b, err := hashText.DecodeString(word)
			if err != nil || len(b) != 8 {
				return nil, false
			}
			hashes = append(hashes, binary.BigEndian.Uint64(b))
		}
		l[words[0]] = hashes
	}
	for _, hashes := range l {
		slices.Sort(hashes)
	}
	return l, l.size() <= maxRecipient && l.tag() == tag
}
