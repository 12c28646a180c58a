package authres

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"hash"
	"io"
	"strings"
	"sync"
	"time"

	"bothy/application/message"
)

// maxSignatures is how many signatures of a message are looked at (RFC 6376 §8.4), from the top: the latest.
const maxSignatures = 8

// DKIM is what became of one signature (RFC 8601 §2.7.1).
type DKIM struct {
	Result    Result
	Why       string // for people; "" for Pass
	Domain    string // d=; "" where it could not be read
	Selector  string
	Algorithm string // "rsa-sha256"
	Short     string // the start of b= (RFC 6008 §3)
}

// dkim verifies the signatures of one message while its body passes through Write. It holds none of the body.
type dkim struct {
	checks []*signatureCheck
	keys   sync.WaitGroup // lookups
	bodies [2]hash.Hash   // by canonical; nil: nobody asks for it
	writer io.Writer
	ends   []io.Closer
}

// signatureCheck is one signature and what is found out about it.
type signatureCheck struct {
	signature
	digest []byte // of the header
	err    error  // why it is not taken
	keys   []publicKey
	keyErr error
}

// verifyDKIM starts to verify the signatures of a message; their keys are being asked for when it returns.
func verifyDKIM(ctx context.Context, dns Resolver, fields []message.Field, now time.Time) *dkim {
	d := new(dkim)
	named := map[string][]message.Field{}
	for _, f := range fields {
		name := strings.ToLower(f.Name())
		named[name] = append(named[name], f)
	}
	signatures := named["dkim-signature"]
	for _, f := range signatures[:min(len(signatures), maxSignatures)] {
		c := new(signatureCheck)
		d.checks = append(d.checks, c)
		if c.signature, c.err = parseSignature(f.Value()); c.err == nil && !c.expires.IsZero() && now.After(c.expires) {
			c.err = flawed(Policy, "signature expired") // RFC 6376 §6.1.1
		}
		if c.err != nil {
			continue
		}
		c.digest = c.hashHeader(named, f)
		d.want(c.body)
		d.keys.Go(func() { c.ask(ctx, dns) })
	}
	var writers []io.Writer
	for algorithm, hash := range d.bodies {
		if hash == nil {
			continue
		}
		var canon io.WriteCloser = &simpleBody{w: hash}
		if canonical(algorithm) == relaxed {
			canon = &relaxedBody{w: hash}
		}
		writers, d.ends = append(writers, canon), append(d.ends, canon)
	}
	if len(writers) > 0 {
		d.writer = io.MultiWriter(writers...)
	}
	return d
}

func (d *dkim) want(c canonical) {
	if d.bodies[c] == nil {
		d.bodies[c] = sha256.New()
	}
}

// Write takes the next piece of the body.
func (d *dkim) Write(p []byte) (int, error) {
	if d.writer == nil {
		return len(p), nil
	}
	return d.writer.Write(p)
}

// results ends the body and says what became of each signature; none for a message without any.
func (d *dkim) results() []DKIM {
	for _, end := range d.ends {
		end.Close() // a hash does not fail
	}
	d.keys.Wait()
	var all []DKIM
	for _, c := range d.checks {
		r := DKIM{Result: Pass, Domain: c.domain, Selector: c.selector, Short: c.short}
		if c.algorithm != "" {
			r.Algorithm = c.algorithm + "-sha256"
		}
		if err := c.verify(d.bodies[c.body]); err != nil {
			r.Result, r.Why = Neutral, err.Error()
			var f flaw
			if errors.As(err, &f) {
				r.Result = f.result
			}
		}
		all = append(all, r)
	}
	return all
}

// hashHeader hashes the signed fields: of several of a name the last one first (RFC 6376 §5.4.2), and one that is not there is nothing.
func (c *signatureCheck) hashHeader(named map[string][]message.Field, own message.Field) []byte {
	digest := sha256.New()
	taken := map[string]int{}
	for _, name := range c.signed {
		name = strings.ToLower(name)
		if fields := named[name]; taken[name] < len(fields) {
			taken[name]++
			digest.Write(c.canonicalField(fields[len(fields)-taken[name]].Raw()))
		}
	}
	last := unsigned(own)
	if c.header == relaxed {
		last = appendRelaxed(nil, last)
	}
	digest.Write(last)
	return digest.Sum(nil)
}

func (c *signatureCheck) canonicalField(raw []byte) []byte {
	if c.header == simple {
		return raw
	}
	return append(appendRelaxed(nil, raw), crlf...)
}

// ask gets the key (RFC 6376 §6.1.2).
func (c *signatureCheck) ask(ctx context.Context, dns Resolver) {
	texts, err := dns.TXT(ctx, c.selector+"._domainkey."+c.domain)
	if err != nil {
		c.keyErr = flawed(TempError, "key not to be had: %v", err)
		return
	}
	c.keyErr = flawed(PermError, "no key")
	for _, text := range texts[:min(len(texts), maxKeys)] {
		k, err := parseKeyRecord(text, c.algorithm)
		if err == nil && k.strict && c.agent != c.domain {
			err = flawed(PermError, "i= is not of d=") // RFC 6376 §3.6.1: t=s
		}
		if err != nil {
			c.keyErr = err
			continue
		}
		c.keys = append(c.keys, k)
	}
}

// maxKeys is how many records of one name are tried (RFC 6376 §6.1.2, step 4).
const maxKeys = 3

// verify says what is wrong with the signature, once the body is hashed and the keys are there (RFC 6376 §6.1.3).
func (c *signatureCheck) verify(body hash.Hash) error {
	switch {
	case c.err != nil:
		return c.err
	case len(c.keys) == 0:
		return c.keyErr
	case subtle.ConstantTimeCompare(body.Sum(nil), c.bodyHash) != 1:
		return c.failed("the body was changed")
	}
	for _, k := range c.keys {
		switch key := k.key.(type) {
		case ed25519.PublicKey: // RFC 8463 §3
			if ed25519.Verify(key, c.digest, c.value) {
				return nil
			}
		case *rsa.PublicKey:
			if rsa.VerifyPKCS1v15(key, crypto.SHA256, c.digest, c.value) == nil {
				return nil
			}
		}
	}
	return c.failed("the header was changed, or the key is another one")
}

// failed is a signature that does not fit. RFC 6376 §3.6.1: while the domain tests its keys, that is as if there were none.
func (c *signatureCheck) failed(why string) error {
	if c.keys[0].testing {
		return flawed(Neutral, "%s; the domain tests its keys", why)
	}
	return flawed(Fail, "%s", why)
}
