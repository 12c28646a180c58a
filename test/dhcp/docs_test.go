//go:build dhcp

package dhcp

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// shellBlock is the first shell block behind a heading of a page.
var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// TestFirstTimeSetup runs the three commands of each page, as they stand there but for the folder, and a client has an address then.
func TestFirstTimeSetup(t *testing.T) {
	peer.Need(t, "udhcpc", "dhclient")
	binary, err := build()
	if err != nil {
		t.Fatal(err)
	}
	for page, heading := range map[string]string{"dhcp.md": "### First-time set-up\n", "dhcp6.md": "## Set-up in three commands\n"} {
		t.Run(page, func(t *testing.T) {
			text, err := os.ReadFile("../../docs/" + page)
			if err != nil {
				t.Fatal(err)
			}
			_, after, _ := strings.Cut(string(text), heading)
			block := shellBlock.FindStringSubmatch(after)
			if block == nil {
				t.Fatalf("no commands behind %q", heading)
			}
			l := newLab(t)
			for _, c := range []string{
				"link set br0 down", "link set br0 name eth1", "link set eth1 up", "addr add 2001:db8:1::1/64 dev eth1 nodad",
			} {
				run(t, "ip", append([]string{"-n", l.srv}, strings.Fields(c)...)...)
			}
			l.bridges[l.srv] = "eth1"
			for name, script := range map[string]string{
				"sudo":      `exec "$@"`,
				"systemctl": `[ "$*" = "restart bothy" ] && { ` + binary + ` serve >"$OUT" 2>&1 </dev/null & for _ in $(seq 100); do grep -q "bothy is ready" "$OUT" && exit 0; sleep 0.1; done; cat "$OUT"; exit 1; }`,
			} {
				if err := os.WriteFile(filepath.Join(l.dir, name), []byte("#!/bin/bash\n"+script+"\n"), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink(binary, filepath.Join(l.dir, "bothy")); err != nil {
				t.Fatal(err)
			}
			config := l.file("bothy.toml", "hostname = \"site.clinic.example\"\ndata = \""+filepath.Join(l.dir, "data")+"\"\n") // as `bothy init` leaves it
			commands := exec.Command("ip", "netns", "exec", l.srv, "bash", "-euc", strings.ReplaceAll(block[1], "/etc/bothy/bothy.toml", config))
			commands.Env = append(os.Environ(), "PATH="+l.dir+":"+os.Getenv("PATH"), "BOTHY_CONFIG="+config, "OUT="+filepath.Join(l.dir, "out"))
			out, err := commands.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "Nobody has an address.") {
				t.Fatalf("%v: %s", err, out)
			}
			ns := l.plug("c", l.srv)
			client, want := []string{"udhcpc", "-f", "-q", "-n", "-i", "eth0", "-s", "/bin/true"}, "192.0.2.1"
			if page == "dhcp6.md" {
				ask := "dhclient -6 -1 -sf /bin/true -lf " + filepath.Join(l.dir, "l6") + " -pf " + filepath.Join(l.dir, "p6") + " eth0"
				client, want = []string{"bash", "-c", "until " + ask + "; do sleep 0.2; done"}, "2001:db8:1::" // until eth0 has a link-local address
			}
			peer.Start(t, "ip", append([]string{"netns", "exec", ns}, client...)...)
			peer.Eventually(t, 30*time.Second, "the lease", func() bool {
				c := exec.Command("ip", "netns", "exec", l.srv, binary, "lease", "list")
				c.Env = commands.Env
				out, _ := c.CombinedOutput()
				return strings.Contains(string(out), want) && strings.Contains(string(out), "bound")
			})
		})
	}
}
