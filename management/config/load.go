package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
)

// maxFile bounds a config file and maxSecret a file with a secret, in octets.
const (
	maxFile   = 1 << 20
	maxSecret = 64 << 10
)

// Load fills the struct that into points to: what the file says, and defaults for the rest. Either the whole struct is set or it is
// left alone and the error is an [Errors] with all that is wrong, or what kept the file from being read.
func Load(file string, into any) error {
	_, err := Check(file, into)
	return err
}

// Check is Load that also returns what is allowed but unwise, such as a secret that others can read.
func Check(file string, into any) (warnings Errors, err error) {
	data, mode, err := readFile(file, maxFile)
	if err != nil {
		return nil, err
	}
	warnings, err = load(file, data, into, secrets{file: readFile, env: os.LookupEnv, mode: mode})
	return warnings, err
}

// Peek is Load for those who need no secrets and may not be allowed to read them: those that are given by file or environment are
// "(hidden)", without a look at where they are.
func Peek(file string, into any) error {
	data, _, err := readFile(file, maxFile)
	if err != nil {
		return err
	}
	_, err = load(file, data, into, secrets{peek: true})
	return err
}

// secrets is where secrets come from, and how open the config file is itself.
type secrets struct {
	file func(name string, most int64) ([]byte, os.FileMode, error)
	env  func(name string) (string, bool)
	mode os.FileMode
	peek bool // do not look
}

func load(file string, data []byte, into any, s secrets) (Errors, error) {
	target := reflect.ValueOf(into)
	if target.Kind() != reflect.Pointer || target.IsNil() || target.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("config: cannot load into %T", into)
	}
	keys, err := schemaOf(target.Elem().Type())
	if err != nil {
		return nil, err
	}
	doc := parse(data)
	d := &decoder{root: keys, dir: filepath.Dir(file), secrets: s, errs: doc.errs, broken: doc.broken}
	fresh := reflect.New(target.Elem().Type()).Elem()
	d.section(fresh, doc.root, "")
	if len(d.errs) > 0 {
		return nil, d.errs.inFile(file)
	}
	target.Elem().Set(fresh)
	return d.warnings.inFile(file), nil
}

// readFile reads a file of at most most octets and tells who may read it.
func readFile(name string, most int64) ([]byte, os.FileMode, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, 0, err
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, 0, err
	}
	if int64(len(data)) > most {
		return nil, 0, fmt.Errorf("%s: larger than %d octets", name, most)
	}
	return data, info.Mode(), nil
}

// secret fills a secret from x, x_file or x_env.
func (d *decoder) secret(k *key, v reflect.Value, n *node, at string) {
	var given *node
	var by string
	for _, name := range k.names() {
		child := n.child(name)
		if child == nil {
			continue
		}
		if given != nil {
			d.fail(child.key, at, "given twice, as "+by+" and as "+name, "keep one")
			return
		}
		given, by = child, name
	}
	switch {
	case given == nil:
		_ = k.setDefault(v) // schemaOf has tried it
		d.absent(k, n, at)
	case given.kind != text:
		d.fail(given.at, at, "wants text in quotes, not "+k.shown(given), "")
	case by != k.name && d.secrets.peek:
		v.SetString(hidden)
	case by == k.name:
		d.inline(k, v, given, at)
	case by == k.name+fileSuffix:
		d.fromFile(k, v, given, at+fileSuffix)
	default:
		s, ok := d.secrets.env(given.value)
		if !ok || s == "" {
			d.fail(given.at, at+envSuffix, "the environment variable "+given.literal()+" is not set", "")
			return
		}
		v.SetString(s)
		d.bounds(k, v, given, at)
	}
}

// open is the part of a file's mode that lets others in. A group may read: that is how services are given secrets.
const open = 0o037

func (d *decoder) inline(k *key, v reflect.Value, given *node, at string) {
	v.SetString(given.value)
	d.bounds(k, v, given, at)
	if k.required && given.value == "" {
		d.fail(given.at, at, "required", "")
	}
	if d.secrets.mode&open != 0 {
		d.warn(given.at, at, fmt.Sprintf("a secret in a file with mode %#o", d.secrets.mode.Perm()), "chmod 640 it, or use "+k.name+fileSuffix)
	}
}

func (d *decoder) fromFile(k *key, v reflect.Value, given *node, at string) {
	name := given.value
	if !filepath.IsAbs(name) {
		name = filepath.Join(d.dir, name)
	}
	data, mode, err := d.secrets.file(name, maxSecret)
	if err != nil {
		d.fail(given.at, at, err.Error(), "")
		return
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		d.fail(given.at, at, name+" is empty", "")
		return
	}
	v.SetString(string(data))
	d.bounds(k, v, given, at)
	if mode&open != 0 {
		d.warn(given.at, at, fmt.Sprintf("%s has mode %#o", name, mode.Perm()), "chmod 640 it")
	}
}

func (d *decoder) warn(at position, key, what, hint string) {
	d.warnings = append(d.warnings, &Error{Line: at.line, Column: at.column, Key: key, Text: what, Hint: hint})
}

// Verify reports what is wrong with the tags of v's type, which is a fault of the program: a test of whoever composes a config
// calls it once.
func Verify(v any) error {
	t := direct(reflect.TypeOf(v))
	if t.Kind() != reflect.Struct {
		return errors.New("config: not a struct")
	}
	_, err := schemaOf(t)
	return err
}
