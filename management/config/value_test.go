package config

import (
	"testing"
	"time"
)

func TestDurations(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"5m": 5 * time.Minute, "10d": 240 * time.Hour, "1d12h": 36 * time.Hour, "90s": 90 * time.Second, "0s": 0, "1h0m": time.Hour,
	} {
		if got, err := parseDuration(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "5", "d", "-1d", "1d-2h", "1.5d", "200000d", "106751d24h", "5 m", "tomorrow"} {
		if got, err := parseDuration(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	for d, want := range map[time.Duration]string{
		5 * time.Minute: "5m", time.Hour: "1h", 90 * time.Minute: "1h30m", 240 * time.Hour: "10d", 36 * time.Hour: "36h",
		0: "0s", 100 * time.Millisecond: "100ms", 10 * time.Second: "10s", time.Hour + time.Second: "1h0m1s",
	} {
		if got := formatDuration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"50MB": 50_000_000, "64KiB": 65536, "64 kib": 65536, "1B": 1, "12": 12, "8TiB": 8 << 40, "0": 0,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "MB", "-5MB", "1.5MB", "9223372036854775807KB", "10 octets"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
	for n, want := range map[int64]string{50_000_000: `"50MB"`, 65536: `"64KiB"`, 70_001: "70001", 0: "0", 2e12: `"2TB"`, 64: "64"} {
		if got := formatSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestSnake(t *testing.T) {
	for name, want := range map[string]string{
		"CommandTimeout": "command_timeout", "RequireTLS": "require_tls", "TLS": "tls", "POP3Listen": "pop3_listen", "TLSCert": "tls_cert", "A": "a",
	} {
		if got := snake(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

func TestClosest(t *testing.T) {
	keys := []string{"listen", "hostname", "command_timeout", "data"}
	for name, want := range map[string]string{
		"lisen": "listen", "Listen": "listen", "lsiten": "listen", "command_timout": "command_timeout", "dta": "data", "port": "", "x": "",
	} {
		if got := closest(name, keys); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestLinked(t *testing.T) {
	got := linked("Wait (RFC 5321 §4.5.3.2.7, §4.1.1; RFC 2645).")
	want := "Wait ([RFC 5321 §4.5.3.2.7](https://www.rfc-editor.org/rfc/rfc5321#section-4.5.3.2.7), " +
		"[§4.1.1](https://www.rfc-editor.org/rfc/rfc5321#section-4.1.1); [RFC 2645](https://www.rfc-editor.org/rfc/rfc2645))."
	if got != want {
		t.Errorf("got %s", got)
	}
}
