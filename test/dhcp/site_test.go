//go:build dhcp

package dhcp

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"bothy/control/lease"
	"bothy/test/peer"
)

// builtIn is where the program is while the tests run.
var builtIn = filepath.Join(os.TempDir(), fmt.Sprintf("bothy-test-dhcp-%d", os.Getpid()))

// build builds the program, once.
var build = sync.OnceValues(func() (binary string, err error) {
	binary = filepath.Join(builtIn, "bothy")
	if out, err := exec.Command("go", "build", "-race", "-o", binary, "bothy/cmd/bothy").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return binary, nil
})

// site is the whole program, in a namespace and with a configuration file.
type site struct {
	*lab
	ns, data, config string
}

// site writes a configuration and starts the program.
func (l *lab) site(name, ns, settings string) *site {
	l.t.Helper()
	s := &site{lab: &lab{t: l.t, dir: l.dir, srv: ns}, ns: ns, data: filepath.Join(l.dir, name)}
	s.config = l.file(name+".toml", fmt.Sprintf("hostname = \"%s.clinic.example\"\ndata = %q\nlog_level = \"debug\"\n%s", name, s.data, settings))
	s.start()
	return s
}

func (s *site) start() {
	s.t.Helper()
	binary, err := build()
	if err != nil {
		s.t.Fatal(err)
	}
	s.cmd, s.log = peer.Start(s.t, "ip", "netns", "exec", s.ns, binary, "serve", "--config", s.config)
	s.said(`msg="bothy is ready"`, 1)
}

// again kills the program and starts it anew.
func (s *site) again() {
	s.t.Helper()
	end(s.t, s.cmd, kill)
	s.start()
}

// tells runs a command of the program that asks the one that is running, and reads the JSON it prints.
func (s *site) tells(v any, args ...string) {
	s.t.Helper()
	binary, err := build()
	if err != nil {
		s.t.Fatal(err)
	}
	out := run(s.t, "ip", append(append([]string{"netns", "exec", s.ns, binary}, args...), "--json", "--config", s.config)...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
}

// holds reports whether somebody holds an address, or any within a prefix.
func (s *site) holds(p netip.Prefix) bool {
	s.t.Helper()
	var rows []struct {
		lease.Lease
		Current bool `json:"current"`
	}
	s.tells(&rows, "lease", "list")
	for _, l := range rows {
		if l.Current && p.Overlaps(l.Prefix) {
			return true
		}
	}
	return false
}

// snippet is what a page under docs tells people to write into a file: the block that begins with the file's name in a comment.
func snippet(t *testing.T, page, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", "docs", page))
	if err != nil {
		t.Fatal(err)
	}
	for _, block := range strings.Split(string(content), "\n```")[1:] {
		_, block, _ = strings.Cut(block, "\n") // the language
		if first, rest, ok := strings.Cut(block, "\n"); ok && strings.HasPrefix(first+" ", "# "+file+" ") {
			return rest + "\n"
		}
	}
	t.Fatalf("docs/%s has no block for %s", page, file)
	return ""
}
