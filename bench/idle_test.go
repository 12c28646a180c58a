package bench

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"
)

// Idle connections that are held open. Each takes a descriptor here and one there.
const (
	idlePlain = 10_000
	idleTLS   = 2_000
	settling  = 5 * time.Second // after which memory is looked at
	callers   = 64              // that open connections at once
)

// idle measures what a connection takes that has said EHLO and is silent.
func (t *table) idle(b *testing.B) {
	program := buildBothy(b)
	fmt.Printf("\n%-28s %12s %12s %12s\n", "idle connections", "open", "process MiB", "KiB each")
	for _, secure := range []bool{false, true} {
		count, name := idlePlain, "plain"
		if secure {
			count, name = idleTLS, "TLS"
		}
		address, pid := startBothy(b, program, "[connections]\nper_peer = 20000\n")
		open(b, address, 1, secure)()
		before := memoryOf(b, pid)
		hangUp := open(b, address, count, secure)
		time.Sleep(settling)
		after := memoryOf(b, pid)
		hangUp()
		each := (after - before) * 1024 / float64(count)
		fmt.Printf("%-28s %12d %12.1f %12.1f\n", name, count, after, each)
		if secure {
			b.ReportMetric(each, "KiB/TLS")
		} else {
			t.goal(b, "memory of an idle connection, 10,000 open", each, "<=", 12, "KiB")
		}
	}
}

// open opens connections that have said EHLO.
func open(b *testing.B, address string, count int, secure bool) (hangUp func()) {
	b.Helper()
	conns := make([]net.Conn, count)
	var opening sync.WaitGroup
	for w := range callers {
		opening.Go(func() {
			for i := w; i < count && !b.Failed(); i += callers {
				conns[i] = idler(b, address, secure)
			}
		})
	}
	opening.Wait()
	if b.Failed() {
		b.FailNow()
	}
	return func() {
		for _, c := range conns {
			c.Close()
		}
	}
}

// idler is one such connection; nil when the test has failed.
func idler(b *testing.B, address string, secure bool) net.Conn {
	conn, err := net.Dial("tcp", address)
	if err != nil {
		b.Error(err)
		return nil
	}
	lines := bufio.NewReaderSize(conn, 512)
	say := func(command string) {
		if command != "" {
			fmt.Fprintf(conn, "%s\r\n", command)
		}
		for err == nil {
			var line string
			if line, err = lines.ReadString('\n'); len(line) > 3 && line[3] == ' ' {
				break
			}
		}
	}
	say("")
	say("EHLO light.example")
	if secure && err == nil {
		say("STARTTLS")
		conn = tls.Client(conn, &tls.Config{InsecureSkipVerify: true}) // its certificate is made for the occasion
		lines.Reset(conn)
		say("EHLO light.example")
	}
	if err != nil {
		b.Error(err)
	}
	return conn
}
