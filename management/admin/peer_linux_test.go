package admin

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// Another user is turned away even when the socket file lets anybody in.
func TestOtherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can be somebody else")
	}
	s := routes()
	c := start(t, s)
	for _, f := range []string{c.path, filepath.Dir(c.path), filepath.Dir(filepath.Dir(c.path))} {
		if err := os.Chmod(f, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	const nobody = 65534
	read := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		if err != nil {
			read <- err
			return
		}
		defer unix.Close(fd)
		// A raw system call changes this thread only.
		if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, nobody, nobody, nobody); errno != 0 {
			read <- errno
			return
		}
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: c.path}); err != nil {
			read <- err
			return
		}
		_, _ = unix.Write(fd, []byte("GET "+IdentityPath+" HTTP/1.1\r\nHost: x\r\n\r\n"))
		n, err := unix.Read(fd, make([]byte, 100))
		if n > 0 {
			err = errors.New("answered")
		}
		read <- err
	}()
	if err := <-read; err != nil && !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("another user: %v", err)
	}
	if _, err := c.Identity(t.Context()); err != nil {
		t.Errorf("the owner afterwards: %v", err)
	}
}
