package drop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"bothy/application/message"
	"bothy/application/queue"
	"bothy/application/smtp"
)

const text = "Subject: lamp\r\n\r\nout\r\n"

var letter = message.Envelope{
	ReversePath: message.Address{Local: "keeper", Domain: "light.example"},
	Recipients: []message.Recipient{
		{Address: message.Address{Local: "doctor", Domain: "hospital.example"}, Notify: message.NotifySuccess | message.NotifyDelay},
		{Address: message.Address{Local: "nurse", Domain: "hospital.example"}},
	},
	Body: message.Body8Bit, UTF8: true, Return: message.ReturnHeaders, EnvelopeID: "id 1",
}

// folder is a new one, with the letter in it if asked for.
func folder(t *testing.T, put bool) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "drop")
	if err := Make(dir); err != nil {
		t.Fatal(err)
	}
	if put {
		if err := Put(dir, &letter, strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// names are all files of a folder, those that are not looked at too.
func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

// Everybody may put, nobody may list: a message is between its owner and the server.
func TestMake(t *testing.T) {
	dir := folder(t, false)
	for range 2 { // it may be there already
		if err := Make(dir); err != nil {
			t.Fatal(err)
		}
		if info, err := os.Stat(dir); err != nil || info.Mode() != fs.ModeDir|fs.ModeSticky|0o733 {
			t.Error(info.Mode(), err)
		}
	}
}

func TestPut(t *testing.T) {
	dir := folder(t, true)
	waits, err := waiting(dir)
	if err != nil || len(waits) != 1 {
		t.Fatal(waits, err)
	}
	i, err := take(filepath.Join(dir, waits[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	content, err := io.ReadAll(i)
	if err != nil || string(content) != text || i.size != int64(len(text)) || i.owner != os.Getuid() || !reflect.DeepEqual(i.env, letter) {
		t.Errorf("%q of %d, %+v, %v", content, i.owner, i.env, err)
	}
	if info, err := i.Stat(); err != nil || info.Mode() != fileMode {
		t.Error(info.Mode(), err)
	}
	if err := Put(filepath.Join(dir, "none"), &letter, strings.NewReader(text)); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	broken := errors.New("broken")
	if err := Put(dir, &letter, io.MultiReader(strings.NewReader(text), failing{broken})); !errors.Is(err, broken) {
		t.Error(err)
	}
	if left := names(t, dir); len(left) != 1 {
		t.Errorf("half a message is left: %q", left)
	}
}

// TestHostile: of an envelope that somebody has written by hand nothing is taken that could become a command, or pass for the server's word.
func TestHostile(t *testing.T) {
	dir := folder(t, false)
	env := letter.Clone()
	env.Account, env.Submitter, env.Solicit, env.Priority, env.Trace = "keeper", "<>", "a\r\nVRFY x", 127, []byte("X: y\r\n")
	env.Transaction.Key = message.NewTransactionKey("another's")
	env.Recipients[0].Original = "rfc822;x\r\nRCPT TO:<evil@forged.example>"
	if err := Put(dir, &env, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	waits, err := waiting(dir)
	if err != nil {
		t.Fatal(err)
	}
	i, err := take(filepath.Join(dir, waits[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	if !reflect.DeepEqual(i.env, letter) {
		t.Errorf("%+v", i.env)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

// What somebody else could have put there to have it read, or sent in his own name, is not a message.
func TestForeign(t *testing.T) {
	dir := folder(t, true)
	other := filepath.Join(filepath.Dir(dir), "other")
	if err := os.WriteFile(other, []byte("{}\nsecret"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Symlink(other, filepath.Join(dir, "symlink")), os.Link(other, filepath.Join(dir, "link")), os.Mkdir(filepath.Join(dir, "folder"), 0o700),
		syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o666), os.WriteFile(filepath.Join(dir, "junk"), []byte("junk"), 0o600),
		os.WriteFile(filepath.Join(dir, "junk2"), []byte("junk\n"), 0o600), os.WriteFile(filepath.Join(dir, "nobody"), []byte("{}\njunk\n"), 0o600), os.WriteFile(filepath.Join(dir, unready+"young"), nil, 0o600),
		os.WriteFile(filepath.Join(dir, unready+"old"), nil, 0o600), os.Chtimes(filepath.Join(dir, unready+"old"), time.Time{}, time.Now().Add(-2*abandoned)),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	submitted := 0
	c := Collector{Dir: dir, Log: slog.New(slog.DiscardHandler), Submit: func(context.Context, int, *message.Envelope, io.Reader, int64) ([]smtp.Reply, error) {
		submitted++
		return []smtp.Reply{{Code: 250}, {Code: 250}}, nil
	}}
	c.sweep(t.Context())
	if left := names(t, dir); submitted != 1 || len(left) != 1 || left[0] != unready+"young" {
		t.Errorf("%d submitted, %q left", submitted, left)
	}
	if content, err := os.ReadFile(other); err != nil || string(content) != "{}\nsecret" {
		t.Error(content, err)
	}
}

// What becomes of a message, by the replies to its recipients.
func TestCollect(t *testing.T) {
	taken, refusal, later := smtp.Reply{Code: 250}, smtp.Reply{Code: 550, Text: "no"}, smtp.Reply{Code: 452, Text: "full"}
	cut := errors.New("cut")
	for _, c := range []struct {
		name    string
		replies []smtp.Reply
		err     error
		told    bool
		notify  error
		failed  int
		left    string // "", "waits", "refused"
	}{
		{"both", []smtp.Reply{taken, taken}, nil, true, nil, 0, ""},
		{"one", []smtp.Reply{taken, refusal}, nil, true, nil, 1, ""},
		{"none", []smtp.Reply{refusal, refusal}, nil, true, nil, 2, ""},
		{"nobody to tell", []smtp.Reply{refusal, refusal}, nil, false, nil, 2, "refused"},
		{"no room for the notice", []smtp.Reply{refusal, refusal}, nil, true, later, 2, "waits"},
		{"later", []smtp.Reply{later, later}, nil, true, nil, 0, "waits"},
		{"one later", []smtp.Reply{taken, later}, nil, true, nil, 1, ""},
		{"cut", []smtp.Reply{{}, {}}, cut, true, nil, 0, "waits"},
		{"no server", nil, cut, true, nil, 0, "waits"},
		{"cut behind one", []smtp.Reply{taken, {}}, cut, true, nil, 1, ""},
		{"cut behind a refusal", []smtp.Reply{refusal, {}}, cut, true, nil, 0, "waits"},
		{"too many", []smtp.Reply{smtp.RecipientsFull, smtp.RecipientsFull}, nil, true, nil, 0, "waits"},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := folder(t, true)
			failed := 0
			collector := Collector{
				Dir: dir, Log: slog.New(slog.DiscardHandler),
				Submit: func(_ context.Context, user int, env *message.Envelope, content io.Reader, size int64) ([]smtp.Reply, error) {
					got, err := io.ReadAll(content)
					if err != nil || string(got) != text || size != int64(len(text)) || user != os.Getuid() || len(env.Recipients) != 2 {
						t.Errorf("%q of %d as %d, %v", got, size, user, err)
					}
					return c.replies, c.err
				},
				Notify: func(_ context.Context, env *message.Envelope, all []queue.Outcome, header []byte) (bool, error) {
					failed = len(all)
					if string(header) != "Subject: lamp\r\n\r\n" || env.EnvelopeID != "id 1" {
						t.Errorf("%q, %+v", header, env)
					}
					return c.told, c.notify
				},
			}
			collector.sweep(t.Context())
			left := ""
			for _, name := range names(t, dir) {
				left += map[bool]string{true: "refused", false: "waits"}[strings.HasPrefix(name, refused)]
			}
			if failed != c.failed || left != c.left {
				t.Errorf("%d told of, %q left", failed, left)
			}
		})
	}
}

// TestFurther: RFC 5321 §4.5.3.1.10: what one transaction does not take goes on in further ones, and a server that dies between them goes on there:
// nobody is forgotten, who was refused is told of, and who has the message does not get it again.
func TestFurther(t *testing.T) {
	dir := folder(t, false)
	env := letter.Clone()
	env.Recipients = nil
	for i := range 7 {
		env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: fmt.Sprint("r", i), Domain: "d.example"}})
	}
	if err := Put(dir, &env, strings.NewReader(text)); err != nil {
		t.Fatal(err)
	}
	died := errors.New("died")
	var seen, told []string
	died1 := false
	for range 4 {
		c := Collector{Dir: dir, Log: slog.New(slog.DiscardHandler)}
		c.Submit = func(_ context.Context, _ int, env *message.Envelope, content io.Reader, _ int64) ([]smtp.Reply, error) {
			if b, err := io.ReadAll(content); string(b) != text {
				t.Errorf("%q, %v", b, err)
			}
			replies := make([]smtp.Reply, len(env.Recipients))
			if env.Recipients[0].Address.Local == "r4" && !died1 {
				died1 = true
				return replies, died
			}
			for i, to := range env.Recipients {
				switch {
				case i >= 2:
					replies[i] = smtp.RecipientsFull
				case to.Address.Local == "r3":
					replies[i] = smtp.Reply{Code: 550, Text: "no"}
				default:
					replies[i] = smtp.Reply{Code: 250}
					seen = append(seen, to.Address.Local)
				}
			}
			return replies, nil
		}
		c.Notify = func(_ context.Context, _ *message.Envelope, failed []queue.Outcome, _ []byte) (bool, error) {
			for _, o := range failed {
				told = append(told, o.Recipient.Address.Local)
			}
			return true, nil
		}
		c.sweep(t.Context())
		if left := names(t, dir); len(seen) == 3 && (len(left) != 1 || !strings.HasSuffix(left[0], suffix+settled+"4")) {
			t.Errorf("after the end of the server: %q", left)
		}
	}
	if got := fmt.Sprint(seen, told, names(t, dir)); got != "[r0 r1 r2 r4 r5 r6] [r3] []" {
		t.Error(got)
	}
}

// TestRefusedAndNobodyToTell: a message whose sender cannot be told that a recipient was refused is kept, whenever the server dies or the next hop breaks
// off while its recipients take several transactions; nobody is forgotten, and who has it gets it again only where his reply was lost (RFC 1047).
func TestRefusedAndNobodyToTell(t *testing.T) {
	env := letter.Clone()
	env.ReversePath, env.Recipients = message.Address{}, nil
	for i := range 6 {
		env.Recipients = append(env.Recipients, message.Recipient{Address: message.Address{Local: fmt.Sprint("r", i), Domain: "d.example"}})
	}
	for _, broken := range []struct {
		how    string
		happen func() ([]smtp.Reply, error)
	}{
		{"died", func() ([]smtp.Reply, error) { runtime.Goexit(); return nil, nil }},
		{"cut", func() ([]smtp.Reply, error) { return nil, errors.New("cut") }},
	} {
		for _, bad := range []int{0, 3, 5} { // one of each transaction
			steps := 1
			for stop := 0; stop < steps; stop++ { // the first breaks nothing, and counts the steps
				t.Run(fmt.Sprint(broken.how, bad, stop), func(t *testing.T) {
					dir := folder(t, false)
					if err := Put(dir, &env, strings.NewReader(text)); err != nil {
						t.Fatal(err)
					}
					step, sent := 0, map[string]int{}
					here := func() bool { step++; return step == stop }
					c := Collector{Dir: dir, Log: slog.New(slog.DiscardHandler)}
					c.Submit = func(_ context.Context, _ int, env *message.Envelope, _ io.Reader, _ int64) ([]smtp.Reply, error) {
						if here() {
							return broken.happen()
						}
						replies := make([]smtp.Reply, len(env.Recipients))
						for i, to := range env.Recipients {
							switch {
							case i >= 2:
								replies[i] = smtp.RecipientsFull
							case to.Address.Local == fmt.Sprint("r", bad):
								replies[i] = smtp.Reply{Code: 550, Text: "no"}
							default:
								replies[i] = smtp.Reply{Code: 250}
								sent[to.Address.Local]++
							}
						}
						if here() { // the reply is lost
							return broken.happen()
						}
						return replies, nil
					}
					c.Notify = func(context.Context, *message.Envelope, []queue.Outcome, []byte) (bool, error) {
						if here() && broken.how == "died" {
							runtime.Goexit()
						}
						return false, nil
					}
					for range 2 {
						swept := make(chan struct{})
						go func() { defer close(swept); c.sweep(t.Context()) }()
						<-swept
					}
					if left := names(t, dir); len(left) != 1 || !strings.HasPrefix(left[0], refused) {
						t.Errorf("%q is left", left)
					}
					twice := 0
					for i := range env.Recipients {
						n := sent[fmt.Sprint("r", i)]
						if i != bad && n == 0 {
							t.Errorf("r%d is forgotten", i)
						}
						twice += max(n-1, 0)
					}
					if twice > 2 {
						t.Errorf("%v: more than one transaction was sent again", sent)
					}
					steps = max(steps, step+1)
				})
			}
		}
	}
}

// What Put takes the Collector can read.
func TestPutTooMany(t *testing.T) {
	dir := folder(t, false)
	env := letter.Clone()
	for range 50_000 {
		env.Recipients = append(env.Recipients, letter.Recipients...)
	}
	if err := Put(dir, &env, strings.NewReader(text)); !errors.Is(err, errTooMany) || len(names(t, dir)) != 0 {
		t.Error(err, names(t, dir))
	}
}

// FuzzTake: whatever a file is, it is a message or not, and never more than the file.
func FuzzTake(f *testing.F) {
	f.Add([]byte("{}\nx"))
	f.Add([]byte(`{"ReversePath":"a@b.example","Recipients":[{"Address":"c@d.example"}]}` + "\n" + text))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, content []byte) {
		file := filepath.Join(dir, fmt.Sprint(os.Getpid()))
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		i, err := take(file)
		if err != nil {
			return
		}
		defer i.Close()
		rest, err := io.ReadAll(i)
		if err != nil || i.start+i.size != int64(len(content)) || string(rest) != string(content[i.start:]) {
			t.Errorf("%q, %v", rest, err)
		}
	})
}
