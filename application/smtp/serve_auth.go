package smtp

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strings"

	"bothy/application/sasl"
)

// startTLS is STARTTLS (RFC 3207 §4).
func (s *Session) startTLS(ctx context.Context, _ string) (Reply, error) {
	switch {
	case s.Conn.TLS() != nil:
		return Reply{503, [3]int{5, 5, 1}, "TLS is active already"}, nil
	case s.server.TLS == nil:
		return replyNotHere, nil
	}
	if err := s.last(); err != nil { // RFC 3207 §4: whatever is behind it would be taken for encrypted
		return Reply{}, err
	}
	s.say(Reply{220, [3]int{2, 0, 0}, "ready to start TLS"})
	if err := s.Conn.flush(); err != nil {
		return Reply{}, err
	}
	err := s.Conn.secure(ctx, func(nc net.Conn) *tls.Conn { return tls.Server(nc, s.server.TLS) })
	if err != nil {
		return Reply{}, fmt.Errorf("smtp: STARTTLS: %w", err)
	}
	// RFC 3207 §4.2: forget what was learnt in the clear.
	s.reset()
	s.state, s.Helo, s.Extended = fresh, "", false
	if s.authed {
		s.Identity, s.authed = "", false
	}
	return Reply{}, nil
}

// auth is AUTH (RFC 4954 §4). Nothing of its lines is logged.
func (s *Session) auth(ctx context.Context, arg string) (Reply, error) {
	mechanism, initial, given := strings.Cut(arg, " ")
	switch {
	case s.server.Auth == nil:
		return replyNotHere, nil
	case !s.Extended:
		return replyGreet, nil
	case s.authed:
		return Reply{503, [3]int{5, 5, 1}, "authenticated already"}, nil
	case mechanism == "":
		return Reply{501, [3]int{5, 5, 4}, "want AUTH mechanism [initial-response]"}, nil
	}
	exchange, err := s.server.Auth.Start(strings.ToUpper(mechanism), s.channel())
	if err != nil {
		return s.failAuth(mechanism, err)
	}
	var response []byte
	if given {
		if response, err = decodeResponse(initial); err != nil {
			return s.failAuth(mechanism, err)
		}
	}
	for {
		challenge, done, err := exchange.Next(ctx, response)
		switch {
		case given && errors.Is(err, sasl.ErrMalformed) && s.serverBegins(ctx, mechanism): // RFC 4954 §4
			return s.countAuth(Reply{501, [3]int{5, 7, 0}, "the mechanism has no initial response"})
		case err != nil:
			return s.failAuth(mechanism, err)
		}
		given = false
		if done {
			break
		}
		s.say(Reply{Code: 334, Text: base64.StdEncoding.EncodeToString(challenge)})
		line, err := s.readLine(ctx)
		if err == nil && string(line) == "*" {
			return s.countAuth(replyCancelled)
		}
		if err == nil {
			response, err = decodeResponse(string(line))
		}
		switch {
		case errors.Is(err, errLineLength):
			return s.countAuth(replyAuthLong)
		case errors.Is(err, errLineEnd):
			return s.countAuth(replyLineEnd)
		case errors.Is(err, sasl.ErrMalformed):
			return s.failAuth(mechanism, err)
		case err != nil:
			return Reply{}, err
		}
	}
	s.Identity, s.authed, s.failures = exchange.Identity(), true, 0
	s.Log().Info("authenticated", "account", s.Identity, "mechanism", strings.ToUpper(mechanism))
	return Reply{235, [3]int{2, 7, 0}, "authentication succeeded"}, nil
}

// serverBegins reports whether a mechanism has no initial response.
func (s *Session) serverBegins(ctx context.Context, mechanism string) bool {
	exchange, err := s.server.Auth.Start(strings.ToUpper(mechanism), s.channel())
	if err != nil {
		return false
	}
	challenge, _, err := exchange.Next(ctx, nil)
	return err == nil && len(challenge) > 0
}

// decodeResponse reads a client's response: base64 without a single octet beside it, or "=" for one that is there and empty
// (RFC 4954 §4).
func decodeResponse(s string) ([]byte, error) {
	if s == "=" || s == "" {
		return []byte{}, nil
	}
	response, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || strings.ContainsAny(s, "\r\n") { // the decoder skips line ends
		return nil, fmt.Errorf("%w: not base64", sasl.ErrMalformed)
	}
	return response, nil
}

// failAuth answers a failed exchange (RFC 4954 §6).
func (s *Session) failAuth(mechanism string, err error) (Reply, error) {
	switch {
	case errors.Is(err, sasl.ErrMechanism):
		return Reply{504, [3]int{5, 5, 4}, "mechanism not available"}, nil
	case errors.Is(err, sasl.ErrPlaintext):
		return Reply{538, [3]int{5, 7, 11}, "encryption required for requested authentication mechanism"}, nil
	case errors.Is(err, sasl.ErrMalformed):
		return s.countAuth(Reply{501, [3]int{5, 5, 2}, "malformed authentication response"})
	case errors.Is(err, sasl.ErrCredentials): // err names the account, where there is one
		s.Log().Warn("authentication failed", "mechanism", strings.ToUpper(mechanism), "err", err)
		return s.countAuth(Reply{535, [3]int{5, 7, 8}, "authentication credentials invalid"})
	case errors.Is(err, sasl.ErrThrottled):
		s.Log().Warn("authentication has to wait", "mechanism", strings.ToUpper(mechanism), "err", err)
	default:
		s.Log().Error("authentication broke", "mechanism", strings.ToUpper(mechanism), "err", err)
	}
	return Reply{454, [3]int{4, 7, 0}, "temporary authentication failure"}, nil
}

// countAuth closes the session with the last failure that is borne (RFC 4954 §9).
func (s *Session) countAuth(r Reply) (Reply, error) {
	if s.failures++; s.failures >= s.limits.AuthFailures {
		return Reply{421, [3]int{4, 7, 0}, "too many authentication failures, closing connection"},
			fmt.Errorf("%w: %d failures of AUTH, the last was %w", ErrRefused, s.failures, r)
	}
	return r, nil
}
