package mtasts

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// place is a domain with a policy host, and a clock.
type place struct {
	store  *Store
	client *http.Client
	mu     sync.Mutex
	now    time.Time
	texts  []string
	dnsErr error
	status int
	media  string
	text   string
	hits   atomic.Int32
}

// newPlace starts a policy host on loopback; its certificate, for example.com, stands for the one of every policy host.
func newPlace(t *testing.T, hostInCertificate string) *place {
	t.Helper()
	p := &place{now: time.Now(), texts: []string{"v=STSv1; id=1;"}, status: 200, media: "text/plain; charset=utf-8", text: example}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.hits.Add(1)
		p.mu.Lock()
		defer p.mu.Unlock()
		if r.URL.Path != "/.well-known/mta-sts.txt" {
			return
		}
		w.Header().Set("Content-Type", p.media)
		if p.status/100 == 3 {
			w.Header().Set("Location", "https://mta-sts.far.example/.well-known/mta-sts.txt")
		}
		w.WriteHeader(p.status)
		fmt.Fprint(w, p.text)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	roots := x509.NewCertPool()
	roots.AddCert(server.Certificate())
	p.client = NewClient(func(ctx context.Context, network, address string) (net.Conn, error) {
		if !strings.HasSuffix(address, ":443") || !strings.HasPrefix(address, "mta-sts.") {
			return nil, fmt.Errorf("dialled %s", address)
		}
		return new(net.Dialer).DialContext(ctx, network, server.Listener.Addr().String())
	}, &tls.Config{RootCAs: roots})
	p.client.Transport.(*http.Transport).TLSClientConfig.ServerName = hostInCertificate
	p.store = p.open(t.TempDir())
	return p
}

// open is a store after a restart.
func (p *place) open(dir string) *Store {
	return &Store{
		Dir: dir, Client: p.client,
		TXT: func(_ context.Context, name string) ([]string, error) {
			p.mu.Lock()
			defer p.mu.Unlock()
			if name != "_mta-sts.far.example" {
				return nil, nil
			}
			return p.texts, p.dnsErr
		},
		Now: func() time.Time { p.mu.Lock(); defer p.mu.Unlock(); return p.now },
	}
}

// change changes the place after some time.
func (p *place) change(after time.Duration, f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = p.now.Add(after)
	f()
}

func (p *place) expect(t *testing.T, s *Store, what string, mode Mode, hits int32) {
	t.Helper()
	got := Mode("")
	if policy := s.Policy(t.Context(), "far.example"); policy != nil {
		got = policy.Mode
	}
	if h := p.hits.Swap(0); got != mode || h != hits {
		t.Errorf("%s: mode %q after %d fetches, want %q after %d", what, got, h, mode, hits)
	}
}

func TestPolicy(t *testing.T) {
	p := newPlace(t, "example.com")
	s := p.store
	p.expect(t, s, "first", Enforce, 1)
	p.expect(t, s, "again", Enforce, 0)
	p.change(0, func() {
		p.texts, p.text = []string{"v=STSv1; id=2;"}, strings.Replace(example, "enforce", "testing", 1)
	})
	p.expect(t, s, "a new id", Testing, 1)
	p.change(25*time.Hour, func() { p.text = example })
	p.expect(t, s, "a day later", Enforce, 1)
	s = p.open(s.Dir)
	p.expect(t, s, "after a restart", Enforce, 0)
	p.change(23*time.Hour, func() {})
	p.expect(t, p.open(s.Dir), "a restart, and not yet a day", Enforce, 0)
	p.change(2*time.Hour, func() {})
	s = p.open(s.Dir)
	p.expect(t, s, "a day whatever restarts", Enforce, 1)
	p.change(0, func() { p.texts = nil })
	p.expect(t, s, "the record is gone", Enforce, 0) // RFC 8461 §3.3
	p.change(0, func() { p.dnsErr = errors.New("no answer") })
	p.expect(t, p.open(s.Dir), "no answer from DNS, after a restart", Enforce, 0)
	p.change(0, func() { p.texts, p.dnsErr, p.status = []string{"v=STSv1; id=3;"}, nil, 500 })
	p.expect(t, s, "the policy host is broken", Enforce, 1)
	p.expect(t, s, "it is left alone", Enforce, 0)
	p.change(0, func() { p.texts = []string{"v=STSv1; id=4;"} })
	p.expect(t, s, "but for another id", Enforce, 1)
	p.change(failurePause, func() {})
	p.expect(t, s, "for five minutes", Enforce, 1)
	p.change(8*24*time.Hour, func() {})
	p.expect(t, s, "max_age is over", "", 1)
	p.change(failurePause, func() { p.status, p.text = 200, "version: STSv1\nmode: none\nmax_age: 86400\n" })
	p.expect(t, s, "the domain has done with it", "", 1)
	p.expect(t, s, "which is kept", "", 0)
	p.change(24*time.Hour, func() { p.text = strings.Replace(example, "604800", "3600", 1) })
	p.expect(t, s, "an hour's policy", Enforce, 1)
	p.change(time.Hour-1, func() {})
	p.expect(t, s, "holds for the hour", Enforce, 0)
	p.change(1, func() {})
	p.expect(t, s, "and is fetched anew behind it", Enforce, 1)
	if got := s.Policy(t.Context(), "other.example"); got != nil {
		t.Errorf("another domain has %+v", got)
	}
}

func TestNoPolicy(t *testing.T) {
	for name, change := range map[string]func(*place){
		"redirect":              func(p *place) { p.status = 302 }, // RFC 8461 §3.3
		"404":                   func(p *place) { p.status = 404 },
		"204":                   func(p *place) { p.status = 204 },
		"203":                   func(p *place) { p.status = 203 },
		"HTML":                  func(p *place) { p.media = "text/html" },
		"no media type":         func(p *place) { p.media = "" },
		"too long":              func(p *place) { p.text = example + strings.Repeat("x-y: z\r\n", maxSize/8) },
		"no policy":             func(p *place) { p.text = "hello" },
		"certificate of nobody": func(p *place) { p.client.Transport.(*http.Transport).TLSClientConfig.RootCAs = x509.NewCertPool() },
	} {
		p := newPlace(t, "example.com")
		change(p)
		if got := p.store.Policy(t.Context(), "far.example"); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
		if p.hits.Load() > 1 {
			t.Errorf("%s: %d fetches", name, p.hits.Load())
		}
	}
	if p := newPlace(t, ""); p.store.Policy(t.Context(), "far.example") != nil { // asks for mta-sts.far.example
		t.Error("a certificate for another name was taken")
	}
}

// TestWhatIsOnDisk: files that are no policies are as good as none, and no domain names a file elsewhere.
func TestWhatIsOnDisk(t *testing.T) {
	p := newPlace(t, "example.com")
	p.texts = nil
	for name, content := range map[string]string{
		"garbage": "\x00\x01", "no time": "1 yesterday\n\n" + example, "the future": "1 2999-01-01T00:00:00Z\n\n" + example,
		"no policy": "1 2020-01-01T00:00:00Z\n\nhello", "empty": "",
	} {
		if err := os.WriteFile(filepath.Join(p.store.Dir, "far.example"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := p.open(p.store.Dir).Policy(t.Context(), "far.example"); got != nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for _, domain := range []string{"", "..", "../far.example", ".far.example", "a/b", "[192.0.2.1]", "FAR.example", "far.example.", strings.Repeat("a.", 200) + "a"} {
		if got := p.store.Policy(t.Context(), domain); got != nil || p.store.domains[domain] != nil {
			t.Errorf("%q: %+v", domain, got)
		}
	}
}

// TestOneFetches: a burst of connections to a domain asks its policy host once.
func TestOneFetches(t *testing.T) {
	p := newPlace(t, "example.com")
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if p.store.Policy(t.Context(), "far.example") == nil {
				t.Error("no policy")
			}
		})
	}
	wg.Wait()
	if got := p.hits.Load(); got != 1 {
		t.Errorf("%d fetches", got)
	}
}

// TestMemoryIsBounded: mail to ever more domains does not take ever more memory.
func TestMemoryIsBounded(t *testing.T) {
	p := newPlace(t, "example.com")
	for i := range maxInMemory + 500 {
		p.store.Policy(t.Context(), fmt.Sprintf("d%d.example", i))
	}
	if got := len(p.store.domains); got > maxInMemory {
		t.Errorf("%d domains", got)
	}
}
