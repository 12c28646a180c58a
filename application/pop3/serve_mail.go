package pop3

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"bothy/application/mailbox"
	"bothy/application/message"
)

// drop counts the messages that are not marked, and their octets.
func (s *session) drop() (count int, octets int64) {
	for i, m := range s.messages {
		if !s.deleted[i] {
			count++
			octets += m.Size
		}
	}
	return count, octets
}

// find returns the index of the message that arg numbers (RFC 1939 §5: which may not refer to one marked as deleted).
func (s *session) find(arg string) (int, error) {
	n, ok := parseNumber(arg)
	switch {
	case !ok:
		return 0, errSyntax
	case n < 1 || n > len(s.messages):
		return 0, refuse("", "no such message, only %d in the maildrop", len(s.messages))
	case s.deleted[n-1]:
		return 0, refuse("", "message %d is deleted", n)
	}
	return n - 1, nil
}

func (s *session) stat(context.Context, string) error {
	count, octets := s.drop()
	s.ok("%d %d", count, octets)
	return nil
}

func (s *session) list(_ context.Context, arg string) error {
	return s.listing(arg, func(m mailbox.Message) string { return fmt.Sprint(m.Size) })
}

// uidl is UIDL (RFC 1939 §7). A unique-id is the message's own: it outlives even the mailbox's index, and never comes again.
func (s *session) uidl(_ context.Context, arg string) error {
	return s.listing(arg, func(m mailbox.Message) string { return m.ID.String() })
}

// listing answers with what of says of one message, or of each that is not marked.
func (s *session) listing(arg string, of func(mailbox.Message) string) error {
	if arg != "" {
		i, err := s.find(arg)
		if err == nil {
			s.ok("%d %s", i+1, of(s.messages[i]))
		}
		return err
	}
	count, octets := s.drop()
	s.ok("%d messages (%d octets)", count, octets)
	for i, m := range s.messages {
		if !s.deleted[i] {
			s.say(fmt.Sprintf("%d %s", i+1, of(m)))
		}
	}
	s.say(".")
	return nil
}

func (s *session) retr(ctx context.Context, arg string) error {
	i, err := s.find(arg)
	if err != nil {
		return err
	}
	if err := s.send(ctx, s.messages[i], -1); err != nil {
		return err
	}
	s.sent++
	return nil
}

func (s *session) top(ctx context.Context, arg string) error {
	number, lines, _ := strings.Cut(arg, " ")
	most, ok := parseNumber(lines)
	if !ok {
		return errSyntax
	}
	i, err := s.find(number)
	if err != nil {
		return err
	}
	return s.send(ctx, s.messages[i], most)
}

// send sends a message, or the top of it. When it breaks off in the middle the session ends: there is no other way to say so.
func (s *session) send(ctx context.Context, m mailbox.Message, most int) error {
	body, err := s.server.Boxes.Body(ctx, s.account, m)
	if err != nil {
		s.log.Error("message not readable", "account", s.account, "id", m.ID, "err", err)
		if errors.Is(err, mailbox.ErrDamaged) {
			return refuse(codePerm, "the message is damaged")
		}
		return refuse(codeTemp, "the message is not readable now")
	}
	defer body.Close()
	if most < 0 {
		s.ok("%d octets", m.Size)
	} else {
		s.ok("top of message follows")
	}
	return writeMessage(s.w, body, most)
}

func (s *session) dele(_ context.Context, arg string) error {
	i, err := s.find(arg)
	if err != nil {
		return err
	}
	s.deleted[i] = true
	s.ok("message %d deleted", i+1)
	return nil
}

func (s *session) noop(context.Context, string) error {
	s.say("+OK")
	return nil
}

func (s *session) rset(context.Context, string) error {
	clear(s.deleted)
	count, octets := s.drop()
	s.ok("maildrop has %d messages (%d octets)", count, octets)
	return nil
}

// quit is QUIT: in TRANSACTION the way through UPDATE (RFC 1939 §6).
func (s *session) quit(ctx context.Context, _ string) error {
	if s.state != transaction {
		s.ok("bye")
		return errQuit
	}
	var gone []message.ID
	for i, m := range s.messages {
		if s.deleted[i] {
			gone = append(gone, m.ID)
		}
	}
	err := s.server.Boxes.Remove(ctx, s.account, gone)
	s.release() // before the response: the client may come back at once
	if err != nil {
		s.log.Error("messages not removed", "account", s.account, "err", err)
		s.refuse(refusal{codeTemp, "deleted messages were not removed"})
		return errQuit
	}
	s.ok("bye, %d messages left", len(s.messages)-len(gone))
	return errQuit
}
