package wal

import (
	"errors"
	"os"
	"syscall"
)

// datasync is fdatasync(2): the file's times are not worth a journal commit.
func datasync(f *os.File) error {
	return control(f, "fdatasync", syscall.Fdatasync)
}

// reserve is fallocate(2); a file system without it lets the zeros do the work.
func reserve(f *os.File, size int64) error {
	err := control(f, "fallocate", func(fd int) error { return syscall.Fallocate(fd, 0, 0, size) })
	if errors.Is(err, syscall.EOPNOTSUPP) || errors.Is(err, syscall.ENOSYS) {
		return nil
	}
	return err
}

func lock(f *os.File) error {
	return control(f, "flock", func(fd int) error { return syscall.Flock(fd, syscall.LOCK_EX|syscall.LOCK_NB) })
}

func space(dir string) (free, total int64, err error) {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return 0, 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	return int64(st.Bavail) * int64(st.Bsize), int64(st.Blocks) * int64(st.Bsize), nil
}

// control runs a system call on f's descriptor, again after a signal.
func control(f *os.File, op string, call func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	err = raw.Control(func(fd uintptr) {
		for {
			if result = call(int(fd)); result != syscall.EINTR {
				return
			}
		}
	})
	if err != nil {
		return err
	}
	if result != nil {
		return &os.PathError{Op: op, Path: f.Name(), Err: result}
	}
	return nil
}
