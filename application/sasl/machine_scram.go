package sasl

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"
)

// scramServer is the server's half of RFC 5802 §5.
type scramServer struct {
	exchange
	plus      bool
	step      int
	first     clientFirst
	challenge string // the server-first-message
	nonce     string // the client's and ours
	name      string // prepared
	verifier  Verifier
	known     bool
}

// Next implements [Server].
func (s *scramServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if s.silent(response) {
		return []byte{}, false, nil
	}
	if len(response) > MaxMessage {
		return nil, false, fmt.Errorf("%w: %d octets", ErrMalformed, len(response))
	}
	s.step++
	switch s.step {
	case 1:
		challenge, err = s.begin(ctx, string(response))
		return challenge, false, err
	case 2:
		challenge, err = s.prove(ctx, string(response))
		return challenge, false, err
	case 3: // RFC 4954 §4: no data goes with success, so it went as a challenge, which gets an empty response
		if len(response) == 0 {
			return nil, true, nil
		}
	}
	s.identity = ""
	return nil, false, fmt.Errorf("%w: more after the end", ErrMalformed)
}

// begin answers the client-first-message with salt, count and nonce.
func (s *scramServer) begin(ctx context.Context, message string) ([]byte, error) {
	var err error
	if s.first, err = parseClientFirst(message); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if err := s.agree(); err != nil {
		return nil, err
	}
	if s.name, err = Prepare(s.first.username); err != nil {
		return nil, fmt.Errorf("%w: username: %w", ErrCredentials, err)
	}
	if err := s.auth.admit(s.ch, s.name); err != nil {
		return nil, err
	}
	if s.verifier, s.known, err = s.auth.verifier(ctx, s.name); err != nil {
		return nil, err
	}
	s.nonce = s.first.nonce + newNonce()
	s.challenge = serverFirst{s.nonce, s.verifier.Salt, s.verifier.Iterations}.format()
	return []byte(s.challenge), nil
}

// agree checks the gs2-cbind-flag against what runs here (RFC 5802 §6).
func (s *scramServer) agree() error {
	switch {
	case s.plus != (s.first.flag == 'p'):
		return fmt.Errorf("%w: channel binding and mechanism disagree", ErrCredentials)
	case s.first.flag == 'y' && offers(s.auth.Mechanisms(s.ch), SCRAMSHA256Plus):
		return fmt.Errorf("%w: channel binding was offered, and somebody hid it", ErrCredentials)
	case s.plus:
		if b, _ := s.ch.binding(); b.name != s.first.binding {
			return fmt.Errorf("%w: channel binding %.30q is not ours", ErrCredentials, s.first.binding)
		}
	}
	return nil
}

// prove checks the client-final-message and answers it with the proof that we know the account too.
func (s *scramServer) prove(ctx context.Context, message string) ([]byte, error) {
	final, err := parseClientFinal(message)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	input := []byte(s.first.header) // RFC 5802 §6: the server always validates "c="
	if s.plus {
		b, _ := s.ch.binding()
		input = append(input, b.data...)
	}
	authMessage := s.first.bare + "," + s.challenge + "," + final.withoutProof
	keys, proven := s.verifier.proven(final.proof, authMessage)
	switch {
	case !hmac.Equal(final.binding, input):
		return nil, s.auth.refuse(s.ch, s.name, s.verifier.Account, "channel bindings differ")
	case final.nonce != s.nonce:
		return nil, s.auth.refuse(s.ch, s.name, s.verifier.Account, "nonce")
	case !proven || !s.known:
		return nil, s.auth.refuse(s.ch, s.name, s.verifier.Account, "proof")
	}
	if err := s.authorise(ctx, s.verifier.Account, s.first.authzid); err != nil {
		return nil, err
	}
	s.auth.accept(s.ch, s.name)
	return []byte(serverFinal{verifier: hmacSHA256(keys.ServerKey, authMessage)}.format()), nil
}

// scramClient is the client's half.
type scramClient struct {
	username, password string
	least              int    // iterations that it takes
	header             string // gs2-header
	bound              []byte // channel binding data; nil without "p="
	nonce              string
	step               int
	signature          []byte // what the server must show
	trusted            bool
}

// SCRAM is a client of SCRAM-SHA-256, or of SCRAM-SHA-256-PLUS when plus says that the server offers it and ch can be bound.
func SCRAM(username, password string, ch Channel, plus bool) Client {
	return newSCRAM(username, password, ch, plus)
}

func newSCRAM(username, password string, ch Channel, plus bool) *scramClient {
	c := &scramClient{username: username, password: password, least: minIterations, nonce: newNonce(), header: "n,,"}
	if b, ok := ch.binding(); ok && plus {
		c.header, c.bound = "p="+b.name+",,", b.data
	} else if ok {
		c.header = "y,," // RFC 5802 §6: a server that did offer it will know that the offer was hidden from us
	}
	return c
}

// Name implements [Client].
func (c *scramClient) Name() string {
	if c.bound != nil {
		return SCRAMSHA256Plus
	}
	return SCRAMSHA256
}

func (c *scramClient) firstBare(name string) string { return "n=" + escape(name) + ",r=" + c.nonce }

// Start implements [Client].
func (c *scramClient) Start() ([]byte, error) {
	name, err := Prepare(c.username)
	if err != nil {
		return nil, fmt.Errorf("sasl: username: %w", err)
	}
	c.username = name
	return []byte(clientFirst{header: c.header, bare: c.firstBare(name)}.format()), nil
}

// Next implements [Client].
func (c *scramClient) Next(challenge []byte) ([]byte, error) {
	if len(challenge) > MaxMessage {
		return nil, fmt.Errorf("%w: challenge of %d octets", ErrServer, len(challenge))
	}
	c.step++
	switch c.step {
	case 1:
		return c.prove(string(challenge))
	case 2:
		return c.judge(string(challenge))
	}
	return nil, fmt.Errorf("%w: challenge after the end", ErrServer)
}

// prove answers the server-first-message.
func (c *scramClient) prove(challenge string) ([]byte, error) {
	first, err := parseServerFirst(challenge)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	}
	switch {
	case !strings.HasPrefix(first.nonce, c.nonce) || first.nonce == c.nonce: // RFC 5802 §5.1
		return nil, fmt.Errorf("%w: its nonce does not continue ours", ErrServer)
	case first.iterations < c.least || first.iterations > maxIterations:
		return nil, fmt.Errorf("%w: %d iterations", ErrServer, first.iterations)
	case len(first.salt) == 0 || len(first.salt) > maxSaltLength:
		return nil, fmt.Errorf("%w: salt of %d octets", ErrServer, len(first.salt))
	}
	salted, err := saltedPassword(c.password, first.salt, first.iterations)
	if err != nil {
		return nil, fmt.Errorf("sasl: password: %w", err)
	}
	input := append([]byte(c.header), c.bound...)
	final := clientFinal{withoutProof: "c=" + base64.StdEncoding.EncodeToString(input) + ",r=" + first.nonce}
	authMessage := c.firstBare(c.username) + "," + challenge + "," + final.withoutProof
	mine := keys(salted)
	c.signature = hmacSHA256(mine.ServerKey, authMessage)
	final.proof = xor(clientKey(salted), hmacSHA256(mine.StoredKey, authMessage))
	return []byte(final.format()), nil
}

// judge checks the server-final-message: the server must know the account as well (RFC 5802 §5).
func (c *scramClient) judge(challenge string) ([]byte, error) {
	final, err := parseServerFinal(challenge)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrServer, err)
	case final.err != "":
		return nil, fmt.Errorf("%w: %.80q", ErrCredentials, final.err)
	case !hmac.Equal(final.verifier, c.signature):
		return nil, fmt.Errorf("%w: wrong signature", ErrServer)
	}
	c.trusted = true
	return []byte{}, nil
}

func (c *scramClient) finish() error {
	if !c.trusted {
		return fmt.Errorf("%w: it did not prove that it knows the account (RFC 5802 §5)", ErrServer)
	}
	return nil
}

// newNonce returns 144 random bits in printable characters without a comma.
func newNonce() string {
	b := make([]byte, 18)
	rand.Read(b)
	return base64.StdEncoding.EncodeToString(b)
}
