package dhcp6

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// outlet is a link with a server that answers every message with a bare Reply: what a client has fits the link.
type outlet struct {
	mu      sync.Mutex
	carrier bool
	silent  bool
	sent    []MessageType
	set     []netip.Prefix
	replies chan []byte
}

func newOutlet() *outlet { return &outlet{carrier: true, replies: make(chan []byte, 16)} }

func (o *outlet) Send(b []byte) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	var m Message
	if err := m.Parse(b); err != nil {
		return err
	}
	o.sent = append(o.sent, m.Type)
	if o.silent {
		return nil
	}
	w := &writer{}
	w.start(Reply, m.XID)
	w.put(ClientID, clientDUID)
	w.put(ServerID, serverDUID)
	o.replies <- w.b
	return nil
}

func (o *outlet) Receive(b []byte) (int, error) {
	r, ok := <-o.replies
	if !ok {
		return 0, net.ErrClosed
	}
	return copy(b, r), nil
}

func (o *outlet) Carrier() (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.carrier, nil
}

func (o *outlet) Close() error { close(o.replies); return nil }

func (o *outlet) SetAddress(p netip.Prefix, _, _ time.Duration) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.set = append(o.set, p)
	return nil
}

func (o *outlet) RemoveAddress(netip.Prefix) error { return nil }

func (o *outlet) Check(netip.Addr) (done, duplicate bool, err error) { return true, false, nil }

// plug sets what the outlet is like, and returns what was sent, and set on the host, since the last time.
func (o *outlet) plug(carrier, silent bool) (sent []MessageType, set []netip.Prefix) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.carrier, o.silent = carrier, silent
	sent, set, o.sent, o.set = o.sent, o.set, nil, nil
	return sent, set
}

// RFC 9915 §18.2.12: when the link comes back, the client asks whether what it has still fits; until somebody says so, or nobody says anything, nothing
// can be used. The host is given the address again, which the kernel may have taken away with the link.
func TestClientWatchesLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		address := netip.MustParsePrefix("2001:db8:1::100/128")
		before := Binding{
			Server: "server", Addresses: []Held{{address, now.Add(time.Hour), now.Add(time.Hour)}},
			Renew: now.Add(30 * time.Minute), Rebind: now.Add(45 * time.Minute),
		}
		content, err := json.Marshal(kept{Binding: before})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "binding")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		o := newOutlet()
		usable, changes := false, 0
		s := ClientService{Config: ClientConfig{Interface: "eth0", Address: true}, DUID: clientDUID, File: file, Host: o, Log: slog.New(slog.DiscardHandler), Changed: func(b Binding) {
			usable = len(b.Addresses) > 0
			changes++
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, o) }()
		expect := func(after time.Duration, want bool, wantChanges int) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if usable != want || changes != wantChanges {
				t.Errorf("usable %v after %d changes, not %v after %d", usable, changes, want, wantChanges)
			}
		}
		expect(5*time.Second, true, 2) // not before somebody has said that it is the same link
		if sent, set := o.plug(false, false); !slices.Equal(sent, []MessageType{Confirm}) || !slices.Equal(set, []netip.Prefix{address}) {
			t.Errorf("at the start %v is sent, %v is set", sent, set)
		}
		expect(3*time.Second, false, 3)
		if sent, _ := o.plug(true, false); len(sent) > 0 {
			t.Errorf("%v is sent without a link", sent)
		}
		expect(5*time.Second, true, 4)
		if sent, set := o.plug(false, true); !slices.Equal(sent, []MessageType{Confirm}) || !slices.Equal(set, []netip.Prefix{address}) {
			t.Errorf("with the link %v is sent, %v is set", sent, set)
		}
		expect(3*time.Second, false, 5)
		o.plug(true, true)
		expect(20*time.Second, true, 6) // §18.2.3: nobody answers within CNF_MAX_RD
		if sent, _ := o.plug(true, true); len(sent) < 2 || slices.ContainsFunc(sent, func(m MessageType) bool { return m != Confirm }) {
			t.Errorf("on a silent link %v is sent", sent)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
