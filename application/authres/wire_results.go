package authres

import (
	"strings"

	"bothy/application/message"
)

// Result is what a method came to (RFC 8601 §2.7).
type Result string

// The results. SoftFail is SPF's alone, Policy DKIM's.
const (
	None      Result = "none"
	Pass      Result = "pass"
	Fail      Result = "fail"
	SoftFail  Result = "softfail"
	Neutral   Result = "neutral"
	Policy    Result = "policy"
	TempError Result = "temperror"
	PermError Result = "permerror"
)

// fieldName is the field's that carries results.
const fieldName = "Authentication-Results"

// property is one "ptype.property=value" (RFC 8601 §2.3).
type property struct{ name, value string }

// result is one resinfo of the field (RFC 8601 §2.2).
type result struct {
	method     string
	result     Result
	reason     string
	properties []property
}

func (r *result) get(name string) string {
	for _, p := range r.properties {
		if p.name == name {
			return p.value
		}
	}
	return ""
}

// appendResults appends the field with what was found out (RFC 8601 §2.2); "none" where nothing was.
func appendResults(b []byte, id string, results []result) []byte {
	var v strings.Builder
	v.WriteString(id)
	if len(results) == 0 {
		v.WriteString("; none")
	}
	for _, r := range results {
		v.WriteString("; " + r.method + "=" + string(r.result))
		if r.reason != "" {
			v.WriteString(` reason="` + printable(r.reason) + `"`)
		}
		for _, p := range r.properties {
			if p.value != "" {
				v.WriteString(" " + p.name + "=" + p.value)
			}
		}
	}
	return message.AppendField(b, fieldName, v.String())
}

// maxReason bounds the reason in the field, in octets.
const maxReason = 120

// printable is s as it may stand within quotes, in ASCII.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '"' || r == '\\':
			return '\''
		case r < ' ' || r > '~':
			return '?'
		}
		return r
	}, s)
	return s[:min(len(s), maxReason)]
}

// parseResults reads the value of a field: who says it, and what; nothing of what cannot be read whole. Without an identity, or of a version that
// is not known, ok is false.
func parseResults(value string) (id string, results []result, ok bool) {
	p := resultParser{s: value}
	p.space()
	if id = p.value(); id == "" {
		return "", nil, false
	}
	p.space()
	if version := p.value(); version != "" && version != "1" { // RFC 8601 §5: what it means is not known
		return id, nil, false
	}
	for p.space(); p.take(';'); p.space() {
		r, ok := p.resinfo()
		if !ok {
			return id, nil, true
		}
		if r.method != "" {
			results = append(results, r)
		}
	}
	if p.i < len(p.s) {
		return id, nil, true
	}
	return id, results, true
}

// resultParser walks through the value of an Authentication-Results field.
type resultParser struct {
	s string
	i int
}

// resinfo reads one result; "none" alone has no method.
func (p *resultParser) resinfo() (r result, ok bool) {
	p.space()
	method := strings.ToLower(p.token())
	p.space()
	if p.take('/') { // method-version
		p.space()
		p.token()
		p.space()
	}
	if !p.take('=') {
		return r, method == string(None)
	}
	p.space()
	r.method, r.result = method, Result(strings.ToLower(p.token()))
	for p.space(); p.i < len(p.s) && p.s[p.i] != ';'; p.space() {
		name := strings.ToLower(p.token())
		p.space()
		if p.take('.') {
			p.space()
			name += "." + strings.ToLower(p.token())
			p.space()
		}
		if name == "" || !p.take('=') {
			return r, false
		}
		p.space()
		value := p.pvalue()
		if name == "reason" {
			r.reason = value
			continue
		}
		r.properties = append(r.properties, property{name, value})
	}
	return r, r.method != "" && r.result != ""
}

// value reads a token or a quoted string (RFC 2045 §5.1).
func (p *resultParser) value() string {
	if p.i < len(p.s) && p.s[p.i] == '"' {
		return p.quoted()
	}
	return p.token()
}

func (p *resultParser) token() string {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] > ' ' && p.s[p.i] != 0x7f && !strings.ContainsRune(";=/()\"", rune(p.s[p.i])) {
		p.i++
	}
	return p.s[start:p.i]
}

// pvalue reads the value of a property: an address or a domain, which may begin with "@" and have a quoted local part, or anything.
func (p *resultParser) pvalue() string {
	start := p.i
	if p.i < len(p.s) && p.s[p.i] == '"' {
		text := p.quoted()
		if p.i == len(p.s) || p.s[p.i] != '@' {
			return text
		}
	}
	for p.i < len(p.s) && !strings.ContainsRune(" \t\r\n;()", rune(p.s[p.i])) {
		p.i++
	}
	return p.s[start:p.i]
}

func (p *resultParser) quoted() string {
	var b strings.Builder
	for p.i++; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '"':
			p.i++
			return b.String()
		case c == '\\' && p.i+1 < len(p.s):
			p.i++
			b.WriteByte(p.s[p.i])
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

func (p *resultParser) take(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// space skips white space and comments, which nest (RFC 5322 §3.2.2).
func (p *resultParser) space() {
	depth := 0
	for ; p.i < len(p.s); p.i++ {
		switch c := p.s[p.i]; {
		case c == '(':
			depth++
		case c == ')' && depth > 0:
			depth--
		case c == '\\' && depth > 0:
			p.i++
		case depth == 0 && !strings.ContainsRune(fws, rune(c)):
			return
		}
	}
	p.i = min(p.i, len(p.s))
}
