package pop3

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strings"

	"bothy/application/mailbox"
	"bothy/application/sasl"
)

// mechanisms lists what may be used on the connection as it is now.
func (s *session) mechanisms() []string {
	if s.server.Auth == nil {
		return nil
	}
	return s.server.Auth.Mechanisms(s.channel())
}

// user is USER (RFC 1939 §7). It tells nobody which names exist.
func (s *session) user(_ context.Context, arg string) error {
	if !slices.Contains(s.mechanisms(), sasl.PLAIN) {
		return refuse("", "no password before TLS: give STLS first") // RFC 3206 §5: USER never gets [AUTH]
	}
	s.username, s.state = arg, named
	s.ok("now PASS")
	return nil
}

// pass is PASS (RFC 1939 §7). Spaces belong to the password.
func (s *session) pass(ctx context.Context, arg string) error {
	account, err := s.server.Auth.Password(ctx, s.channel(), s.username, arg)
	if err != nil {
		return s.denied("USER", err)
	}
	return s.enter(ctx, account, "USER")
}

// auth is AUTH (RFC 5034 §4). Nothing of its lines is logged.
func (s *session) auth(ctx context.Context, arg string) error {
	mechanism, initial, given := strings.Cut(arg, " ")
	if s.server.Auth == nil {
		return refuse("", "no mechanism is available")
	}
	exchange, err := s.server.Auth.Start(mechanism, s.channel())
	if err != nil {
		return s.denied(mechanism, err)
	}
	var response []byte
	switch {
	case given && initial == "=": // there, and empty
		response = []byte{}
	case given:
		if response, err = parseResponse(initial); err != nil {
			return s.denied(mechanism, err)
		}
	}
	for {
		challenge, done, err := exchange.Next(ctx, response)
		if err != nil {
			return s.denied(mechanism, err)
		}
		if done {
			return s.enter(ctx, exchange.Identity(), mechanism)
		}
		s.w.WriteString("+ " + base64.StdEncoding.EncodeToString(challenge) + "\r\n") // with nothing but the space when it is empty
		line, err := s.readLine(ctx, maxResponse)
		if err != nil {
			return err
		}
		if string(line) == "*" {
			return refuse("", "cancelled")
		}
		if response, err = parseResponse(string(line)); err != nil {
			return s.denied(mechanism, err)
		}
	}
}

// denied is the refusal of a login that failed with err.
func (s *session) denied(mechanism string, err error) error {
	switch {
	case errors.Is(err, sasl.ErrCredentials):
		s.failed++
		s.log.Warn("login refused", "peer", s.channel().Peer, "mechanism", mechanism, "err", err) // err names the account, if there is one
		return refuse(codeAuth, "username or password is wrong")
	case errors.Is(err, sasl.ErrPlaintext):
		return refuse(codeAuth, "no password before TLS: give STLS first")
	case errors.Is(err, sasl.ErrMechanism):
		return refuse("", "mechanism is not available")
	case errors.Is(err, sasl.ErrMalformed):
		s.failed++
		return refuse("", "malformed response")
	case errors.Is(err, sasl.ErrThrottled):
		s.log.Warn("login has to wait", "peer", s.channel().Peer, "mechanism", mechanism, "err", err)
		return refuse(codeTemp, "cannot log in now")
	default:
		s.log.Error("login broke", "peer", s.channel().Peer, "mechanism", mechanism, "err", err)
		return refuse(codeTemp, "cannot log in now")
	}
}

// enter takes the account's maildrop and notes what is in it (RFC 1939 §4).
func (s *session) enter(ctx context.Context, account, mechanism string) error {
	release, err := s.server.Boxes.Hold(account)
	if errors.Is(err, mailbox.ErrInUse) {
		return refuse(codeInUse, "another session has the maildrop")
	}
	if err == nil {
		if s.messages, err = s.server.Boxes.Messages(ctx, account); err != nil {
			release()
		}
	}
	if err != nil {
		s.log.Error("maildrop does not open", "account", account, "err", err)
		return refuse(codeTemp, "maildrop does not open now")
	}
	s.account, s.release, s.state = account, release, transaction
	if s.server.Entered != nil {
		s.server.Entered(s.channel().Peer, account)
	}
	s.deleted = make([]bool, len(s.messages))
	s.log.Info("logged in", "account", account, "mechanism", mechanism, "tls", s.tls != nil)
	count, octets := s.drop()
	s.ok("maildrop has %d messages (%d octets)", count, octets)
	return nil
}
