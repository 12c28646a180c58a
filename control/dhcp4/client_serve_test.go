package dhcp4

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

// outlet is a link with a server that acknowledges every DHCPREQUEST, unless it is silent.
type outlet struct {
	mu      sync.Mutex
	carrier bool
	silent  bool
	sent    []MessageType
	routes  int
	replies chan []byte
}

func (o *outlet) Hardware() net.HardwareAddr { return net.HardwareAddr{2, 0, 0, 0, 0, 9} }

func (o *outlet) Send(_ []byte, out *Sent) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, out.Packet.Type())
	wanted, ok := out.Packet.Addr(RequestedAddress)
	if o.silent || !ok {
		return nil
	}
	p := &Packet{Op: BootReply, HType: ethernet, HLen: ethernetSize, XID: out.Packet.XID, YIAddr: wanted, CHAddr: out.Packet.CHAddr}
	p.Set(MessageTypeOption, []byte{byte(Ack)})
	p.Set(ServerIdentifier, []byte{192, 0, 2, 1})
	p.Set(SubnetMask, []byte{255, 255, 255, 0})
	p.Set(Router, []byte{192, 0, 2, 1})
	p.Set(LeaseTime, []byte{0, 0, 14, 16})
	b, _ := p.AppendTo(nil, DefaultSize, false)
	o.replies <- b
	return nil
}

func (o *outlet) Receive(b []byte) (int, error) {
	r, ok := <-o.replies
	if !ok {
		return 0, net.ErrClosed
	}
	return copy(b, r), nil
}

func (o *outlet) InUse(context.Context, netip.Addr) (bool, error) { return false, nil }

func (o *outlet) Announce(netip.Addr) error { return nil }

func (o *outlet) Carrier() (bool, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.carrier, nil
}

func (o *outlet) Close() error { close(o.replies); return nil }

func (o *outlet) SetAddress(netip.Prefix, time.Duration, time.Duration) error { return nil }

func (o *outlet) RemoveAddress(netip.Prefix) error { return nil }

func (o *outlet) SetRoute(netip.Prefix, netip.Addr, int) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.routes++
	return nil
}

func (o *outlet) RemoveRoute(netip.Prefix, netip.Addr, int) error { return nil }

// plug sets what the outlet is like, and returns what was sent, and how many routes were set, since the last time.
func (o *outlet) plug(carrier, silent bool) (sent []MessageType, routes int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.carrier, o.silent = carrier, silent
	sent, routes, o.sent, o.routes = o.sent, o.routes, nil, 0
	return sent, routes
}

// RFC 2131 §3.2, RFC 2131 §3.7: when the link comes back, the client asks whether it may keep its address; until then nothing can be used. If nobody answers it
// goes on with it, and its routes, which the kernel takes away with a link, are there again.
func TestClientWatchesLink(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		content, err := json.Marshal(Binding{
			Address: netip.MustParsePrefix("192.0.2.100/24"), Server: netip.MustParseAddr("192.0.2.1"), Routers: []netip.Addr{netip.MustParseAddr("192.0.2.1")},
			Renew: now.Add(time.Hour), Rebind: now.Add(2 * time.Hour), Ends: now.Add(3 * time.Hour),
		})
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "binding")
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		o := &outlet{carrier: true, replies: make(chan []byte, 16)}
		var told []bool
		s := ClientService{Config: ClientConfig{Interface: "eth0", DefaultRoute: true}, File: file, Host: o, Log: slog.New(slog.DiscardHandler), Changed: func(b Binding) {
			if usable := b.Address.IsValid(); len(told) == 0 || told[len(told)-1] != usable {
				told = append(told, usable)
			}
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- s.Run(ctx, o) }()
		expect := func(after time.Duration, want ...bool) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if !slices.Equal(told, want) {
				t.Errorf("told %v, not %v", told, want)
			}
		}
		expect(5*time.Second, true)
		if sent, routes := o.plug(false, false); !slices.Equal(sent, []MessageType{Request}) || routes != 1 {
			t.Errorf("at the start %v is sent, %d routes are set", sent, routes)
		}
		expect(3*time.Second, true, false)
		o.plug(true, false)
		expect(3*time.Second, true, false, true)
		if sent, routes := o.plug(false, true); !slices.Equal(sent, []MessageType{Request}) || routes != 1 {
			t.Errorf("with the link %v is sent, %d routes are set", sent, routes)
		}
		expect(3*time.Second, true, false, true, false)
		o.plug(true, true)
		expect(90*time.Second, true, false, true, false, true)
		if sent, routes := o.plug(true, true); len(sent) != requests || routes != 1 {
			t.Errorf("on a silent link %v is sent, %d routes are set", sent, routes)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
