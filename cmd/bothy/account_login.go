package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"bothy/application/directory"
)

// accountDisableCmd keeps accounts out for a while.
type accountDisableCmd struct {
	Name []string `arg:"" help:"The accounts."`
}

func (accountDisableCmd) Help() string {
	return `For a lost telephone or an unpaid bill: mail for the account still arrives and waits, a customer's is still held. Sessions that are open
are not ended. To refuse its mail, remove its addresses.

Examples:

    bothy account disable nurse@clinic.example`
}

func (c *accountDisableCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Disabled", c.Name, func(name string) error { return d.SetDisabled(ctx, name, true) })
	})
}

// accountEnableCmd lets them in again.
type accountEnableCmd struct {
	Name []string `arg:"" help:"The accounts."`
}

func (accountEnableCmd) Help() string {
	return `The password and everything else are what they were.

Examples:

    bothy account enable nurse@clinic.example`
}

func (c *accountEnableCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "Enabled", c.Name, func(name string) error { return d.SetDisabled(ctx, name, false) })
	})
}

// accountCRAMCmd is about the one mechanism that needs the password itself.
type accountCRAMCmd struct {
	On  accountCRAMOnCmd  `cmd:"" help:"Allow CRAM-MD5; needs the account's password."`
	Off accountCRAMOffCmd `cmd:"" help:"Allow it no longer, and forget the password that was kept for it."`
}

func (accountCRAMCmd) Help() string {
	return `CRAM-MD5 is for clients that know nothing better, such as fetchmail calling by ODMR without TLS. The server must then keep the password
itself (RFC 2195 §2), sealed with a key beside the directory; of all other passwords it keeps a verifier only.`
}

type accountCRAMOnCmd struct {
	Name         string `arg:"" help:"The account."`
	PasswordFile string `placeholder:"FILE" help:"File with the password in its first line. Without it a terminal asks, and else it is read from standard input."`
}

func (accountCRAMOnCmd) Help() string {
	return `The password must be the one that the account has; "bothy account passwd --cram" sets another.

Examples:

    bothy account cram on clinic
    bothy account cram on clinic --password-file secret`
}

func (c *accountCRAMOnCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		account, err := d.Account(ctx, c.Name)
		if err != nil {
			return err
		}
		if account.Disabled {
			return fmt.Errorf("account %s is disabled: bothy account enable %[1]s", account.Name)
		}
		verifier, err := d.Verifier(ctx, account.Name)
		if err != nil {
			return err
		}
		password, err := passwordFlags{c.PasswordFile}.known(ctx, account.Name, std)
		if err != nil {
			return err
		}
		verifier.Apps = nil // those of programs are not kept for it
		if !verifier.Check(password) {
			return fmt.Errorf("that is not the password of %s; `bothy account passwd --cram %[1]s` sets another", account.Name)
		}
		if err := d.SetCRAM(ctx, account.Name, true, password); err != nil {
			return err
		}
		_, err = fmt.Fprintln(std.out, "CRAM-MD5 is allowed for", account.Name)
		return err
	})
}

type accountCRAMOffCmd struct {
	Name []string `arg:"" help:"The accounts."`
}

func (accountCRAMOffCmd) Help() string {
	return `Examples:

    bothy account cram off clinic`
}

func (c *accountCRAMOffCmd) Run(ctx context.Context, g *globals, std stdio) error {
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		return each(std, "CRAM-MD5 is not allowed for", c.Name, func(name string) error { return d.SetCRAM(ctx, name, false, "") })
	})
}

// accountCertificateCmd is about keys that log in.
type accountCertificateCmd struct {
	Name        string `arg:"" optional:"" help:"The account."`
	Certificate string `arg:"" optional:"" help:"PEM file with the certificate, or the fingerprint that this command prints."`
	Remove      bool   `help:"Take the certificate back."`
	JSON        bool   `help:"Print JSON."`
}

func (accountCertificateCmd) Help() string {
	return `Without a certificate this lists those of the account, or of all accounts. What counts is the public key, known by the SHA-256 of its
SubjectPublicKeyInfo: any issuer will do, also the certificate itself, and a certificate renewed for the same key needs nothing. An end of
validity does not count either: take back a key that is not to be trusted any more.

Examples:

    bothy account certificate nurse@clinic.example cert.pem
    bothy account certificate nurse@clinic.example cert.pem --remove
    bothy account certificate --json`
}

func (c *accountCertificateCmd) Run(ctx context.Context, g *globals, std stdio) error {
	if c.Certificate == "" {
		if c.Remove {
			return exit{exitUsage, fmt.Errorf("which? Give the account and its certificate, or the fingerprint")}
		}
		return g.withDirectory(ctx, func(d *directory.Directory) error { return c.list(ctx, d, std) })
	}
	fingerprint, err := readFingerprint(c.Certificate)
	if err != nil {
		return err
	}
	return g.withDirectory(ctx, func(d *directory.Directory) error {
		account, err := d.Account(ctx, c.Name)
		if err != nil {
			return err
		}
		done := "Logs in to "
		if c.Remove {
			done = "Logs in no longer to "
			err = c.remove(ctx, d, directory.Certificate{Fingerprint: fingerprint, Account: account.Name})
		} else {
			err = d.AddCertificate(ctx, account.Name, fingerprint)
		}
		switch {
		case err != nil:
			return err
		case c.JSON:
			return printJSON(std.out, directory.Certificate{Fingerprint: fingerprint, Account: account.Name})
		}
		_, err = fmt.Fprintln(std.out, done+account.Name+":", fingerprint)
		return err
	})
}

// remove takes back a key from the account it was said to be of, and from no other.
func (c *accountCertificateCmd) remove(ctx context.Context, d *directory.Directory, key directory.Certificate) error {
	all, err := d.Certificates(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(all, key) {
		return fmt.Errorf("%s does not log in to account %s", key.Fingerprint, key.Account)
	}
	return d.RemoveCertificate(ctx, key.Fingerprint)
}

func (c *accountCertificateCmd) list(ctx context.Context, d *directory.Directory, std stdio) error {
	all, err := d.Certificates(ctx)
	if err == nil && c.Name != "" {
		var account directory.Account
		account, err = d.Account(ctx, c.Name)
		all = slices.DeleteFunc(all, func(k directory.Certificate) bool { return k.Account != account.Name })
	}
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(std.out, append([]directory.Certificate{}, all...)) // [] and not null
	}
	rows := [][]string{{"ACCOUNT", "FINGERPRINT"}}
	for _, k := range all {
		rows = append(rows, []string{k.Account, k.Fingerprint})
	}
	return printTable(std.out, rows)
}

// maxCertificate bounds a file with a certificate, in octets.
const maxCertificate = 1 << 20

// readFingerprint takes a fingerprint as it is, and reads it from the first certificate of a PEM file otherwise.
func readFingerprint(s string) (string, error) {
	if fingerprint := strings.ToLower(strings.ReplaceAll(s, ":", "")); isFingerprint(fingerprint) {
		return fingerprint, nil
	}
	f, err := os.Open(s)
	if err != nil {
		return "", err
	}
	defer f.Close()
	rest, err := io.ReadAll(io.LimitReader(f, maxCertificate))
	if err != nil {
		return "", err
	}
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return "", fmt.Errorf("%s holds no certificate in PEM, which begins with -----BEGIN CERTIFICATE-----", s)
		}
		if block.Type != "CERTIFICATE" { // a key, or parameters
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", fmt.Errorf("%s: %w", s, err)
		}
		return directory.Fingerprint(cert), nil
	}
}

func isFingerprint(s string) bool {
	return len(s) == 64 && !bytes.ContainsFunc([]byte(s), func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) })
}
