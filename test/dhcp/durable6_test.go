//go:build dhcp

package dhcp

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/control/dhcp6"
	"bothy/control/lease"
	"bothy/test/peer"
)

const asLoad6 = "BOTHY_TEST_DHCP6_LOAD"

// load6 is many clients, each of which wants one address: what this program becomes in a namespace. It writes a line for each that has one.
type load6 struct {
	First  int // number of the first client
	Count  int
	Rate   int // new clients a second; 0: the next one when one has its address
	Window int // that wait at one time, without a rate
}

// run sends a Request for each client and reads the Replies, on port 546 of eth0.
func (l load6) run() error {
	nic, err := net.InterfaceByName("eth0")
	if err != nil {
		return err
	}
	conn, err := net.ListenUDP("udp6", &net.UDPAddr{Port: dhcp6.ClientPort, Zone: nic.Name})
	if err != nil {
		return err
	}
	defer conn.Close()
	server, err := l.server(conn, nic)
	if err != nil {
		return err
	}
	sent := make([]time.Time, l.Count)
	acked := make(chan int, l.Count)
	go func() {
		b := make([]byte, 2048)
		for {
			n, err := conn.Read(b)
			if err != nil {
				return
			}
			if i, addr := l.reply(b[:n]); addr.IsValid() && i >= 0 && i < l.Count {
				fmt.Println("ack", i+l.First, addr, time.Since(sent[i]).Microseconds())
				acked <- i
			}
		}
	}()
	to := &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: dhcp6.ServerPort, Zone: nic.Name}
	began := time.Now()
	have, waiting := make([]bool, l.Count), 0
	for i := 0; i < l.Count; {
		if l.Rate > 0 {
			if wait := time.Until(began.Add(time.Duration(i) * time.Second / time.Duration(l.Rate))); wait > 0 {
				time.Sleep(wait)
			}
		} else if waiting >= l.Window {
			select {
			case n := <-acked:
				if !have[n] {
					have[n], waiting = true, waiting-1
				}
			case <-time.After(200 * time.Millisecond): // the server is dead, perhaps: all who wait ask again
				for n := range i {
					if !have[n] {
						conn.WriteTo(l.request(n, server), to)
					}
				}
			}
			continue
		}
		sent[i] = time.Now()
		if _, err := conn.WriteTo(l.request(i, server), to); err != nil {
			return err
		}
		i, waiting = i+1, waiting+1
	}
	time.Sleep(time.Second)
	fmt.Println("done")
	return nil
}

func duid6(n int) []byte { return binary.BigEndian.AppendUint32([]byte{0, 3, 0, 1, 2, 0}, uint32(n)) }

// message is a message of one client for one address.
func (l load6) message(t dhcp6.MessageType, n int, server []byte) []byte {
	b := []byte{byte(t), byte(n >> 16), byte(n >> 8), byte(n)}
	put := func(code dhcp6.Code, v []byte) {
		b = binary.BigEndian.AppendUint16(b, uint16(code))
		b = append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...)
	}
	put(dhcp6.ClientID, duid6(n+l.First))
	if server != nil {
		put(dhcp6.ServerID, server)
	}
	put(dhcp6.ElapsedTime, []byte{0, 0})
	put(dhcp6.IANonTemporary, []byte{0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0})
	return b
}

func (l load6) request(n int, server []byte) []byte { return l.message(dhcp6.Request, n, server) }

// server finds out who serves.
func (l load6) server(conn *net.UDPConn, nic *net.Interface) ([]byte, error) {
	b := make([]byte, 2048)
	for range 50 {
		if _, err := conn.WriteTo(l.message(dhcp6.Solicit, 0, nil), &net.UDPAddr{IP: net.ParseIP("ff02::1:2"), Port: dhcp6.ServerPort, Zone: nic.Name}); err != nil {
			return nil, err
		}
		conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		n, err := conn.Read(b)
		conn.SetReadDeadline(time.Time{})
		if err != nil {
			continue
		}
		var m dhcp6.Message
		if m.Parse(b[:n]) == nil && m.Type == dhcp6.Advertise {
			id, _ := m.Find(dhcp6.ServerID)
			return bytes.Clone(id), nil
		}
	}
	return nil, fmt.Errorf("no server answers")
}

// reply reads a Reply: to which client, and its address.
func (l load6) reply(b []byte) (n int, addr netip.Addr) {
	var m dhcp6.Message
	if m.Parse(b) != nil || m.Type != dhcp6.Reply {
		return 0, addr
	}
	v, ok := m.Find(dhcp6.IANonTemporary)
	if !ok || len(v) < 12+4+24 || binary.BigEndian.Uint16(v[12:]) != uint16(dhcp6.IAAddress) {
		return 0, addr
	}
	return int(m.XID), netip.AddrFrom16([16]byte(v[16:]))
}

func becomeLoad6(text string) error {
	var l load6
	if err := json.Unmarshal([]byte(text), &l); err != nil {
		return err
	}
	return l.run()
}

// load runs clients in a namespace.
func (l *lab6) load(ns string, clients load6) *peer.Output {
	l.t.Helper()
	text, err := json.Marshal(clients)
	if err != nil {
		l.t.Fatal(err)
	}
	_, out := peer.Start(l.t, "ip", "netns", "exec", ns, "env", asLoad6+"="+string(text), os.Args[0])
	return out
}

// Killed again and again in the middle of many exchanges, the server has every lease that a client was told of, and gave no address twice.
func TestKilledServer6(t *testing.T) {
	t.Parallel()
	l := newLab6(t)
	l.cfg6.Config.Preferred, l.cfg6.Config.Valid = time.Hour, time.Hour
	l.cfg6.Config.Subnets[0].Pools[0].Last = netip.MustParseAddr("2001:db8:1::ffff")
	l.start6()
	ns := l.plug6("c", l.srv)
	const clients, kills = 4000, 4
	out := l.load(ns, load6{Count: clients, Window: 64})
	for n := range kills {
		peer.Eventually(t, 60*time.Second, "clients served", func() bool { return strings.Count(out.String(), "ack ") >= (n+1)*clients/(kills+1) })
		end(t, l.cmd, syscall.SIGKILL)
		tear(t, l.cfg6.Dir, halfWritten)
		l.start6()
	}
	peer.Eventually(t, 60*time.Second, "all clients served", func() bool { return strings.Contains(out.String(), "done") })
	end(t, l.cmd, syscall.SIGKILL)
	store, err := lease.Open(lease.Options{Dir: l.cfg6.Dir})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	given := map[string]string{}
	acks := 0
	for line := range strings.Lines(out.String()) {
		f := strings.Fields(line)
		if len(f) < 3 || f[0] != "ack" {
			continue
		}
		acks++
		n, err := strconv.Atoi(f[1])
		if err != nil {
			t.Fatal(err)
		}
		if other, twice := given[f[2]]; twice && other != f[1] {
			t.Errorf("%s given to %s and %s", f[2], other, f[1])
		}
		given[f[2]] = f[1]
		if row, ok := store.Get(lease.Host(netip.MustParseAddr(f[2]))); !ok || row.Client != lease.ID(duid6(n)) {
			t.Errorf("client %d was told of %s, and the server knows nothing of it: %+v", n, f[2], row)
		}
	}
	if acks < clients*9/10 {
		t.Errorf("%d of %d clients served", acks, clients)
	}
}

// RFC 9915 §18.3.1: what is assigned is on the disk before the Reply is sent, to each of forty clients that come one by one, and of a thousand that come
// together.
func TestSyncBeforeReply(t *testing.T) {
	peer.Need(t, "strace")
	for _, c := range []struct {
		name          string
		count, window int
	}{{"one by one", 40, 1}, {"together", 1000, 50}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			l := newLab6(t)
			l.cfg6.Config.Subnets[0].Pools[0].Last = netip.MustParseAddr("2001:db8:1::ffff")
			text, err := json.Marshal(l.cfg6)
			if err != nil {
				t.Fatal(err)
			}
			trace := filepath.Join(l.dir, "trace")
			args := slices.Concat([]string{"netns", "exec", l.srv, "env", asServer6 + "=" + string(text)}, tracing(trace), []string{os.Args[0]})
			l.cmd, l.log = peer.Start(t, "ip", args...)
			l.said("ready", 1)
			out := l.load(l.plug6("c", l.srv), load6{Count: c.count, Window: c.window})
			peer.Eventually(t, 60*time.Second, "the leases", func() bool { return strings.Contains(out.String(), "done") })
			traced, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", l.cmd.Process.Pid)) // strace itself takes no signal
			if err != nil {
				t.Fatal(err)
			}
			pid, err := strconv.Atoi(strings.TrimSpace(string(traced)))
			if err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGINT); err != nil {
				t.Fatal(err)
			}
			peer.Eventually(t, 20*time.Second, "the server's end", func() bool { return syscall.Kill(pid, 0) != nil })
			replies, durable := answers(t, trace, func(b []byte) (client []byte) {
				var m dhcp6.Message
				if m.Parse(b) != nil || m.Type != dhcp6.Reply {
					return nil
				}
				id, _ := m.Find(dhcp6.ClientID)
				return id
			})
			if replies < c.count || durable != replies {
				t.Errorf("the lease on the disk before %d of %d Replies", durable, replies)
			}
			t.Logf("%d Replies", replies)
		})
	}
}
