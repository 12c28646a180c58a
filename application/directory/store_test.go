package directory

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/sasl"
)

// A change that was reported must survive a power cut: that rests on these, and on SQLite.
func TestInForce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "odd name?%20#.db")
	d := open(t, file)
	for pragma, want := range map[string]string{"journal_mode": "wal", "synchronous": "2", "foreign_keys": "1", "busy_timeout": "5000", "user_version": fmt.Sprint(len(migrations))} {
		var got string
		if err := d.conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %s, %v; want %s", pragma, got, err, want)
		}
	}
	if err := d.AddDomain(t.Context(), "light.example"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{file, file + "-wal"} {
		if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info.Mode(), err)
		}
	}
	if _, err := Open(t.Context(), filepath.Join(file, "no folder", "x.db")); err == nil {
		t.Error("opened in a folder that is none")
	}
}

func TestReopen(t *testing.T) {
	d := village(t)
	before, secret := dump(t, d), d.Secret()
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := d.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if err := d.AddDomain(t.Context(), "x.example"); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a change after Close: %v", err)
	}
	again := open(t, d.file)
	if after := dump(t, again); after != before || string(again.Secret()) != string(secret) || len(secret) != secretLength {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

// Another connection's change counts without a word.
func TestChangedByAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := village(t)
		cli := open(t, server.file)
		if err := cli.AddAccount(t.Context(), Account{Name: "new", Addresses: addresses(t, "new@new.example")}, "x"); err != nil {
			t.Fatal(err)
		}
		if err := cli.SetDisabled(t.Context(), "nurse", true); err != nil {
			t.Fatal(err)
		}
		time.Sleep(pollInterval + time.Millisecond)
		if got := server.Resolve(address(t, "new@new.example")); !slices.Equal(got, []string{"new"}) || !server.Local("new.example") {
			t.Errorf("after %v: %v", pollInterval, got)
		}
		if _, err := server.Verifier(t.Context(), "nurse"); !errors.Is(err, sasl.ErrCredentials) {
			t.Errorf("nurse logs in: %v", err)
		}
		// A change is judged against what the file holds, even before it was noticed.
		if err := cli.AddDomain(t.Context(), "quick.example"); err != nil {
			t.Fatal(err)
		}
		if err := server.AddDomain(t.Context(), "quick.example"); !errors.Is(err, ErrTaken) {
			t.Errorf("%v", err)
		}
		if dump(t, server) != dump(t, cli) {
			t.Error("the two see different things")
		}
	})
}

func TestContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := village(t)
		other := open(t, server.file)
		seen := func(d *Directory) time.Time {
			c, err := d.Customer(t.Context(), "clinic")
			if err != nil {
				t.Fatal(err)
			}
			return c.LastContact
		}
		now := time.Now()
		for i := range 100 {
			if err := server.Contact(t.Context(), "Clinic", now.Add(time.Duration(i))); err != nil {
				t.Fatal(err)
			}
		}
		if got := seen(server); !got.Equal(now.Add(99)) {
			t.Errorf("here at once: %v", got)
		}
		time.Sleep(contactDelay + 2*pollInterval)
		if got := seen(other); !got.Equal(now.Truncate(time.Millisecond)) {
			t.Errorf("there after %v: %v", contactDelay, got)
		}
		earlier := now.Add(-time.Hour) // a clock was set right
		server.Contact(t.Context(), "clinic", earlier)
		server.Close()
		time.Sleep(pollInterval + time.Millisecond)
		if got := seen(other); !got.Equal(earlier.Truncate(time.Millisecond)) {
			t.Errorf("there after Close: %v", got)
		}
		other.Contact(t.Context(), "clinic", now)
		if err := other.RemoveCustomer(t.Context(), "clinic"); err != nil {
			t.Fatal(err)
		}
		if err := other.AddCustomer(t.Context(), Customer{Account: "clinic", Domains: []string{"clinic.example"}}); err != nil {
			t.Fatal(err)
		}
		if got := seen(other); !got.IsZero() {
			t.Errorf("a new customer called at %v", got)
		}
	})
}

// A contact that cannot be written now is written later.
func TestContactKept(t *testing.T) {
	d := village(t)
	now := time.UnixMilli(1700000000000).UTC()
	d.Contact(t.Context(), "clinic", now)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, err := d.conn.ExecContext(t.Context(), "ALTER TABLE customer RENAME TO away"); err != nil {
		t.Fatal(err)
	}
	if err := d.writeContacts(); err == nil {
		t.Fatal("written to nowhere")
	}
	if _, err := d.conn.ExecContext(t.Context(), "ALTER TABLE away RENAME TO customer"); err != nil {
		t.Fatal(err)
	}
	if err := d.writeContacts(); err != nil {
		t.Fatal(err)
	}
	if s, err := load(t.Context(), d.conn); err != nil || !s.customers["clinic"].LastContact.Equal(now) {
		t.Errorf("%v, %v", s.customers["clinic"], err)
	}
}

func TestConcurrent(t *testing.T) {
	server := village(t)
	cli := open(t, server.file)
	const each = 5
	ctx, stop := context.WithCancel(t.Context())
	var readers, writers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				if got := server.Resolve(address(t, "all@light.example")); len(got) != 3 {
					t.Errorf("%v", got)
				}
				server.MaySend("clinic", address(t, "x@clinic.example"))
				server.Contact(ctx, "clinic", time.Now())
				server.Customers(ctx)
				server.Accounts(ctx)
			}
		})
	}
	for w, d := range []*Directory{server, cli, server} {
		writers.Go(func() {
			for i := range each {
				name := fmt.Sprintf("w%d-%d", w, i)
				if err := d.AddAccount(ctx, Account{Name: name, Addresses: addresses(t, name+"@light.example")}, "x"); err != nil {
					t.Error(err)
				}
				if got := d.Resolve(address(t, name+"@light.example")); !slices.Equal(got, []string{name}) {
					t.Errorf("%s just added: %v", name, got)
				}
			}
		})
	}
	writers.Wait()
	stop()
	readers.Wait()
	if all, err := open(t, server.file).Accounts(t.Context()); err != nil || len(all) != 5+3*each {
		t.Errorf("%d accounts, %v", len(all), err)
	}
}

// A change whose context has ended does nothing.
func TestCancelled(t *testing.T) {
	d := village(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := d.AddDomain(ctx, "x.example"); !errors.Is(err, context.Canceled) || d.Local("x.example") {
		t.Error(err)
	}
	if err := d.AddDomain(t.Context(), "x.example"); err != nil {
		t.Error(err)
	}
}

// raw executes statements on a file by a connection of its own.
func raw(t *testing.T, file, statements string) {
	t.Helper()
	db, err := sql.Open("sqlite", source(file))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(t.Context(), statements); err != nil {
		t.Fatal(err)
	}
}

// A database of each version that ever was opens, with everything in it.
func TestVersions(t *testing.T) {
	for version := 1; version <= len(migrations); version++ {
		statements, err := os.ReadFile(fmt.Sprintf("testdata/v%d.sql", version))
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "old.db")
		raw(t, file, string(statements))
		d := open(t, file)
		want, err := os.ReadFile("testdata/versions.json")
		if err != nil {
			t.Fatal(err)
		}
		if version >= 3 {
			was := `"linger": "0s",
   "long_poll": "0s",
   "keep_large": false`
			is := `"linger": "40m0s",
   "long_poll": "4m0s",
   "keep_large": true`
			if version >= 4 {
				is += `,
   "host": "mail.clinic.example:25",
   "budget": 5000000,
   "largest": 200000`
			}
			if version >= 7 {
				is += `,
   "quota": {
    "octets": 1000000,
    "messages": 500,
    "warn": "boss@mobile.example",
    "warned": "2023-11-14T22:13:25Z"
   }`
			}
			if version >= 8 {
				is = strings.Replace(is, `25Z"`, `25Z",
    "lifetime": "240h0m0s"`, 1)
			}
			want = bytes.Replace(want, []byte(was), []byte(is), 1)
		}
		if got := dump(t, d); got != strings.TrimSpace(string(want)) {
			t.Errorf("version %d:\n%s", version, got)
		}
		v, err := d.Verifier(t.Context(), "k@light.example")
		if err != nil || v.Account != "keeper" || !v.Check("pencil") {
			t.Errorf("version %d: %+v, %v", version, v, err)
		}
		if apps, _ := d.AppPasswords(t.Context()); version >= 5 && (len(apps) != 1 || apps[0].App != "telephone" || !v.Check("quill") || v.Check("feather")) {
			t.Errorf("version %d: %+v", version, apps)
		}
		if d.Secret()[31] != 0x20 {
			t.Errorf("version %d: secret %x", version, d.Secret())
		}
		if rights := d.Rights("keeper"); version >= 2 && !reflect.DeepEqual(rights, Rights{SendAs: []string{"@lamp.example"}, SendTo: []string{"local"}, Messages: 5, Recipients: 7, Size: 9}) {
			t.Errorf("version %d: %+v", version, rights)
		}
		// The schema that grew is the schema that is made.
		if grown, made := schema(t, d), schema(t, open(t, filepath.Join(t.TempDir(), "new.db"))); grown != made {
			t.Errorf("version %d grew to\n%s\na new one is\n%s", version, grown, made)
		}
	}
}

func schema(t *testing.T, d *Directory) string {
	t.Helper()
	rows, err := d.conn.QueryContext(t.Context(), "SELECT coalesce(sql, name) FROM sqlite_master ORDER BY type, name")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	var all strings.Builder
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		s = strings.Join(strings.Fields(s), " ")
		fmt.Fprintln(&all, strings.NewReplacer("( ", "(", " )", ")", " ,", ",").Replace(s))
	}
	return all.String()
}

// A migration happens wholly or not at all; its data stays.
func TestMigrate(t *testing.T) {
	d := village(t)
	before := dump(t, d)
	run := func(steps []string) error {
		d.mu.Lock()
		defer d.mu.Unlock()
		return d.transact(t.Context(), "BEGIN IMMEDIATE", func(ctx context.Context) error { return migrate(ctx, d.conn, steps) })
	}
	version := func() (v int) {
		if err := d.conn.QueryRowContext(t.Context(), "PRAGMA user_version").Scan(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	now := len(migrations)
	broken := append(slices.Clone(migrations), "ALTER TABLE account ADD COLUMN quota INTEGER NOT NULL DEFAULT 0", "ALTER TABLE nothing ADD COLUMN x")
	if err := run(broken); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("schema %d to %d", now+1, now+2)) || version() != now {
		t.Fatalf("version %d, %v", version(), err)
	}
	if err := run(broken[:now+1]); err != nil || version() != now+1 {
		t.Fatalf("version %d, %v", version(), err)
	}
	if err := run(broken[:now+1]); err != nil { // once is enough
		t.Fatal(err)
	}
	var quota int
	if err := d.conn.QueryRowContext(t.Context(), "SELECT sum(quota + 1) FROM account").Scan(&quota); err != nil || quota != 5 {
		t.Errorf("%d, %v", quota, err)
	}
	if err := d.AddDomain(t.Context(), "x.example"); err != nil {
		t.Error(err)
	}
	if err := d.RemoveDomain(t.Context(), "x.example"); err != nil || dump(t, d) != before {
		t.Errorf("%v\n%s", err, dump(t, d))
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), d.file); !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), "newer Bothy") {
		t.Errorf("a newer schema: %v", err)
	}
	if n := openFiles(t, d.file); n != 0 {
		t.Errorf("an Open that failed leaves %d files open", n)
	}
}

// openFiles counts the files that this process has open and that are called like name.
func openFiles(t *testing.T, name string) (n int) {
	t.Helper()
	const table = "/proc/self/fd"
	all, err := os.ReadDir(table)
	if err != nil {
		t.Fatal(err)
	}
	for _, fd := range all {
		if to, err := os.Readlink(filepath.Join(table, fd.Name())); err == nil && strings.HasPrefix(to, name) {
			n++
		}
	}
	return n
}

func TestNotADatabase(t *testing.T) {
	file := filepath.Join(t.TempDir(), "letter.txt")
	if err := os.WriteFile(file, []byte(strings.Repeat("Dear Sir, ", 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), file); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("%v", err)
	}
}

func BenchmarkResolve(b *testing.B) {
	d := village(b)
	for _, to := range []string{"keeper@light.example", "keeper+x@light.example", "all@light.example"} {
		a := address(b, to)
		b.Run(to, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				d.Resolve(a)
			}
		})
	}
}

// What looking for others' changes costs, ten times a second.
func BenchmarkChanged(b *testing.B) {
	d := village(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	for b.Loop() {
		if changed, err := d.changed(b.Context()); changed || err != nil {
			b.Fatal(changed, err)
		}
	}
}

// What a change costs beside its sync, with ten thousand accounts.
func BenchmarkLoad(b *testing.B) {
	d := village(b)
	d.mu.Lock()
	defer d.mu.Unlock()
	err := d.transact(b.Context(), "BEGIN IMMEDIATE", func(ctx context.Context) error {
		for i := range 10_000 {
			_, err1 := d.conn.ExecContext(ctx, "INSERT INTO account SELECT NULL, ?, 0, 0, salt, iterations, stored_key, server_key, NULL FROM account WHERE id = 1", fmt.Sprint(i))
			_, err2 := d.conn.ExecContext(ctx, "INSERT INTO address VALUES (NULL, ?, 'light.example', ?)", fmt.Sprint(i), fmt.Sprint(i))
			if err := errors.Join(err1, err2); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := load(b.Context(), d.conn); err != nil {
			b.Fatal(err)
		}
	}
}

func TestDomainsAreAnnounced(t *testing.T) {
	told := make(chan []string, 100)
	file := filepath.Join(t.TempDir(), "directory.db")
	d, err := Options{Domains: func(changed []string) { told <- changed }}.Open(t.Context(), file)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	other, err := Open(t.Context(), file) // another process, such as the command line
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, change := range []struct {
		name string
		do   func() error
		want string
	}{
		{"an account without addresses", func() error { return d.AddAccount(t.Context(), Account{Name: "clinic"}, "secret") }, ""},
		{"a customer's domain, by another process", func() error {
			return other.AddCustomer(t.Context(), Customer{Account: "clinic", Domains: []string{"clinic.example"}})
		}, "clinic.example"},
		{"a password, by another process", func() error { return other.SetPassword(t.Context(), "clinic", "other") }, ""},
		{"a local domain", func() error { return d.AddDomain(t.Context(), "light.example") }, "light.example"},
		{"another domain in place of one", func() error {
			return d.SetCustomer(t.Context(), Customer{Account: "clinic", Domains: []string{"lab.example"}})
		}, "clinic.example lab.example"},
		{"a domain that goes from one to another, and a new one", func() error {
			_, err := d.Import(t.Context(), []Entry{entry("clinic", "clinic.example"), entry("lab", "lab.example")}, ImportOptions{Now: time.Now()})
			return err
		}, "clinic.example"},
		{"a held domain is local", func() error {
			if err := d.RemoveCustomer(t.Context(), "lab"); err != nil {
				return err
			}
			<-told
			return d.AddDomain(t.Context(), "lab.example")
		}, "lab.example"},
	} {
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		select {
		case changed := <-told:
			if got := strings.Join(changed, " "); got != change.want {
				t.Errorf("%s was announced: %s", change.name, got)
			}
		case <-time.After(5 * pollInterval):
			if change.want != "" {
				t.Errorf("%s was not announced", change.name)
			}
		}
	}
}

// A server and the commands of its operator may all start on a folder that is new: whoever comes while another makes the file waits for it.
func TestOpenAtOnce(t *testing.T) {
	for range 10 {
		file := filepath.Join(t.TempDir(), "directory.db")
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				d, err := Open(t.Context(), file)
				if err != nil {
					t.Error(err)
					return
				}
				if err := d.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
	}
}
