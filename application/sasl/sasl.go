package sasl

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
)

// The mechanisms' names.
const (
	SCRAMSHA256Plus = "SCRAM-SHA-256-PLUS" // RFC 7677 §3
	SCRAMSHA256     = "SCRAM-SHA-256"      // RFC 7677 §3
	EXTERNAL        = "EXTERNAL"           // RFC 4422 §A
	PLAIN           = "PLAIN"              // RFC 4616 §2
	LOGIN           = "LOGIN"
	CRAMMD5         = "CRAM-MD5" // RFC 2195 §2
)

// MaxMessage is the longest challenge or response read, in octets before base64: three fields of PLAIN at 255 octets (RFC 4616 §2) fit
// four times.
const MaxMessage = 4096

// Channel is what mechanisms may know of the connection they run on.
type Channel struct {
	TLS  *tls.ConnectionState // nil when plain; carries the channel binding and the client certificate
	Peer netip.Addr
}

// Server is the server's half of one exchange.
type Server interface {
	// Next takes the client's response, nil when the client sent no initial response, and returns the next challenge, or
	// done. An error ends the exchange: ErrCredentials, ErrMalformed or ErrTemporary (wrapped).
	Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error)
	// Identity is the account authorised; valid after done.
	Identity() string
}

// Client is the client's half of one exchange. When the server reports success, ask [Finish] before believing it.
type Client interface {
	Name() string
	// Start returns the initial response, nil when the mechanism has none.
	Start() ([]byte, error)
	// Next answers a challenge. An error means that the server is not to be trusted or the exchange broke.
	Next(challenge []byte) ([]byte, error)
}

// The ways an exchange fails.
var (
	ErrCredentials = errors.New("sasl: credentials refused")     // 535 5.7.8 (RFC 4954 §6)
	ErrMalformed   = errors.New("sasl: malformed response")      // 501 5.5.2
	ErrTemporary   = errors.New("sasl: temporary failure")       // 454 4.7.0
	ErrMechanism   = errors.New("sasl: mechanism not available") // 504 5.5.4
	ErrPlaintext   = errors.New("sasl: mechanism needs TLS")     // 538 5.7.11
	ErrServer      = errors.New("sasl: server not to be trusted")
	ErrThrottled   = fmt.Errorf("%w: too many failures", ErrTemporary) // not looked at
)

// Verifier is what a server keeps of one account's passwords. An account may have several, one for each of its programs: they share salt and
// count, since SCRAM tells these before it can know which is meant.
type Verifier struct {
	Account    string
	Salt       []byte
	Iterations int    // RFC 7677 §4: at least 4096
	Keys              // of the password
	Apps       []Keys // of the others; all of them log in
	CRAMSecret []byte // the password itself, only for accounts that opted in to CRAM-MD5 (RFC 2195 §2); else nil
}

// Keys are what a server keeps of one password (RFC 5802 §3, SHA-256).
type Keys struct{ StoredKey, ServerKey []byte }

// Accounts finds verifiers. Both methods return ErrCredentials for an account that does not exist.
// A username comes prepared with SASLprep.
type Accounts interface {
	Verifier(ctx context.Context, username string) (Verifier, error)
	Certificate(ctx context.Context, cert *x509.Certificate) (account string, err error)
}
