package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"bothy/application/smtp"
	"bothy/management/config"

	site "bothy"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// result is what one command said.
type result struct {
	code     int
	out, err string
}

// bothy runs one command in this process.
func bothy(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	code := run(t.Context(), args, stdio{strings.NewReader(stdin), &out, &errs})
	return result{code, out.String(), errs.String()}
}

// inSite changes to an empty directory with a site's configuration, whose state is in there too.
func inSite(t *testing.T) site.Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "bothy") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	t.Chdir(dir)
	os.Unsetenv("BOTHY_CONFIG")
	r := bothy(t, "", "init", "--role", "site", "--domain", "clinic.example", "--provider", "provider.example", "--data", filepath.Join(dir, "data"))
	if r.code != 0 {
		t.Fatal(r.err)
	}
	var cfg site.Config
	if err := config.Load("bothy.toml", &cfg); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s:\n--- got\n%s--- want\n%s", file, got, want)
	}
}

func TestHelp(t *testing.T) {
	for _, command := range []string{
		"", "init", "config", "config check", "account", "account add", "account passwd", "account alias add", "account certificate", "account cram",
		"domain", "customer add", "customer import", "customer invite", "customer set", "customer remove", "queue", "queue list", "queue retry", "fetch", "join", "sendmail", "completion",
	} {
		r := bothy(t, "", append(strings.Fields(command), "--help")...)
		if r.code != 0 || r.err != "" {
			t.Errorf("%s: %d %s", command, r.code, r.err)
		}
		golden(t, filepath.Join("testdata", "help", strings.ReplaceAll("bothy "+command, " ", "_")+".txt"), r.out)
	}
	if r := bothy(t, ""); r.code != 0 || !strings.HasPrefix(r.out, "Usage: bothy <command>") {
		t.Errorf("no arguments: %+v", r)
	}
}

// Every command says what it does and shows how, with examples that parse.
func TestEveryCommandHasHelp(t *testing.T) {
	parser, err := kong.New(new(cli), kong.Name("bothy"))
	if err != nil {
		t.Fatal(err)
	}
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, child := range node.Children {
			if child.Help == "" {
				t.Errorf("%s has no help", child.FullPath())
			}
			if len(child.Children) == 0 && child.Name != "try" && !strings.Contains(child.Detail, "Example") { // try needs no more than its name
				t.Errorf("%s has no example", child.FullPath())
			}
			for _, c := range calls(child.Detail) {
				if err := c.parses(); err != nil {
					t.Errorf("%s: example bothy %s: %v", child.FullPath(), c.line, err)
				}
			}
			visit(child)
		}
	}
	visit(parser.Model.Node)
}

func TestUsage(t *testing.T) {
	inSite(t)
	for _, tt := range []struct {
		args, err string
		code      int
	}{
		{"quue", "bothy: unexpected argument quue, did you mean \"queue\"?\nSee bothy --help.\n", 2},
		{"queue show", "bothy: expected \"<id>\"\nSee bothy queue show --help.\n", 2},
		{"queue retry", "bothy: which? Give message ids, a filter, or --all\n", 2},
		{"queue retry --all --kind mx", "bothy: --all goes with neither ids nor filters\n", 2},
		{"queue list --kind mxx", "bothy: --kind must be one of \"mailbox\",\"odmr\",\"smarthost\",\"mx\",\"lan\" but got \"mxx\"\nSee bothy queue list --help.\n", 2},
		{"queue hold --state late", "bothy: --state must be one of \"due\",\"deferred\",\"leased\",\"held\",\"paused\",\"damaged\" but got \"late\"\n", 2},
		{"queue list --limt 5", "bothy: unknown flag --limt, did you mean \"--limit\"?\nSee bothy queue list --help.\n", 2},
		{"completion csh", "bothy: <shell> must be one of \"bash\",\"zsh\",\"fish\" but got \"csh\"\nSee bothy completion --help.\n", 2},
		{"init --role site", "bothy: a site needs --domain and --provider\n", 2},
		{"init --role provider", "bothy: a provider needs a name: give --hostname\n", 2},
		{"sendmail", "bothy: no recipients: name them, or give -t to take them from the message\n", 64},
		{"sendmail -bd", "bothy: -bd is not known: -bm, -bs, -bp and -bi are\n", 64},
		{"account add nobody@", "bothy: \"nobody@\" is not an address", 1},
	} {
		r := bothy(t, "", strings.Fields(tt.args)...)
		if r.code != tt.code || !strings.HasPrefix(r.err, tt.err) {
			t.Errorf("%s: %d\n%swant %d\n%s", tt.args, r.code, r.err, tt.code, tt.err)
		}
	}
}

func TestNotRunning(t *testing.T) {
	cfg := inSite(t)
	hint := "Start it with `bothy serve`, or see that --config names the file it runs with.\n"
	for _, args := range []string{"status", "queue list", "queue retry --all", "fetch"} {
		r := bothy(t, "", strings.Fields(args)...)
		if want := "bothy: the server is not running (nobody listens at " + cfg.AdminSocket() + ")\n" + hint; r.code != 1 || r.err != want {
			t.Errorf("%s: %d %q, want %q", args, r.code, r.err, want)
		}
	}
	if r := bothy(t, "Subject: x\n\nx\n", "sendmail", "a@b.example"); r.code != 75 || !strings.Contains(r.err, "start it with `bothy serve`") {
		t.Errorf("sendmail: %+v", r)
	}
}

func TestNoConfiguration(t *testing.T) {
	t.Chdir(t.TempDir())
	r := bothy(t, "", "-c", "none.toml", "status")
	want := "bothy: there is no configuration file at none.toml\nWrite one with `bothy init --role site` or `bothy init --role provider`, or name it with --config.\n"
	if r.code != 1 || r.err != want {
		t.Errorf("%+v", r)
	}
	t.Setenv("BOTHY_CONFIG", "env.toml")
	if r := bothy(t, "", "config", "check"); r.code != 1 || !strings.Contains(r.err, "at env.toml") {
		t.Errorf("by environment: %+v", r)
	}
}

// Both roles are files that load, with what the flags say and defaults for the rest.
func TestInit(t *testing.T) {
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	cfg := inSite(t)
	if cfg.Hostname != "mail.clinic.example" || cfg.Fetch[0].Provider != "provider.example:366" || cfg.Fetch[0].Username != "clinic" ||
		cfg.Fetch[0].Password != placeholder || cfg.Route.Smarthost != "provider.example:587" || len(cfg.SMTP.Listen) != 0 {
		t.Errorf("site: %+v", cfg)
	}
	r := bothy(t, "", "init", "--role", "site", "--domain", "x.example", "--provider", "y.example")
	if r.code != 1 || r.err != "bothy: bothy.toml is there already; --force replaces it\n" {
		t.Errorf("second: %+v", r)
	}
	r = bothy(t, "", "-c", "p/provider.toml", "init", "--role", "provider", "--hostname", "provider.example")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	golden(t, filepath.Join(here, "testdata/init_provider.txt"), r.out)
	var provider site.Config
	if err := config.Load("p/provider.toml", &provider); err != nil {
		t.Fatal(err)
	}
	if provider.SMTP.Listen[0] != ":25" || provider.ODMR.Listen[0] != ":366" || provider.ODMR.ListenTLS[0] != ":10366" || len(provider.Fetch) > 0 {
		t.Errorf("provider: %+v", provider)
	}
	r = bothy(t, "", "-c", "p/provider.toml", "init", "--role", "provider", "--hostname", "new.example", "--force")
	if r.code != 0 || config.Load("p/provider.toml", &provider) != nil || provider.Hostname != "new.example" {
		t.Errorf("--force: %+v, %s", r, provider.Hostname)
	}
	r = bothy(t, "", "-c", "bad.toml", "init", "--role", "site", "--domain", "nodot", "--provider", "a b")
	if _, err := os.Stat("bad.toml"); r.code != 1 || err == nil {
		t.Errorf("bad values: %+v", r)
	}
	if left, _ := filepath.Glob("*.new"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestConfig(t *testing.T) {
	if err := config.Verify(site.Config{}); err != nil {
		t.Fatal(err)
	}
	inSite(t)
	todo := "bothy.toml: fetch.password: still the text that `bothy init` wrote; write the provider's password into the file that fetch.password_file names\n"
	if r := bothy(t, "", "config", "check"); r.code != 1 || r.out != "" || !strings.HasPrefix(r.err, todo) {
		t.Errorf("placeholder: %+v", r)
	}
	if err := os.WriteFile("provider.password", []byte("sesame\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if r := bothy(t, "", "config", "check"); r.code != 0 || r.out != "bothy.toml: good\n" {
		t.Errorf("check: %+v", r)
	}
	if r := bothy(t, "", "config", "print"); r.code != 0 || !strings.Contains(r.out, `password = "(hidden)"`) || strings.Contains(r.out, placeholder) {
		t.Errorf("print: %+v", r)
	}
	if r := bothy(t, "", "config", "docs"); r.code != 0 || !strings.Contains(r.out, "\n## `[submission]`\n") {
		t.Errorf("docs: %+v", r)
	}
	wrong := "hostname = 'x.example'\n[submission]\nlisen = ':587'\n[queue]\nlifetime = '1s'\n"
	if err := os.WriteFile("wrong.toml", []byte(wrong), 0o600); err != nil {
		t.Fatal(err)
	}
	r := bothy(t, "", "config", "check", "wrong.toml")
	if r.code != 1 || !strings.HasPrefix(r.err, "wrong.toml:3:1: submission.lisen: unknown key; did you mean \"listen\"?\nwrong.toml:5:12: queue.lifetime: \"1s\" is below the least allowed") {
		t.Errorf("wrong: %d\n%s", r.code, r.err)
	}
	if r := bothy(t, "", "serve", "-c", "wrong.toml"); r.code != 1 || !strings.Contains(r.err, "wrong.toml:3:1:") {
		t.Errorf("serve with errors: %+v", r)
	}
}

func TestAccounts(t *testing.T) {
	inSite(t)
	r := bothy(t, "", "account", "add", "keeper@clinic.example")
	made, ok := strings.CutPrefix(r.out, "Added keeper@clinic.example, password ")
	if r.code != 0 || !ok || len(strings.TrimSpace(made)) != 26 {
		t.Fatalf("generated: %+v", r)
	}
	if err := os.WriteFile("secret", []byte("hunter2\nnot this\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		stdin, args, out, err string
		code                  int
	}{
		{"", "account add nurse@clinic.example --address nurse@clinic.example --address info@clinic.example --cram --password-file secret", "Added nurse@clinic.example\n", "", 0},
		{"piped\n", "account add guest@clinic.example", "Added guest@clinic.example\n", "", 0},
		{"", "account add keeper@clinic.example", "", "keeper@clinic.example", 1},
		{"", "account add x@clinic.example --password-file -", "", "standard input: no password there", 1},
		{"", "account add x@clinic.example --password-file none", "", "none: no such file", 1},
		{strings.Repeat("x", 5000), "account add x@clinic.example", "", "longer than 4096 octets", 1},
		{"new\n", "account passwd nurse@clinic.example --no-cram", "Set the password of nurse@clinic.example\n", "", 0},
		{"new\n", "account passwd nobody@clinic.example", "", "nobody@clinic.example", 1},
		{"", "account remove guest@clinic.example", "Removed guest@clinic.example\n", "", 0},
		{"", "account remove guest@clinic.example", "", "guest@clinic.example", 1},
	} {
		r := bothy(t, tt.stdin, strings.Fields(tt.args)...)
		if r.code != tt.code || r.out != tt.out || !strings.Contains(r.err, tt.err) || tt.err == "" && r.err != "" {
			t.Errorf("%s: %+v", tt.args, r)
		}
	}
	r = bothy(t, "", "account", "list", "--json")
	var list []struct {
		Name      string
		Addresses []string
		CRAM      bool
	}
	if err := json.Unmarshal([]byte(r.out), &list); err != nil || len(list) != 2 || len(list[1].Addresses) != 2 || list[1].CRAM {
		t.Errorf("list: %v %s", err, r.out)
	}
	if r := bothy(t, "", "account", "list"); !strings.Contains(r.out, "nurse@clinic.example   nurse@clinic.example info@clinic.example") {
		t.Errorf("table:\n%s", r.out)
	}
}

func TestCustomers(t *testing.T) {
	inSite(t)
	if r := bothy(t, "secret\n", "customer", "add", "--no-dns", "lab", "lab.example", "b.lab.example", "--min-interval", "5m", "--cram"); r.code != 0 || r.out != "Holding mail for lab: lab.example b.lab.example\n" {
		t.Fatalf("add: %+v", r)
	}
	if r := bothy(t, "secret\n", "customer", "add", "other", "nodot"); r.code != 1 || !strings.Contains(r.err, "has no dot") {
		t.Errorf("no dot: %+v", r)
	}
	r := bothy(t, "", "customer", "add", "lab", "c.lab.example")
	if want := "bothy: customer lab is there already: give it more with `bothy customer set lab --add-domain NAME`, or invite it once more with `bothy customer invite lab`\n"; r.code != 1 || r.err != want {
		t.Errorf("twice: %+v", r)
	}
	if r := bothy(t, "", "account", "list"); strings.Contains(r.out, "other") {
		t.Errorf("the account of a refused customer is there:\n%s", r.out)
	}
	if r := bothy(t, "", "customer", "list"); r.out != "CUSTOMER  LAST CALL  DOMAINS\nlab       never      lab.example b.lab.example\n" {
		t.Errorf("list:\n%s", r.out)
	}
	if r := bothy(t, "", "customer", "show", "lab"); !strings.Contains(r.out, "shortest interval    5m0s\n") || !strings.Contains(r.out, "CRAM-MD5             true\n") {
		t.Errorf("show:\n%s", r.out)
	}
	if r := bothy(t, "", "customer", "list", "--json"); !json.Valid([]byte(r.out)) {
		t.Errorf("json: %s", r.out)
	}
	if r := bothy(t, "", "customer", "remove", "lab", "--account"); r.code != 0 || r.out != "Removed lab\n" {
		t.Errorf("remove: %+v", r)
	}
	if r := bothy(t, "", "customer", "list", "--json"); r.out != "[]\n" {
		t.Errorf("empty: %s", r.out)
	}
}

func TestVersion(t *testing.T) {
	if r := bothy(t, "", "version"); r.code != 0 || !strings.HasPrefix(r.out, "bothy ") {
		t.Errorf("%+v", r)
	}
	var b build
	if r := bothy(t, "", "version", "--json"); json.Unmarshal([]byte(r.out), &b) != nil || b.Go == "" {
		t.Errorf("%+v", r)
	}
}

// Each shell that is here reads its script without complaint; bash completes with it.
func TestCompletion(t *testing.T) {
	for shell, check := range map[string][]string{"bash": {"bash", "-n"}, "zsh": {"zsh", "-n"}, "fish": {"fish", "-n"}} {
		r := bothy(t, "", "completion", shell)
		if r.code != 0 || !strings.Contains(r.out, "passwd") || !strings.Contains(r.out, "min-interval") {
			t.Errorf("%s: %+v", shell, r)
		}
		program, err := exec.LookPath(check[0])
		if err != nil {
			continue // the next test machine may have it
		}
		file := filepath.Join(t.TempDir(), "script")
		if err := os.WriteFile(file, []byte(r.out), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command(program, append(check[1:], file)...).CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", shell, err, out)
		}
		if shell == "bash" {
			bashCompletes(t, program, file)
		}
	}
}

func bashCompletes(t *testing.T, program, file string) {
	t.Helper()
	for words, want := range map[string]string{
		"bothy acc":                      "account",
		"bothy account p":                "passwd",
		"bothy -c x.toml queue list --s": "--sender --state",
		"bothy completion z":             "zsh",
		"bothy queue hold --kind m":      "mailbox mx",
		"bothy queue list --state de":    "deferred",
		"bothy init --role p":            "provider",
	} {
		n := len(strings.Fields(words)) - 1
		script := "source " + file + "\nCOMP_WORDS=(" + words + ")\nCOMP_CWORD=" + string(rune('0'+n)) + "\n_bothy\necho ${COMPREPLY[*]}"
		out, err := exec.Command(program, "-c", script).CombinedOutput()
		got := strings.Fields(string(out))
		if err != nil || len(got) != len(strings.Fields(want)) || !strings.Contains(string(out), strings.Fields(want)[0]) {
			t.Errorf("%s: %q, want %q, %v", words, out, want, err)
		}
	}
}

func TestAs(t *testing.T) {
	for argv, want := range map[string]string{
		"/usr/sbin/sendmail -t": "sendmail -t",
		"mailq":                 "queue list",
		"newaliases":            "sendmail -bi",
		"bin/bothy status":      "status",
		"":                      "",
	} {
		if got := strings.Join(as(strings.Fields(argv)), " "); got != want {
			t.Errorf("%s: %s", argv, got)
		}
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1500: "1.5 kB", 48_000_000: "48 MB"} {
		if got := octets(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	if got := printable("a\x1b[31mb\tc\u202e"); got != "a\ufffd[31mb c\ufffd" {
		t.Errorf("printable: %q", got)
	}
}

// A context that has ended reaches a command that waits.
func TestInterrupted(t *testing.T) {
	inSite(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out, errs bytes.Buffer
	if code := run(ctx, []string{"status"}, stdio{strings.NewReader(""), &out, &errs}); code != 1 {
		t.Errorf("code %d", code)
	}
}

// What the help of sendmail says of its exit codes.
func TestRefusalCodes(t *testing.T) {
	for code, r := range map[int]smtp.Reply{
		exData:     {Code: 554, Enhanced: [3]int{5, 6, 0}},
		exNoUser:   {Code: 554, Enhanced: [3]int{5, 1, 2}}, // what submission answers to a domain that is not fully qualified
		exTempFail: {Code: 452, Enhanced: [3]int{4, 3, 1}},
		exNoPerm:   {Code: 550, Enhanced: [3]int{5, 7, 1}},
	} {
		if got := refusalCode(r); got != code {
			t.Errorf("%v: %d, want %d", r, got, code)
		}
	}
}
