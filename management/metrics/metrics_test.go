package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func scrape(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != 200 {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String()
}

func TestScrape(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	state := State{
		Accepted: 7, Syncs: 3, Messages: 2, FreeBytes: 1 << 30, LinkUp: true, LinkSince: now.Add(-time.Minute), Certificate: now.Add(time.Hour),
		Lanes:    map[string]Lanes{"odmr": {Due: 1, Waiting: 2, Octets: 5000, Oldest: now.Add(-90 * time.Second)}, "mx": {}},
		Sessions: map[string]int{"lingering": 4}, Started: now.Add(-time.Hour), Version: "v1",
		Customers: Customers{All: 10, Waiting: 3, Messages: 12, Absent: now.Add(-2 * time.Hour), Each: []Customer{
			{Account: "clinic", State: "lingering", Since: now.Add(-time.Minute), LastContact: now.Add(-time.Second), Messages: 2, Octets: 5000, Oldest: now.Add(-90 * time.Second)},
			{Account: "ship", State: "away", LastFailure: now.Add(-time.Hour)},
		}},
		Providers: []Provider{
			{Name: "a.example:366", Account: "clinic", Stage: "lingering", Outcome: "fetched", Last: now.Add(-time.Minute)},
			{Name: "b.example:366", Stage: "ended", Failures: 3, Next: now.Add(time.Minute)},
		},
		DHCP: []DHCP{
			{
				Service: "dhcp4", Received: map[string]uint64{"DHCPDISCOVER": 4}, Sent: map[string]uint64{"DHCPOFFER": 3}, Dropped: map[string]uint64{"no address is free": 1},
				Leases: map[string]int{"bound": 2}, Pools: []Pool{{"192.0.2.100-192.0.2.199", 100, 2}}, Syncs: 5, SyncTime: 1500 * time.Millisecond,
			},
			{Service: "dhcp6-client", State: "bound", Ends: now.Add(time.Hour)},
		},
	}
	m := New(func() State { return state }, func() time.Time { return now })
	m.Recipient("smarthost", "relayed")
	m.Recipient("smarthost", "relayed")
	m.Refusal("smtp", "550", "5.7.1")
	m.Verdict("spf", "fail")
	m.Call("turned")
	m.TurnedAway("smtp")
	closed := m.Connected("smtp")
	m.Connected("smtp")
	closed()
	text := scrape(t, m)
	for _, line := range []string{
		"bothy_messages_accepted_total 7", "bothy_spool_syncs_total 3", "bothy_spool_messages 2", "bothy_spool_free_bytes 1.073741824e+09", "bothy_spool_full 0",
		`bothy_queue_recipients{kind="odmr"} 2`, `bothy_queue_due_recipients{kind="odmr"} 1`, `bothy_queue_bytes{kind="odmr"} 5000`,
		`bothy_queue_oldest_seconds{kind="odmr"} 90`, `bothy_queue_recipients{kind="mx"} 0`, "bothy_link_up 1", "bothy_link_since_timestamp_seconds 999940",
		"bothy_certificate_expiry_timestamp_seconds 1.0036e+06", `bothy_odmr_sessions{state="lingering"} 4`, `bothy_build_info{version="v1"} 1`,
		`bothy_recipients_total{outcome="relayed",way="smarthost"} 2`, `bothy_refusals_total{code="550",service="smtp",status="5.7.1"} 1`,
		`bothy_verdicts_total{method="spf",result="fail"} 1`, `bothy_odmr_calls_total{outcome="turned"} 1`, `bothy_connections_refused_total{service="smtp"} 1`,
		`bothy_odmr_customers{waiting="true"} 3`, `bothy_odmr_customers{waiting="false"} 7`, "bothy_odmr_messages 12", "bothy_odmr_longest_absence_seconds 7200",
		`bothy_odmr_customer_connected_since_timestamp_seconds{account="clinic",state="lingering"} 999940`,
		`bothy_odmr_customer_last_contact_timestamp_seconds{account="clinic"} 999999`, `bothy_odmr_customer_messages{account="clinic"} 2`,
		`bothy_odmr_customer_bytes{account="clinic"} 5000`, `bothy_odmr_customer_oldest_seconds{account="clinic"} 90`,
		`bothy_odmr_customer_messages{account="ship"} 0`, `bothy_odmr_customer_last_error_timestamp_seconds{account="ship"} 996400`,
		`bothy_fetch_stage{account="clinic",provider="a.example:366",stage="lingering"} 1`, `bothy_fetch_outcome{account="clinic",outcome="fetched",provider="a.example:366"} 1`,
		`bothy_fetch_last_call_timestamp_seconds{account="clinic",provider="a.example:366"} 999940`, `bothy_fetch_failures{account="",provider="b.example:366"} 3`,
		`bothy_fetch_next_call_timestamp_seconds{account="",provider="b.example:366"} 1.00006e+06`,
		`bothy_dhcp_received_total{service="dhcp4",type="DHCPDISCOVER"} 4`, `bothy_dhcp_sent_total{service="dhcp4",type="DHCPOFFER"} 3`,
		`bothy_dhcp_unanswered_total{service="dhcp4",why="no address is free"} 1`, `bothy_dhcp_leases{service="dhcp4",state="bound"} 2`,
		`bothy_dhcp_pool_size{pool="192.0.2.100-192.0.2.199",service="dhcp4"} 100`, `bothy_dhcp_pool_taken{pool="192.0.2.100-192.0.2.199",service="dhcp4"} 2`,
		`bothy_dhcp_syncs_total{service="dhcp4"} 5`, `bothy_dhcp_sync_seconds_total{service="dhcp4"} 1.5`,
		`bothy_dhcp_client_state{service="dhcp6-client",state="bound"} 1`, `bothy_dhcp_client_lease_end_timestamp_seconds{service="dhcp6-client"} 1.0036e+06`,
		`bothy_connections_total{service="smtp"} 2`, `bothy_connections_open{service="smtp"} 1`,
	} {
		if !strings.Contains(text, "\n"+line+"\n") {
			t.Errorf("no %s", line)
		}
	}
	if strings.Contains(text, `bothy_queue_oldest_seconds{kind="mx"}`) {
		t.Error("an age where nothing waits")
	}
	if strings.Contains(text, `since_timestamp_seconds{account="ship"`) || strings.Contains(text, `oldest_seconds{account="ship"`) || strings.Contains(text, `contact_timestamp_seconds{account="ship"`) {
		t.Error("times that never were")
	}
	if strings.Contains(text, `bothy_fetch_outcome{account=""`) || strings.Contains(text, `bothy_fetch_last_call_timestamp_seconds{account=""`) {
		t.Error("the outcome of no call")
	}
	state.Certificate, state.Full = time.Time{}, true
	if text := scrape(t, m); strings.Contains(text, "bothy_certificate") || !strings.Contains(text, "bothy_spool_full 1") {
		t.Errorf("%s", text)
	}
	if t.Failed() {
		t.Log(text)
	}
}
