package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/net/netutil"
)

// ErrInUse says that somebody answers at the socket already.
var ErrInUse = errors.New("another server is listening there")

// maxPath is the longest path a socket may have: sun_path holds 108 octets, one of them a NUL, and ours is made under a name with ".new".
const maxPath = 108 - 1 - len(".new")

// Listen opens a unix socket at path with the given permissions. A socket file that nobody listens at any more is replaced in one
// step; one where somebody answers is ErrInUse; any other file stays and is an error. Closing the listener removes the file.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("socket %s: the path has %d octets, at most %d are possible: choose a shorter data directory", path, len(path), maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	unlock, err := lock(path + ".lock")
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := vacant(path); err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	fresh := path + ".new"
	if err := os.Remove(fresh); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: fresh, Net: "unix"})
	if err != nil {
		return nil, err
	}
	ln.SetUnlinkOnClose(false) // it will have another name
	if err := errors.Join(os.Chmod(fresh, mode), os.Rename(fresh, path)); err != nil {
		ln.Close()
		os.Remove(fresh)
		return nil, err
	}
	return &listener{UnixListener: ln, path: path}, nil
}

// listener removes its file when it is closed.
type listener struct {
	*net.UnixListener
	path string
	once sync.Once
}

// Addr is the path that clients dial; the kernel remembers the name the socket was made under.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

func (l *listener) Close() error {
	l.once.Do(func() { os.Remove(l.path) })
	return l.UnixListener.Close()
}

// lock keeps two servers that start together from each taking the other's fresh socket for a stale one.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return func() { f.Close() }, nil
}

// vacant returns nil when path is free or holds a socket that nobody listens at.
func vacant(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("a file that is no socket is in the way")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return ErrInUse
	}
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil
	}
	return err
}

// owned lets in only the server's own user and root, whatever the mode of the socket file says, and at most maxConns at once.
type owned struct {
	net.Listener
	log *slog.Logger
}

func newOwned(ln net.Listener, log *slog.Logger) net.Listener {
	return netutil.LimitListener(&owned{ln, log}, maxConns)
}

func (o *owned) Accept() (net.Conn, error) {
	for {
		conn, err := o.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := PeerOf(conn)
		if errors.Is(err, errors.ErrUnsupported) || err == nil && (peer.UID == 0 || peer.UID == os.Geteuid()) {
			return conn, nil
		}
		o.log.Warn("admin connection refused", "uid", peer.UID, "pid", peer.PID, "err", err)
		conn.Close()
	}
}

// Peer is the process at the other end of a unix socket, as the kernel knows it from the time it connected.
type Peer struct{ UID, GID, PID int }
