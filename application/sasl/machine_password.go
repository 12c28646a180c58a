package sasl

import (
	"context"
	"fmt"
	"strings"
	"unicode/utf8"
)

// plainServer is the server's half of RFC 4616.
type plainServer struct{ exchange }

// Next implements [Server].
func (s *plainServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if s.silent(response) {
		return []byte{}, false, nil
	}
	authzid, username, password, ok := parsePlain(response)
	if !ok {
		return nil, false, fmt.Errorf("%w: PLAIN message (RFC 4616 §2)", ErrMalformed)
	}
	account, err := s.auth.Password(ctx, s.ch, username, password)
	if err != nil {
		return nil, false, err
	}
	if err := s.authorise(ctx, account, authzid); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}

// parsePlain reads message = [authzid] UTF8NUL authcid UTF8NUL passwd. RFC 4616 §2.
func parsePlain(message []byte) (authzid, username, password string, ok bool) {
	if len(message) > MaxMessage || !utf8.Valid(message) {
		return "", "", "", false
	}
	fields := strings.Split(string(message), "\x00")
	if len(fields) != 3 || fields[1] == "" || fields[2] == "" {
		return "", "", "", false
	}
	return fields[0], fields[1], fields[2], true
}

// plainClient is the client's half; the password goes as it is.
type plainClient struct{ username, password string }

// Plain is a client of PLAIN. The connection must be under TLS with the server verified; [Choose] sees to that.
func Plain(username, password string) Client { return plainClient{username, password} }

// Name implements [Client].
func (plainClient) Name() string { return PLAIN }

// Start implements [Client].
func (c plainClient) Start() ([]byte, error) {
	message := []byte("\x00" + c.username + "\x00" + c.password)
	if _, _, _, ok := parsePlain(message); !ok {
		return nil, fmt.Errorf("sasl: username or password empty, too long or with NUL (RFC 4616 §2)")
	}
	return message, nil
}

// Next implements [Client].
func (plainClient) Next([]byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: challenge in PLAIN", ErrServer)
}

// loginServer is the server's half of LOGIN: two questions, two answers. The first answer may come unasked.
type loginServer struct {
	exchange
	username string
}

// Next implements [Server].
func (s *loginServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	switch {
	case s.silent(response):
		return []byte("Username:"), false, nil
	case len(response) == 0 || len(response) > MaxMessage:
		return nil, false, fmt.Errorf("%w: LOGIN", ErrMalformed)
	case s.username == "":
		s.username = string(response)
		return []byte("Password:"), false, nil
	}
	s.identity, err = s.auth.Password(ctx, s.ch, s.username, string(response))
	return nil, err == nil, err
}

// loginClient is the client's half: it answers in order and does not read the questions, which are not the same everywhere.
type loginClient struct{ answers []string }

// Login is a client of LOGIN, for servers without PLAIN. The same holds as for [Plain].
func Login(username, password string) Client { return &loginClient{[]string{username, password}} }

// Name implements [Client].
func (*loginClient) Name() string { return LOGIN }

// Start implements [Client].
func (*loginClient) Start() ([]byte, error) { return nil, nil }

// Next implements [Client].
func (c *loginClient) Next([]byte) ([]byte, error) {
	if len(c.answers) == 0 {
		return nil, fmt.Errorf("%w: third question in LOGIN", ErrServer)
	}
	answer := c.answers[0]
	c.answers = c.answers[1:]
	return []byte(answer), nil
}
