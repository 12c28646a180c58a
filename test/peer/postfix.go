package peer

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Postfix is a private instance of Debian's Postfix with its own configuration, queue and log. Start it with StartPostfix.
type Postfix struct {
	Address string // of its SMTP port
	Dir     string
}

// master is the service table: what Debian ships, with the SMTP port on loopback and nothing in a chroot.
const master = `%s inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
local unix - n n - - local
virtual unix - n n - - virtual
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
`

// StartPostfix starts an instance with settings added to a quiet base of main.cf. It needs root and the postfix package.
func StartPostfix(t testing.TB, settings string) *Postfix {
	t.Helper()
	NeedRoot(t)
	Need(t, "postfix")
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	dir, err := os.MkdirTemp("", "postfix") // not t.TempDir: its parents are closed to the postfix user
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &Postfix{Address: FreePort(t), Dir: dir}
	base := fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log/mail.log
maillog_file_prefixes = %[1]s
mail_owner = postfix
setgid_group = postdrop
myhostname = postfix.example
mydestination =
inet_interfaces = loopback-only
inet_protocols = ipv4
smtp_host_lookup = native
disable_dns_lookups = yes
mynetworks = 127.0.0.0/8
local_recipient_maps =
alias_maps =
alias_database =
smtpd_recipient_restrictions = permit_mynetworks, reject
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
default_process_limit = 200
`, dir)
	must := func(err error) {
		if err != nil {
			t.Helper()
			t.Fatal(err)
		}
	}
	must(os.Chmod(dir, 0o755))
	for _, sub := range []string{"etc", "queue", "log"} {
		must(os.Mkdir(filepath.Join(dir, sub), 0o755))
	}
	must(os.Mkdir(filepath.Join(dir, "data"), 0o700))
	must(os.Chown(filepath.Join(dir, "data"), uid, -1))
	etc := filepath.Join(dir, "etc")
	must(os.WriteFile(filepath.Join(etc, "main.cf"), []byte(override(base, settings)), 0o644))
	must(os.WriteFile(filepath.Join(etc, "master.cf"), fmt.Appendf(nil, master, p.Address), 0o644))
	if out, code := Run(t, "", "postfix", "-c", etc, "start"); code != 0 {
		log, _ := os.ReadFile(filepath.Join(dir, "log", "mail.log"))
		t.Fatalf("postfix start: exit %d\n%s%s", code, out, log)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("postfix log:\n%s", p.Log())
		}
		Run(noCancel{t}, "", "postfix", "-c", etc, "stop")
	})
	WaitPort(t, p.Address)
	return p
}

// Log returns the instance's log.
func (p *Postfix) Log() string {
	log, _ := os.ReadFile(filepath.Join(p.Dir, "log", "mail.log"))
	return string(log)
}

// PID returns the process id of the instance's master.
func (p *Postfix) PID(t testing.TB) int {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(p.Dir, "queue", "pid", "master.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(content)))
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// override returns the lines of base whose parameter is not set by settings, and settings: Postfix warns of each that is set twice.
func override(base, settings string) string {
	var b strings.Builder
	for line := range strings.Lines(base) {
		name, _, _ := strings.Cut(line, " =")
		if !strings.HasPrefix(settings, name+" =") && !strings.Contains(settings, "\n"+name+" =") {
			b.WriteString(line)
		}
	}
	return b.String() + settings
}
