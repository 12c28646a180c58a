package odmr

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/lib/sim"
	"bothy/lib/transcript"
)

// mailboxes is what a site knows of its own recipients.
type mailboxes map[string]bool

func (m mailboxes) Local(domain string) bool {
	for a := range m {
		if strings.HasSuffix(a, "@"+domain) {
			return true
		}
	}
	return false
}

func (m mailboxes) Resolve(a message.Address) []string {
	if name := strings.ToLower(a.Local) + "@" + a.Domain; m[name] {
		return []string{name}
	}
	return nil
}

// intake keeps what it is given.
type intake struct {
	mu       sync.Mutex
	messages []string
}

func (i *intake) Accept(_ context.Context, env *message.Envelope, body io.Reader) error {
	text, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	_, text2, _ := strings.Cut(string(text), "Subject:")
	i.mu.Lock()
	defer i.mu.Unlock()
	i.messages = append(i.messages, env.ReversePath.String()+" "+env.Recipients[0].Address.String()+" "+text2)
	return nil
}

// TestCustomer plays the provider's side of each transcript. How the call must end stands before the first hyphen of its name.
func TestCustomer(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ends := map[string]error{
		"no": ErrNoMail, "later": ErrLater, "unable": ErrUnable, "denied": ErrDenied, "refused": ErrRefused, "insecure": ErrInsecure,
		"unreachable": ErrUnreachable, "interrupted": ErrInterrupted,
	}
	well := map[string]bool{"no-mail-turned": true, "no-auth-no-tls": true}
	transcript.Run(t, "testdata/customer/*.txt", func(t *testing.T, name string) net.Conn {
		near, far := sim.Pipe(sim.Path{})
		in := &intake{}
		c := &Customer{
			Hostname: "clinic.example", Accept: in, Recipients: mailboxes{"keeper@clinic.example": true, "l.eva.msg@clinic.example": true},
			Dial: func(context.Context, string, string) (net.Conn, error) { return near, nil },
			Now:  func() time.Time { return now },
			Config: CustomerConfig{
				Provider: "provider.example:366", TLS: "none", Username: "clinic", Password: "tanstaaftanstaaf",
				Domains: []string{"Clinic.example"},
			},
		}
		kind, _, _ := strings.Cut(name, "-")
		if kind == "insecure" {
			c.Config.TLS = "required"
		}
		want := ends[kind]
		switch {
		case well[name]:
			want = nil
		case name == "denied-454":
			want = ErrUnable
		case name == "behind-250":
			want = ErrInterrupted
		}
		ended := make(chan error, 1)
		var report Report
		go func() {
			var err error
			report, err = c.Call(context.WithoutCancel(t.Context()), nil)
			ended <- err
		}()
		t.Cleanup(func() {
			if err := <-ended; !errors.Is(err, want) || want == nil && err != nil {
				t.Errorf("the call ended with %v, want %v", err, want)
			}
			var mail []string
			if name == "section6" {
				mail = []string{"Lester.Tester@dot.foo.bar l.eva.msg@clinic.example  one\r\n\r\n.dot\r\n"}
			}
			if got := strings.Join(in.messages, "|"); got != strings.Join(mail, "|") || report.Messages != len(mail) {
				t.Errorf("got %q and reported %d, want %q", got, report.Messages, mail)
			}
		})
		return far
	})
}
