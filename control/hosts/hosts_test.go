package hosts

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"bothy/control/lease"
)

type fake struct {
	leases  []lease.Lease
	changed chan struct{}
}

func (f *fake) List() []lease.Lease      { return f.leases }
func (f *fake) Now() time.Time           { return time.Now() }
func (f *fake) Changed() <-chan struct{} { return f.changed }

func host(address, client, name string, lasts time.Duration) lease.Lease {
	return lease.Lease{
		Prefix: lease.Host(netip.MustParseAddr(address)), Client: lease.ID(client), State: lease.Bound, Hostname: name, Expires: time.Now().Add(lasts),
	}
}

const head = "# Written by bothy as leases change; edits are lost.\n"

func TestFile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "hosts")
		four := &fake{changed: make(chan struct{}, 1)}
		six := &fake{changed: make(chan struct{}, 1)}
		w := &Writer{Config: Config{File: file, Domain: "Clinic.example"}, Stores: []Store{four, six}, Reserved: []string{"mail.clinic.example"}, Log: slog.New(slog.DiscardHandler)}
		four.leases = []lease.Lease{
			host("192.0.2.100", "a", "Meter", time.Hour),
			host("192.0.2.101", "b", "meter", time.Hour), // the name is taken
			host("192.0.2.102", "c", "MAIL", time.Hour),  // a server's
			host("192.0.2.103", "d", "mail.clinic.example", time.Hour),
			host("192.0.2.104", "e", "x y\n192.0.2.1 evil", time.Hour),
			host("192.0.2.105", "f", "pump.clinic.example", 10*time.Minute),
			host("192.0.2.106", "g", "pump.elsewhere.example", time.Hour),
			host("192.0.2.107", "h", "localhost", time.Hour),
			host("192.0.2.108", "i", "10", time.Hour),
			host("192.0.2.109", "j", "", time.Hour),
			host("192.0.2.110", "k", "gone", -time.Second),
		}
		ctx, stop := context.WithCancel(t.Context())
		go w.Run(ctx)
		is := func(want string) {
			t.Helper()
			time.Sleep(2 * settle)
			synctest.Wait()
			if got, err := os.ReadFile(file); string(got) != head+want {
				t.Errorf("%v\ngot\n%swant\n%s", err, got, want)
			}
		}
		is("192.0.2.100\tmeter.clinic.example meter\n192.0.2.105\tpump.clinic.example pump\n")

		six.leases = []lease.Lease{host("2001:db8::5", "a", "meter", time.Hour)}
		four.leases = append([]lease.Lease{host("192.0.2.99", "z", "meter", time.Hour)}, four.leases...) // a lower address takes no name from its owner
		six.changed <- struct{}{}
		is("192.0.2.100\tmeter.clinic.example meter\n192.0.2.105\tpump.clinic.example pump\n2001:db8::5\tmeter.clinic.example meter\n")

		time.Sleep(11 * time.Minute) // a lease ends, and nobody says so
		is("192.0.2.100\tmeter.clinic.example meter\n2001:db8::5\tmeter.clinic.example meter\n")
		stop()
		synctest.Wait()
	})
}

func TestRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "later")
		w := &Writer{Config: Config{File: filepath.Join(dir, "hosts")}, Log: slog.New(slog.DiscardHandler)}
		w.Stores = []Store{&fake{leases: []lease.Lease{host("192.0.2.100", "a", "meter", time.Hour)}}}
		ctx, stop := context.WithCancel(t.Context())
		go w.Run(ctx)
		time.Sleep(time.Second)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if got, err := os.ReadFile(w.Config.File); string(got) != head+"192.0.2.100\tmeter\n" {
			t.Errorf("%q, %v", got, err)
		}
		stop()
		synctest.Wait()
	})
}

func TestConfig(t *testing.T) {
	for _, bad := range []Config{{File: "hosts"}, {File: "/run/hosts", Domain: "a b"}} {
		var err error
		bad.CheckConfig(func(key string, e error) { err = errors.Join(err, e) })
		if err == nil {
			t.Errorf("%+v: taken", bad)
		}
	}
}
