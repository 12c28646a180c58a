package drop

import (
	"bufio"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"bothy/application/message"
)

const (
	suffix   = ".mail"
	unready  = ".new-"     // before the name of a file that is being written
	refused  = ".refused-" // before that of one that nobody could be told of
	maxHead  = 4 << 20     // octets of an envelope: some 30,000 recipients
	fileMode = 0o644       // the server is another user than the writer
)

var errTooMany = errors.New("drop: more recipients than a file here can have")

// Make makes the folder, or opens one that there is to everybody on this machine.
func Make(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return os.Chmod(dir, os.ModeSticky|0o733) // whatever the umask
}

// Put keeps a message for the server to collect. It is on disk when Put returns nil. The error wraps fs.ErrNotExist where there is no
// such folder: no server ever ran here.
func Put(dir string, env *message.Envelope, content io.Reader) (err error) {
	head, err := json.Marshal(env)
	if err != nil {
		return err
	}
	if len(head) >= maxHead {
		return errTooMany
	}
	name := rand.Text() + suffix
	file := filepath.Join(dir, unready+name)
	f, err := os.OpenFile(file, os.O_CREATE|os.O_EXCL|os.O_WRONLY, fileMode)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, f.Close()); err != nil {
			err = errors.Join(err, removed(file))
		}
	}()
	if err := f.Chmod(fileMode); err != nil { // whatever the umask
		return err
	}
	if _, err := f.Write(append(head, '\n')); err != nil {
		return err
	}
	if _, err := io.Copy(f, content); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := os.Rename(file, filepath.Join(dir, name)); err != nil {
		return err
	}
	return syncNames(dir, f)
}

// removed removes a file that may have gone.
func removed(file string) error {
	if err := os.Remove(file); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

const (
	settled = "+" // in a file's name, between that and the number of its recipients, from the first, who are settled
	untold  = "!" // behind that number: one of them was refused, and there was nobody to tell
)

// advance renames a file of which more recipients are settled, and has the new name on disk.
func advance(dir, name string, recipients int, told bool) (string, error) {
	base, _, _ := strings.Cut(name, settled)
	next := base + settled + strconv.Itoa(recipients)
	if !told {
		next += untold
	}
	if next == name {
		return name, nil
	}
	if err := os.Rename(filepath.Join(dir, name), filepath.Join(dir, next)); err != nil {
		return name, err
	}
	d, err := os.Open(dir)
	if err != nil {
		return next, err
	}
	defer d.Close()
	return next, d.Sync()
}

// item is one message in the folder.
type item struct {
	*os.File // at its first octet of content
	env      message.Envelope
	from     int   // recipients before those in env, who are settled
	told     bool  // whoever was refused of them was told of
	owner    int   // user id
	size     int64 // octets of content
	start    int64 // where it begins in the file
}

// errForeign says that a file is none that Put made.
var errForeign = errors.New("drop: not a message")

// take opens one file of the folder. Whoever put a link, a pipe or a device there gets nothing for it.
func take(file string) (_ *item, err error) {
	f, err := os.OpenFile(file, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("%w: a link", errForeign)
	}
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			f.Close()
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || stat.Nlink != 1 {
		return nil, fmt.Errorf("%w: no file of its own", errForeign)
	}
	i := &item{File: f, owner: int(stat.Uid), told: true}
	head, err := bufio.NewReaderSize(io.LimitReader(f, maxHead), 64<<10).ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("%w: no envelope", errForeign)
	}
	var env message.Envelope
	if err := json.Unmarshal(head, &env); err != nil {
		return nil, fmt.Errorf("%w: %w", errForeign, err)
	}
	if _, n, ok := strings.Cut(filepath.Base(file), settled); ok {
		n, silent := strings.CutSuffix(n, untold)
		i.told = !silent
		if i.from, err = strconv.Atoi(n); err != nil || i.from < 0 {
			return nil, fmt.Errorf("%w: its name", errForeign)
		}
	}
	if len(env.Recipients) <= i.from {
		return nil, fmt.Errorf("%w: no recipients", errForeign)
	}
	env.Recipients = env.Recipients[i.from:]
	i.env = plain(&env)
	i.start = int64(len(head))
	i.size = info.Size() - i.start
	_, err = f.Seek(i.start, io.SeekStart)
	return i, err
}

// plain is what a program may say of its message. All else in an envelope is the server's, which takes it for checked: ORCPT goes into a command
// as it is.
func plain(env *message.Envelope) message.Envelope {
	to := make([]message.Recipient, len(env.Recipients))
	for i, r := range env.Recipients {
		to[i] = message.Recipient{Address: r.Address, Notify: r.Notify}
	}
	return message.Envelope{
		ReversePath: env.ReversePath, Recipients: to, Body: env.Body, UTF8: env.UTF8, Return: env.Return, EnvelopeID: env.EnvelopeID,
	}
}

// waiting returns the names of what waits.
func waiting(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	var names []string
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), ".") {
			names = append(names, e.Name())
		}
	}
	return names, err
}
