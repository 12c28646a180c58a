package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"bothy/application/queue"
	"bothy/lib/file"
	"bothy/management/admin"

	site "bothy"
)

// onSpool does something to the spool of the running server, or, where none runs, to the spool itself.
func (g *globals) onSpool(ctx context.Context, online func(*admin.Client) error, offline func(*site.SpoolTools) error) (err error) {
	cfg, err := g.load()
	if err != nil {
		return err
	}
	client := admin.Dial(cfg.AdminSocket())
	defer client.Close()
	switch _, err := client.Identity(ctx); {
	case err == nil:
		return online(client)
	case !errors.Is(err, admin.ErrNotRunning):
		return err
	}
	if _, err := os.Stat(cfg.Data); err != nil {
		return fmt.Errorf("no server runs, and there is no data to work on: %w", err)
	}
	tools, err := site.OpenSpool(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tools.Close(), giveTree(cfg.SpoolDir(), cfg.Data)) }()
	return offline(tools)
}

// giveTree gives what root made in a directory to the owner of another.
func giveTree(dir, like string) error {
	info, err := os.Stat(like)
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	owner := info.Sys().(*syscall.Stat_t)
	return filepath.WalkDir(dir, func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(name, int(owner.Uid), int(owner.Gid))
	})
}

// meter shows on a terminal how far work is.
type meter struct {
	to   io.Writer // nil: nobody watches
	last time.Time
}

func newMeter(std stdio) *meter {
	if tty, ok := std.err.(*os.File); ok && isTerminal(tty) {
		return &meter{to: tty}
	}
	return &meter{}
}

func (m *meter) show(format string, args ...any) {
	if now := time.Now(); m.to != nil && now.Sub(m.last) >= 200*time.Millisecond {
		m.last = now
		fmt.Fprintf(m.to, "\r\x1b[K"+format, args...)
	}
}

func (m *meter) clear() {
	if m.to != nil {
		fmt.Fprint(m.to, "\r\x1b[K")
	}
}

// watched runs work that sends events and returns the last.
func (g *globals) watched(
	ctx context.Context, std stdio, path string, req any, offline func(*site.SpoolTools, func(site.SpoolEvent) error) error,
) (last site.SpoolEvent, err error) {
	m := newMeter(std)
	defer m.clear()
	on := func(e site.SpoolEvent) error {
		last = e
		m.show("%s, %s", plural(e.Messages, "message"), octets(e.Octets))
		return nil
	}
	err = g.onSpool(ctx, func(c *admin.Client) error {
		return c.Stream(ctx, http.MethodPost, path, req, func(raw json.RawMessage) error {
			var e site.SpoolEvent
			if err := json.Unmarshal(raw, &e); err != nil {
				return err
			}
			return on(e)
		})
	}, func(t *site.SpoolTools) error { return offline(t, on) })
	if err == nil && !last.Done {
		err = errors.New("the server ended before it was done")
	}
	return last, err
}

type queueVerifyCmd struct {
	JSON bool `help:"Print JSON."`
}

func (queueVerifyCmd) Help() string {
	return `Reads every octet of everything that waits and compares it with its checksums. The server goes on meanwhile; where none runs, the spool is
read as it lies. What cannot be read is not served any more; it stays listed as "damaged".

Exit codes: 0 all is whole, 1 something is not.

Examples:

    bothy queue verify
    bothy queue verify --json | jq .damaged`
}

func (c *queueVerifyCmd) Run(ctx context.Context, g *globals, std stdio) error {
	last, err := g.watched(ctx, std, "/v1/queue/verify", struct{}{}, func(t *site.SpoolTools, send func(site.SpoolEvent) error) error {
		return t.Verify(ctx, struct{}{}, send)
	})
	switch {
	case err != nil:
		return err
	case last.Found == nil:
		return errors.New("the server did not say what it found")
	}
	v := *last.Found
	if c.JSON {
		err = printJSON(std.out, v)
	} else {
		err = printVerification(std.out, v)
	}
	if err == nil && len(v.Damaged)+len(v.SetAside) > 0 {
		return exit{exitFailed, errors.New("the spool is damaged; see \"bothy queue list --state damaged\" and docs/operations.md")}
	}
	return err
}

func printVerification(w io.Writer, v queue.Verification) error {
	for _, id := range v.Damaged {
		fmt.Fprintln(w, "damaged:", id)
	}
	for _, file := range v.SetAside {
		fmt.Fprintln(w, "set aside:", printable(file))
	}
	_, err := fmt.Fprintf(w, "Whole: %s for %s, %s\n", plural(v.Messages, "message"), plural(v.Recipients, "recipient"), octets(v.Octets))
	return err
}

type queueExportCmd struct {
	File string `arg:"" optional:"" default:"-" help:"Where to, a file that does not exist yet; \"-\" is standard output."`
	JSON bool   `help:"Print the count as JSON, on standard error when the mail goes to standard output."`
}

func (queueExportCmd) Help() string {
	return `Writes everything that waits, with its state: tries so far, what is held, when clocks stood still. Nothing is taken out of the queue, and the
server goes on meanwhile: to move the mail, stop the server first. What is damaged is left out.

Examples:

    bothy queue export waiting.bothy
    bothy queue export | ssh new.provider.example bothy queue import`
}

func (c *queueExportCmd) Run(ctx context.Context, g *globals, std stdio) (err error) {
	var to io.Writer = std.out
	said := std.err
	if c.File != "-" {
		f, err := os.OpenFile(c.File, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600) // other people's mail
		if err != nil {
			return err
		}
		to, said = f, std.out
		defer func() {
			if err == nil {
				err = f.Sync()
			}
			if f.Close(); err != nil {
				os.Remove(c.File)
				return
			}
			err = file.SyncDir(filepath.Dir(c.File))
		}()
	} else if tty, ok := std.out.(*os.File); ok && isTerminal(tty) {
		return exit{exitUsage, errors.New("an export is nothing to read: name a file, or pipe it on")}
	}
	m := newMeter(std)
	var wrote int64
	counted := writerFunc(func(p []byte) (int, error) {
		n, err := to.Write(p)
		wrote += int64(n)
		m.show("%s written", octets(wrote))
		return n, err
	})
	var done site.SpoolCopy
	err = g.onSpool(ctx, func(client *admin.Client) error {
		return client.Download(ctx, "/v1/queue/export", struct{}{}, counted, &done)
	}, func(t *site.SpoolTools) (err error) {
		done, err = t.Export(ctx, struct{}{}, counted)
		return err
	})
	m.clear()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(said, done)
	}
	_, err = fmt.Fprintf(said, "Exported: %s, %s\n", plural(done.Messages, "message"), octets(wrote))
	return err
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

type queueImportCmd struct {
	File string `arg:"" optional:"" default:"-" help:"What to read; \"-\" is standard input."`
	JSON bool   `help:"Print the count as JSON."`
}

func (queueImportCmd) Help() string {
	return `Takes in what "bothy queue export" wrote, with its state and its ids. Messages that wait here already are passed over, so it may be repeated
after an error. When it ends well, all of it is on disk.

The mail goes where the routes of this server say, which need not be those of the other.

Examples:

    bothy queue import waiting.bothy`
}

func (c *queueImportCmd) Run(ctx context.Context, g *globals, std stdio) error {
	from := std.in
	if c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return err
		}
		defer f.Close()
		from = f
	}
	m := newMeter(std)
	var read int64
	counted := readerFunc(func(p []byte) (int, error) {
		n, err := from.Read(p)
		read += int64(n)
		m.show("%s read", octets(read))
		return n, err
	})
	var done site.SpoolCopy
	err := g.onSpool(ctx, func(client *admin.Client) error {
		return client.Upload(ctx, "/v1/queue/import", counted, &done)
	}, func(t *site.SpoolTools) (err error) {
		done, err = t.Import(ctx, counted)
		return err
	})
	m.clear()
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, done)
	}
	_, err = fmt.Fprintf(std.out, "Imported: %s\n", plural(done.Messages, "message"))
	return err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

type queueBackupCmd struct {
	Dir  string `arg:"" help:"A directory that does not exist yet, or is empty. The server writes there: it must be its user's."`
	JSON bool   `help:"Print the count as JSON."`
}

func (queueBackupCmd) Help() string {
	return `Copies everything that waits into a spool of its own, whole and synced, while the server goes on. To go back to it: stop the server, put the
directory in the place of "spool" in its data directory, start. What was delivered since the backup is then delivered once more.

Examples:

    bothy queue backup /var/backups/bothy/spool-monday`
}

func (c *queueBackupCmd) Run(ctx context.Context, g *globals, std stdio) error {
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return err
	}
	req := site.BackupRequest{Dir: dir}
	last, err := g.watched(ctx, std, "/v1/queue/backup", req, func(t *site.SpoolTools, send func(site.SpoolEvent) error) error {
		return t.Backup(ctx, req, send)
	})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(std.out, site.SpoolCopy{Messages: last.Messages})
	}
	_, err = fmt.Fprintf(std.out, "Copied: %s, %s\n", plural(last.Messages, "message"), octets(last.Octets))
	return err
}
