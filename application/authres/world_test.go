package authres

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"

	"bothy/application/message"
	"bothy/application/relay"
)

// zone is a DNS with all its answers given, some of which never come.
type zone struct {
	relay.Static
	silent map[string]bool // names that nobody answers for
}

var errSilent = errors.New("SERVFAIL")

func (z zone) TXT(ctx context.Context, name string) ([]string, error) {
	if z.silent[name] {
		return nil, errSilent
	}
	return z.Static.TXT(ctx, name)
}

func (z zone) Addrs(ctx context.Context, host string) ([]netip.Addr, relay.Origin, error) {
	if z.silent[host] {
		return nil, relay.Origin{}, errSilent
	}
	return z.Static.Addrs(ctx, host)
}

// hang is a DNS that never answers.
type hang struct{}

func (hang) wait(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func (h hang) TXT(ctx context.Context, _ string) ([]string, error) { return nil, h.wait(ctx) }
func (h hang) PTR(ctx context.Context, _ netip.Addr) ([]string, error) {
	return nil, h.wait(ctx)
}

func (h hang) MX(ctx context.Context, _ string) ([]relay.MX, relay.Origin, error) {
	return nil, relay.Origin{}, h.wait(ctx)
}

func (h hang) Addrs(ctx context.Context, _ string) ([]netip.Addr, relay.Origin, error) {
	return nil, relay.Origin{}, h.wait(ctx)
}

func address(t testing.TB, s string) message.Address {
	t.Helper()
	if s == "" {
		return message.Address{}
	}
	a, err := message.ParseAddress(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func addrs(t testing.TB, all ...string) (out []netip.Addr) {
	t.Helper()
	for _, s := range all {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

func readHeader(s string) (message.Header, io.Reader, error) {
	return message.ReadHeader(strings.NewReader(s), message.DefaultHeaderSize)
}
