package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"bothy/application/message"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/management/admin"

	site "bothy"
)

// journeys sends the demo's four messages and returns the first that did not arrive.
func (d *demo) journeys(ctx context.Context) error {
	if err := d.site.await(ctx, site.LinkUp, ""); err != nil {
		return err
	}
	for _, j := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"Outward: the nurse writes to her aunt", d.outward},
		{"Inward: the aunt answers; the site's session is open, and what comes is pushed down it", d.inward},
		{"The link goes down: mail waits on both sides, nothing is refused, nothing grows old", d.dark},
	} {
		d.show.chapter(j.title)
		if err := j.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(j.title[:1])+j.title[1:], err)
		}
	}
	return nil
}

func (d *demo) outward(ctx context.Context) error {
	const subject = "All well at the clinic"
	if err := d.submit(ctx, subject); err != nil {
		return err
	}
	return d.arrivesOutside(ctx, subject)
}

func (d *demo) inward(ctx context.Context) error {
	if err := d.provider.await(ctx, site.Turned, d.ships[0].Account); err != nil {
		return err
	}
	if err := d.deliver(ctx, "Good to hear"); err != nil {
		return err
	}
	held, err := d.provider.find(ctx, site.Held, nurse)
	if err != nil {
		return err
	}
	pushed, err := d.site.find(ctx, site.Routed, nurse)
	if err != nil {
		return err
	}
	d.show.note("site", pushed.At, fmt.Sprintf("pushed: on the disk here %d ms after the provider's 250", max(0, pushed.At.Sub(held.At).Milliseconds())))
	return d.arrivesInside(ctx)
}

func (d *demo) dark(ctx context.Context) error {
	d.line.Down()
	d.mailLine.Down()
	if err := d.site.await(ctx, site.LinkDown, ""); err != nil {
		return err
	}
	const subject = "Written in the dark"
	if err := d.submit(ctx, subject); err != nil {
		return err
	}
	if err := d.deliver(ctx, "Are you there?"); err != nil {
		return err
	}
	if err := errors.Join(d.site.await(ctx, site.Routed, outsider), d.provider.await(ctx, site.Held, nurse)); err != nil {
		return err
	}
	for _, h := range []*half{d.site, d.provider} {
		if err := d.showWaiting(ctx, h); err != nil {
			return err
		}
	}
	if err := errors.Join(d.mailLine.Up(), d.line.Up()); err != nil {
		return err
	}
	if err := d.site.await(ctx, site.LinkUp, ""); err != nil {
		return err
	}
	if err := d.arrivesOutside(ctx, subject); err != nil {
		return err
	}
	return d.arrivesInside(ctx)
}

// submit sends a message from the nurse through the site's submission port, as a mail program does.
func (d *demo) submit(ctx context.Context, subject string) error {
	roots, err := roots(d.caFile())
	if err != nil {
		return err
	}
	conn, err := net.Dial("tcp", d.site.listen["submission"][0])
	if err != nil {
		return err
	}
	defer conn.Close()
	c := smtp.NewClient(smtp.NewConn(conn), "laptop.clinic.example", smtp.Timeouts{})
	if err := c.Greet(ctx); err != nil {
		return err
	}
	if err := c.StartTLS(ctx, &tls.Config{RootCAs: roots, ServerName: siteHost, MinVersion: tls.VersionTLS12}); err != nil {
		return err
	}
	params, _ := c.Has("AUTH")
	channel := sasl.Channel{TLS: c.Conn.TLS()}
	mechanism, err := sasl.Choose(strings.Fields(params), channel, sasl.Credentials{Username: nurse, Password: d.accounts[0].Password})
	if err != nil {
		return err
	}
	if err := c.Auth(ctx, mechanism); err != nil {
		return err
	}
	return sendOne(ctx, c, nurse, outsider, subject)
}

// deliver sends a message from the Internet to the provider's border port, as the aunt's server does.
func (d *demo) deliver(ctx context.Context, subject string) error {
	conn, err := net.Dial("tcp", d.provider.listen["smtp"][0])
	if err != nil {
		return err
	}
	defer conn.Close()
	c := smtp.NewClient(smtp.NewConn(conn), "mx.elsewhere.example", smtp.Timeouts{})
	if err := c.Greet(ctx); err != nil {
		return err
	}
	return sendOne(ctx, c, outsider, nurse, subject)
}

func sendOne(ctx context.Context, c *smtp.Client, from, to, subject string) error {
	sender, err := message.ParseAddress(from)
	if err != nil {
		return err
	}
	recipient, err := message.ParseAddress(to)
	if err != nil {
		return err
	}
	content := fmt.Sprintf("From: <%s>\r\nTo: <%s>\r\nSubject: %s\r\nDate: %s\r\nMessage-ID: <%s@%s>\r\n\r\n%s.\r\n",
		from, to, subject, message.FormatDate(time.Now()), message.NewID(time.Now()), sender.Domain, subject)
	env := &message.Envelope{ReversePath: sender, Recipients: []message.Recipient{{Address: recipient}}}
	replies, err := c.Send(ctx, env, strings.NewReader(content), int64(len(content)))
	if err != nil {
		return err
	}
	if !replies[0].Positive() {
		return replies[0]
	}
	return c.Quit(ctx)
}

func (d *demo) arrivesOutside(ctx context.Context, subject string) error {
	if err := d.outside.await(ctx, subject); err != nil {
		return err
	}
	return errors.Join(d.provider.await(ctx, site.Relayed, outsider), d.site.await(ctx, site.Relayed, outsider))
}

// arrivesInside waits for the delivery into the nurse's mailbox and reads it by POP3, as her mail program does.
func (d *demo) arrivesInside(ctx context.Context) error {
	if err := d.site.await(ctx, site.Delivered, nurse); err != nil {
		return err
	}
	subject, err := d.readPOP3()
	if err != nil {
		return fmt.Errorf("POP3: %w", err)
	}
	d.show.note("site", time.Now(), "read by POP3: \""+subject+"\"")
	return nil
}

// readPOP3 returns the subject of the newest message and leaves the maildrop as it is.
func (d *demo) readPOP3() (subject string, err error) {
	roots, err := roots(d.caFile())
	if err != nil {
		return "", err
	}
	conn, err := tls.Dial("tcp", d.site.listen["pop3s"][0], &tls.Config{RootCAs: roots, ServerName: siteHost, MinVersion: tls.VersionTLS12})
	if err != nil {
		return "", err
	}
	text := textproto.NewConn(conn)
	defer text.Close()
	command := func(line string) (string, error) {
		if line != "" {
			if err := text.PrintfLine("%s", line); err != nil {
				return "", err
			}
		}
		reply, err := text.ReadLine()
		if err == nil && !strings.HasPrefix(reply, "+OK") {
			err = errors.New(reply)
		}
		return reply, err
	}
	var stat string
	for _, line := range []string{"", "USER " + nurse, "PASS " + d.accounts[0].Password, "STAT"} {
		if stat, err = command(line); err != nil {
			return "", err
		}
	}
	fields := strings.Fields(stat)
	if len(fields) < 2 {
		return "", errors.New(stat)
	}
	if n, err := strconv.Atoi(fields[1]); err != nil || n == 0 {
		return "", fmt.Errorf("the maildrop is empty: %s", stat)
	}
	if _, err := command("RETR " + fields[1]); err != nil {
		return "", err
	}
	header, err := text.ReadMIMEHeader()
	if err != nil {
		return "", err
	}
	if _, err := text.ReadDotBytes(); err != nil {
		return "", err
	}
	_, err = command("QUIT")
	return header.Get("Subject"), err
}

// showWaiting tells how much mail waits at a half, from the same call that `bothy status` makes.
func (d *demo) showWaiting(ctx context.Context, h *half) error {
	client := admin.Dial(h.cfg.AdminSocket())
	defer client.Close()
	var status site.Status
	if err := client.Call(ctx, "GET", "/v1/status", nil, &status); err != nil {
		return err
	}
	for _, lane := range status.Lanes {
		d.show.note(h.name, time.Now(), fmt.Sprintf("%d waiting in lane %s", lane.Waiting, lane.Lane))
	}
	return nil
}

// await is find for those who need no more than that it was found.
func (h *half) await(ctx context.Context, what site.What, recipient string) error {
	_, err := h.find(ctx, what, recipient)
	return err
}

// find waits for a step at this half; recipient "" stands for any. Each step is found once, in whatever order they are awaited.
func (h *half) find(ctx context.Context, what site.What, recipient string) (found site.Event, err error) {
	timer := time.NewTimer(hopTimeout)
	defer timer.Stop()
	fits := func(e site.Event) bool { return e.What == what && (recipient == "" || e.Recipient == recipient) }
	for {
		if i := slices.IndexFunc(h.passed, fits); i >= 0 {
			found = h.passed[i]
			h.passed = slices.Delete(h.passed, i, i+1)
			return found, nil
		}
		select {
		case e := <-h.events:
			h.passed = append(h.passed, e)
		case err := <-h.ended:
			h.ended <- err
			return found, fmt.Errorf("the %s stopped: %w", h.name, err)
		case <-timer.C:
			return found, fmt.Errorf("the %s did not get as far as \"%s\" within %v", h.name, strings.TrimSpace(string(what)+" "+recipient), hopTimeout)
		case <-ctx.Done():
			return found, ctx.Err()
		}
	}
}

func roots(caFile string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate", caFile)
	}
	return pool, nil
}

func newPassword() string { return rand.Text()[:16] }
