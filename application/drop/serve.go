package drop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

// Collector submits what is in the folder.
type Collector struct {
	Dir string

	// Submit hands a message in as a user of this machine and returns a reply for each recipient; those that are not certain are zero.
	Submit func(ctx context.Context, user int, env *message.Envelope, content io.Reader, size int64) ([]smtp.Reply, error)

	// Notify tells the sender of recipients who were refused, durably; told is false if there is nobody to tell.
	Notify func(ctx context.Context, env *message.Envelope, failed []queue.Outcome, header []byte) (told bool, err error)

	Log *slog.Logger
}

const (
	lookAgain = time.Minute
	abandoned = 24 * time.Hour // since a file was written to that was never finished
)

// Run collects until ctx ends.
func (c *Collector) Run(ctx context.Context) error {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		c.sweep(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// sweep tries everything that waits once.
func (c *Collector) sweep(ctx context.Context) {
	c.clear()
	names, err := waiting(c.Dir)
	if err != nil {
		c.Log.Error("what programs left cannot be read", "err", err)
	}
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		if err := c.collect(ctx, name); err != nil {
			c.Log.Error("a message stays where a program left it", "file", filepath.Join(c.Dir, name), "err", err)
		}
	}
}

// clear removes what a program began and did not finish: it was told so, or died.
func (c *Collector) clear() {
	files, _ := filepath.Glob(filepath.Join(c.Dir, unready+"*")) // the pattern is good
	for _, file := range files {
		if info, err := os.Lstat(file); err == nil && time.Since(info.ModTime()) > abandoned {
			_ = removed(file)
		}
	}
}

// collect submits one message and removes it.
func (c *Collector) collect(ctx context.Context, name string) error {
	file := filepath.Join(c.Dir, name)
	i, err := take(file)
	switch {
	case errors.Is(err, errForeign):
		c.Log.Warn("what is no message was removed from where programs leave theirs", "file", name, "why", err)
		return removed(file)
	case err != nil:
		return err
	}
	defer i.Close()
	replies, err := c.Submit(ctx, i.owner, &i.env, io.LimitReader(i, i.size), i.size)
	var failed []queue.Outcome
	done, last := 0, smtp.Reply{}
	for n, r := range replies {
		switch {
		case r.Positive():
			done++
		case r.Permanent():
			failed = append(failed, queue.Outcome{Recipient: i.env.Recipients[n], Reply: r})
		default:
			last = r
		}
	}
	switch {
	case done+len(failed) == 0 && err != nil:
		return err
	case done+len(failed) == 0:
		return last
	}
	for n, r := range replies { // the others have it already: it cannot be tried again whole
		if !r.Positive() && !r.Permanent() {
			failed = append(failed, queue.Outcome{Recipient: i.env.Recipients[n], Reply: r})
		}
	}
	if len(failed) > 0 {
		told, err := c.tell(ctx, i, failed)
		if err != nil {
			return err
		}
		if !told {
			c.Log.Error("a message was refused, and there is nobody to tell: it is kept", "file", filepath.Join(c.Dir, refused+name), "user", i.owner, "reply", failed[0].Reply.Error())
			return os.Rename(file, filepath.Join(c.Dir, refused+name))
		}
	}
	c.Log.Info("collected", "user", i.owner, "sender", i.env.ReversePath.String(), "recipients", done, "refused", len(failed))
	return removed(file)
}

// tell sends the notice.
func (c *Collector) tell(ctx context.Context, i *item, failed []queue.Outcome) (bool, error) {
	header, err := i.header()
	if err != nil {
		return false, err
	}
	return c.Notify(ctx, &i.env, failed, header)
}

// header is what a notice quotes.
func (i *item) header() ([]byte, error) {
	if _, err := i.Seek(i.start, io.SeekStart); err != nil {
		return nil, err
	}
	header, _, err := message.ReadHeader(i.File, message.DefaultHeaderSize)
	if errors.Is(err, message.ErrHeaderSize) {
		return nil, nil
	}
	return header.AppendTo(nil), err
}
