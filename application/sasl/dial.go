package sasl

import (
	"fmt"
	"slices"
	"strings"
)

// Credentials are what this side can show of itself.
type Credentials struct {
	Username    string
	Password    string // empty: none
	Certificate bool   // a client certificate was shown in the TLS handshake
	AllowCRAM   bool   // CRAM-MD5 may be used where nothing better is offered
	Random      bool   // the password is of 128 random bits or more: how often it is hashed does not matter
}

// Choose picks the best of the mechanisms offered that cred and ch allow: EXTERNAL, SCRAM-SHA-256-PLUS, SCRAM-SHA-256, then under TLS
// PLAIN and LOGIN, then CRAM-MD5 if allowed. It never shows a password in the clear: where only that is offered, it returns ErrPlaintext.
// That ch.TLS, if any, leads to the right server is for the caller to have verified.
func Choose(offered []string, ch Channel, cred Credentials) (Client, error) {
	password := cred.Username != "" && cred.Password != ""
	switch {
	case cred.Certificate && ch.TLS != nil && offers(offered, EXTERNAL):
		return External(), nil
	case !password:
		return nil, fmt.Errorf("%w: offered %s, and there is no password to log in with", ErrMechanism, named(offered))
	}
	_, bindable := ch.binding()
	plus := bindable && offers(offered, SCRAMSHA256Plus) // RFC 5802 §6: a client that can MUST bind where PLUS is offered
	switch {
	case plus || offers(offered, SCRAMSHA256):
		c := newSCRAM(cred.Username, cred.Password, ch, plus)
		if cred.Random {
			c.least = RandomIterations
		}
		return c, nil
	case ch.TLS != nil && offers(offered, PLAIN):
		return Plain(cred.Username, cred.Password), nil
	case ch.TLS != nil && offers(offered, LOGIN):
		return Login(cred.Username, cred.Password), nil
	case cred.AllowCRAM && offers(offered, CRAMMD5):
		return CRAM(cred.Username, cred.Password), nil
	case offers(offered, PLAIN) || offers(offered, LOGIN):
		return nil, fmt.Errorf("%w: offered %s", ErrPlaintext, named(offered))
	case offers(offered, CRAMMD5):
		return nil, fmt.Errorf("%w: offered %s, and CRAM-MD5 is not allowed here", ErrMechanism, named(offered))
	}
	return nil, fmt.Errorf("%w: offered %s", ErrMechanism, named(offered))
}

// Finish says whether c may believe a report of success: a mechanism that verifies the server returns ErrServer until it has.
func Finish(c Client) error {
	if v, ok := c.(interface{ finish() error }); ok {
		return v.finish()
	}
	return nil
}

func offers(offered []string, name string) bool {
	return slices.ContainsFunc(offered, func(s string) bool { return strings.EqualFold(s, name) })
}

func named(offered []string) string {
	if len(offered) == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%.200s", strings.Join(offered, " "))
}
