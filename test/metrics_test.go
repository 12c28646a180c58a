package test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"bothy/test/peer"
)

// TestMetrics: what was done, and refused, is told to Prometheus.
func TestMetrics(t *testing.T) {
	t.Parallel()
	smtp, metrics := peer.FreePort(t), peer.FreePort(t)
	s := startServer(t, fmt.Sprintf("hostname = \"mx.light.example\"\n[smtp]\nlisten = [%q]\n[metrics]\nlisten = %q\n", smtp, metrics))
	peer.WaitPort(t, metrics)
	s.add(t, "keeper@light.example")
	peer.Eventually(t, waitDelivery, "the account", func() bool { return offer(t, smtp, "keeper@light.example") == "250" })
	if code := offer(t, smtp, "who@elsewhere.example"); code != "550" {
		t.Error(code)
	}
	peer.Eventually(t, waitDelivery, "the counters", func() bool {
		r, err := http.Get("http://" + metrics + "/metrics")
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		text, err := io.ReadAll(r.Body)
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{
			"\nbothy_messages_accepted_total 1\n", `bothy_recipients_total{outcome="delivered",way="mailbox"} 1`,
			`bothy_refusals_total{code="550",service="smtp",status="5.7.1"} 1`, `bothy_connections_total{service="smtp"} `,
			"\nbothy_link_up 1\n", "\nbothy_certificate_expiry_timestamp_seconds ", "\nbothy_spool_syncs_total ", `bothy_queue_recipients{kind="odmr"} 0`, `bothy_odmr_customers{waiting="false"} 0`, "\ngo_goroutines ",
		} {
			if !strings.Contains(string(text), want) {
				t.Logf("not yet: %s", want)
				return false
			}
		}
		return true
	})
}
