package peer

import (
	"strings"
	"testing"
	"time"
)

// TestPostfixStarts holds the harness itself: a Postfix of our own takes a message and hands it to a sink.
func TestPostfixStarts(t *testing.T) {
	Need(t, "smtp-source", "smtp-sink")
	NeedRoot(t)
	sink := FreePort(t)
	Start(t, "smtp-sink", "-u", "postfix", sink, "100")
	WaitPort(t, sink)
	p := StartPostfix(t, "relayhost = ["+strings.Replace(sink, ":", "]:", 1)+"\n")
	if out, code := Run(t, "", "smtp-source", "-m", "3", "-t", "keeper@light.example", p.Address); code != 0 {
		t.Fatalf("smtp-source: %d %s", code, out)
	}
	Eventually(t, 10*time.Second, "three relayed messages", func() bool { return strings.Count(p.Log(), "status=sent") == 3 })

	syncs := CountSyncs(t, p.PID(t), func() {
		Run(t, "", "smtp-source", "-m", "5", "-t", "keeper@light.example", p.Address)
	})
	if syncs < 5 {
		t.Errorf("%d syncs for 5 messages: the counter is blind", syncs)
	}
}
