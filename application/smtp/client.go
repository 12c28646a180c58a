package smtp

import (
	"context"
	"crypto/tls"
	"io"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
)

// Client is the sending side of SMTP on an open connection. It never dials. It is used by one goroutine at a time.
type Client struct {
	Conn     *Conn
	Hostname string // for EHLO
	Timeouts Timeouts
	// learnt from EHLO ...
}

// Timeouts are the client's waits (RFC 5321 §4.5.3.2); zero means the RFC's minimum.
type Timeouts struct {
	Greeting, Mail, Rcpt, DataInit, DataBlock, DataDone, Command time.Duration
}

// NewClient returns a client on c that will call itself hostname. It reads nothing.
func NewClient(c *Conn, hostname string, t Timeouts) *Client { return &Client{} }

// Greet reads the greeting and sends EHLO, falling back to HELO (RFC 5321 §3.2). A refusal is a Reply.
func (c *Client) Greet(ctx context.Context) error { panic("contract") }

// Has returns an EHLO keyword's parameters and whether the peer offered it.
func (c *Client) Has(keyword string) (params string, ok bool) { panic("contract") }

// StartTLS upgrades the connection and sends EHLO again (RFC 3207 §4.2).
func (c *Client) StartTLS(ctx context.Context, cfg *tls.Config) error { panic("contract") }

// Auth authenticates (RFC 4954 §4). A refusal is a Reply.
func (c *Client) Auth(ctx context.Context, m sasl.Client) error { panic("contract") }

// Do sends one command line and returns its reply; wait bounds the reply. It is how ATRN is sent.
func (c *Client) Do(ctx context.Context, line string, wait time.Duration) (Reply, error) {
	panic("contract")
}

// Send transfers one message: pipelined MAIL, RCPT and DATA or BDAT as the peer offers (RFC 2920, RFC 3030). The reply of each
// recipient stands at its index: what the peer answered to RCPT, or for accepted ones to the end of data. err is not nil when the
// connection is lost or out of step: then replies holds those that are certain, and the zero Reply for the rest (RFC 1047).
// body is read once; size is its exact number of octets.
func (c *Client) Send(ctx context.Context, env *message.Envelope, body io.Reader, size int64) (replies []Reply, err error) {
	panic("contract")
}

// Noop, Reset and Quit are RFC 5321 §4.1.1.9, §4.1.1.5, §4.1.1.10. Quit does not close the connection.
func (c *Client) Noop(ctx context.Context) error  { panic("contract") }
func (c *Client) Reset(ctx context.Context) error { panic("contract") }
func (c *Client) Quit(ctx context.Context) error  { panic("contract") }
