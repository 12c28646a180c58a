package metrics

import (
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Metrics of one server.
type Metrics struct {
	registry    *prometheus.Registry
	recipients  *prometheus.CounterVec
	refusals    *prometheus.CounterVec
	verdicts    *prometheus.CounterVec
	connections *prometheus.CounterVec
	turnedAway  *prometheus.CounterVec
	open        *prometheus.GaugeVec
	calls       *prometheus.CounterVec
}

// State is what is read at a scrape.
type State struct {
	Accepted, Syncs uint64 // since the start
	Messages        int    // that wait
	FreeBytes       int64  // of the spool's disk
	Full            bool   // new mail is refused for want of room
	Lanes           map[string]Lanes
	LinkUp          bool
	LinkSince       time.Time
	Certificate     time.Time      // when it ends; zero: there is none
	Sessions        map[string]int // of customers that call, by what they do
	Customers       Customers
	Providers       []Provider // that are called
	DHCP            []DHCP     // services of addresses
	Started         time.Time
	Version         string
}

// Lanes is what waits in all lanes of one kind.
type Lanes struct {
	Due, Waiting int // recipients
	Octets       int64
	Oldest       time.Time
}

// Customers are all for whom mail is held.
type Customers struct {
	All, Waiting int       // customers, and those for whom mail waits
	Messages     int       // that wait for them
	Absent       time.Time // last contact of the one away longest for whom mail waits; zero: there is none
	Each         []Customer
}

// Customer is one for whom mail is held. A time that never was is zero.
type Customer struct {
	Account     string
	State       string    // of its session; "away": there is none
	Since       time.Time // of it
	LastContact time.Time
	Messages    int // that wait
	Octets      int64
	Oldest      time.Time
	LastFailure time.Time // when the last session that did not end well ended
}

// Provider is one that is called for mail.
type Provider struct {
	Name, Account string // Name is host:port
	Stage         string // of the call under way
	Outcome       string // of the last call; empty: there was none
	Last, Next    time.Time
	Failures      int // calls in a row
}

// DHCP is one service of addresses: a server, a relay agent, or a client.
type DHCP struct {
	Service                 string // "dhcp4", "dhcp4-relay" and so on
	Received, Sent, Dropped map[string]uint64
	Leases                  map[string]int // of a server, by state
	Pools                   []Pool
	Syncs                   uint64 // of the leases' log
	SyncTime                time.Duration
	State                   string    // of a client
	Ends                    time.Time // of a client's lease; zero: it has none, or for ever
}

// Pool is a range of addresses, or of prefixes.
type Pool struct {
	Name        string
	Size, Taken int
}

const namespace = "bothy"

// New returns metrics whose State is read by state, which must be quick.
func New(state func() State, now func() time.Time) *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		recipients: counter("recipients_total",
			"What became of recipients: way is smarthost, mx, lan, odmr or mailbox; outcome is relayed, delivered, deferred or failed.", "way", "outcome"),
		refusals:    counter("refusals_total", "Replies of 4yz and 5yz to SMTP clients, by service, code and status (RFC 3463).", "service", "code", "status"),
		verdicts:    counter("verdicts_total", "Messages from outside, by what SPF, DKIM and DMARC came to.", "method", "result"),
		connections: counter("connections_total", "Connections accepted.", "service"),
		turnedAway:  counter("connections_refused_total", "Connections refused because there were too many.", "service"),
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "connections_open", Help: "Connections open now.",
		}, []string{"service"}),
		calls: counter("odmr_calls_total", "ATRN commands of customers, by outcome: turned or refused.", "outcome"),
	}
	m.registry.MustRegister(m.recipients, m.refusals, m.verdicts, m.connections, m.turnedAway, m.open, m.calls, &reading{state, now},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Recipient counts what became of a recipient.
func (m *Metrics) Recipient(way, outcome string) { m.recipients.WithLabelValues(way, outcome).Inc() }

// Refusal counts a reply of 4yz or 5yz.
func (m *Metrics) Refusal(service, code, status string) {
	m.refusals.WithLabelValues(service, code, status).Inc()
}

// Verdict counts what a method came to.
func (m *Metrics) Verdict(method, result string) { m.verdicts.WithLabelValues(method, result).Inc() }

// Call counts an ATRN.
func (m *Metrics) Call(outcome string) { m.calls.WithLabelValues(outcome).Inc() }

// Connected counts a connection; closed is to be called at its end.
func (m *Metrics) Connected(service string) (closed func()) {
	m.connections.WithLabelValues(service).Inc()
	open := m.open.WithLabelValues(service)
	open.Inc()
	return open.Dec
}

// TurnedAway counts a connection that was one too many.
func (m *Metrics) TurnedAway(service string) { m.turnedAway.WithLabelValues(service).Inc() }

// Handler answers scrapes.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes})
}

// maxScrapes is how many may be under way at once.
const maxScrapes = 4

// reading is the collector of a State.
type reading struct {
	state func() State
	now   func() time.Time
}

func description(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	accepted      = description("messages_accepted_total", "Messages accepted: 250 was said.")
	syncs         = description("spool_syncs_total", "Syncs of the spool's log.")
	messages      = description("spool_messages", "Messages that wait.")
	freeBytes     = description("spool_free_bytes", "Bytes of the spool's disk that may still be written.")
	full          = description("spool_full", "1 while new mail is refused for want of room.")
	laneDue       = description("queue_due_recipients", "Recipients that may be tried now, by kind of lane.", "kind")
	laneWaiting   = description("queue_recipients", "Recipients that wait, by kind of lane.", "kind")
	laneOctets    = description("queue_bytes", "Bytes of what waits, by kind of lane.", "kind")
	laneAge       = description("queue_oldest_seconds", "Age of the oldest message that waits, by kind of lane.", "kind")
	linkUp        = description("link_up", "1 while the uplink is up.")
	linkSince     = description("link_since_timestamp_seconds", "When the uplink came up or went down.")
	certificate   = description("certificate_expiry_timestamp_seconds", "When the certificate ends.")
	sessions      = description("odmr_sessions", "Customers' sessions open now, by state.", "state")
	customers     = description("odmr_customers", "Customers for whom mail is held, by whether some waits.", "waiting")
	heldMessages  = description("odmr_messages", "Messages that wait for customers.")
	absence       = description("odmr_longest_absence_seconds", "How long the customer is away who was not heard of for longest while mail waits.")
	customerState = description("odmr_customer_connected_since_timestamp_seconds", "When the session of a customer that is connected began; the label says what it is at.", "account", "state")
	customerHeard = description("odmr_customer_last_contact_timestamp_seconds", "When a customer was last heard.", "account")
	customerMail  = description("odmr_customer_messages", "Messages that wait for a customer.", "account")
	customerBytes = description("odmr_customer_bytes", "Bytes of them.", "account")
	customerAge   = description("odmr_customer_oldest_seconds", "Age of the oldest of them.", "account")
	customerFault = description("odmr_customer_last_error_timestamp_seconds", "When a customer's last session that did not end well ended.", "account")
	fetchStage    = description("fetch_stage", "1; the label says how far the call of a provider has come, or ended.", "provider", "account", "stage")
	fetchOutcome  = description("fetch_outcome", "1; the label says how the last call of a provider came out.", "provider", "account", "outcome")
	fetchLast     = description("fetch_last_call_timestamp_seconds", "When the last call of a provider ended.", "provider", "account")
	fetchNext     = description("fetch_next_call_timestamp_seconds", "When the next call of a provider is due.", "provider", "account")
	fetchFailures = description("fetch_failures", "Calls of a provider that failed in a row.", "provider", "account")
	dhcpReceived  = description("dhcp_received_total", "DHCP messages taken, by service and type.", "service", "type")
	dhcpSent      = description("dhcp_sent_total", "DHCP messages sent, by service and type.", "service", "type")
	dhcpDropped   = description("dhcp_unanswered_total", "DHCP messages that were not answered, or not relayed, by service and reason.", "service", "why")
	dhcpLeases    = description("dhcp_leases", "Leases remembered, by state: bound, ended, released, declined.", "service", "state")
	dhcpPool      = description("dhcp_pool_size", "Addresses, or prefixes, of a pool.", "service", "pool")
	dhcpTaken     = description("dhcp_pool_taken", "Those of them that nobody can be given now: leased, offered, in quarantine, or reserved.", "service", "pool")
	dhcpSyncs     = description("dhcp_syncs_total", "Syncs of the leases' log; one may be for many replies.", "service")
	dhcpSyncTime  = description("dhcp_sync_seconds_total", "Seconds that these syncs took.", "service")
	dhcpState     = description("dhcp_client_state", "1; the label says what a client of ours is doing.", "service", "state")
	dhcpEnds      = description("dhcp_client_lease_end_timestamp_seconds", "When the lease of a client of ours ends.", "service")
	started       = description("start_timestamp_seconds", "When the server started.")
	build         = description("build_info", "1; the version is in the label.", "version")
	allOfAReading = []*prometheus.Desc{
		accepted, syncs, messages, freeBytes, full, laneDue, laneWaiting, laneOctets, laneAge, linkUp, linkSince, certificate, sessions, started, build,
		customers, heldMessages, absence, customerState, customerHeard, customerMail, customerBytes, customerAge, customerFault, fetchStage, fetchOutcome, fetchLast, fetchNext, fetchFailures,
		dhcpReceived, dhcpSent, dhcpDropped, dhcpLeases, dhcpPool, dhcpTaken, dhcpSyncs, dhcpSyncTime, dhcpState, dhcpEnds,
	}
)

// Describe implements prometheus.Collector.
func (r *reading) Describe(to chan<- *prometheus.Desc) {
	for _, d := range allOfAReading {
		to <- d
	}
}

// Collect implements prometheus.Collector.
func (r *reading) Collect(to chan<- prometheus.Metric) {
	s, now := r.state(), r.now()
	count := func(d *prometheus.Desc, v uint64) {
		to <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count(accepted, s.Accepted)
	count(syncs, s.Syncs)
	gauge(messages, float64(s.Messages))
	gauge(freeBytes, float64(s.FreeBytes))
	gauge(full, flag(s.Full))
	for kind, l := range s.Lanes {
		gauge(laneDue, float64(l.Due), kind)
		gauge(laneWaiting, float64(l.Waiting), kind)
		gauge(laneOctets, float64(l.Octets), kind)
		if !l.Oldest.IsZero() {
			gauge(laneAge, max(0, now.Sub(l.Oldest).Seconds()), kind)
		}
	}
	gauge(linkUp, flag(s.LinkUp))
	gauge(linkSince, seconds(s.LinkSince))
	if !s.Certificate.IsZero() {
		gauge(certificate, seconds(s.Certificate))
	}
	for state, n := range s.Sessions {
		gauge(sessions, float64(n), state)
	}
	gauge(customers, float64(s.Customers.Waiting), "true")
	gauge(customers, float64(s.Customers.All-s.Customers.Waiting), "false")
	gauge(heldMessages, float64(s.Customers.Messages))
	if !s.Customers.Absent.IsZero() {
		gauge(absence, max(0, now.Sub(s.Customers.Absent).Seconds()))
	}
	for _, c := range s.Customers.Each {
		gauge(customerMail, float64(c.Messages), c.Account)
		gauge(customerBytes, float64(c.Octets), c.Account)
		for d, at := range map[*prometheus.Desc]time.Time{customerHeard: c.LastContact, customerFault: c.LastFailure} {
			if !at.IsZero() {
				gauge(d, seconds(at), c.Account)
			}
		}
		if !c.Since.IsZero() {
			gauge(customerState, seconds(c.Since), c.Account, c.State)
		}
		if !c.Oldest.IsZero() {
			gauge(customerAge, max(0, now.Sub(c.Oldest).Seconds()), c.Account)
		}
	}
	for _, p := range s.Providers {
		gauge(fetchStage, 1, p.Name, p.Account, p.Stage)
		gauge(fetchFailures, float64(p.Failures), p.Name, p.Account)
		if p.Outcome != "" {
			gauge(fetchOutcome, 1, p.Name, p.Account, p.Outcome)
		}
		for d, at := range map[*prometheus.Desc]time.Time{fetchLast: p.Last, fetchNext: p.Next} {
			if !at.IsZero() {
				gauge(d, seconds(at), p.Name, p.Account)
			}
		}
	}
	for i := range s.DHCP {
		collectDHCP(&s.DHCP[i], to, gauge)
	}
	gauge(started, seconds(s.Started))
	gauge(build, 1, s.Version)
}

// collectDHCP is Collect for one service of addresses.
func collectDHCP(d *DHCP, to chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	count := func(desc *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(desc, prometheus.CounterValue, v, append([]string{d.Service}, labels...)...)
	}
	for desc, counts := range map[*prometheus.Desc]map[string]uint64{dhcpReceived: d.Received, dhcpSent: d.Sent, dhcpDropped: d.Dropped} {
		for label, n := range counts {
			count(desc, float64(n), label)
		}
	}
	for state, n := range d.Leases {
		gauge(dhcpLeases, float64(n), d.Service, state)
	}
	for _, p := range d.Pools {
		gauge(dhcpPool, float64(p.Size), d.Service, p.Name)
		gauge(dhcpTaken, float64(p.Taken), d.Service, p.Name)
	}
	if d.Leases != nil {
		count(dhcpSyncs, float64(d.Syncs))
		count(dhcpSyncTime, d.SyncTime.Seconds())
	}
	if d.State != "" {
		gauge(dhcpState, 1, d.Service, d.State)
	}
	if !d.Ends.IsZero() {
		gauge(dhcpEnds, seconds(d.Ends), d.Service)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }
