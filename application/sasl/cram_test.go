package sasl

import (
	"encoding/base64"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"
)

func decode(t *testing.T, s string) []byte {
	t.Helper()
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// RFC 2195 §2.
func TestCRAMVector(t *testing.T) {
	challenge := decode(t, "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+")
	const response = "dGltIGI5MTNhNjAyYzdlZGE3YTQ5NWI0ZTZlNzMzNGQzODkw"
	c := CRAM("tim", "tanstaaftanstaaf")
	if first, err := c.Start(); first != nil || err != nil {
		t.Fatalf("initial response %q, %v", first, err)
	}
	if got, err := c.Next(challenge); err != nil || base64.StdEncoding.EncodeToString(got) != response {
		t.Fatalf("%q, %v", got, err)
	}
	if _, err := c.Next(challenge); !errors.Is(err, ErrServer) {
		t.Errorf("second challenge: %v", err)
	}
	a := &Authenticator{Allowed: []string{CRAMMD5}, Accounts: house{verifiers: map[string]Verifier{"tim": {Account: "tim", CRAMSecret: []byte("tanstaaftanstaaf")}}}}
	answer := string(decode(t, response))
	for _, variant := range []string{answer, answer + "\n", answer + "\r\n", "tim B913A602C7EDA7A495B4E6E7334D3890"} {
		s := start(t, a, CRAMMD5, plainChannel).(*cramServer)
		s.Next(t.Context(), nil)
		s.challenge = string(challenge)
		if _, done, err := s.Next(t.Context(), []byte(variant)); !done || err != nil || s.Identity() != "tim" {
			t.Errorf("%q: %v, %v, as %q", variant, done, err, s.Identity())
		}
	}
	for n := range len(answer) {
		s := start(t, a, CRAMMD5, plainChannel).(*cramServer)
		s.Next(t.Context(), nil)
		s.challenge = string(challenge)
		if _, done, err := s.Next(t.Context(), []byte(answer[:n])); done || !errors.Is(err, ErrMalformed) || s.Identity() != "" {
			t.Errorf("cut to %q: %v, %v", answer[:n], done, err)
		}
	}
}

// RFC 2645 §6: both lines of the example end in a line feed once decoded.
func TestCRAMInODMRExample(t *testing.T) {
	if got := string(decode(t, "MTg5Ni42OTcxNzA5NTJASVNQLkNPTQo=")); got != "1896.697170952@ISP.COM\n" {
		t.Errorf("challenge %q", got)
	}
	name, digest, ok := parseCRAM(decode(t, "Zm9vYmFyLm5ldCBiOTEzYTYwMmM3ZWRhN2E0OTViNGU2ZTczMzRkMzg5MAo="))
	if !ok || name != "foobar.net" || len(digest) != 16 || digest[0] != 0xb9 {
		t.Errorf("%q, %x, %v", name, digest, ok)
	}
	// Our client answers such a challenge as it came, without angle brackets and with the line feed.
	if response, err := CRAM("foobar.net", "secret").Next([]byte("1896.697170952@ISP.COM\n")); err != nil || !strings.HasPrefix(string(response), "foobar.net ") {
		t.Errorf("%q, %v", response, err)
	}
}

func TestCRAMServer(t *testing.T) {
	s := start(t, newAuthenticator(), CRAMMD5, plainChannel)
	if _, _, err := s.Next(t.Context(), []byte("keeper")); !errors.Is(err, ErrMalformed) { // RFC 4954 §4
		t.Errorf("initial response: %v", err)
	}
	seen := map[string]bool{}
	for range 100 {
		challenge := newChallenge("light.example", time.Unix(1e9, 0))
		if !regexp.MustCompile(`^<[0-9]+\.1000000000@light\.example>$`).MatchString(challenge) || seen[challenge] {
			t.Fatalf("challenge %q", challenge)
		}
		seen[challenge] = true
	}
	for _, odd := range []string{
		"", " ", "keeper", " b913a602c7eda7a495b4e6e7334d3890", "keeper b913a602c7eda7a495b4e6e7334d389", "keeper b913a602c7eda7a495b4e6e7334d38900",
		"keeper b913a602c7eda7a495b4e6e7334d389g", "keeper b913a602c7eda7a495b4e6e7334d3890\n\n", "ke\x00eper b913a602c7eda7a495b4e6e7334d3890",
		"\xff b913a602c7eda7a495b4e6e7334d3890", strings.Repeat("k", MaxMessage) + " b913a602c7eda7a495b4e6e7334d3890",
	} {
		if _, _, ok := parseCRAM([]byte(odd)); ok {
			t.Errorf("%.50q: accepted", odd)
		}
	}
	if name, _, ok := parseCRAM([]byte("ship's cook b913a602c7eda7a495b4e6e7334d3890")); !ok || name != "ship's cook" {
		t.Errorf("a name with a space: %q, %v", name, ok)
	}
	for _, challenge := range []string{"", strings.Repeat("x", MaxMessage+1)} {
		if _, err := CRAM("keeper", "x").Next([]byte(challenge)); !errors.Is(err, ErrServer) {
			t.Errorf("challenge of %d octets: %v", len(challenge), err)
		}
	}
}

func FuzzPasswordMessages(f *testing.F) {
	f.Add([]byte("\x00keeper\x00secret"))
	f.Add([]byte("tim b913a602c7eda7a495b4e6e7334d3890"))
	f.Fuzz(func(t *testing.T, message []byte) {
		if authzid, username, password, ok := parsePlain(message); ok && authzid+"\x00"+username+"\x00"+password != string(message) {
			t.Fatalf("PLAIN %q: %q, %q, %q", message, authzid, username, password)
		}
		if username, digest, ok := parseCRAM(message); ok && (len(digest) != 16 || !strings.HasPrefix(string(message), username+" ")) {
			t.Fatalf("CRAM %q: %q, %x", message, username, digest)
		}
	})
}
