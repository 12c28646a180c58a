package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
)

// outside stands for the Internet: the mail exchanger of every domain that is not the demo's.
type outside struct {
	ln       net.Listener
	received chan letter
	show     func(letter)
	sessions sync.WaitGroup
}

// letter is what outside received: enough to show.
type letter struct {
	At         time.Time
	From       string
	Recipients []string
	Subject    string
	Octets     int64
}

func newOutside(show func(letter)) (*outside, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	return &outside{ln: ln, received: make(chan letter, 1000), show: show}, nil
}

func (o *outside) address() string { return o.ln.Addr().String() }

func (o *outside) close() {
	o.ln.Close()
	o.sessions.Wait()
}

// run takes all mail for everybody until ctx ends.
func (o *outside) run(ctx context.Context) {
	defer context.AfterFunc(ctx, func() { o.ln.Close() })()
	srv := &smtp.Server{
		Hostname: "mx.elsewhere.example", Protocol: smtp.Relay, Policy: o, Accept: o,
		Log: slog.New(slog.DiscardHandler), Now: time.Now,
	}
	for {
		conn, err := o.ln.Accept()
		if err != nil {
			return
		}
		o.sessions.Go(func() {
			defer conn.Close()
			srv.Serve(ctx, smtp.NewConn(conn)) // how a session ends does not matter out there
		})
	}
}

// Mail and Rcpt make outside an smtp.Policy that takes everything.
func (o *outside) Mail(context.Context, *smtp.Session, *message.Envelope) error { return nil }

// Rcpt takes every recipient.
func (o *outside) Rcpt(context.Context, *smtp.Session, *message.Envelope, *message.Recipient) error {
	return nil
}

// Accept makes outside an smtp.Acceptor that keeps the last letters in memory.
func (o *outside) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	l := letter{From: env.ReversePath.String()}
	for _, to := range env.Recipients {
		l.Recipients = append(l.Recipients, to.Address.String())
	}
	counted := &countingReader{r: body}
	r := bufio.NewReader(counted)
	for {
		line, err := r.ReadString('\n')
		if subject, ok := strings.CutPrefix(line, "Subject: "); ok && l.Subject == "" {
			l.Subject = strings.TrimSpace(subject)
		}
		if strings.TrimSpace(line) == "" || err != nil {
			break
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	l.At, l.Octets = time.Now(), counted.n
	o.show(l)
	select {
	case o.received <- l:
	default: // nobody looks; the newest is worth more than the oldest
		<-o.received
		o.received <- l
	}
	return nil
}

// await waits for a letter with the subject.
func (o *outside) await(ctx context.Context, subject string) error {
	timer := time.NewTimer(hopTimeout)
	defer timer.Stop()
	for {
		select {
		case l := <-o.received:
			if l.Subject == subject {
				return nil
			}
		case <-timer.C:
			return errors.New("the Internet did not receive \"" + subject + "\" within " + hopTimeout.String())
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}
