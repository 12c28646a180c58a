package main

import (
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/mtqp"
)

// trackCmd asks what became of a message.
type trackCmd struct {
	Envid    string        `arg:"" help:"The message's envelope id, as \"bothy sendmail --track\" printed it."`
	Secret   string        `arg:"" help:"Its secret, in base64."`
	Server   string        `required:"" placeholder:"HOST[:PORT]" help:"Who to ask: the server it was submitted to, or one that an answer names."`
	Insecure bool          `help:"Do without TLS, or with any certificate: whoever listens can ask the same."`
	Timeout  time.Duration `default:"2m" help:"How long to wait."`
}

func (trackCmd) Help() string {
	return `Asks a server by the Message Tracking Query Protocol (RFC 3887) and prints its answer (RFC 3886): for each recipient what was done, when, and by whom.
"transferred" names the server to ask next, "relayed" one that cannot be asked.

Examples:

    bothy sendmail --track -f me@clinic.example doctor@hospital.example < hello.eml
    bothy track --server mail.clinic.example 06eai3g...@mail.clinic.example c2VjcmV0...`
}

func (c *trackCmd) Run(ctx context.Context, _ *globals, std stdio) error {
	secret, err := base64.RawStdEncoding.DecodeString(strings.TrimRight(c.Secret, "="))
	if err != nil {
		return exit{exitUsage, errors.New("the secret is not base64")}
	}
	address := c.Server
	if _, _, err := net.SplitHostPort(address); err != nil {
		address = net.JoinHostPort(address, "1038") // RFC 3887 §2
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	defer conn.Close()
	host, _, _ := net.SplitHostPort(address)
	answer, err := mtqp.Ask(ctx, conn, &tls.Config{ServerName: host, InsecureSkipVerify: c.Insecure}, !c.Insecure, c.Envid, secret)
	if err != nil {
		return err
	}
	_, err = io.WriteString(std.out, strings.ReplaceAll(answer, "\r\n", "\n"))
	return err
}

// track makes a message one that can be asked about, and says how (RFC 3885 §3).
func (l *outgoing) track(hostname string, now time.Time, tell io.Writer) {
	secret := make([]byte, 16)
	rand.Read(secret) // it never fails
	hash := sha1.Sum(secret)
	if !strings.Contains(l.env.EnvelopeID, "@") { // RFC 3885 §3.2
		l.env.EnvelopeID = message.NewID(now).String() + "@" + hostname
	}
	l.env.Tracking = message.Tracking{Certifier: string(hash[:]), Until: now.Add(9 * 24 * time.Hour)}
	fmt.Fprintf(tell, "bothy track %s %s\n", l.env.EnvelopeID, base64.StdEncoding.EncodeToString(secret))
}
