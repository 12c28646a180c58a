//go:build dhcp

package dhcp

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/control/dhcp4"
	"bothy/management/config"
)

// written is a configuration as an operator writes it.
const written = `[dhcp4]
interfaces = ["eth1"]
max_lease = "48h"
options = {domain-name-servers = "192.0.2.1", 224 = "01:02"}

[[dhcp4.class]]
name = "meter"
vendor_class = "anacapa"

[[dhcp4.subnet]]
prefix = "192.0.2.0/24"
options = {routers = "192.0.2.1"}
pool = [
  {first = "192.0.2.100", last = "192.0.2.199"},
  {first = "192.0.2.200", last = "192.0.2.219", class = "meter"},
]

[[dhcp4.host]]
hardware = "02:00:00:00:00:01"
address = "192.0.2.10"
name = "printer"
`

type whole struct {
	DHCP4 dhcp4.Config `toml:"dhcp4" doc:"DHCPv4."`
}

func TestConfig(t *testing.T) {
	if err := config.Verify(&whole{}); err != nil {
		t.Fatal(err)
	}
	if err := config.Docs(io.Discard, &whole{}); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bothy.toml")
	load := func(text string) (whole, error) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var w whole
		err := config.Load(file, &w)
		return w, err
	}
	w, err := load(written)
	if err != nil {
		t.Fatal(err)
	}
	if d := w.DHCP4; len(d.Subnets) != 1 || len(d.Subnets[0].Pools) != 2 || !d.MailServers || d.Probe == 0 || d.BOOTP != "reserved" || d.Hosts[0].Name != "printer" {
		t.Errorf("%+v", d)
	}
	for _, c := range []struct{ old, bad, line string }{ // what is wrong is named by its line
		{`last = "192.0.2.199"`, `last = "192.0.3.1"`, ":14:"},
		{`routers = "192.0.2.1"`, `routers = "no"`, ":12:"},
	} {
		if _, err := load(strings.Replace(written, c.old, c.bad, 1)); err == nil || !strings.Contains(err.Error(), c.line) {
			t.Errorf("%s: %v", c.bad, err)
		}
	}
}
