package main

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"bothy/management/config"

	site "bothy"
)

// serveCmd runs the server.
type serveCmd struct {
	JSON bool `help:"Write the log as JSON, one object a line."`
}

func (serveCmd) Help() string {
	return `Runs until SIGTERM or Ctrl-C: then sessions get 421, what was accepted is safe, and a second signal ends at once. SIGHUP reads the
configuration again; one with errors changes nothing. The log goes to standard error. Under systemd, Type=notify is understood.

Examples:

    bothy serve --config /etc/bothy/bothy.toml
    kill -HUP $(pidof bothy)`
}

func (c *serveCmd) Run(ctx context.Context, g *globals, std stdio) error {
	file := g.file()
	var cfg site.Config
	warnings, err := config.Check(file, &cfg)
	if err != nil {
		return missing(file, err)
	}
	level := new(slog.LevelVar)
	level.Set(cfg.LogLevel)
	var handler slog.Handler = slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: level})
	if c.JSON {
		handler = slog.NewJSONHandler(std.err, &slog.HandlerOptions{Level: level})
	}
	log := slog.New(handler)
	for _, w := range append(warnings, unwritten(file, &cfg)...) {
		log.Warn("configuration", "what", w.Error())
	}
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	reload := make(chan site.Config)
	go reloads(ctx, file, cfg, hangups, reload, level, log)
	ready := func(site.Ports) {
		if err := notify("READY=1"); err != nil {
			log.Warn("service manager not told", "err", err)
		}
	}
	return site.Run(ctx, cfg, site.Env{Log: log, Now: time.Now, Reload: reload, Ready: ready, Build: version().String()})
}

// notify tells the service manager that started us, if one did, what it waits for (sd_notify of systemd: a datagram to a socket).
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	conn, err := net.Dial("unixgram", path) // an "@" in front is the abstract namespace, for both
	if err != nil {
		return err
	}
	_, err = conn.Write([]byte(state))
	return errors.Join(err, conn.Close())
}

// reloads reads the file again at each hangup and sends what it says, if it says it without errors.
func reloads(ctx context.Context, file string, cfg site.Config, hangups <-chan os.Signal, to chan<- site.Config, level *slog.LevelVar, log *slog.Logger) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-hangups:
		}
		var next site.Config
		if err := config.Load(file, &next); err != nil {
			log.Error("new configuration not taken; the old one stays in force", "err", err)
			continue
		}
		changes, err := config.Diff(cfg, next)
		if err != nil {
			log.Error("configurations not compared", "err", err)
		}
		for _, change := range changes {
			log.Info("configuration changed", "key", change.Key, "old", change.Old, "new", change.New, "needs_restart", change.Restart)
		}
		level.Set(next.LogLevel)
		select {
		case to <- next:
			cfg = next
		case <-ctx.Done():
			return
		}
	}
}
