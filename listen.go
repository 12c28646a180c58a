package site

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"bothy/management/admin"
	"bothy/management/metrics"
)

// port is one address a service listens on. Which service that is, is looked up for each connection, so that a reload gives
// new connections the new policies while old ones end as they began.
type port struct {
	service string // "smtp", "submission", "odmr", "pop3": whose connections these are
	network string // "tcp" or "unix"
	address string
	tls     bool // TLS from the first octet (RFC 8314 §3.3)
}

// shown is the service, with an "s" behind it where TLS comes first.
func (p port) shown() string {
	if p.tls {
		return p.service + "s"
	}
	return p.service
}

// place is what is held open for a port: whatever service moves in there. Ports that the kernel chooses are told apart by their service.
func (p port) place() port {
	if zeroPort(p.address) {
		return p
	}
	return port{network: p.network, address: p.address}
}

func (p port) name() string { return strings.TrimSpace(p.shown() + " " + p.network + " " + p.address) }

// zeroPort reports whether the kernel chooses the port: such an address may stand twice.
func zeroPort(address string) bool { return strings.HasSuffix(address, ":0") }

// server answers the connections of one service.
type server struct {
	serve  func(ctx context.Context, conn net.Conn) error
	refuse string      // the line that tells a peer above the limits to come later; CRLF included
	tls    *tls.Config // for ports with tls set
	limits ListenLimits
	open   *connections // of all services; nil: nobody counts

	count   *metrics.Metrics // nil: nobody counts
	service string           // as it is counted
}

// connected counts a connection until closed is called.
func (s *server) connected() (closed func()) {
	if s.count == nil {
		return func() {}
	}
	return s.count.Connected(s.service)
}

func (s *server) turnedAway() {
	if s.count != nil {
		s.count.TurnedAway(s.service)
	}
}

// acceptPause is the wait after a failed accept, when the process is out of file descriptors for example.
const acceptPause = 100 * time.Millisecond

// accept serves the connections of ln until ctx ends; then it closes ln at once, lets the sessions end by themselves (they see ctx)
// and closes what is left when grace is over. lookup says who serves a connection now, and whether TLS comes first.
func accept(ctx context.Context, ln net.Listener, lookup func() (srv server, tls bool), grace func() time.Duration, log *slog.Logger) error {
	var sessions sync.WaitGroup
	var open sockets
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	for {
		// Whoever is here and has something to do comes first. When twenty thousand sites come back at once, they then log in one behind the other,
		// as quickly as can be; all together they would all be through at the same time, which is later than they wait for. Those to come
		// wait in the kernel's queue, in their order, and cost nothing.
		runtime.Gosched()
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil {
				break
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			log.Warn("accept failed", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		srv, useTLS := lookup()
		if srv.serve == nil { // a reload has taken this port out, and its listener is about to close
			conn.Close()
			continue
		}
		leave, admitted := srv.open.enter(srv.service, conn.RemoteAddr(), srv.limits)
		if !admitted {
			srv.turnedAway()
			refuse(conn, srv.refuse, useTLS)
			continue
		}
		closed := srv.connected()
		open.add(conn)
		sessions.Go(func() {
			defer closed()
			defer leave()
			defer open.remove(conn)
			defer conn.Close()
			answer(ctx, conn, useTLS, srv, log)
		})
	}
	timer := time.AfterFunc(grace(), open.closeAll)
	sessions.Wait()
	timer.Stop()
	return nil
}

func answer(ctx context.Context, conn net.Conn, useTLS bool, srv server, log *slog.Logger) {
	if useTLS {
		secured := tls.Server(conn, srv.tls)
		hctx, cancel := context.WithTimeout(ctx, srv.limits.Handshake)
		err := secured.HandshakeContext(hctx)
		cancel()
		if err != nil {
			log.Debug("TLS handshake failed", "peer", conn.RemoteAddr().String(), "err", err)
			return
		}
		conn = secured
	}
	if err := srv.serve(ctx, conn); err != nil {
		log.Debug("session ended", "peer", conn.RemoteAddr().String(), "err", err)
	}
}

// refuse says why in one line, without waiting for a slow peer, and closes. Who waits for TLS would take the line for an attack, and call back
// much later than it should: for him the connection just ends.
func refuse(conn net.Conn, line string, useTLS bool) {
	if !useTLS {
		conn.SetWriteDeadline(time.Now().Add(time.Second))
		conn.Write([]byte(line))
	}
	conn.Close()
}

// sockets are the connections of one port.
type sockets struct {
	mu   sync.Mutex
	open map[net.Conn]bool
}

func (o *sockets) add(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.open == nil {
		o.open = map[net.Conn]bool{}
	}
	o.open[conn] = true
}

func (o *sockets) remove(conn net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.open, conn)
}

func (o *sockets) closeAll() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for conn := range o.open {
		conn.Close()
	}
}

// listenUnit is one open port, given as its place. It stays open over every reload that listens there, for whichever service.
func (s *Site) listenUnit(at port, grace time.Duration) unit {
	var ln net.Listener
	forget := func() {
		ln.Close()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, at)
	}
	return unit{
		spec: at,
		open: func() (err error) {
			if at.network == "unix" {
				ln, err = admin.Listen(at.address, 0o666) // who may reach the directory may submit
			} else {
				ln, err = net.Listen(at.network, at.address)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if err != nil {
				return s.explainListen(at, err)
			}
			s.open[at] = ln
			return nil
		},
		shut: forget,
		run: func(ctx context.Context) error {
			defer forget()
			lookup := func() (server, bool) {
				now := s.current.Load()
				p := now.ports[at]
				return now.services[p.service], p.tls
			}
			return accept(ctx, ln, lookup, func() time.Duration { return s.current.Load().cfg.StopGrace }, s.env.Log.With("port", at.address))
		},
		grace: grace + time.Second,
	}
}

// explainListen adds the way out to what the kernel says. The caller holds mu.
func (s *Site) explainListen(at port, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; ports below 1024 need root or CAP_NET_BIND_SERVICE", err)
	case errors.Is(err, syscall.EADDRINUSE):
		for p := range s.open {
			if _, number, _ := net.SplitHostPort(p.address); p.network == at.network && strings.HasSuffix(at.address, ":"+number) {
				return fmt.Errorf("%w; this server holds %s: a change between one address and all of them needs a restart", err, p.address)
			}
		}
		return fmt.Errorf("%w; another program, or another bothy, listens there (see `ss -ltnp`)", err)
	}
	return err
}

// listensAt reports whether a mail exchanger's address is a port of our own border: mail sent there would come back (RFC 5321 §6.3).
func (s *Site) listensAt(exchanger netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.current.Load()
	for at, ln := range s.open {
		own, ok := ln.Addr().(*net.TCPAddr)
		if !ok || now.ports[at].service != "smtp" || own.Port != int(exchanger.Port()) {
			continue
		}
		if ip := own.AddrPort().Addr().Unmap(); ip == exchanger.Addr().Unmap() || ip.IsUnspecified() && isOwnAddress(exchanger.Addr()) {
			return true
		}
	}
	return false
}

// isOwnAddress reports whether one of this machine's interfaces has the address now; sites get new ones.
func isOwnAddress(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil && prefix.Addr() == ip.Unmap() {
			return true
		}
	}
	return false
}
