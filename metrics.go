package site

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"bothy/application/authres"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/smtp"
	"bothy/management/metrics"
)

// MetricsConfig is where Prometheus asks.
type MetricsConfig struct {
	Listen string `doc:"Address where /metrics is answered to anybody, such as Prometheus on this machine. Empty: at the admin socket only." example:"127.0.0.1:9366"`

	Customers int `doc:"For a provider: tell of each customer by itself while there are no more than so many; of more only the sum. 0: only the sum." default:"1000" min:"0" max:"100000"`
}

// CheckConfig reports what is wrong with cfg, by key.
func (cfg *MetricsConfig) CheckConfig(report func(key string, err error)) {
	if cfg.Listen == "" {
		return
	}
	if err := checkListen(cfg.Listen); err != nil {
		report("listen", err)
	}
}

// reading is what Prometheus is told of at a scrape.
func (s *Site) reading() metrics.State {
	uplink, spool := s.link.State(), s.spool.Stats()
	st := metrics.State{
		Accepted: spool.Accepted, Syncs: spool.Log.Syncs, Messages: spool.Messages, FreeBytes: spool.Free, Full: spool.Full,
		Lanes: map[string]metrics.Lanes{}, LinkUp: uplink.Up, LinkSince: uplink.Since, Sessions: map[string]int{}, Started: s.started, Version: s.env.Build,
	}
	for _, kind := range []string{"smarthost", "mx", "lan", "odmr", "mailbox"} { // there from the start, so that nobody alerts on what is not
		st.Lanes[kind] = metrics.Lanes{}
	}
	lanes := s.spool.Lanes()
	for _, l := range lanes {
		sum := st.Lanes[l.Lane.Kind()]
		sum.Due, sum.Waiting, sum.Octets = sum.Due+l.Due, sum.Waiting+l.Waiting, sum.Octets+l.Octets
		if sum.Oldest.IsZero() || !l.Oldest.IsZero() && l.Oldest.Before(sum.Oldest) {
			sum.Oldest = l.Oldest
		}
		st.Lanes[l.Lane.Kind()] = sum
	}
	for state, n := range s.sessions.Count() {
		st.Sessions[state.String()] = n
	}
	st.Customers = s.countCustomers(lanes)
	for _, p := range s.providers() {
		st.Providers = append(st.Providers, metrics.Provider{
			Name: p.Provider, Account: p.Account, Stage: p.Stage, Outcome: string(p.Outcome), Last: p.LastCall, Next: p.NextCall, Failures: p.Failures,
		})
	}
	st.DHCP = s.readDHCP()
	if pair := s.certs.current.Load(); pair != nil && len(pair.Certificate) > 0 {
		if leaf, err := x509.ParseCertificate(pair.Certificate[0]); err == nil {
			st.Certificate = leaf.NotAfter
		}
	}
	return st
}

// countCustomers sums up all customers, and tells of each while they are few enough: each is some series. For many it takes the time of those for whom mail waits.
func (s *Site) countCustomers(lanes []queue.LaneCount) metrics.Customers {
	sum, seen := metrics.Customers{All: s.directory.CustomerCount()}, map[string]bool{}
	if sum.All <= s.current.Load().cfg.Metrics.Customers {
		sum.Each = s.eachCustomer()
	}
	for _, l := range lanes {
		account, held := s.directory.Held(l.Lane.Name())
		if l.Lane.Kind() != "odmr" || !held {
			continue
		}
		sum.Messages += l.Messages
		if seen[account] {
			continue
		}
		seen[account] = true
		sum.Waiting++
		c, err := s.directory.Customer(context.Background(), account) // from memory
		if err != nil || c.LastContact.IsZero() || s.sessions.Status(account).State != odmr.StateAway {
			continue
		}
		if sum.Absent.IsZero() || c.LastContact.Before(sum.Absent) {
			sum.Absent = c.LastContact
		}
	}
	return sum
}

// eachCustomer is how all customers stand.
func (s *Site) eachCustomer() (each []metrics.Customer) {
	all, err := s.directory.Customers(context.Background()) // from memory
	if err != nil {
		s.env.Log.Error("customers not told of", "err", err)
	}
	for _, c := range all {
		st := s.customer(c)
		each = append(each, metrics.Customer{
			Account: st.Account, State: st.State.String(), Since: st.Since, LastContact: st.LastContact, Messages: st.Waiting, Octets: st.WaitingOctets,
			Oldest: st.Oldest, LastFailure: st.LastFailure,
		})
	}
	return each
}

// count counts what became of a recipient.
func (s *Site) count(lane queue.Lane, reply smtp.Reply) {
	outcome := "deferred"
	switch {
	case reply.Positive():
		outcome = "relayed"
	case reply.Permanent():
		outcome = "failed"
	}
	s.metrics.Recipient(lane.Kind(), outcome)
}

// countDelivery counts what became of a recipient with a mailbox here.
func (s *Site) countDelivery(v queue.Verdict) {
	outcome := "deferred"
	switch {
	case v.Done:
		outcome = "delivered"
	case v.Failed:
		outcome = "failed"
	}
	s.metrics.Recipient("mailbox", outcome)
}

// countCall counts a step of a customer's call.
func (s *Site) countCall(e odmr.Event) {
	switch e.What {
	case odmr.Turned, odmr.Refused:
		s.metrics.Call(e.What.String())
	case odmr.Transferred:
		s.metrics.Recipient("odmr", "relayed")
	case odmr.Deferred, odmr.Failed:
		s.metrics.Recipient("odmr", e.What.String())
	}
}

// countVerdict counts what was found out about a message.
func (s *Site) countVerdict(v authres.Verdict) {
	for method, result := range map[string]authres.Result{"spf": v.SPF.Result, "dkim": v.Best(), "dmarc": v.DMARC.Result} {
		if result != "" {
			s.metrics.Verdict(method, string(result))
		}
	}
}

// refused counts the refusals of one service.
func (s *Site) refused(service string) func(smtp.Reply) {
	return func(r smtp.Reply) {
		s.metrics.Refusal(service, strconv.Itoa(r.Code), fmt.Sprintf("%d.%d.%d", r.Enhanced[0], r.Enhanced[1], r.Enhanced[2]))
	}
}

// metricsUnit answers Prometheus.
func (s *Site) metricsUnit(cfg Config) unit {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", s.metrics.Handler())
	server := &http.Server{Handler: mux, ReadTimeout: 10 * time.Second, WriteTimeout: time.Minute, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	var ln net.Listener
	return unit{
		stage: ground, spec: cfg.Metrics, grace: cfg.StopGrace,
		open: func() (err error) { ln, err = net.Listen("tcp", cfg.Metrics.Listen); return err },
		shut: func() { ln.Close() },
		run: func(ctx context.Context) error {
			defer context.AfterFunc(ctx, func() { server.Close() })()
			if err := server.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	}
}
