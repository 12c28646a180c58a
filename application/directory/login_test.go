package directory

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/application/sasl"
)

// login runs an exchange over d as SMTP does.
func login(t *testing.T, d *Directory, c sasl.Client, ch sasl.Channel) (string, error) {
	t.Helper()
	a := &sasl.Authenticator{Accounts: d, Secret: d.Secret(), Allowed: []string{sasl.EXTERNAL, sasl.SCRAMSHA256, sasl.PLAIN, sasl.LOGIN, sasl.CRAMMD5}}
	s, err := a.Start(c.Name(), ch)
	if err != nil {
		t.Fatal(err)
	}
	response, err := c.Start()
	for err == nil {
		var challenge []byte
		var done bool
		if challenge, done, err = s.Next(t.Context(), response); done && err == nil {
			return s.Identity(), sasl.Finish(c)
		}
		if err == nil {
			response, err = c.Next(challenge)
		}
	}
	return "", err
}

func TestLogin(t *testing.T) {
	d := village(t)
	if err := d.SetDisabled(t.Context(), "boatman", true); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ username, password, account string }{
		{"keeper@light.example", "keeper's", "keeper@light.example"},
		{"KEEPER@Light.example", "keeper's", "keeper@light.example"},
		{"k@light.example", "keeper's", "keeper@light.example"},
		{"clinic", "clinic's", "clinic"},
		{"Clinic", "clinic's", "clinic"},
		{"clinic", "keeper's", ""},
		{"keeper", "keeper's", ""},
		{"info@light.example", "keeper's", ""}, // an alias is nobody
		{"k+x@light.example", "keeper's", ""},
		{"boatman", "boatman's", ""}, // disabled
		{"nobody", "x", ""},
		{"@", "x", ""},
	} {
		under := sasl.Channel{TLS: &tls.ConnectionState{}}
		for _, c := range []sasl.Client{
			sasl.SCRAM(test.username, test.password, sasl.Channel{}, false), sasl.Plain(test.username, test.password),
			sasl.Login(test.username, test.password), sasl.CRAM(test.username, test.password),
		} {
			account, err := login(t, d, c, under)
			if account != test.account || (err == nil) != (test.account != "") || err != nil && !errors.Is(err, sasl.ErrCredentials) {
				t.Errorf("%s, %s: %q, %v", c.Name(), test.username, account, err)
			}
		}
	}
}

func TestPasswords(t *testing.T) {
	d, ctx := village(t), t.Context()
	cram := func(password string) bool {
		_, err := login(t, d, sasl.CRAM("nurse", password), sasl.Channel{})
		return err == nil
	}
	scram := func(password string) bool {
		_, err := login(t, d, sasl.SCRAM("nurse", password, sasl.Channel{}, false), sasl.Channel{})
		return err == nil
	}
	expect := func(err error, password string, byCRAM bool) {
		t.Helper()
		if err != nil || !scram(password) || cram(password) != byCRAM {
			t.Errorf("%v; SCRAM %v, CRAM %v, want %v", err, scram(password), cram(password), byCRAM)
		}
	}
	expect(nil, "nurse's", false)
	expect(d.SetPassword(ctx, "nurse", "second"), "second", false)
	expect(d.SetCRAM(ctx, "nurse", true, "third"), "third", true)
	expect(d.SetPassword(ctx, "nurse", "fourth"), "fourth", true)
	expect(d.SetCRAM(ctx, "nurse", false, ""), "fourth", false)
	if scram("third") {
		t.Error("an old password lives")
	}
	if a, err := d.Account(ctx, "nurse"); err != nil || a.CRAM {
		t.Errorf("%+v, %v", a, err)
	}
}

// No password stands in any file, and a sealed one opens for its own account only.
func TestSealed(t *testing.T) {
	d, ctx := village(t), t.Context()
	info, err := os.Stat(d.file + ".key")
	if err != nil || info.Mode().Perm() != 0o600 || info.Size() != 65 {
		t.Errorf("%v, %v", info, err)
	}
	for _, file := range []string{d.file, d.file + "-wal", d.file + ".key"} {
		if content, err := os.ReadFile(file); err != nil || bytes.Contains(content, []byte("keeper's")) || bytes.Contains(content, []byte("clinic's")) {
			t.Errorf("%s: %v, or a password is in it", file, err)
		}
	}
	s := d.state.Load()
	sealed := s.accounts["clinic"].sealed
	if _, err := d.key.unseal("keeper@light.example", sealed); err == nil {
		t.Error("opens for another")
	}
	for n := range sealed {
		changed := bytes.Clone(sealed)
		changed[n] ^= 1
		if _, err := d.key.unseal("clinic", changed); err == nil {
			t.Errorf("octet %d changed: opens", n)
		}
		if _, err := d.key.unseal("clinic", sealed[:n]); err == nil {
			t.Errorf("cut to %d: opens", n)
		}
	}
	again, err := d.key.seal("clinic", "clinic's")
	if err != nil || bytes.Equal(again, sealed) {
		t.Errorf("the same twice: %v", err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}

	// Without the key, CRAM-MD5 alone fails; and no new key takes its place.
	if err := os.Rename(d.file+".key", d.file+".away"); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	lost, err := Options{Log: slog.New(slog.NewTextHandler(&log, nil))}.Open(ctx, d.file)
	if err != nil {
		t.Fatal(err)
	}
	defer lost.Close()
	if _, err := login(t, lost, sasl.SCRAM("clinic", "clinic's", sasl.Channel{}, false), sasl.Channel{}); err != nil {
		t.Error(err)
	}
	if _, err := login(t, lost, sasl.CRAM("clinic", "clinic's"), sasl.Channel{}); !errors.Is(err, sasl.ErrCredentials) {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "cannot be unsealed") || strings.Contains(log.String(), "clinic's") {
		t.Errorf("log: %s", log.String())
	}
	err = lost.SetCRAM(ctx, "nurse", true, "x")
	if !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "bring it back, or take CRAM-MD5 from account") {
		t.Error(err)
	}
	if _, err := os.Stat(d.file + ".key"); !errors.Is(err, fs.ErrNotExist) {
		t.Error("a new key was made")
	}
	if err := os.WriteFile(d.file+".key", []byte("not a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := lost.SetPassword(ctx, "clinic", "x"); err == nil || !strings.Contains(err.Error(), "want 64 hexadecimal digits") {
		t.Error(err)
	}
	if err := os.Rename(d.file+".away", d.file+".key"); err != nil {
		t.Fatal(err)
	}
	if _, err := login(t, lost, sasl.CRAM("clinic", "clinic's"), sasl.Channel{}); err != nil {
		t.Errorf("the key is back: %v", err)
	}
}

func TestCertificate(t *testing.T) {
	d, ctx := village(t), t.Context()
	issue := func(key ed25519.PrivateKey, serial int64) *x509.Certificate {
		template := &x509.Certificate{SerialNumber: big.NewInt(serial)}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	_, key, _ := ed25519.GenerateKey(rand.Reader)
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	cert, renewed, stranger := issue(key, 1), issue(key, 2), issue(other, 1)
	if err := d.AddCertificate(ctx, "clinic", strings.ToUpper(Fingerprint(cert))); err != nil {
		t.Fatal(err)
	}
	if err := d.AddCertificate(ctx, "school", Fingerprint(renewed)); !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), "account clinic already") {
		t.Error(err)
	}
	ask := func(cert *x509.Certificate, want string) {
		t.Helper()
		ch := sasl.Channel{TLS: &tls.ConnectionState{PeerCertificates: []*x509.Certificate{cert}}}
		if got, err := login(t, d, sasl.External(), ch); got != want || (err == nil) != (want != "") || err != nil && !errors.Is(err, sasl.ErrCredentials) {
			t.Errorf("%q, %v; want %q", got, err, want)
		}
	}
	ask(cert, "clinic")
	ask(renewed, "clinic")
	ask(stranger, "")
	if all, err := d.Certificates(ctx); err != nil || len(all) != 1 || all[0] != (Certificate{Fingerprint(cert), "clinic"}) {
		t.Errorf("%v, %v", all, err)
	}
	if err := d.SetDisabled(ctx, "clinic", true); err != nil {
		t.Fatal(err)
	}
	ask(cert, "")
	if err := errors.Join(d.SetDisabled(ctx, "clinic", false), d.RemoveCertificate(ctx, Fingerprint(cert))); err != nil {
		t.Fatal(err)
	}
	ask(cert, "")
}

// Passwords of programs log in as the account, one by one, and outlive a change of its own.
func TestAppPasswords(t *testing.T) {
	d := open(t, filepath.Join(t.TempDir(), "directory.db"))
	ctx := t.Context()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	logsIn := func(want bool, passwords ...string) {
		t.Helper()
		v, err := d.Verifier(ctx, "keeper")
		check(err)
		for _, p := range passwords {
			if v.Check(p) != want {
				t.Errorf("%q logs in: %t", p, !want)
			}
		}
	}
	check(d.AddAccount(ctx, Account{Name: "keeper"}, "lamp"))
	check(d.AddAppPassword(ctx, "Keeper", " telephone ", "quill"))
	check(d.AddAppPassword(ctx, "keeper", "printer", "pencil"))
	logsIn(true, "lamp", "quill", "pencil")
	check(d.SetPassword(ctx, "keeper", "light"))
	logsIn(true, "light", "quill", "pencil")
	logsIn(false, "lamp", "")
	check(d.RemoveAppPassword(ctx, "keeper", "telephone"))
	logsIn(true, "light", "pencil")
	logsIn(false, "quill")
	before, _ := d.Verifier(ctx, "keeper")
	check(d.RemoveAppPassword(ctx, "keeper", "printer"))
	check(d.SetPassword(ctx, "keeper", "light"))
	if after, _ := d.Verifier(ctx, "keeper"); bytes.Equal(before.Salt, after.Salt) {
		t.Error("a salt that nothing needs was kept")
	}
	for kind, err := range map[error]error{
		ErrNotFound: d.AddAppPassword(ctx, "nobody", "telephone", "x"),
		ErrInvalid:  d.AddAppPassword(ctx, "keeper", "tele\nphone", "x"),
	} {
		if !errors.Is(err, kind) {
			t.Error(err)
		}
	}
	check(d.AddAppPassword(ctx, "keeper", "printer", "pencil"))
	for i, err := range []error{
		d.AddAppPassword(ctx, "keeper", "printer", "pencil"), d.AddAppPassword(ctx, "keeper", "", "x"), d.AddAppPassword(ctx, "keeper", "x", ""),
		d.AddAppPassword(ctx, "keeper", "x", "\x00"), d.RemoveAppPassword(ctx, "keeper", "x"),
	} {
		if err == nil {
			t.Errorf("%d went well", i)
		}
	}
	for i := 1; i < maxApps; i++ {
		check(d.AddAppPassword(ctx, "keeper", fmt.Sprint(i), "x"))
	}
	if err := d.AddAppPassword(ctx, "keeper", "more", "x"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if list, err := d.AppPasswords(ctx); err != nil || len(list) != maxApps || list[0].App != "1" {
		t.Error(len(list), err)
	}
	check(d.RemoveAccount(ctx, "keeper"))
	if list, _ := d.AppPasswords(ctx); len(list) != 0 {
		t.Error(list)
	}
}
