package smtp

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"time"

	"bothy/application/sasl"
)

// KeywordAhead is the EHLO keyword of a server that takes EHLO before its greeting, AUTH behind EHLO, and one more command behind the
// last response of AUTH: a login that costs the round trips of its mechanism and no others. It is between two Bothys, who say so under
// TLS only; a client that remembers it from an earlier session may use it.
//
// RFC 5321 §4.3.1 and RFC 2920 §3.1 deviation, by agreement: the one lets clients wait for the greeting, the other puts EHLO last.
const KeywordAhead = "XAHEAD"

// ErrChanged says that a server is not any more what its client had remembered.
var ErrChanged = errors.New("smtp: the server is not what it was")

// Ahead greets, authenticates and sends one more command, line, in as few flights as m allows. It is for a server whose EHLO reply
// is known beforehand; greeted says that its greeting was read already, or that none comes (RFC 3207 §4.2). same judges the EHLO reply before
// anything that follows it is believed: when it returns false, or the server does not get as far, the error is ErrChanged, and the
// connection is of no use. Under TLS only, and m must not show the password: the server is asked nothing before m starts. wait bounds the
// reply to line. A refusal of AUTH is the error; what line was answered is the Reply.
func (c *Client) Ahead(ctx context.Context, m sasl.Client, greeted bool, same func() bool, line string, wait time.Duration) (Reply, error) {
	if err := c.Conn.begin(ctx); err != nil {
		return Reply{}, c.fail(ctx, err)
	}
	defer context.AfterFunc(ctx, c.Conn.interrupt())()
	response, err := m.Start()
	if err != nil {
		return Reply{}, err
	}
	c.queue("EHLO " + c.Hostname)
	c.queue("AUTH " + m.Name() + " " + encodeResponse(response, true))
	sent := c.behind(m, line)
	if err := c.Conn.flush(); err != nil {
		return Reply{}, c.fail(ctx, changed(ctx, err))
	}
	if err := c.hear(ctx, greeted, same); err != nil {
		return Reply{}, err
	}
	for {
		r, err := c.read(ctx, c.Timeouts.Command)
		switch {
		case err != nil:
			return Reply{}, err
		case r.Code == 334 && !sent:
			if sent, err = c.respond(ctx, m, r, line); err != nil {
				return Reply{}, err
			}
		case r.Code/100 == 3:
			return Reply{}, c.outOfStep("AUTH", r)
		case !r.Positive():
			return Reply{}, r
		case !sent: // it says yes without having proved who it is
			return Reply{}, c.fail(ctx, sasl.Finish(m))
		default:
			c.authed = true
			return c.read(ctx, wait)
		}
	}
}

// hear reads what comes before the reply to AUTH.
func (c *Client) hear(ctx context.Context, greeted bool, same func() bool) error {
	if !greeted {
		r, err := c.read(ctx, c.Timeouts.Greeting)
		switch {
		case err != nil:
			return changed(ctx, err)
		case r.Code != 220:
			return r
		}
	}
	r, err := c.read(ctx, c.Timeouts.Command)
	switch {
	case err != nil:
		return changed(ctx, err)
	case !r.Positive():
		return fmt.Errorf("%w: EHLO: %w", ErrChanged, r)
	}
	c.keywords = parseKeywords(r.Text)
	c.bounds = parseLimits(c.keywords["LIMITS"])
	if !same() {
		return fmt.Errorf("%w: it offers something else", ErrChanged)
	}
	return nil
}

// respond answers a challenge, with line behind it if that was the last.
func (c *Client) respond(ctx context.Context, m sasl.Client, r Reply, line string) (sent bool, err error) {
	challenge, err := base64.StdEncoding.DecodeString(r.Text)
	if err != nil {
		return false, c.cancelAuth(ctx, errors.New("smtp: challenge is not base64"))
	}
	answer, err := m.Next(challenge)
	if err != nil {
		return false, c.cancelAuth(ctx, err)
	}
	if err := c.inStep(); err != nil {
		return false, err
	}
	c.queue(encodeResponse(answer, false))
	sent = c.behind(m, line)
	if err := c.Conn.flush(); err != nil {
		return false, c.fail(ctx, err)
	}
	return sent, nil
}

// behind puts line behind the last response: once the server has proved what m wants of it.
func (c *Client) behind(m sasl.Client, line string) (sent bool) {
	if sasl.Finish(m) != nil {
		return false
	}
	c.queue(line)
	return true
}

func (c *Client) queue(line string) { c.Conn.out = append(append(c.Conn.out, line...), "\r\n"...) }

// changed is what a connection means that was lost before the server has said anything of use, unless it was ctx that ended it.
func changed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", ErrChanged, err)
}
