package smtp

import (
	"crypto/sha256"
	"encoding/base32"
	"strconv"
	"strings"
)

// maxTransID is the longest transid-value, in octets (RFC 1845 §2).
const maxTransID = 80

// isTransID reports whether s is a transid-value (RFC 1845 §2): "<" local "@" domain ">", both of atoms with dots between them.
func isTransID(s string) bool {
	inner, ok := strings.CutPrefix(s, "<")
	inner, closed := strings.CutSuffix(inner, ">")
	local, domain, at := strings.Cut(inner, "@")
	return ok && closed && at && len(s) <= maxTransID && isTransToken(local) && isTransToken(domain)
}

// isTransToken reports whether s is atoms with dots between them. An atom holds no space, no control and no tspecial (RFC 2045 §5.1).
func isTransToken(s string) bool {
	for atom := range strings.SplitSeq(s, ".") {
		if atom == "" {
			return false
		}
		for i := range len(atom) {
			if c := atom[i]; c <= ' ' || c > '~' || strings.IndexByte(`()<>@,;:\"/[]?=`, c) >= 0 {
				return false
			}
		}
	}
	return true
}

// TransID is the value of TRANSID of a client that calls itself host, for the transaction that parts tell from all its others: the same for the
// same parts, whenever it asks (RFC 1845 §3).
func TransID(host string, parts ...string) string {
	h := sha256.New()
	for _, p := range append(parts, host) {
		h.Write([]byte(strconv.Itoa(len(p)) + ":" + p))
	}
	sum := base32.HexEncoding.WithPadding(base32.NoPadding).EncodeToString(h.Sum(nil)[:20])
	id := "<" + strings.ToLower(sum) + "@" + host + ">"
	if !isTransID(id) { // an address literal, or a long name
		id = "<" + strings.ToLower(sum) + "@client.invalid>"
	}
	return id
}

// cutPart finds in the parameters of KeywordOffset, transid "=" octets each, how much there is of one transaction; rest is the others.
func cutPart(listed, transid string) (octets int64, rest string, ok bool) {
	others := make([]string, 0, listedParts)
	for field := range strings.FieldsSeq(listed) {
		id, number, _ := strings.Cut(field, "=")
		if n, isNumber := parseOffset(number); isNumber && id == transid && !ok {
			octets, ok = n, true
			continue
		}
		others = append(others, field)
	}
	return octets, strings.Join(others, " "), ok
}

// appendPart appends one of them.
func appendPart(b []byte, transid string, octets int64) []byte {
	return strconv.AppendInt(append(append(append(b, ' '), transid...), '='), octets, 10)
}

// parseOffset reads what stands first in the text of a 355 (RFC 1845 §3).
func parseOffset(text string) (offset int64, ok bool) {
	word := text
	if i := strings.IndexAny(text, " \t\n"); i >= 0 {
		word = text[:i]
	}
	if !isDigits(word) {
		return 0, false
	}
	offset, err := strconv.ParseInt(word, 10, 64)
	return offset, err == nil
}
