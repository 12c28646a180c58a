package site

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// ListenLimits bound the connections of one service.
type ListenLimits struct {
	Connections int           `doc:"Most connections of one service at once; more are told to come later." default:"20000" min:"1"`
	PerPeer     int           `doc:"Most connections of one service from one address (IPv6: one /64) at once." default:"500" min:"1"`
	Handshake   time.Duration `doc:"Wait for a TLS handshake on ports that begin with TLS." default:"30s" min:"1s"`
}

// connections counts what is open: of each service, whatever its ports, of each peer at each, and of all together.
type connections struct {
	mu       sync.Mutex
	room     int // for all together, as the limit of open files has it; 0: any number
	all      int
	services map[string]int
	peers    map[guest]int
	full     time.Time // when it was last logged that there is no room
	log      *slog.Logger
}

// guest is a peer of one service.
type guest struct {
	service string
	peer    netip.Prefix
}

// fullEvery is how often it is logged that there is no room, at most.
const fullEvery = time.Minute

// enter admits a connection, if that is within the limits; leave is to be called at its end.
func (o *connections) enter(service string, from net.Addr, l ListenLimits) (leave func(), ok bool) {
	if o == nil {
		return func() {}, true
	}
	g := guest{service, peerPrefix(from)}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.room > 0 && o.all >= o.room {
		if now := time.Now(); now.Sub(o.full) >= fullEvery {
			o.full = now
			o.log.Warn("connections refused: the limit of open files has no room for more", "open", o.all)
		}
		return nil, false
	}
	if o.services[service] >= l.Connections || o.peers[g] >= l.PerPeer {
		return nil, false
	}
	if o.services == nil {
		o.services, o.peers = map[string]int{}, map[guest]int{}
	}
	o.all++
	o.services[service]++
	o.peers[g]++
	return func() { o.leave(g) }, true
}

func (o *connections) leave(g guest) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all--
	o.services[g.service]--
	if o.peers[g]--; o.peers[g] <= 0 {
		delete(o.peers, g)
	}
}

// peerPrefix is what counts as one peer: an IPv4 address or an IPv6 /64, which is one host's to fill. The zero Prefix stands for
// local sockets.
func peerPrefix(a net.Addr) netip.Prefix {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip := tcp.AddrPort().Addr().Unmap()
	bits := 32
	if ip.Is6() {
		bits = 64
	}
	prefix, _ := ip.Prefix(bits)
	return prefix
}

// The spool, the databases and what this server calls itself need open files too, and must never find none left.
const (
	spareFiles = 1024
	spareShare = 4 // of a small limit, a quarter
)

// roomIn is how many connections fit into a limit of open files.
func roomIn(files uint64) int {
	files = min(files, 1<<30)
	return int(files - min(spareFiles, files/spareShare))
}

// filesFor is the limit of open files in which so many connections fit.
func filesFor(connections int) uint64 {
	n := uint64(connections)
	return n + min(spareFiles, (n-1)/(spareShare-1))
}

// openFiles is the limit of open files of this process. Go raises the soft limit to the hard one at the start (package os), so that is the one.
func openFiles() (uint64, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return limit.Cur, err
}

// makeRoom sets how many connections there may be in all, and says so where that is fewer than configured.
func (s *Site) makeRoom(l ListenLimits) {
	files, err := openFiles()
	if err != nil {
		s.env.Log.Warn("limit of open files not known", "err", err)
		return
	}
	room := roomIn(files)
	if room < l.Connections {
		s.env.Log.Warn("fewer connections than configured", "what", tooFewFiles(l, files).Error())
	}
	s.connections.mu.Lock()
	defer s.connections.mu.Unlock()
	s.connections.room, s.connections.log = room, s.env.Log
}

// CheckFileLimit returns what is wrong with the limit of open files of this process, and of those that it starts, for a server of cfg; nil: nothing.
func (cfg *Config) CheckFileLimit() error {
	files, err := openFiles()
	if err != nil || roomIn(files) >= cfg.Connections.Connections {
		return err
	}
	return tooFewFiles(cfg.Connections, files)
}

func tooFewFiles(l ListenLimits, files uint64) error {
	return fmt.Errorf("connections.connections is %d, which takes %d open files; the limit is %d, with room for %d connections: raise it (LimitNOFILE= of the service, `ulimit -Hn`), or set fewer",
		l.Connections, filesFor(l.Connections), files, roomIn(files))
}
