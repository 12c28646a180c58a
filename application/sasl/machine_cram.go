package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// cramServer is the server's half of RFC 2195 §2.
type cramServer struct {
	exchange
	challenge string
}

// Next implements [Server].
func (s *cramServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if s.challenge == "" {
		if response != nil { // RFC 4954 §4: 501 to an initial response where the server begins
			return nil, false, fmt.Errorf("%w: CRAM-MD5 has no initial response", ErrMalformed)
		}
		s.challenge = newChallenge(s.auth.Hostname, time.Now())
		return []byte(s.challenge), false, nil
	}
	username, digest, ok := parseCRAM(response)
	if !ok {
		return nil, false, fmt.Errorf("%w: CRAM-MD5 (RFC 2195 §2)", ErrMalformed)
	}
	name, err := Prepare(username)
	if err != nil {
		return nil, false, fmt.Errorf("%w: username: %w", ErrCredentials, err)
	}
	if err := s.auth.admit(s.ch, name); err != nil {
		return nil, false, err
	}
	v, known, err := s.auth.verifier(ctx, name)
	if err != nil {
		return nil, false, err
	}
	optedIn := len(v.CRAMSecret) > 0
	proven := hmac.Equal(digest, cramDigest(v.CRAMSecret, []byte(s.challenge)))
	if !proven || !known || !optedIn {
		return nil, false, s.auth.refuse(s.ch, name, v.Account, "digest")
	}
	s.auth.accept(s.ch, name)
	s.identity = v.Account
	return nil, true, nil
}

// parseCRAM reads a user name, a space and 32 hexadecimal digits of either case (RFC 2195 §2 sends lower). The response in RFC 2645 §6
// ends in a line feed, so one line end is borne.
func parseCRAM(response []byte) (username string, digest []byte, ok bool) {
	s := strings.TrimSuffix(strings.TrimSuffix(string(response), "\n"), "\r")
	cut := strings.LastIndexByte(s, ' ')
	if cut < 1 || len(response) > MaxMessage || !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return "", nil, false
	}
	digest, err := hex.DecodeString(s[cut+1:])
	return s[:cut], digest, err == nil && len(digest) == md5.Size
}

// newChallenge is a msg-id of random digits, a timestamp and the host's name (RFC 2195 §2).
func newChallenge(hostname string, now time.Time) string {
	if hostname == "" {
		hostname = "localhost"
	}
	var b [8]byte
	rand.Read(b[:])
	return fmt.Sprintf("<%d.%d@%s>", binary.BigEndian.Uint64(b[:]), now.Unix(), hostname)
}

func cramDigest(secret, challenge []byte) []byte {
	h := hmac.New(md5.New, secret)
	h.Write(challenge)
	return h.Sum(nil)
}

// cramClient is the client's half. It cannot tell a true server from a false one.
type cramClient struct {
	username, password string
	answered           bool
}

// CRAM is a client of CRAM-MD5. Who listens can guess at the password for as long as he likes.
func CRAM(username, password string) Client {
	return &cramClient{username: username, password: password}
}

// Name implements [Client].
func (*cramClient) Name() string { return CRAMMD5 }

// Start implements [Client].
func (*cramClient) Start() ([]byte, error) { return nil, nil }

// Next implements [Client].
func (c *cramClient) Next(challenge []byte) ([]byte, error) {
	if c.answered || len(challenge) == 0 || len(challenge) > MaxMessage {
		return nil, fmt.Errorf("%w: CRAM-MD5 challenge", ErrServer)
	}
	c.answered = true
	return []byte(c.username + " " + hex.EncodeToString(cramDigest([]byte(c.password), challenge))), nil
}
