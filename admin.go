package site

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"bothy/application/message"
	"bothy/application/odmr"
	"bothy/application/queue"
	"bothy/application/submission"
	"bothy/management/admin"
)

// Status is the answer to GET /v1/status.
type Status struct {
	Hostname string            `json:"hostname"`
	Version  string            `json:"version"`
	Started  time.Time         `json:"started"`
	Link     LinkStatus        `json:"link"`
	Ports    Ports             `json:"ports"`
	Lanes    []queue.LaneCount `json:"lanes"`
	Accepted uint64            `json:"accepted"`       // messages since the start
	Messages int               `json:"messages"`       // that wait
	Syncs    uint64            `json:"syncs"`          // of the spool's log, since the start
	Free     int64             `json:"free"`           // octets of the spool's disk that may still be written
	Full     bool              `json:"full,omitempty"` // what is free is the reserve for accepted mail: new mail is refused
	Damaged  []string          `json:"damaged,omitempty"`

	Providers []ProviderStatus `json:"providers,omitempty"` // that this site calls
}

// LinkStatus is the uplink as last seen.
type LinkStatus struct {
	Up    bool      `json:"up"`
	Since time.Time `json:"since"`
	Why   string    `json:"why"`
}

// QueueRequest chooses recipients; all of what is set must fit.
type QueueRequest struct {
	IDs       []message.ID `json:"ids,omitempty"`
	Lane      queue.Lane   `json:"lane,omitempty"`
	Kind      string       `json:"kind,omitempty"`
	State     queue.State  `json:"state,omitempty"`
	Sender    string       `json:"sender,omitempty"`
	Recipient string       `json:"recipient,omitempty"`
	All       bool         `json:"all,omitempty"`   // POST: needed where nothing else is set
	After     message.ID   `json:"after,omitzero"`  // GET: the last ID of the page before
	Limit     int          `json:"limit,omitempty"` // GET: messages of a page, at most 1000
}

// QueuePage is the answer to GET /v1/queue.
type QueuePage struct {
	Items []queue.Item `json:"items"`
	More  bool         `json:"more"`
}

// QueueMessage is the answer to GET /v1/queue/{id}.
type QueueMessage struct {
	queue.Item
	Header string `json:"header"`
}

// QueueCount is the answer to POST /v1/queue/{retry|hold|release|delete}: how many recipients it changed.
type QueueCount struct {
	Count int `json:"count"`
}

// FetchRequest chooses the providers to call, by host or host:port; none: all.
type FetchRequest struct {
	All       bool     `json:"all,omitempty"` // whatever the budget
	Providers []string `json:"providers,omitempty"`
}

// FetchEvent is one line of the answer to POST /v1/fetch; the last one of each provider has Done.
type FetchEvent struct {
	Provider     string       `json:"provider"`
	Providers    int          `json:"providers"` // that are called in all
	Stage        string       `json:"stage"`
	Messages     int          `json:"messages"`
	Octets       int64        `json:"octets"`
	Waited       int          `json:"waited,omitempty"`        // messages that waited when the call began, where the provider says so
	WaitedOctets int64        `json:"waited_octets,omitempty"` // of their bodies
	Sent         int          `json:"sent,omitempty"`          // messages that went along, of the last
	Done         bool         `json:"done,omitempty"`
	Seconds      float64      `json:"took_seconds,omitempty"` // of the last
	Outcome      FetchOutcome `json:"outcome,omitempty"`      // of the last
	Error        string       `json:"error,omitempty"`        // of the last
}

// FetchOutcome is how a call ended, for programs.
type FetchOutcome string

// The outcomes of a call, each with the error it stands for.
const (
	Fetched     FetchOutcome = "fetched"
	NoMail      FetchOutcome = "no mail"
	Open        FetchOutcome = "open" // a session is open, and nothing waits
	Later       FetchOutcome = "later"
	Unable      FetchOutcome = "unable"
	Denied      FetchOutcome = "denied"
	Refused     FetchOutcome = "refused"
	Insecure    FetchOutcome = "insecure"
	Unreachable FetchOutcome = "unreachable"
	Interrupted FetchOutcome = "interrupted"
	Misconfig   FetchOutcome = "config"
	Failed      FetchOutcome = "failed"
)

func fetchOutcome(err error) FetchOutcome {
	if err == nil {
		return Fetched
	}
	for _, o := range []struct {
		err     error
		outcome FetchOutcome
	}{
		{odmr.ErrOpen, Open}, // before what it wraps
		{odmr.ErrNoMail, NoMail},
		{odmr.ErrLater, Later},
		{odmr.ErrUnable, Unable},
		{odmr.ErrDenied, Denied},
		{odmr.ErrRefused, Refused},
		{odmr.ErrInsecure, Insecure},
		{odmr.ErrUnreachable, Unreachable},
		{odmr.ErrInterrupted, Interrupted},
		{odmr.ErrConfig, Misconfig},
	} {
		if errors.Is(err, o.err) {
			return o.outcome
		}
	}
	return Failed
}

// RefreshPath is where whoever has changed accounts or customers says so: when the answer is there, the server goes by it.
const RefreshPath = "/v1/directory/refresh"

// adminUnit answers the command line at the local socket.
func (s *Site) adminUnit(cfg Config) unit {
	server := &admin.Server{Version: s.env.Build, Log: s.env.Log.With("service", "admin")}
	admin.Handle(server, http.MethodGet, "/v1/status", s.status)
	admin.Handle(server, http.MethodGet, "/v1/faults", func(context.Context, struct{}) ([]submission.Fault, error) { return s.faults.List(), nil })
	admin.Handle(server, http.MethodPost, RefreshPath, func(ctx context.Context, _ struct{}) (struct{}, error) { return struct{}{}, s.directory.Refresh(ctx) })
	admin.Handle(server, http.MethodGet, "/v1/queue", s.queueList)
	admin.Handle(server, http.MethodGet, "/v1/queue/{id}", s.queueShow)
	for name, act := range map[string]func(queue.Filter) (int, error){
		"retry": s.spool.Retry, "hold": s.spool.Hold, "release": s.spool.Release, "delete": s.spool.Delete,
	} {
		admin.Handle(server, http.MethodPost, "/v1/queue/"+name, func(_ context.Context, q QueueRequest) (QueueCount, error) {
			if f := q.filter(); !q.All && f.IsZero() {
				return QueueCount{}, &admin.Error{Status: http.StatusBadRequest, Text: "nothing is chosen", Hint: "name messages or a filter, or say all"}
			}
			n, err := act(q.filter())
			return QueueCount{n}, err
		})
	}
	s.spoolRoutes(server)
	admin.Handle(server, http.MethodGet, "/v1/customers", s.customerList)
	admin.Handle(server, http.MethodGet, "/v1/customers/{account}", s.customerShow)
	admin.HandleStream(server, http.MethodPost, "/v1/fetch", s.fetch)
	s.handleLeases(server)
	server.HandleHTTP("GET /metrics", s.metrics.Handler())

	var ln net.Listener
	return unit{
		stage: ground,
		open:  func() (err error) { ln, err = admin.Listen(cfg.AdminSocket(), 0o600); return err },
		shut:  func() { ln.Close() },
		run:   func(ctx context.Context) error { return server.Serve(ctx, ln) },
		grace: cfg.StopGrace,
	}
}

func (s *Site) status(context.Context, struct{}) (Status, error) {
	cfg, uplink, spool := s.current.Load().cfg, s.link.State(), s.spool.Stats()
	damaged, err := s.spool.Damaged()
	return Status{
		Hostname: cfg.Hostname, Version: s.env.Build, Started: s.started,
		Link: LinkStatus{Up: uplink.Up, Since: uplink.Since, Why: uplink.Why}, Ports: s.ports(),
		Lanes: append([]queue.LaneCount{}, s.spool.Lanes()...), Accepted: spool.Accepted, Messages: spool.Messages, Syncs: spool.Log.Syncs,
		Free: spool.Free, Full: spool.Full, Damaged: damaged, Providers: s.providers(),
	}, err
}

func (q QueueRequest) filter() queue.Filter {
	return queue.Filter{IDs: q.IDs, Lane: q.Lane, Kind: q.Kind, State: q.State, Sender: q.Sender, Recipient: q.Recipient}
}

func (s *Site) queueList(_ context.Context, q QueueRequest) (QueuePage, error) {
	items, more, err := s.spool.List(q.filter(), q.After, q.Limit)
	return QueuePage{Items: items, More: more}, err
}

func (s *Site) queueShow(_ context.Context, q struct{ ID string }) (QueueMessage, error) {
	id, err := message.ParseID(q.ID)
	if err != nil {
		return QueueMessage{}, &admin.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q is not the id of a message", q.ID), Hint: "bothy queue list shows the ids"}
	}
	item, header, err := s.spool.Show(id)
	if errors.Is(err, queue.ErrUnknown) {
		err = &admin.Error{Status: http.StatusNotFound, Text: "no message " + q.ID + " waits", Hint: "it may have been delivered"}
	}
	return QueueMessage{Item: item, Header: string(header)}, err
}
