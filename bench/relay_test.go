package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"bothy/test/peer"
)

// relay measures full relay: 20 sessions in, into the spool, out to smtp-sink until the last message is there.
func (t *table) relay(b *testing.B) {
	peer.Need(b, "smtp-source", "smtp-sink", "postfix")
	peer.NeedRoot(b)
	const sessions, count = 20, 2000
	type relay struct {
		name, address string
		arrived       func() int
	}
	ours, arrivedOurs := startSink(b)
	address, _ := startBothy(b, buildBothy(b), fmt.Sprintf("[route]\nrelay_from = [\"127.0.0.0/8\"]\nvia = {\"away.example\" = %q}\n[relay]\nvia_tls = \"none\"\n", ours))
	theirs, arrivedTheirs := startSink(b)
	postfix := peer.StartPostfix(b, "relayhost = "+bracketed(theirs)+"\n")
	rates := map[string][]float64{}
	for range runs {
		for _, r := range []relay{{"bothy", address, arrivedOurs}, {"postfix", postfix.Address, arrivedTheirs}} {
			before, began := r.arrived(), time.Now()
			loadAway(b, r.address, sessions, count)
			for deadline := began.Add(time.Minute); r.arrived() < before+count; time.Sleep(2 * time.Millisecond) {
				if time.Now().After(deadline) {
					b.Fatalf("%s: %d of %d messages arrived", r.name, r.arrived()-before, count)
				}
			}
			rates[r.name] = append(rates[r.name], count/time.Since(began).Seconds())
		}
	}
	fmt.Printf("\n%-28s %9s %12s %12s %12s\n", "full relay, 4 KiB", "sessions", "messages/s", "min", "max")
	for _, name := range []string{"bothy", "postfix"} {
		m := median(rates[name])
		fmt.Printf("%-28s %9d %12.0f %12.0f %12.0f\n", name, sessions, m, rates[name][0], rates[name][runs-1])
	}
	t.goal(b, "relay 4 KiB, 20 sessions", median(rates["bothy"])/median(rates["postfix"]), ">=", 5, "x Postfix")
}

// loadAway is load for a recipient elsewhere.
func loadAway(b *testing.B, address string, sessions, count int) {
	b.Helper()
	out, code := peer.Run(b, "", "smtp-source", "-d", "-s", fmt.Sprint(sessions), "-m", fmt.Sprint(count),
		"-l", fmt.Sprint(messageSize), "-f", "meter@light.example", "-t", "aunt@away.example", address)
	if code != 0 {
		b.Fatalf("smtp-source: exit %d\n%s", code, out)
	}
}

// bracketed is host:port as Postfix writes it where no MX is to be asked for.
func bracketed(address string) string {
	host, port, _ := strings.Cut(address, ":")
	return "[" + host + "]:" + port
}

var sinkCount = regexp.MustCompile(`mesg=(\d+)`)

// startSink starts smtp-sink, and says how many messages it has taken.
func startSink(b *testing.B) (address string, arrived func() int) {
	b.Helper()
	address = peer.FreePort(b)
	counts := filepath.Join(b.TempDir(), "counts")
	peer.Start(b, "sh", "-c", `exec smtp-sink -u postfix -c "$0" 1000 > "$1"`, address, counts)
	peer.WaitPort(b, address)
	return address, func() int {
		b.Helper()
		f, err := os.Open(counts)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		var tail [256]byte
		size, _ := f.Seek(0, 2)
		n, _ := f.ReadAt(tail[:], max(0, size-int64(len(tail))))
		all := sinkCount.FindAllSubmatch(tail[:n], -1)
		if len(all) == 0 {
			return 0
		}
		count, _ := strconv.Atoi(string(all[len(all)-1][1]))
		return count
	}
}
