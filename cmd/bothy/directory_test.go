package main

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"bothy/application/directory"
	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/submission"
	"bothy/management/admin"

	site "bothy"
)

// steps runs commands one after the other in an empty site. What a step says is compared whole, what it complains of in part.
func steps(t *testing.T, all []step) {
	t.Helper()
	for _, s := range all {
		r := bothy(t, s.stdin, strings.Fields(s.args)...)
		if r.code != s.code || r.out != s.out || !strings.Contains(r.err, s.err) || s.err == "" && r.err != "" {
			t.Errorf("%s: %d\n%s%s", s.args, r.code, r.out, r.err)
		}
	}
}

type step struct {
	args, stdin string
	code        int
	out, err    string
}

func TestAddressesAndAliases(t *testing.T) {
	inSite(t)
	steps(t, []step{
		{args: "account add keeper@clinic.example", stdin: "secret\n", out: "Added keeper@clinic.example\n"},
		{args: "account add nurse@clinic.example", stdin: "secret\n", out: "Added nurse@clinic.example\n"},
		{args: "account address add keeper@clinic.example k@clinic.example k@lab.example", out: "Added k@clinic.example\nAdded k@lab.example\n"},
		{args: "account address add keeper@clinic.example nurse@clinic.example", code: 1, err: "nurse@clinic.example is an address of account nurse@clinic.example already"},
		{args: "account address add keeper@clinic.example nobody@", code: 1, err: `"nobody@" is not an address`},
		{args: "account address remove k@clinic.example", out: "Removed k@clinic.example\n"},
		{args: "account address remove k@clinic.example", code: 1, err: "k@clinic.example is no account's address"},
		{args: "account alias add info@clinic.example keeper@clinic.example nurse@clinic.example", out: "info@clinic.example goes to keeper@clinic.example\ninfo@clinic.example goes to nurse@clinic.example\n"},
		{args: "account alias add info@clinic.example far@away.example", code: 1, err: "leads to no account here"},
		{args: "account alias list", out: "ALIAS                TARGET\ninfo@clinic.example  keeper@clinic.example\ninfo@clinic.example  nurse@clinic.example\n"},
		{args: "account alias remove info@clinic.example nurse@clinic.example", out: "info@clinic.example goes no longer to nurse@clinic.example\n"},
		{args: "account alias remove info@clinic.example", out: "Removed info@clinic.example\n"},
		{args: "account alias remove info@clinic.example", code: 1, err: "there is no alias info@clinic.example"},
		{args: "account alias list --json", out: "[]\n"},
		{args: "account alias add info@clinic.example", code: 2, err: `expected "<target> ..."`},
	})
}

func TestDomains(t *testing.T) {
	inSite(t)
	steps(t, []step{
		{args: "domain list --json", out: "[]\n"},
		{args: "domain add mail.clinic.example", out: "Local now: mail.clinic.example\n"},
		{args: "domain add mail.clinic.example", code: 1, err: "is local already"},
		{args: "account add keeper@clinic.example", stdin: "secret\n", out: "Added keeper@clinic.example\n"},
		{args: "customer add --no-dns lab lab.example", stdin: "secret\n", out: "Holding mail for lab: lab.example\n"},
		{args: "domain list", out: "DOMAIN               MAIL IS\nmail.clinic.example  delivered here; chief domain\nclinic.example       delivered here\nlab.example          held for lab\n"},
		{args: "domain add lab.example", code: 1, err: "already held for customer lab"},
		{args: "domain remove clinic.example", code: 1, err: "remove its addresses and aliases first"},
		{args: "domain remove mail.clinic.example", out: "Not local any more: mail.clinic.example\n"},
	})
	var list []listedDomain
	if r := bothy(t, "", "domain", "list", "--json"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) != 2 || !list[0].Chief || list[1].Customer != "lab" {
		t.Errorf("json: %s", r.out)
	}
}

func TestLogins(t *testing.T) {
	cfg := inSite(t)
	steps(t, []step{
		{args: "account add clinic", stdin: "secret\n", out: "Added clinic\n"},
		{args: "account cram on clinic", stdin: "wrong\n", code: 1, err: "that is not the password of clinic"},
		{args: "account cram on clinic", code: 1, err: "standard input: no password there"},
		{args: "account cram on nobody", stdin: "secret\n", code: 1, err: `there is no account "nobody"`},
		{args: "account cram on clinic", stdin: "secret\n", out: "CRAM-MD5 is allowed for clinic\n"},
		{args: "account disable clinic", out: "Disabled clinic\n"},
		{args: "account cram on clinic", stdin: "secret\n", code: 1, err: "account clinic is disabled"},
	})
	if r := bothy(t, "", "account", "list"); !strings.Contains(r.out, "CRAM-MD5, disabled\n") {
		t.Errorf("list:\n%s", r.out)
	}
	steps(t, []step{
		{args: "account enable clinic", out: "Enabled clinic\n"},
		{args: "account cram off clinic", out: "CRAM-MD5 is not allowed for clinic\n"},
		{args: "account disable nobody", code: 1, err: `there is no account "nobody"`},
	})
	d, err := directory.Open(t.Context(), cfg.DirectoryFile())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	v, err := d.Verifier(t.Context(), "clinic")
	if err != nil || !v.Check("secret") || v.CRAMSecret != nil {
		t.Errorf("afterwards: %+v, %v", v, err)
	}
}

func TestAppPasswords(t *testing.T) {
	cfg := inSite(t)
	steps(t, []step{{args: "account add nurse@clinic.example", stdin: "secret\n", out: "Added nurse@clinic.example\n"}})
	r := bothy(t, "", "account", "app", "add", "nurse@clinic.example", "the printer")
	made := strings.TrimPrefix(strings.TrimSpace(r.out), "Added a password of nurse@clinic.example for the printer: ")
	if r.code != 0 || len(made) != 26 {
		t.Fatalf("%+v", r)
	}
	d, err := directory.Open(t.Context(), cfg.DirectoryFile())
	if err != nil {
		t.Fatal(err)
	}
	v, err := d.Verifier(t.Context(), "nurse@clinic.example")
	if err != nil || !v.Check(made) || !v.Check("secret") {
		t.Error(err)
	}
	d.Close()
	steps(t, []step{
		{args: "account app list", out: "ACCOUNT               APP          CREATED\nnurse@clinic.example  the printer  " + time.Now().Format("2006-01-02") + "\n"},
		{args: "account app add nobody telephone", code: 1, err: `there is no account "nobody"`},
		{args: "account cram on nurse@clinic.example", stdin: made + "\n", code: 1, err: "that is not the password"},
		{args: "account app remove nurse@clinic.example telephone", code: 1, err: "has no password for"},
	})
	if r := bothy(t, "", "account", "app", "remove", "nurse@clinic.example", "the printer"); r.out != "Removed the password for the printer\n" {
		t.Errorf("%+v", r)
	}
	steps(t, []step{{args: "account app list nurse@clinic.example --json", out: "[]\n"}})
}

func TestCertificates(t *testing.T) {
	inSite(t)
	server := httptest.NewTLSServer(http.NotFoundHandler()) // it has a certificate
	cert := server.Certificate()
	server.Close()
	fingerprint := directory.Fingerprint(cert)
	key := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("secret")})
	whole := append(key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})...)
	for name, content := range map[string][]byte{"cert.pem": whole, "key.pem": key, "bad.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})} {
		if err := os.WriteFile(name, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	entry := fmt.Sprintf("[\n  {\n    \"fingerprint\": %q,\n    \"account\": \"nurse@clinic.example\"\n  }\n]\n", fingerprint)
	steps(t, []step{
		{args: "account add nurse@clinic.example", stdin: "secret\n", out: "Added nurse@clinic.example\n"},
		{args: "account add other@clinic.example", stdin: "secret\n", out: "Added other@clinic.example\n"},
		{args: "account certificate --config bothy.toml nurse@clinic.example cert.pem", out: "Logs in to nurse@clinic.example: " + fingerprint + "\n"},
		{args: "account certificate other@clinic.example cert.pem", code: 1, err: "this key logs in to account nurse@clinic.example already"},
		{args: "account certificate other@clinic.example cert.pem --remove", code: 1, err: "does not log in to account other@clinic.example"},
		{args: "account certificate nurse@clinic.example key.pem", code: 1, err: "key.pem holds no certificate in PEM"},
		{args: "account certificate nurse@clinic.example bad.pem", code: 1, err: "bad.pem: x509:"},
		{args: "account certificate nurse@clinic.example none.pem", code: 1, err: "none.pem: no such file"},
		{args: "account certificate nobody cert.pem", code: 1, err: `there is no account "nobody"`},
		{args: "account certificate nurse@clinic.example --remove", code: 2, err: "which?"},
		{args: "account certificate --json", out: entry},
		{args: "account certificate other@clinic.example --json", out: "[]\n"},
		{args: "account certificate nurse@clinic.example", out: "ACCOUNT               FINGERPRINT\nnurse@clinic.example  " + fingerprint + "\n"},
		{args: "account certificate nurse@clinic.example --remove " + strings.ToUpper(fingerprint), out: "Logs in no longer to nurse@clinic.example: " + fingerprint + "\n"},
	})
}

func TestRights(t *testing.T) {
	inSite(t)
	const own = "account                 keeper@clinic.example\nsends as its own names  keeper@clinic.example info@clinic.example\n"
	steps(t, []step{
		{args: "account add keeper@clinic.example", stdin: "secret\n", out: "Added keeper@clinic.example\n"},
		{args: "account alias add info@clinic.example keeper@clinic.example", out: "info@clinic.example goes to keeper@clinic.example\n"},
		{
			args: "account rights KEEPER@clinic.example",
			out:  own + "and as                  -\nwrites to               everybody\nmessages                no bound\nrecipients              no bound\nlargest message         no bound but the server's\n",
		},
		{
			args: "account rights keeper@clinic.example --send-as boss@Clinic.example --send-as @lab.example --send-to local --messages 9 --recipients 50 --size 1MB",
			out:  own + "and as                  @lab.example boss@clinic.example\nwrites to               local\nmessages                9 a day\nrecipients              50 a day\nlargest message         1.0 MB\n",
		},
		{
			args: "account rights keeper@clinic.example --send-to none --messages 0",
			out:  own + "and as                  @lab.example boss@clinic.example\nwrites to               everybody\nmessages                no bound\nrecipients              50 a day\nlargest message         1.0 MB\n",
		},
		{args: "account rights keeper@clinic.example --send-as *.example", code: 1, err: "is no pattern"},
		{args: "account rights keeper@clinic.example --messages=-1", code: 1, err: "a bound is negative"},
		{args: "account rights keeper@clinic.example --size huge", code: 2, err: "--size"},
		{args: "account rights nobody", code: 1, err: `there is no account "nobody"`},
		{args: "customer add --no-dns lab lab.example", stdin: "secret\n", out: "Holding mail for lab: lab.example\n"},
		{
			args: "account rights lab --json",
			out:  "{\n  \"account\": \"lab\",\n  \"addresses\": [],\n  \"aliases\": [],\n  \"domains\": [\n    \"lab.example\"\n  ]\n}\n",
		},
	})
}

func TestFaults(t *testing.T) {
	cfg := inSite(t)
	answering(t, cfg, func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/faults", func(context.Context, struct{}) ([]submission.Fault, error) {
			last := time.Now().Add(-50 * time.Hour)
			return []submission.Fault{
				{Account: "meter@clinic.example", Kind: submission.NoDate, Client: "Meter\x1b 2", Count: 7, First: last, Last: last},
				{Kind: submission.Unauthorized, Count: 1, First: last, Last: last},
			}, nil
		})
	})
	steps(t, []step{
		{
			args: "faults", out: "ACCOUNT               TIMES  LAST      FAULT                           PROGRAM\n" +
				"meter@clinic.example  7      2d2h ago  sends no Date                   Meter\ufffd 2\n" +
				"-                     1      2d2h ago  sends without having logged in  -\n",
		},
		{args: "faults --account nurse@clinic.example", out: "No faults since the server started.\n"},
		{args: "faults --account nurse@clinic.example --json", out: "[]\n"},
	})
}

func TestCustomerSet(t *testing.T) {
	cfg := inSite(t)
	steps(t, []step{
		{args: "customer add --no-dns lab lab.example", stdin: "secret\n", out: "Holding mail for lab: lab.example\n"},
		{args: "customer set lab", code: 2, err: "what?"},
		{args: "customer set lab --add-domain B.lab.example --min-interval 5m --empty-turns --linger 40m", out: "Holding mail for lab: lab.example b.lab.example\n"},
		{args: "customer set lab --drop-domain no.example", code: 1, err: "no.example is not held for lab"},
		{args: "customer set nobody --min-interval 0s", code: 1, err: "nobody"},
		{args: "account add keeper@clinic.example", stdin: "secret\n", out: "Added keeper@clinic.example\n"},
		{args: "customer set lab --add-domain clinic.example", code: 1, err: "domain clinic.example is local"},
		{args: "customer add other clinic.example", code: 1, err: "clinic.example is local: its mail is delivered here"},
		{args: "customer add other lab.example", code: 1, err: "lab.example is held for customer lab already"},
		{args: "customer add keeper@clinic.example x.example --cram", code: 1, err: "is there already"},
	})
	if r := bothy(t, "", "customer", "show", "lab"); !strings.Contains(r.out, "shortest interval    5m0s\nlingers              40m0s\nlong poll            0s\nanswer without mail  250 and QUIT\n") {
		t.Errorf("show:\n%s", r.out)
	}
	answering(t, cfg, func(s *admin.Server) {
		admin.Handle(s, http.MethodGet, "/v1/queue", func(_ context.Context, q site.QueueRequest) (site.QueuePage, error) {
			if q.Lane != "odmr/lab.example" {
				return site.QueuePage{}, nil
			}
			return site.QueuePage{Items: []queue.Item{{ID: message.ID{1}, Size: 700}, {ID: message.ID{2}, Size: 800}}}, nil
		})
	})
	note := "2 messages (1.5 kB) still wait for lab.example: where it goes now, `bothy queue list --recipient @lab.example` shows.\n"
	steps(t, []step{
		{args: "customer set lab --drop-domain b.lab.example --no-empty-turns --min-interval 0s", out: "Holding mail for lab: lab.example\n"},
		{args: "customer set lab --drop-domain lab.example", code: 1, err: "has no domain"},
		{args: "customer remove lab --account", out: "Removed lab\n", err: note},
	})
}

func TestDKIM(t *testing.T) {
	inSite(t)
	steps(t, []step{{args: "dkim list --json", out: "[]\n"}})
	if r := bothy(t, "", "dkim", "add", "clinic.example", "--selector", "ed1", "--algorithm", "ed25519"); r.code != 0 || !strings.Contains(r.out, "ed1._domainkey") {
		t.Fatalf("%+v", r)
	}
	steps(t, []step{
		{args: "dkim add clinic.example --selector ed1 --algorithm ed25519", code: 1, err: "take another --selector"},
		{args: "dkim add not_a_domain --algorithm ed25519", code: 1, err: "domain"},
	})
	if r := bothy(t, "", "dkim", "list"); !strings.HasPrefix(r.out, "ed1._domainkey.clinic.example. ") || !strings.Contains(r.out, "v=DKIM1; k=ed25519; p=") {
		t.Errorf("%+v", r)
	}
}
