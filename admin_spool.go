package site

import (
	"context"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/management/admin"
)

// SpoolEvent is one line of the answers to POST /v1/queue/verify and /v1/queue/backup; the last one has Done.
type SpoolEvent struct {
	Messages int                 `json:"messages"`
	Octets   int64               `json:"octets"`
	Done     bool                `json:"done,omitempty"`
	Found    *queue.Verification `json:"found,omitempty"` // of the last, by verify
}

// SpoolCopy is how an export or an import ended.
type SpoolCopy struct {
	Messages int `json:"messages"`
}

// BackupRequest says where a backup goes.
type BackupRequest struct {
	Dir string `json:"dir"` // an absolute path on the server's machine
}

// SpoolTools are what an operator does to a whole spool: that of a running server, or one that is opened for it.
type SpoolTools struct{ spool *queue.Spool }

// OpenSpool opens the spool of a server that does not run. Nothing is delivered or expires there.
func OpenSpool(ctx context.Context, cfg *Config) (*SpoolTools, error) {
	spool, err := queue.Open(ctx, queue.Options{Dir: cfg.SpoolDir(), Config: cfg.Queue, Router: nowhere{}})
	if err != nil {
		return nil, err
	}
	return &SpoolTools{spool}, nil
}

// Close closes a spool that OpenSpool opened.
func (t *SpoolTools) Close() error { return t.spool.Close() }

// nowhere is a router for mail that goes nowhere for the time being.
type nowhere struct{}

func (nowhere) Lane(*message.Envelope, *message.Recipient) queue.Lane { return "offline/" }

// eventPause is the time between two reports of work in progress.
const eventPause = 200 * time.Millisecond

// reports returns what sends how far work is, now and then.
func reports(send func(SpoolEvent) error) queue.Progress {
	var last time.Time
	return func(messages int, octets int64) {
		if now := time.Now(); now.Sub(last) >= eventPause {
			last = now
			send(SpoolEvent{Messages: messages, Octets: octets}) // a caller who left ends ctx
		}
	}
}

// Verify reads all that waits, and sends what it found.
func (t *SpoolTools) Verify(ctx context.Context, _ struct{}, send func(SpoolEvent) error) error {
	v, err := t.spool.Verify(ctx, reports(send))
	if err != nil {
		return err
	}
	return send(SpoolEvent{Messages: v.Messages, Octets: v.Octets, Done: true, Found: &v})
}

// Backup copies all that waits to a directory.
func (t *SpoolTools) Backup(ctx context.Context, req BackupRequest, send func(SpoolEvent) error) error {
	if !filepath.IsAbs(req.Dir) {
		return &admin.Error{Status: http.StatusBadRequest, Text: "the directory of a backup must be an absolute path"}
	}
	var octets int64
	told := reports(send)
	n, err := t.spool.Backup(ctx, req.Dir, func(messages int, o int64) { octets = o; told(messages, o) })
	if err != nil {
		return err
	}
	return send(SpoolEvent{Messages: n, Octets: octets, Done: true})
}

// Export writes all that waits.
func (t *SpoolTools) Export(ctx context.Context, _ struct{}, to io.Writer) (SpoolCopy, error) {
	n, err := t.spool.Export(ctx, to)
	return SpoolCopy{n}, err
}

// Import takes in what Export wrote.
func (t *SpoolTools) Import(ctx context.Context, from io.Reader) (SpoolCopy, error) {
	n, err := t.spool.Import(ctx, from, nil)
	if errors.Is(err, queue.ErrCopy) {
		err = &admin.Error{Status: http.StatusBadRequest, Text: "not a whole export: it is cut short, or was changed on the way", Hint: "what was whole of it was taken; import it again from a whole copy"}
	}
	return SpoolCopy{n}, err
}

// spoolRoutes answers "bothy queue verify|export|import|backup".
func (s *Site) spoolRoutes(server *admin.Server) {
	t := &SpoolTools{s.spool}
	admin.HandleStream(server, http.MethodPost, "/v1/queue/verify", t.Verify)
	admin.HandleStream(server, http.MethodPost, "/v1/queue/backup", t.Backup)
	admin.HandleDownload(server, "/v1/queue/export", t.Export)
	admin.HandleUpload(server, "/v1/queue/import", t.Import)
}
