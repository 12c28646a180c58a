package submission

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"testing"

	"bothy/application/directory"
	"bothy/application/sasl"
	"bothy/application/smtp"
	"bothy/lib/transcript"
)

var (
	_ smtp.Policy   = (*Agent)(nil)
	_ smtp.Acceptor = (*Agent)(nil)
	_ Names         = (*directory.Directory)(nil)
	_ Permissions   = (*directory.Directory)(nil)
	_ Accounts      = (*directory.Directory)(nil)
)

// keeperOnly knows one account and no TLS; sasl has the real mechanisms.
type keeperOnly struct{}

func (keeperOnly) Mechanisms(sasl.Channel) []string { return []string{"PLAIN"} }

func (keeperOnly) Start(string, sasl.Channel) (sasl.Server, error) { return keeperOnly{}, nil }

func (keeperOnly) Next(_ context.Context, response []byte) (challenge []byte, done bool, err error) {
	if bytes.Equal(response, []byte("\x00keeper\x00lamp")) {
		return nil, true, nil
	}
	return nil, false, sasl.ErrCredentials
}

func (keeperOnly) Identity() string { return "keeper" }

// TestTranscripts plays dialogues with a whole submission server.
func TestTranscripts(t *testing.T) {
	transcript.Run(t, "testdata/*.txt", func(t *testing.T, _ string) net.Conn {
		var next kept
		agent := New(Options{Next: &next, Directory: people, Hostname: "mail.light.example"})
		s := &smtp.Server{
			Hostname: "mail.light.example",
			Protocol: smtp.Submission,
			Auth:     keeperOnly{},
			Policy:   agent,
			Accept:   agent,
			Log:      slog.New(slog.DiscardHandler),
		}
		client, server := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			defer server.Close()
			if err := s.Serve(t.Context(), smtp.NewConn(server)); err != nil {
				t.Error(err)
			}
		}()
		t.Cleanup(func() {
			<-ended
			if !strings.HasPrefix(next.body, "Received: ") || !strings.Contains(next.body, "\r\nDate: ") || !strings.Contains(next.body, next.env.ID.String()+"@mail.light.example>\r\n\r\n") {
				t.Errorf("the queue got %q", next.body)
			}
		})
		return client
	})
}
