package sasl

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Authenticator offers a set of mechanisms over one kind of accounts; it is an smtp.Authenticator. Safe for concurrent use once set.
type Authenticator struct {
	Accounts Accounts
	Hostname string    // in CRAM-MD5 challenges
	Allowed  []string  // mechanism names, best first; empty: all but CRAM-MD5
	Throttle *Throttle // nil: nobody waits; may be shared between Authenticators

	// Secret makes up the salts of accounts that do not exist. Give all Authenticators over the same accounts the same 32 random octets,
	// and keep them over restarts: a salt that changes gives a made-up account away. Empty: random, from first use on.
	Secret []byte

	// Iterations is the count of accounts that do not exist: that of the others, or it gives them away. 0: DefaultIterations. An Accounts that
	// knows better for a name puts it into the Verifier beside ErrCredentials.
	Iterations int

	once sync.Once
	key  []byte
	hash func(v Verifier, password string) (Keys, error) // nil: Verifier.KeysOf; a test counts
}

// All returns every mechanism there is here, best first: what Allowed is where CRAM-MD5 has to be offered (RFC 2645 §5.1.2).
func All() []string { return append(byDefault(), CRAMMD5) }

// byDefault is what an Authenticator offers when it is not told, best first.
func byDefault() []string { return []string{EXTERNAL, SCRAMSHA256Plus, SCRAMSHA256, PLAIN, LOGIN} }

// Mechanisms lists what may be used on ch, best first: nothing that shows the password before TLS.
func (a *Authenticator) Mechanisms(ch Channel) []string {
	var names []string
	for _, name := range a.allowed() {
		if available(name, ch) == nil {
			names = append(names, name)
		}
	}
	return names
}

// Start begins an exchange. It returns ErrMechanism or ErrPlaintext where [Authenticator.Mechanisms] would not list the mechanism.
func (a *Authenticator) Start(mechanism string, ch Channel) (Server, error) {
	name := strings.ToUpper(mechanism) // RFC 4954 §4 has them in upper case; old clients do not
	if !slices.Contains(a.allowed(), name) {
		return nil, fmt.Errorf("%w: %.30q", ErrMechanism, mechanism)
	}
	if err := available(name, ch); err != nil {
		return nil, fmt.Errorf("%w: %s", err, name)
	}
	x := exchange{auth: a, ch: ch}
	switch name {
	case SCRAMSHA256, SCRAMSHA256Plus:
		return &scramServer{exchange: x, plus: name == SCRAMSHA256Plus}, nil
	case EXTERNAL:
		return &externalServer{exchange: x}, nil
	case PLAIN:
		return &plainServer{exchange: x}, nil
	case LOGIN:
		return &loginServer{exchange: x}, nil
	default:
		return &cramServer{exchange: x}, nil
	}
}

// Password verifies a password that came outside SASL, as POP3's USER and PASS do (RFC 1939 §7), with the same rules as PLAIN.
func (a *Authenticator) Password(ctx context.Context, ch Channel, username, password string) (account string, err error) {
	if ch.TLS == nil {
		return "", ErrPlaintext
	}
	name, err := Prepare(username)
	if err != nil {
		return "", fmt.Errorf("%w: username: %w", ErrCredentials, err)
	}
	if err := a.admit(ch, name); err != nil {
		return "", err
	}
	v, known, err := a.verifier(ctx, name)
	if err != nil {
		return "", err
	}
	hash := a.hash
	if hash == nil {
		hash = Verifier.KeysOf
	}
	given, err := hash(v, password) // known or not: the hash is what takes the time
	if err != nil || !v.has(given) || !known {
		return "", a.refuse(ch, name, v.Account, "password")
	}
	a.accept(ch, name)
	return v.Account, nil
}

func (a *Authenticator) allowed() []string {
	if len(a.Allowed) == 0 {
		return byDefault()
	}
	return a.Allowed
}

// available says what keeps a mechanism from running on ch.
func available(name string, ch Channel) error {
	switch name {
	case SCRAMSHA256, CRAMMD5:
		return nil
	case SCRAMSHA256Plus:
		if _, ok := ch.binding(); ok {
			return nil
		}
	case EXTERNAL:
		if ch.TLS != nil && len(ch.TLS.PeerCertificates) > 0 {
			return nil
		}
	case PLAIN, LOGIN:
		if ch.TLS != nil { // RFC 4616 §5, RFC 4954 §4
			return nil
		}
		return ErrPlaintext
	}
	return ErrMechanism
}

// verifier finds the verifier of a prepared name. A name without an account gets a made-up one, which nothing satisfies.
func (a *Authenticator) verifier(ctx context.Context, name string) (v Verifier, known bool, err error) {
	madeUp := a.madeUp(name) // also when it is not needed: the same work for everybody
	v, err = a.Accounts.Verifier(ctx, name)
	if errors.Is(err, ErrCredentials) {
		if v.Iterations > 0 {
			madeUp.Iterations = v.Iterations
		}
		return madeUp, false, nil
	}
	if err != nil {
		return Verifier{}, false, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	return v, true, nil
}

func (a *Authenticator) madeUp(name string) Verifier {
	a.once.Do(func() {
		a.key = a.Secret
		if len(a.key) == 0 {
			a.key = make([]byte, sha256.Size)
			rand.Read(a.key)
		}
	})
	name = strings.ToLower(name) // as accounts are found
	return Verifier{
		Salt:       hmacSHA256(a.key, "salt "+name)[:saltLength],
		Iterations: cmp.Or(a.Iterations, DefaultIterations),
		Keys:       Keys{hmacSHA256(a.key, "stored "+name), hmacSHA256(a.key, "server "+name)},
		CRAMSecret: hmacSHA256(a.key, "cram "+name),
	}
}

// admit refuses for a while who failed too often.
func (a *Authenticator) admit(ch Channel, name string) error {
	if a.Throttle == nil {
		return nil
	}
	if wait := a.Throttle.Wait(ch.Peer, counted(name)); wait > 0 {
		return fmt.Errorf("%w, wait %v", ErrThrottled, wait)
	}
	return nil
}

// counted is the name that a Throttle counts by, cut where no account's name is that long.
func counted(name string) string {
	name = strings.TrimSuffix(strings.ToLower(name), ".") // as accounts are found
	return strings.Clone(name[:min(len(name), 320)])
}

func (a *Authenticator) accept(ch Channel, name string) {
	if a.Throttle != nil {
		a.Throttle.Succeeded(ch.Peer, counted(name))
	}
}

// refuse notes a failure. For the log it names the account, if there is one: what else was given for a name may be a password.
func (a *Authenticator) refuse(ch Channel, name, account, why string) error {
	if a.Throttle != nil {
		a.Throttle.Failed(ch.Peer, counted(name))
	}
	if account == "" {
		account = "unknown"
	}
	return fmt.Errorf("%w: %s, account %s", ErrCredentials, why, account)
}

// exchange is what the server halves have in common.
type exchange struct {
	auth     *Authenticator
	ch       Channel
	identity string
	asked    bool
}

// silent reports that the client brought no initial response: it is asked for one, once, by an empty challenge (RFC 4422 §3.3).
func (x *exchange) silent(response []byte) bool {
	first := !x.asked
	x.asked = true
	return first && response == nil
}

// Identity is the account authorised; valid after done.
func (x *exchange) Identity() string { return x.identity }

// authorise ends a proven exchange: account acts as itself, whatever name of its own authzid is (RFC 4422 §3.4.1). Nobody acts as another.
func (x *exchange) authorise(ctx context.Context, account, authzid string) error {
	if authzid != "" && authzid != account {
		name, err := Prepare(authzid) // RFC 4954 §4
		if err != nil {
			return fmt.Errorf("%w: authorization identity: %w", ErrCredentials, err)
		}
		if v, known, err := x.auth.verifier(ctx, name); err != nil {
			return err
		} else if !known || v.Account != account {
			return fmt.Errorf("%w: not authorised to act as another", ErrCredentials)
		}
	}
	x.identity = account
	return nil
}

func hmacSHA256(key []byte, message string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(message))
	return h.Sum(nil)
}
