package transcript

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// echo answers "got " and the line to each line but "bye", which closes.
func echo(conn net.Conn) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		s, err := r.ReadString('\n')
		if err != nil || s == "bye\r\n" {
			return
		}
		if _, err := fmt.Fprintf(conn, "got %s", s); err != nil {
			return
		}
	}
}

func dialEcho(*testing.T, string) net.Conn {
	tester, program := net.Pipe()
	go echo(program)
	return tester
}

func TestRun(t *testing.T) {
	Run(t, "testdata/client*.txt", func(t *testing.T, name string) net.Conn {
		if name != "client" {
			t.Errorf("name %q", name)
		}
		tester, program := net.Pipe()
		go func() {
			r := bufio.NewReader(program)
			r.ReadString('\n')
			fmt.Fprint(program, "HELO you\r\n")
			r.ReadString('\n')
			fmt.Fprint(program, "220 turned\r\n")
			echo(program)
		}()
		return tester
	})
}

func TestTLS(t *testing.T) {
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(1)}, &x509.Certificate{}, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert := tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	Run(t, "testdata/tls.txt", func(*testing.T, string) net.Conn {
		tester, program := net.Pipe()
		go func() {
			r := bufio.NewReader(program)
			s, _ := r.ReadString('\n')
			fmt.Fprintf(program, "got %s", s)
			echo(tls.Server(program, &tls.Config{Certificates: []tls.Certificate{cert}}))
		}()
		return WithTLS(tester, func(c net.Conn) *tls.Conn { return tls.Client(c, &tls.Config{InsecureSkipVerify: true}) })
	})
}

// A dialogue that does not hold must fail, at the line that does not.
func TestFailures(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"other text":    {"C: a\nS: got a\nC: b\n# rule\nS: got c\n", "f.txt:5: \n\twant S: got c\n\tgot  S: got b"},
		"silence":       {"C> a\nS: got a\n", "f.txt:2: \n\twant S: got a\n\tgot  # transcript: nothing came"},
		"closed":        {"C: bye\nS: got bye\n", "\tgot  S: EOF"},
		"still open":    {"C: a\nS: got a\nS: EOF\n", "f.txt:3: \n\twant S: EOF"},
		"more came":     {"C: a\nC: b\nS: got a\n", `at its end more came: "got b"`},
		"not unescaped": {"C: \\q\n", `f.txt:1: unknown escape: "\\q"`},
		"no dialogue":   {"hello\n", `f.txt:1: not a line of a dialogue: "hello"`},
		"raw expected":  {"S> hello\n", "only the tester (C) sends raw octets"},
		"sent wildcard": {"C: ${any}\n", "${any} cannot be sent"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "f.txt")
			if err := os.WriteFile(file, []byte(c.file), 0o600); err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				lines, err := readFile(file)
				if err == nil {
					conn := dialEcho(t, "")
					p := &player{file: file, conn: conn, ear: listen(conn), lines: lines, wait: time.Second}
					err = p.play()
					synctest.Wait()
					if err == nil {
						err = p.play()
					}
					conn.Close()
				}
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("got %v\nwant %s", err, c.want)
				}
			})
		})
	}
}

func TestUpdate(t *testing.T) {
	const before = "# rule one\nC: a\n# rule two\nC: b\nS: got ${any}\nS: wrong\nS: surplus\n# rule three\nC: c \n\n# rule four\nC: bye\n"
	const after = "# rule one\nC: a\n# rule two\nC: b\nS: got ${any}\nS: got b\n# rule three\nC: c \nS: got c\\x20\n\n# rule four\nC: bye\nS: EOF\n"
	file := filepath.Join(t.TempDir(), "f.txt")
	for _, content := range []string{before, after} { // updating what is right changes nothing
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			lines, err := readFile(file)
			if err != nil {
				t.Fatal(err)
			}
			conn := dialEcho(t, "")
			p := &player{file: file, conn: conn, ear: listen(conn), lines: lines, wait: time.Second, updating: true}
			err = p.play()
			conn.Close()
			if err != nil {
				t.Fatal(err)
			}
			p.save(t)
		})
		got, err := os.ReadFile(file)
		if err != nil || string(got) != after {
			t.Errorf("got\n%s\nwant\n%s(%v)", got, after, err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, got string
		want         bool
	}{
		{"250 ok", "250 ok", true},
		{"250 ok", "250 ok ", false},
		{"250 ${any}", "250 ", true},
		{"250 ${any} x ${any}", "250 1 x 2", true},
		{"250 ${any} x ${any}", "250 1 2", false},
		{"a${any}a", "a", false},
		{"${any}ab${any}b", "abab", true},
	} {
		if got := matches(c.pattern, c.got); got != c.want {
			t.Errorf("matches(%q, %q) = %v", c.pattern, c.got, got)
		}
	}
}

func FuzzEscape(f *testing.F) {
	f.Add("250 a\\b\x00\xff${any} ")
	f.Add("EOF")
	f.Fuzz(func(t *testing.T, s string) {
		if parts, err := unescape(escape(s)); err != nil || len(parts) != 1 || parts[0] != s {
			t.Fatalf("%q became %q (%v)", s, parts, err)
		}
	})
}
