package lease

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"bothy/lib/sim"
	"bothy/lib/wal"
)

// witness uses a store as a server does and remembers what it was told. After a crash it compares.
type witness struct {
	disk   *sim.Disk
	clocks *clocks
	store  *Store

	confirmed map[netip.Prefix]Lease   // what Wait returned nil for last
	attempts  map[netip.Prefix][]Lease // what was asked for since; a Lease without State: forgotten
	waiting   []promise
}

// promise is a change somebody waits for.
type promise struct {
	lease   Lease
	pending Pending
}

func newWitness(d *sim.Disk) *witness {
	return &witness{disk: d, clocks: newClocks(), confirmed: map[netip.Prefix]Lease{}, attempts: map[netip.Prefix][]Lease{}}
}

func (w *witness) open() (err error) {
	w.store, err = Open(Options{FS: w.disk, Dir: "leases", SegmentSize: wal.MinSegmentSize, Keep: 3 * time.Hour, Clock: w.clocks.read})
	return err
}

// ask notes a change that was asked for; wait is when its caller hears of it.
func (w *witness) ask(p netip.Prefix, pending Pending, err error) error {
	if err != nil {
		return err
	}
	l, _ := w.store.Get(p)
	l.Prefix = p
	w.attempts[p] = append(w.attempts[p], l)
	w.waiting = append(w.waiting, promise{l, pending})
	return nil
}

func (w *witness) wait() error {
	all := w.waiting
	w.waiting = nil
	for _, p := range all {
		if err := p.pending.Wait(); err != nil {
			return err
		}
		w.confirmed[p.lease.Prefix] = p.lease
		for len(w.attempts[p.lease.Prefix]) > 0 {
			first := w.attempts[p.lease.Prefix][0]
			w.attempts[p.lease.Prefix] = w.attempts[p.lease.Prefix][1:]
			if same(first, p.lease) {
				break
			}
		}
	}
	return nil
}

func same(a, b Lease) bool {
	return a.Prefix == b.Prefix && a.State == b.State && a.Client == b.Client && a.Pinned == b.Pinned && a.Expires.Equal(b.Expires) &&
		a.Updated.Equal(b.Updated)
}

func address(i int) netip.Prefix { return Host(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})) }

// bind gives n addresses to clients of one name, who share a sync.
func (w *witness) bind(from, n int, client string, d time.Duration) error {
	w.clocks.pass(time.Second)
	for i := from; i < from+n; i++ {
		p, err := w.store.Bind(Lease{Prefix: address(i), Client: ID(fmt.Sprint(client, i)), Expires: w.store.Now().Add(d)})
		if err := w.ask(address(i), p, err); err != nil {
			return err
		}
	}
	return w.wait()
}

// live is a day in the life of a store. It ends at the first error.
func (w *witness) live() error {
	if err := w.open(); err != nil {
		return err
	}
	defer w.store.Close()
	renew := func() error {
		for range 7 {
			if err := w.bind(1, 4, "a", 24*time.Hour); err != nil {
				return err
			}
		}
		return nil
	}
	one := func(i int, p Pending, err error) error {
		if err := w.ask(address(i), p, err); err != nil {
			return err
		}
		return w.wait()
	}
	steps := []func() error{
		func() error { return w.bind(1, 8, "a", 24*time.Hour) },
		renew,
		func() error {
			p, err := w.store.Release(address(5), "a5", 0)
			return one(5, p, err)
		},
		func() error {
			p, err := w.store.Decline(address(6), "a6", 0, w.store.Now().Add(10*time.Minute))
			return one(6, p, err)
		},
		func() error {
			p, err := w.store.Pin(address(7), true)
			return one(7, p, err)
		},
		renew,
		func() error { return w.store.work() },
		func() error { return w.bind(5, 1, "b", 24*time.Hour) }, // what was released goes to another
		func() error {
			p, err := w.store.Delete(address(8))
			return one(8, p, err)
		},
		func() error { return w.bind(8, 1, "c", time.Minute) },
		renew,
		func() error { w.clocks.set(-time.Hour); w.store.glance(); return w.store.Err() },
		w.reopen,
		func() error { return w.store.work() },
		func() error { w.clocks.pass(time.Hour); return w.bind(8, 1, "d", 24*time.Hour) }, // what expired goes to another
		renew,
		func() error { return w.bind(20, 1, "short", time.Second) },
		func() error {
			w.clocks.pass(4 * time.Hour)
			for _, i := range []int{6, 20} { // may be forgotten
				w.attempts[address(i)] = append(w.attempts[address(i)], Lease{Prefix: address(i)})
			}
			return w.store.work()
		},
		renew,
		func() error { return w.store.work() },
		w.reopen,
		renew,
		func() error { return w.store.work() },
		func() error { return w.store.Close() },
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (w *witness) reopen() error {
	if err := w.store.Close(); err != nil {
		return err
	}
	return w.open()
}

// check opens what survived: of every address the store must say what was confirmed last, or what was asked for since.
func (w *witness) check(t *testing.T, disk *sim.Disk) {
	t.Helper()
	w.disk = disk
	if err := w.open(); err != nil {
		t.Fatal(err)
	}
	defer w.store.Close()
	now := w.store.Now()
	for i := range 32 {
		p := address(i)
		got, _ := w.store.Get(p)
		got.Prefix = p
		possible := append([]Lease{{Prefix: p}}, w.attempts[p]...)
		if l, ok := w.confirmed[p]; ok {
			possible[0] = l
		}
		found := false
		for _, l := range possible {
			found = found || same(got, l)
		}
		if !found {
			t.Errorf("%v is %+v; possible were %+v", p, got, possible)
		}
		held := len(possible) == 1 && possible[0].State != 0 && possible[0].Holds(now)
		if _, err := w.store.Bind(Lease{Prefix: p, Client: "thief"}); held && !errors.Is(err, ErrTaken) {
			t.Errorf("%v was given twice: %v", p, err)
		}
	}
}

func TestWholeLife(t *testing.T) {
	w := newWitness(sim.NewDisk())
	if err := w.live(); err != nil {
		t.Fatal(err)
	}
	w.check(t, w.disk.PowerCut(sim.Synced, 0))
	if n := w.store.log.Segments()[0]; n < 3 {
		t.Errorf("the script compacts too little: %v", w.store.log.Segments())
	}
	t.Logf("%d operations", w.disk.Ops())
}

// The power fails during every operation of the disk.
func TestCrashAnywhere(t *testing.T) {
	whole := newWitness(sim.NewDisk())
	if err := whole.live(); err != nil {
		t.Fatal(err)
	}
	for at := 1; at <= whole.disk.Ops()+3; at++ {
		for i, survival := range []sim.Survival{sim.Synced, sim.Cached, sim.Torn} {
			w := newWitness(sim.NewDisk())
			w.disk.CrashAt = at
			if err := w.live(); err != nil && !errors.Is(err, sim.ErrPower) {
				t.Fatal(err)
			}
			w.check(t, w.disk.PowerCut(survival, uint64(at*3+i)))
			if t.Failed() {
				t.Fatalf("at operation %d, %v", at, survival)
			}
		}
	}
}

// The same with moments and remains that the seed chooses, and with a second cut while what is left is read.
func TestPowerCuts(t *testing.T) {
	sim.Seeds(t, 100, func(t *testing.T, seed uint64) {
		dice := rand.New(rand.NewPCG(seed, 4))
		w := newWitness(sim.NewDisk())
		w.disk.CrashAt = 1 + dice.IntN(200)
		if err := w.live(); err != nil && !errors.Is(err, sim.ErrPower) {
			t.Fatal(err)
		}
		w.disk = w.disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64())
		w.disk.CrashAt = 1 + dice.IntN(10)
		if err := w.open(); err == nil {
			w.store.Close()
		}
		w.check(t, w.disk.PowerCut(sim.Survival(dice.IntN(3)), dice.Uint64()))
	})
}

// Every operation fails once; a failed sync may have lost anything. Then the power fails.
func TestFailAnywhere(t *testing.T) {
	whole := newWitness(sim.NewDisk())
	if err := whole.live(); err != nil {
		t.Fatal(err)
	}
	for _, fault := range []error{syscall.EIO, syscall.ENOSPC} {
		for at := 1; at <= whole.disk.Ops(); at++ {
			w := newWitness(sim.NewDisk())
			w.disk.Thin = true
			w.disk.Fail = func(op sim.Op) error {
				if op.N == at {
					return fault
				}
				return nil
			}
			w.live()
			w.check(t, w.disk.PowerCut(sim.Torn, uint64(at)))
			if t.Failed() {
				t.Fatalf("%v at operation %d", fault, at)
			}
		}
	}
}
