package directory

import (
	"context"
	"slices"
	"strings"

	"bothy/application/message"
)

// Rights are what an account may do when it submits, beyond sending in its own names (RFC 6409 §6.1, §6.2). The zero Rights add
// nothing and bound nothing.
//
// A pattern is "boss@clinic.example", one address; "@clinic.example", all of a domain; "@.clinic.example", all of the domains below it;
// "local", all local domains; or "*", everything.
type Rights struct {
	SendAs     []string `json:"send_as,omitempty"`    // patterns of senders, besides its own addresses
	SendTo     []string `json:"send_to,omitempty"`    // patterns of recipients; empty: everybody
	Messages   int      `json:"messages,omitempty"`   // most messages a day; 0: no bound
	Recipients int      `json:"recipients,omitempty"` // most recipients a day; 0: no bound
	Size       int64    `json:"size,omitempty"`       // largest message, octets; 0: no bound but the server's
}

// The kinds of patterns, as they are stored.
const (
	sendAs = "as"
	sendTo = "to"
)

const (
	patternAll   = "*"
	patternLocal = "local"
)

// SetRights gives an account these rights in place of those it had. It returns ErrNotFound or ErrInvalid.
func (d *Directory) SetRights(ctx context.Context, name string, r Rights) error {
	if r.Messages < 0 || r.Recipients < 0 || r.Size < 0 {
		return refuse(ErrInvalid, "a bound is negative")
	}
	as, err := checkPatterns(r.SendAs)
	if err != nil {
		return err
	}
	to, err := checkPatterns(r.SendTo)
	if err != nil {
		return err
	}
	return d.changeAccount(ctx, name, func(a *account, _ *snapshot, exec execer) error {
		if err := exec("DELETE FROM permission WHERE account = ?", a.Name); err != nil {
			return err
		}
		for kind, patterns := range map[string][]string{sendAs: as, sendTo: to} {
			for _, p := range patterns {
				if err := exec("INSERT INTO permission (account, kind, pattern) VALUES (?, ?, ?)", a.Name, kind, p); err != nil {
					return err
				}
			}
		}
		if err := exec("DELETE FROM allowance WHERE account = ?", a.Name); err != nil || r.Messages == 0 && r.Recipients == 0 && r.Size == 0 {
			return err
		}
		return exec("INSERT INTO allowance (account, messages, recipients, size) VALUES (?, ?, ?, ?)", a.Name, r.Messages, r.Recipients, r.Size)
	})
}

func checkPatterns(patterns []string) ([]string, error) {
	var checked []string
	for _, p := range patterns {
		c, err := checkPattern(p)
		if err != nil {
			return nil, err
		}
		checked = append(checked, c)
	}
	slices.Sort(checked)
	return slices.Compact(checked), nil
}

// checkPattern brings a pattern into the form in which it is kept.
func checkPattern(s string) (string, error) {
	if s == patternAll || s == patternLocal {
		return s, nil
	}
	domain, ok := strings.CutPrefix(s, "@")
	if !ok {
		a, err := message.ParseAddress(s)
		if err == nil {
			a, err = checkAddress(a)
		}
		if err != nil {
			return "", refuse(ErrInvalid, "%q is no pattern: want user@domain, @domain, @.domain, local or *", s)
		}
		return a.String(), nil
	}
	parent, below := strings.CutPrefix(domain, ".")
	parent, err := checkDomain(parent)
	if below {
		parent = "." + parent
	}
	return "@" + parent, err
}

// anyMatches reports whether a is what one of the patterns says.
func (s *snapshot) anyMatches(patterns []string, a message.Address) bool {
	for _, p := range patterns {
		domain, isDomain := strings.CutPrefix(p, "@")
		switch {
		case p == patternAll:
			return true
		case p == patternLocal:
			if s.isLocal(a.Domain) || a.Domain == "" { // RFC 5321 §4.1.1.3: <Postmaster> is here
				return true
			}
		case isDomain && strings.HasPrefix(domain, "."):
			if strings.HasSuffix(a.Domain, domain) {
				return true
			}
		case isDomain && a.Domain == domain, p == a.String():
			return true
		}
	}
	return false
}

func (s *snapshot) rightsOf(name string) Rights {
	a, ok := s.accounts[name]
	if !ok {
		return Rights{}
	}
	r := a.rights
	r.SendAs, r.SendTo = slices.Clone(r.SendAs), slices.Clone(r.SendTo)
	return r
}

func (s *snapshot) maySendTo(name string, to message.Address) bool {
	a, ok := s.accounts[name]
	if !ok || a.Disabled {
		return false
	}
	return len(a.rights.SendTo) == 0 || s.anyMatches(a.rights.SendTo, to)
}

func (s *snapshot) loadPermission(scan func(...any) error) error {
	var name, kind, pattern string
	if err := scan(&name, &kind, &pattern); err != nil {
		return err
	}
	a, ok := s.accounts[name]
	switch {
	case !ok: // only a hand that bypassed the foreign key wrote this
	case kind == sendAs:
		a.rights.SendAs = append(a.rights.SendAs, pattern)
	case kind == sendTo:
		a.rights.SendTo = append(a.rights.SendTo, pattern)
	}
	return nil
}

func (s *snapshot) loadAllowance(scan func(...any) error) error {
	var name string
	var r Rights
	if err := scan(&name, &r.Messages, &r.Recipients, &r.Size); err != nil {
		return err
	}
	if a, ok := s.accounts[name]; ok {
		a.rights.Messages, a.rights.Recipients, a.rights.Size = r.Messages, r.Recipients, r.Size
	}
	return nil
}
