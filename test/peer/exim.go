package peer

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Exim is a private instance of an Exim that the script exim in this folder has unpacked, in a root of its own: configuration, spool and log
// are the instance's, programs and libraries those of its Debian release.
type Exim struct {
	root, dir string
}

// users are those that Exim wants to find: it drops its rights to one of them.
const eximUsers = "root:x:0:0::/:/bin/sh\nDebian-exim:x:64001:64001::/var/spool/exim4:/usr/sbin/nologin\n"

// NewExim writes settings to the configuration of an instance of a release's Exim. It needs root.
func NewExim(t testing.TB, release, settings string) *Exim {
	t.Helper()
	NeedRoot(t)
	Need(t, "unshare")
	root := filepath.Join(cmp.Or(os.Getenv("BOTHY_PEERS_DIR"), "/var/cache/bothy-peers"), "exim-"+release)
	if _, err := os.Stat(filepath.Join(root, "ready")); err != nil {
		Missing(t, "Exim of Debian "+release+" is missing: run test/peers as root")
	}
	dir, err := os.MkdirTemp("", "exim") // not t.TempDir: its parents are closed to Exim's user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for _, sub := range []string{"etc/exim4", "var/spool/exim4", "var/log/exim4", "var/mail"} {
		must(os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	for _, sub := range []string{"var/spool/exim4", "var/log/exim4", "var/mail"} {
		must(os.Chown(filepath.Join(dir, sub), 64001, 64001))
	}
	base := "keep_environment =\nspool_directory = /var/spool/exim4\nlog_file_path = /var/log/exim4/%slog\nlocal_interfaces = 127.0.0.1\nhost_lookup =\nrfc1413_query_timeout = 0s\nsmtp_accept_max = 100\n"
	for name, text := range map[string]string{
		"passwd": eximUsers, "group": "root:x:0:\nDebian-exim:x:64001:\nmail:x:8:\n", "hosts": "127.0.0.1 localhost\n",
		"services": "smtp 25/tcp\n", "resolv.conf": "nameserver 127.0.0.1\n", "exim4/exim4.conf": base + settings,
	} {
		must(os.WriteFile(filepath.Join(dir, "etc", name), []byte(text), 0o644))
	}
	e := &Exim{root, dir}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("Exim's log:\n%s", e.Log())
		}
	})
	return e
}

// enter is the command line of a program in the instance's root.
func (e *Exim) enter(args ...string) []string {
	script := fmt.Sprintf(`set -e
for each in dev/null dev/urandom; do mount --bind /$each %[1]s/$each; done
for each in etc var; do mount --bind %[2]s/$each %[1]s/$each; done
exec chroot %[1]s /usr/sbin/exim4 "$@"`, e.root, e.dir)
	return append([]string{"--mount", "--propagation", "private", "sh", "-c", script, "sh"}, args...)
}

// Serve starts the daemon on a free port, whose address it returns.
func (e *Exim) Serve(t testing.TB) (address string) {
	t.Helper()
	address = FreePort(t)
	_, port, _ := strings.Cut(address, ":")
	Start(t, "unshare", e.enter("-bdf", "-oX", port)...)
	WaitPort(t, address)
	return address
}

// Run runs exim once, with arguments, to its end.
func (e *Exim) Run(t testing.TB, stdin string, args ...string) (output string, exit int) {
	t.Helper()
	return Run(t, stdin, "unshare", e.enter(args...)...)
}

// Start runs exim once, with arguments, in the background.
func (e *Exim) Start(t testing.TB, args ...string) *Output {
	t.Helper()
	_, out := Start(t, "unshare", e.enter(args...)...)
	return out
}

// Write makes a file in the instance's etc or var that Exim can read.
func (e *Exim) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(e.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// Log returns the instance's main log.
func (e *Exim) Log() string {
	log, _ := os.ReadFile(filepath.Join(e.dir, "var/log/exim4/mainlog"))
	return string(log)
}

// Mail returns what Exim has put into the file /var/mail/<name>.
func (e *Exim) Mail(name string) string {
	mail, _ := os.ReadFile(filepath.Join(e.dir, "var/mail", name))
	return string(mail)
}
