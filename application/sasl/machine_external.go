package sasl

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

// externalServer is the server's half of RFC 4422 §A: the TLS handshake has proven who holds the certificate's key.
type externalServer struct{ exchange }

// Next implements [Server].
func (s *externalServer) Next(ctx context.Context, response []byte) (challenge []byte, done bool, err error) {
	if s.silent(response) {
		return []byte{}, false, nil
	}
	authzid := string(response)
	if len(authzid) > MaxMessage || !utf8.ValidString(authzid) || strings.Contains(authzid, "\x00") {
		return nil, false, fmt.Errorf("%w: EXTERNAL (RFC 4422 §A.1)", ErrMalformed)
	}
	account, err := s.auth.Accounts.Certificate(ctx, s.ch.TLS.PeerCertificates[0])
	switch {
	case errors.Is(err, ErrCredentials):
		return nil, false, err
	case err != nil:
		return nil, false, fmt.Errorf("%w: %w", ErrTemporary, err)
	}
	if err := s.authorise(ctx, account, authzid); err != nil {
		return nil, false, err
	}
	return nil, true, nil
}

// externalClient is the client's half: it acts as whoever the server sees in its certificate.
type externalClient struct{}

// External is a client of EXTERNAL. The certificate was shown in the TLS handshake.
func External() Client { return externalClient{} }

// Name implements [Client].
func (externalClient) Name() string { return EXTERNAL }

// Start implements [Client].
func (externalClient) Start() ([]byte, error) { return []byte{}, nil }

// Next implements [Client].
func (externalClient) Next([]byte) ([]byte, error) {
	return nil, fmt.Errorf("%w: challenge in EXTERNAL", ErrServer)
}
