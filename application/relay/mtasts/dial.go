package mtasts

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"time"
)

// Bounds of one fetch.
const (
	fetchTimeout = time.Minute // RFC 8461 §3.3
	maxHeader    = 16 << 10    // octets
)

// NewClient returns what fetches policies: over connections that dial opens, to servers whose certificate base verifies (RFC 8461
// §3.3), without redirects, proxies, kept connections or a cache.
func NewClient(dial func(ctx context.Context, network, address string) (net.Conn, error), base *tls.Config) *http.Client {
	cfg := new(tls.Config)
	if base != nil {
		cfg.RootCAs, cfg.Time = base.RootCAs, base.Time
	}
	return &http.Client{
		Timeout:       fetchTimeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }, // RFC 8461 §3.3
		Transport: &http.Transport{
			DialContext: dial, TLSClientConfig: cfg, TLSHandshakeTimeout: fetchTimeout / 2,
			DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: maxHeader,
		},
	}
}

// fetch gets the text of domain's policy (RFC 8461 §3.3).
func fetch(ctx context.Context, client *http.Client, domain string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://mta-sts."+domain+"/.well-known/mta-sts.txt", nil)
	if err != nil {
		return "", err
	}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK { // RFC 8461 §3.3: nothing else will do
		return "", fmt.Errorf("mtasts: the policy host answers %s", resp.Status)
	}
	if media, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || media != "text/plain" { // RFC 8461 §3.2
		return "", fmt.Errorf("mtasts: the policy is %.40q and not text/plain", resp.Header.Get("Content-Type"))
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxSize+1))
	switch {
	case err != nil:
		return "", err
	case len(text) > maxSize:
		return "", fmt.Errorf("mtasts: the policy has more than %d octets", maxSize)
	}
	return string(text), nil
}
