package lease

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

// clocks are a time of day that can be set and a steady clock that cannot.
type clocks struct {
	mu      sync.Mutex
	wall    time.Time
	running time.Duration
}

func newClocks() *clocks { return &clocks{wall: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clocks) read() (time.Time, time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wall, c.running
}

func (c *clocks) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wall, c.running = c.wall.Add(d), c.running+d
}

func (c *clocks) set(d time.Duration) { c.wall = c.wall.Add(d) }

func open(t testing.TB, d wal.FS, c *clocks) *Store {
	t.Helper()
	s, err := Open(Options{FS: d, Dir: "leases", SegmentSize: wal.MinSegmentSize, Clock: c.read})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func host(s string) netip.Prefix { return Host(netip.MustParseAddr(s)) }

func bind(t testing.TB, s *Store, addr string, client ID, d time.Duration) Lease {
	t.Helper()
	p, err := s.Bind(Lease{Prefix: host(addr), Client: client, Expires: s.Now().Add(d)})
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Fatal(err)
	}
	l, _ := s.Get(host(addr))
	return l
}

func wait(t testing.TB, p Pending, err error) {
	t.Helper()
	if err == nil {
		err = p.Wait()
	}
	if err != nil {
		t.Error(err)
	}
}

func TestLifeOfALease(t *testing.T) {
	c := newClocks()
	s := open(t, sim.NewDisk(), c)
	const addr = "192.0.2.10"
	first := bind(t, s, addr, "a", time.Hour)
	if !first.Current(s.Now()) || first.State != Bound || !first.Updated.Equal(s.Now()) {
		t.Errorf("%+v", first)
	}
	if _, err := s.Bind(Lease{Prefix: host(addr), Client: "b"}); !errors.Is(err, ErrTaken) {
		t.Errorf("given twice: %v", err)
	}
	c.pass(30 * time.Minute)
	bind(t, s, addr, "a", time.Hour) // renewed
	c.pass(time.Hour - time.Millisecond)
	if _, err := s.Bind(Lease{Prefix: host(addr), Client: "b"}); !errors.Is(err, ErrTaken) {
		t.Errorf("given twice: %v", err)
	}
	c.pass(time.Millisecond)
	if l, ok := s.Get(host(addr)); !ok || l.Current(s.Now()) || l.Holds(s.Now()) {
		t.Errorf("not expired: %+v", l)
	}
	bind(t, s, addr, "b", time.Hour)
	if l := s.Client("a", 0); len(l) != 0 {
		t.Errorf("another's row: %v", l)
	}
	if _, err := s.Release(host(addr), "a", 0); !errors.Is(err, ErrNotHeld) {
		t.Errorf("released by another: %v", err)
	}
	p, err := s.Release(host(addr), "b", 0)
	wait(t, p, err)
	if l := s.Client("b", 0); len(l) != 1 || l[0].State != Released || l[0].Holds(s.Now()) {
		t.Errorf("RFC 2131 §4.3.4: %+v", l)
	}
}

func TestDecline(t *testing.T) { // RFC 2131 §4.3.3
	c := newClocks()
	s := open(t, sim.NewDisk(), c)
	bind(t, s, "192.0.2.10", "a", time.Hour)
	until := s.Now().Add(10 * time.Minute)
	if _, err := s.Decline(host("192.0.2.10"), "b", 0, until); !errors.Is(err, ErrNotHeld) {
		t.Errorf("declined by another: %v", err)
	}
	if _, err := s.Decline(host("192.0.2.10"), "", 0, until); !errors.Is(err, ErrNotHeld) {
		t.Errorf("declined by the server, though held: %v", err)
	}
	p, err := s.Decline(host("192.0.2.10"), "a", 0, until)
	wait(t, p, err)
	for _, client := range []ID{"a", "b"} {
		if _, err := s.Bind(Lease{Prefix: host("192.0.2.10"), Client: client}); !errors.Is(err, ErrTaken) {
			t.Errorf("given to %v in quarantine: %v", client, err)
		}
	}
	c.pass(10 * time.Minute)
	bind(t, s, "192.0.2.10", "b", time.Hour)
	p, err = s.Decline(host("192.0.2.11"), "", 0, s.Now().Add(time.Minute)) // a probe was answered
	wait(t, p, err)
}

func TestPinAndDelete(t *testing.T) {
	c := newClocks()
	d := sim.NewDisk()
	s := open(t, d, c)
	if _, err := s.Pin(host("192.0.2.10"), true); !errors.Is(err, ErrNotHeld) {
		t.Errorf("pinned for nobody: %v", err)
	}
	bind(t, s, "192.0.2.10", "a", time.Hour)
	p, err := s.Pin(host("192.0.2.10"), true)
	wait(t, p, err)
	c.pass(1000 * time.Hour)
	s.Close()
	s = open(t, d, c)
	if err := s.forget(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bind(Lease{Prefix: host("192.0.2.10"), Client: "b"}); !errors.Is(err, ErrTaken) {
		t.Errorf("a pinned address was given away: %v", err)
	}
	if l := bind(t, s, "192.0.2.10", "a", time.Hour); !l.Pinned {
		t.Error("renewing took the pin away")
	}
	p, err = s.Decline(host("192.0.2.10"), "a", 0, s.Now().Add(time.Minute))
	wait(t, p, err)
	c.pass(time.Minute)
	bind(t, s, "192.0.2.10", "a", time.Hour)
	p, err = s.Delete(host("192.0.2.10"))
	wait(t, p, err)
	bind(t, s, "192.0.2.10", "b", time.Hour)
}

func TestRestart(t *testing.T) {
	c, d := newClocks(), sim.NewDisk()
	s := open(t, d, c)
	long := Lease{
		Prefix: netip.MustParsePrefix("2001:db8:7::/48"), Client: ID(bytes.Repeat([]byte{7}, 130)), IAID: 3, State: Bound, Hostname: "clinic",
		Hardware: "\x02\x00", Data: []byte("relay"), Expires: s.Now().Add(time.Hour + 300*time.Microsecond),
	}
	p, err := s.Bind(long)
	wait(t, p, err)
	bind(t, s, "192.0.2.10", "a", time.Hour)
	p, err = s.Bind(Lease{Prefix: host("192.0.2.11"), Client: "b"}) // for ever
	wait(t, p, err)
	before := s.List()
	s.Close()
	c.pass(59 * time.Minute)
	s = open(t, d, c)
	after := s.List()
	a, _ := json.Marshal(before)
	b, _ := json.Marshal(after)
	if len(after) != 3 || !bytes.Equal(bytes.ReplaceAll(a, []byte(".0003Z"), []byte(".001Z")), b) {
		t.Errorf("%s\n%s", a, b)
	}
	if got := s.Client(long.Client, 3); len(got) != 1 || got[0].Prefix != long.Prefix || got[0].Expires.Before(long.Expires) {
		t.Errorf("%+v", got)
	}
	c.pass(time.Minute)
	for _, l := range s.List() {
		if want := l.Expires.IsZero() || l.Prefix.Bits() == 48; l.Current(s.Now()) != want {
			t.Errorf("%v current: %v", l.Prefix, !want)
		}
	}
}

// The time of day does what it likes: doc.go, C1 to C5.
func TestClock(t *testing.T) {
	const year = 365 * 24 * time.Hour
	steps := func(t *testing.T) (*clocks, func(down time.Duration) *Store, *Store) {
		c, d := newClocks(), sim.NewDisk()
		s := open(t, d, c)
		return c, func(down time.Duration) *Store {
			s.Close()
			c.pass(down)
			s = open(t, d, c)
			return s
		}, s
	}
	current := func(t *testing.T, s *Store, addr string, want bool) {
		t.Helper()
		if l, ok := s.Get(host(addr)); !ok || l.Current(s.Now()) != want {
			t.Errorf("%s: current %v, want %v, at %v of %v", addr, !want, want, s.Now(), l.Expires)
		}
	}
	t.Run("C1 forward", func(t *testing.T) {
		c, restart, s := steps(t)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		c.set(8 * time.Hour)
		current(t, s, "192.0.2.1", true)
		s.glance()
		s = restart(time.Minute)
		current(t, s, "192.0.2.1", true)
		if wall, _ := c.read(); s.TimeOfDay(s.Now()).Sub(wall).Abs() > jump {
			t.Errorf("shown as %v", s.TimeOfDay(s.Now()))
		}
		s = restart(58 * time.Minute)
		current(t, s, "192.0.2.1", true)
		s = restart(time.Minute)
		current(t, s, "192.0.2.1", false)
	})
	t.Run("C1 back", func(t *testing.T) {
		c, restart, s := steps(t)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		c.set(-8 * time.Hour)
		bind(t, s, "192.0.2.2", "b", time.Hour)
		s = restart(time.Hour)
		current(t, s, "192.0.2.1", false)
		current(t, s, "192.0.2.2", false)
	})
	t.Run("C3 and C4", func(t *testing.T) {
		c, restart, s := steps(t)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		c.set(-50 * year) // no battery
		s = restart(time.Minute)
		current(t, s, "192.0.2.1", true)
		bind(t, s, "192.0.2.2", "b", time.Hour)
		c.set(50 * year) // the time arrives by NTP
		current(t, s, "192.0.2.2", true)
		s.glance()
		s = restart(59 * time.Minute)
		current(t, s, "192.0.2.2", true)
		s = restart(time.Minute)
		current(t, s, "192.0.2.1", false)
		current(t, s, "192.0.2.2", false)
	})
	t.Run("C3 and C5", func(t *testing.T) {
		c, restart, s := steps(t)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		c.set(-50 * year)
		s = restart(time.Minute)
		bind(t, s, "192.0.2.2", "b", time.Hour)
		c.set(50 * year)
		s = restart(time.Minute) // and nobody saw it being set
		current(t, s, "192.0.2.2", true)
		s.glance()
		s = restart(time.Hour)
		current(t, s, "192.0.2.1", false)
		current(t, s, "192.0.2.2", false)
	})
	t.Run("C3 twice", func(t *testing.T) {
		c, restart, s := steps(t)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		for range 3 {
			c.set(-50 * year)
			s = restart(time.Minute)
			bind(t, s, "192.0.2.2", "b", time.Hour)
			current(t, s, "192.0.2.1", true)
		}
	})
}

func TestCompaction(t *testing.T) {
	c, d := newClocks(), sim.NewDisk()
	s := open(t, d, c)
	bind(t, s, "198.51.100.1", "lasting", 100*time.Hour)
	for range 300 { // renewals of two leases: nearly all of the log is dead
		c.pass(time.Second)
		bind(t, s, "192.0.2.1", "a", time.Hour)
		bind(t, s, "192.0.2.2", "b", time.Hour)
	}
	if err := s.work(); err != nil {
		t.Fatal(err)
	}
	if st := s.log.Stats(); st.Size > 4*wal.MinSegmentSize {
		t.Errorf("%d octets left in %d segments", st.Size, st.Segments)
	}
	want := s.List()
	s.Close()
	s = open(t, d, c)
	got := s.List()
	a, _ := json.Marshal(want)
	b, _ := json.Marshal(got)
	if len(got) != 3 || !bytes.Equal(a, b) {
		t.Errorf("%s\n%s", a, b)
	}
}

func TestForget(t *testing.T) {
	c := newClocks()
	s := open(t, sim.NewDisk(), c)
	bind(t, s, "192.0.2.1", "a", time.Hour)
	c.pass(defaultKeep)
	bind(t, s, "192.0.2.2", "b", time.Hour)
	c.pass(time.Hour + time.Millisecond)
	if err := s.work(); err != nil {
		t.Fatal(err)
	}
	if l := s.List(); len(l) != 1 || l[0].Client != "b" {
		t.Errorf("%v", l)
	}
}

func TestLimit(t *testing.T) {
	c := newClocks()
	s, err := Open(Options{FS: sim.NewDisk(), Dir: "leases", Limit: 1, Clock: c.read})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	bind(t, s, "192.0.2.1", "a", time.Hour)
	bind(t, s, "192.0.2.1", "a", time.Hour)
	if _, err := s.Bind(Lease{Prefix: host("192.0.2.2"), Client: "b"}); !errors.Is(err, ErrMany) {
		t.Error(err)
	}
	for _, bad := range []Lease{
		{},
		{Prefix: netip.MustParsePrefix("192.0.2.1/24")},
		{Prefix: host("192.0.2.1"), Client: "a", Hostname: string(make([]byte, 256))},
		{Prefix: host("192.0.2.1"), Client: "a", Data: make([]byte, maxData+1)},
	} {
		bad.Client = "a"
		if _, err := s.Bind(bad); err == nil {
			t.Errorf("taken: %v", bad)
		}
	}
}

// Many who commit at one moment share a sync, and one address is given to one of them.
func TestTogether(t *testing.T) {
	s, err := Open(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	const clients, addrs = 64, 16
	var won [addrs]sync.Map
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			for j := range addrs {
				p, err := s.Bind(Lease{Prefix: host(fmt.Sprintf("192.0.2.%d", j)), Client: ID(fmt.Sprint(i)), Expires: s.Now().Add(time.Hour)})
				switch {
				case errors.Is(err, ErrTaken):
				case err != nil || p.Wait() != nil:
					t.Error(err)
				default:
					won[j].Store(i, true)
				}
			}
		})
	}
	all.Wait()
	for j := range addrs {
		n := 0
		won[j].Range(func(any, any) bool { n++; return true })
		if n != 1 {
			t.Errorf("address %d was given to %d clients", j, n)
		}
	}
}

func TestIDText(t *testing.T) {
	var id ID
	if err := id.UnmarshalText([]byte("01:02:ff")); err != nil || id != "\x01\x02\xff" || id.String() != "01:02:ff" {
		t.Errorf("%v, %v", id, err)
	}
	for _, bad := range []string{"0", "xx", "01:2"} {
		if _, err := ParseID(bad); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
	var s State
	if err := s.UnmarshalText([]byte("declined")); err != nil || s != Declined || s.UnmarshalText([]byte("")) == nil {
		t.Error(s, err)
	}
}

func FuzzParseRecord(f *testing.F) {
	f.Add((&record{kind: kindRow, now: 5, lease: Lease{Prefix: host("192.0.2.1"), Client: "a", State: Bound, Expires: time.UnixMilli(7)}}).appendTo(nil))
	f.Add((&record{kind: kindGone, lease: Lease{Prefix: host("2001:db8::1")}}).appendTo(nil))
	f.Add((&record{kind: kindClock, ahead: -3, unknown: true}).appendTo(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := parseRecord(b)
		if err != nil {
			return
		}
		again, err := parseRecord(r.appendTo(nil))
		if err != nil || fmt.Sprint(again) != fmt.Sprint(r) {
			t.Fatalf("%v became %v, %v", r, again, err)
		}
	})
}

func BenchmarkBind(b *testing.B) {
	s, err := Open(Options{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	l := Lease{Hardware: "\x02\x00\x00\x00\x00\x01"}
	var last Pending
	i := 0
	for b.Loop() {
		i++
		l.Client = ID([]byte{1, 2, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)})
		l.Prefix, l.Expires = Host(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), s.Now().Add(time.Hour)
		p, err := s.Bind(l)
		if err != nil && !errors.Is(err, ErrTaken) {
			b.Fatal(err)
		}
		last = p
	}
	if err := last.Wait(); err != nil {
		b.Fatal(err)
	}
}
