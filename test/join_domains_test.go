package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestJoinTakesNothingOver: a provider gets to bring mail for the domains that its invitation names and for no others, whatever it answers, now
// or later; and for none that the site has already.
func TestJoinTakesNothingOver(t *testing.T) {
	t.Parallel()
	good, evil := startProvider(t, ""), startProvider(t, "")
	dir := t.TempDir()
	file := filepath.Join(dir, "bothy.toml")
	join := func(line []string, more ...string) (string, int) {
		return peer.Run(t, "", program, append(append(line, "--config", file), more...)...)
	}
	text := func() string {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	if out, code := join(good.invite(t, "clinic.example"), "--data", filepath.Join(dir, "data"), "--no-start"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	bothy(t, "account", "add", "--config", file, "--password-file", filepath.Join(dir, "clinic.example@localhost.password"), "keeper@own.example")
	pop := highPorts(t, file)
	if err := os.WriteFile(file, append([]byte(text()), "\n[route.lan]\n\".shed.example\" = \"127.0.0.1:9\"\n"...), 0o600); err != nil {
		t.Fatal(err)
	}

	// What the site has: of the other provider, its own, another server's here.
	before := text()
	for domain, why := range map[string]string{
		"clinic.example": "clinic.example is fetched from localhost:", "own.example": "own.example has mailboxes here",
		"a.shed.example": "a.shed.example is handed to another server here",
	} {
		out, code := join(evil.invite(t, strings.ReplaceAll(domain, ".", "-"), domain), "--no-start")
		if code != 2 || !strings.Contains(out, why) || !strings.Contains(out, "--share "+domain) {
			t.Errorf("%s: exit %d\n%s", domain, code, out)
		}
		if text() != before {
			t.Fatalf("%s: the configuration was changed:\n%s", domain, text())
		}
	}

	// What the invitation does not name.
	line := evil.invite(t, "ship", "ship.example")
	bothy(t, "customer", "remove", "--config", evil.file, "own-example")
	bothy(t, "customer", "remove", "--config", evil.file, "clinic-example")
	bothy(t, "customer", "set", "--config", evil.file, "ship", "--add-domain", "own.example", "--add-domain", "clinic.example", "--add-domain", "bank.example")
	out, code := join(line, "--no-start")
	if code != 0 || !strings.Contains(out, `"bank.example" too, which the invitation does not name`) {
		t.Errorf("exit %d\n%s", code, out)
	}
	if got := text(); strings.Contains(got, "bank.example") || strings.Contains(got, "own.example") || strings.Count(got, `domains = ["ship.example"]`) != 1 {
		t.Errorf("the configuration is\n%s", got)
	}
	if out := bothy(t, "account", "list", "--config", file); !strings.Contains(out, "postmaster@ship.example") || strings.Contains(out, "bank.example") {
		t.Errorf("accounts:\n%s", out)
	}

	// Invited again, with more.
	bothy(t, "customer", "set", "--config", evil.file, "ship", "--drop-domain", "own.example", "--drop-domain", "clinic.example")
	joined := text()
	again := strings.Fields(strings.Split(bothy(t, "customer", "invite", "--config", evil.file, "ship"), "bothy join ")[1])[0]
	if out, code := join([]string{"join", again}, "--no-start"); code != 0 || !strings.Contains(out, "the invitation names bank.example, which fetch.domains does not") {
		t.Errorf("exit %d\n%s", code, out)
	}
	if out := bothy(t, "account", "list", "--config", file); text() != joined || strings.Contains(out, "bank.example") {
		t.Errorf("accounts:\n%s\nconfiguration:\n%s", out, text())
	}
	bothy(t, "customer", "set", "--config", evil.file, "ship", "--add-domain", "clinic.example")

	// Later: asked for all that it has, it still reaches no domain of the other's.
	all := strings.Replace(text(), `domains = ["ship.example"]`, "", 1)
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		t.Fatal(err)
	}
	peer.Start(t, program, "serve", "--config", file)
	peer.WaitPort(t, pop)
	evil.arrive(t, "taken over", "postmaster@clinic.example")
	evil.arrive(t, "its own", "postmaster@ship.example")
	peer.Eventually(t, waitDelivery, "the sender's notice of what was refused, and nothing else", func() bool {
		queue := bothy(t, "queue", "list", "--config", evil.file)
		return strings.Contains(queue, "aunt@elsewhere.example") && !strings.Contains(queue, "@clinic.example:") && !strings.Contains(queue, "@ship.example:")
	})
	good.arrive(t, "honest", "postmaster@clinic.example")
	subjects := func(account string) string {
		var all strings.Builder
		files, _ := filepath.Glob(filepath.Join(dir, "data", "mailboxes", "accounts", account, "mail", "*"))
		for _, f := range files {
			content, _ := os.ReadFile(f)
			for line := range strings.Lines(string(content)) {
				if s, ok := strings.CutPrefix(line, "Subject: "); ok {
					fmt.Fprintln(&all, strings.TrimSpace(s))
				}
			}
		}
		return all.String()
	}
	peer.Eventually(t, waitDelivery, "mail of either provider", func() bool {
		return subjects("postmaster@clinic.example") == "honest\n" && subjects("postmaster@ship.example") == "its own\n"
	})
}
