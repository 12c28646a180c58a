package smtp

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A lone LF ends no line, and so the rest of the line may take as long as any (RFC 5321 §2.3.8, §4.5.3.2.7).
func TestLoneLFLeavesTimeForTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, server := net.Pipe()
		defer client.Close()
		go (&Server{Hostname: "light.example", Protocol: Relay}).Serve(t.Context(), NewConn(server))
		r := bufio.NewReader(client)
		expect := func(code string) {
			line, err := r.ReadString('\n')
			if err != nil || !strings.HasPrefix(line, code) {
				t.Fatalf("got %q, %v; want %s", line, err, code)
			}
		}
		expect("220")
		io.WriteString(client, "NOOP a\nb")
		time.Sleep(4 * time.Minute)
		io.WriteString(client, "\r\n")
		expect("500")
		io.WriteString(client, "QUIT\r\n")
		expect("221")
	})
}
