package drop

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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

// collect submits one message, in as many transactions as its recipients take, and removes it.
func (c *Collector) collect(ctx context.Context, name string) error {
	i, err := take(filepath.Join(c.Dir, name))
	switch {
	case errors.Is(err, errForeign):
		c.Log.Warn("what is no message was removed from where programs leave theirs", "file", name, "why", err)
		return removed(filepath.Join(c.Dir, name))
	case err != nil:
		return err
	}
	defer i.Close()
	all := i.env.Recipients
	replies, err := smtp.Further(len(all), func(left []int) ([]smtp.Reply, error) {
		if left[0] > 0 { // all before are settled: a crash from here on goes on with this one
			var err error
			if name, err = advance(c.Dir, name, i.from+left[0], i.told); err != nil {
				return nil, err
			}
		}
		env := i.env
		env.Recipients = smtp.Some(all, left)
		replies, told, err := c.submit(ctx, i, &env)
		i.told = i.told && told
		return replies, err
	})
	if err == nil && slices.ContainsFunc(replies, smtp.Reply.TooMany) {
		err = smtp.RecipientsFull
	}
	switch file := filepath.Join(c.Dir, name); {
	case err != nil:
		return err
	case !i.told:
		c.Log.Error("a message was refused, and there is nobody to tell: it is kept", "file", filepath.Join(c.Dir, refused+name), "user", i.owner)
		return os.Rename(file, filepath.Join(c.Dir, refused+name))
	default:
		return removed(file)
	}
}

// submit is one transaction of a message. Those who are one too many are for the next; all others it settles, or returns why it does not: who
// was refused is told of, and so is who could not be reached, where others have the message already: it cannot be tried again whole. told is
// false where there is nobody to tell.
func (c *Collector) submit(ctx context.Context, i *item, env *message.Envelope) (replies []smtp.Reply, told bool, err error) {
	if _, err := i.Seek(i.start, io.SeekStart); err != nil {
		return nil, true, err
	}
	replies, err = c.Submit(ctx, i.owner, env, io.LimitReader(i, i.size), i.size)
	var failed []queue.Outcome
	done, refusals, last := 0, 0, smtp.Reply{}
	for n, r := range replies {
		switch {
		case r.Positive():
			done++
			continue
		case r.TooMany():
			continue
		case r.Permanent():
			refusals++
		default:
			last = r
		}
		failed = append(failed, queue.Outcome{Recipient: env.Recipients[n], Reply: r})
	}
	switch {
	case done == 0 && err != nil: // nobody has it
		return nil, true, err
	case done+refusals == 0 && len(failed) > 0:
		return nil, true, last
	}
	told = true
	if len(failed) > 0 {
		if told, err = c.tell(ctx, i, env, failed); err != nil {
			return nil, true, err
		}
	}
	c.Log.Info("collected", "user", i.owner, "sender", env.ReversePath.String(), "recipients", done, "refused", len(failed))
	return replies, told, nil
}

// tell sends the notice.
func (c *Collector) tell(ctx context.Context, i *item, env *message.Envelope, failed []queue.Outcome) (bool, error) {
	header, err := i.header()
	if err != nil {
		return false, err
	}
	return c.Notify(ctx, env, failed, header)
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
