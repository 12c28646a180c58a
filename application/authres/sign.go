package authres

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
)

// Signer signs messages with the keys of their authors' domains. Its fields are set before first use; it is safe for concurrent use.
type Signer struct {
	Keys []*Key
	Now  func() time.Time // nil: time.Now
}

// ErrAuthor says that a message has not one From field with an address, so that nobody can be said to have signed for its author.
var ErrAuthor = errors.New("authres: a message without an author")

// Sign reads a message once, from open, and returns the DKIM-Signature fields to send before it, each with its CRLF: one for every key of
// the author's domain, or else of the nearest domain above it; nil when there is none, and then the body is not read. The text sent must be,
// octet for octet, the one that was read. It holds the header, at most message.DefaultHeaderSize octets, and nothing of the body.
func (s *Signer) Sign(open func() (io.ReadCloser, error)) ([]byte, error) {
	if len(s.Keys) == 0 {
		return nil, nil
	}
	r, err := open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	header, body, err := message.ReadHeader(r, message.DefaultHeaderSize)
	if err != nil {
		return nil, err
	}
	domain, err := author(&header)
	if err != nil {
		return nil, err
	}
	keys := s.keysOf(domain)
	if len(keys) == 0 {
		return nil, nil
	}
	hash := sha256.New()
	canon := &relaxedBody{w: hash}
	if _, err := io.Copy(canon, body); err != nil {
		return nil, err
	}
	canon.Close()
	now := time.Now
	if s.Now != nil {
		now = s.Now
	}
	var out []byte
	for _, k := range keys {
		field, err := k.field(&header, hash.Sum(nil), now())
		if err != nil {
			return nil, err
		}
		out = append(out, field...)
	}
	return out, nil
}

// author is the domain of the first address in From.
func author(h *message.Header) (domain string, err error) {
	from := h.All("From")
	if len(from) != 1 {
		return "", ErrAuthor
	}
	list, err := message.ParseAddressList(from[0])
	if err != nil || len(list) == 0 {
		return "", ErrAuthor
	}
	a, _ := list[0].ASCII()
	return a.Domain, nil
}

// keysOf returns the keys of a domain, or those of the nearest domain above it that has any (RFC 6376 §3.10 lets a parent sign).
func (s *Signer) keysOf(domain string) []*Key {
	var keys []*Key
	for more := true; more && len(keys) == 0; _, domain, more = strings.Cut(domain, ".") {
		for _, k := range s.Keys {
			if k.Domain == domain {
				keys = append(keys, k)
			}
		}
	}
	return keys
}

// field is the DKIM-Signature field for a message (RFC 6376 §3.5, §3.7).
func (k *Key) field(h *message.Header, bodyHash []byte, at time.Time) ([]byte, error) {
	names, fields := choose(h)
	b := []byte("DKIM-Signature: v=1; a=" + k.Algorithm() + "-sha256; c=relaxed/relaxed;\r\n\td=" + k.Domain + "; s=" + k.Selector + ";\r\n\tt=")
	b = strconv.AppendInt(b, at.Unix(), 10)
	b = append(b, ";\r\n\th="...)
	b = appendList(b, len("\th="), names)
	b = append(b, ";\r\n\tbh="...)
	b = appendBase64(b, len("\tbh="), bodyHash)
	b = append(b, ";\r\n\tb="...)

	digest := sha256.New()
	var canon []byte
	for _, f := range fields {
		canon = append(appendRelaxed(canon[:0], f), crlf...)
		digest.Write(canon)
	}
	digest.Write(appendRelaxed(canon[:0], b)) // RFC 6376 §3.7: with b= empty, and without its CRLF
	signature, err := k.sign(digest.Sum(nil))
	if err != nil {
		return nil, err
	}
	return append(appendBase64(b, len("\tb="), signature), crlf...), nil
}

func (k *Key) sign(digest []byte) ([]byte, error) {
	if private, ok := k.private.(ed25519.PrivateKey); ok { // RFC 8463 §3: PureEdDSA over the digest
		return ed25519.Sign(private, digest), nil
	}
	return k.private.Sign(rand.Reader, digest, crypto.SHA256) // RFC 6376 §3.3.2: PKCS #1 v1.5
}
