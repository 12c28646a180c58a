package site

import (
	"context"
	"path/filepath"
	"time"

	"bothy/application/message"
	"bothy/application/mtqp"
	"bothy/application/queue"
)

// openTracks opens the record of tracked messages, where somebody can ask for it, and returns what the queue tells.
func (s *Site) openTracks(ctx context.Context, cfg Config) (track func(*message.Envelope, []queue.Outcome, time.Time), err error) {
	if len(cfg.MTQP.Listen) == 0 {
		return nil, nil
	}
	s.tracks, err = mtqp.Open(ctx, filepath.Join(cfg.Data, "tracking.db"), cfg.Queue.Lifetime, s.env.Log.With("service", "mtqp"))
	if err != nil {
		return nil, err
	}
	return s.tracks.Track, nil
}
