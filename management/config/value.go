package config

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// form is how a scalar is written: its name, an example, and the kinds of TOML values it may be.
type form struct {
	name    string
	example string
	kinds   []kind
}

// form tells how values of the key, or the elements of its list, are written.
func (k *key) form() form {
	t := direct(k.typ)
	f := formOf(t)
	switch {
	case k.bytes:
		f = form{"a size", `"50MB", "64KiB" or 65536`, []kind{text, integer}}
	case len(k.oneof) > 0:
		quoted := make([]string, len(k.oneof))
		for i, o := range k.oneof {
			quoted[i] = o
			if f.kinds[0] == text {
				quoted[i] = quote(o)
			}
		}
		f = form{"one of", strings.Join(quoted, ", "), f.kinds}
	}
	if k.example != "" {
		f.example = k.example
		if f.kinds[0] == text {
			f.example = quote(k.example)
		}
	}
	return f
}

func formOf(t reflect.Type) form {
	switch t {
	case durationType:
		return form{"a duration", `"5m" or "10d"`, []kind{text}}
	case reflect.TypeFor[netip.Addr]():
		return form{"an IP address", `"192.0.2.1" or "2001:db8::1"`, []kind{text}}
	case reflect.TypeFor[netip.AddrPort]():
		return form{"an address and port", `"192.0.2.1:25" or "[::]:25"`, []kind{text}}
	case reflect.TypeFor[netip.Prefix]():
		return form{"a network", `"192.0.2.0/24" or "2001:db8::/32"`, []kind{text}}
	}
	if reflect.PointerTo(t).Implements(textUnmarshaler) {
		return form{"text", "", []kind{text}}
	}
	switch t.Kind() {
	case reflect.Bool:
		return form{"true or false", "", []kind{boolean}}
	case reflect.Float32, reflect.Float64:
		return form{"a number", "0.5", []kind{float, integer}}
	case reflect.String:
		return form{"text in quotes", "", []kind{text}}
	}
	return form{"a whole number", "10", []kind{integer}}
}

func (f form) String() string {
	switch {
	case f.example == "":
		return f.name
	case f.name == "one of":
		return f.name + " " + f.example
	}
	return f.name + " such as " + f.example
}

// setText sets the scalar v from what a person writes: a tag, or a value of the file without its quotes. The error says what is wrong
// and does not repeat s.
func (k *key) setText(v reflect.Value, s string) error {
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	if d, ok := v.Addr().Interface().(*time.Duration); ok {
		var err error
		*d, err = parseDuration(s)
		return err
	}
	if u, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		if err := u.UnmarshalText([]byte(s)); err != nil {
			if formOf(v.Type()).example != "" {
				return errForm // netip says it in the words of its parser
			}
			return err
		}
		return nil
	}
	return k.setPlain(v, s)
}

// errForm says that a value is not written as its form asks.
var errForm = errors.New("not written like that")

func (k *key) setPlain(v reflect.Value, s string) error {
	digits := strings.ReplaceAll(s, "_", "")
	switch {
	case v.Kind() == reflect.String:
		v.SetString(s)
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errForm
		}
		v.SetBool(b)
	case v.CanFloat():
		f, err := strconv.ParseFloat(digits, v.Type().Bits())
		if err != nil || math.IsNaN(f) {
			return errForm
		}
		v.SetFloat(f)
	case v.CanUint():
		u, err := strconv.ParseUint(digits, 0, v.Type().Bits())
		if err != nil {
			return integerError(err)
		}
		v.SetUint(u)
	default:
		n, err := strconv.ParseInt(digits, 0, v.Type().Bits())
		if k.bytes && err != nil {
			n, err = parseSize(s)
			if err == nil && v.OverflowInt(n) {
				err = strconv.ErrRange
			}
		}
		if err != nil {
			return integerError(err)
		}
		v.SetInt(n)
	}
	return nil
}

func integerError(err error) error {
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("too large")
	}
	return errForm
}

// setDefault sets v, of any shape, to the default of its tag; without one v stays zero.
func (k *key) setDefault(v reflect.Value) error {
	if !k.hasDef {
		return nil
	}
	switch shapeOf(v.Type()) {
	case series:
		var items []string
		if k.def != "" {
			items = strings.Split(k.def, ",")
		}
		s := reflect.MakeSlice(v.Type(), len(items), len(items))
		for i, item := range items {
			if err := k.setText(s.Index(i), strings.TrimSpace(item)); err != nil {
				return err
			}
		}
		v.Set(s)
		return nil
	case lookup, section:
		return errors.New("tables have none")
	}
	return k.setText(v, k.def)
}

// bounds checks v against the key's tags. With tags set it checks only that the tags can be read.
func (k *key) bounds(v reflect.Value, tags bool) error {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return nil
		}
		v = v.Elem()
	}
	for _, b := range []struct {
		tag   string
		sign  int
		words string
	}{{k.min, -1, "below the least allowed, "}, {k.max, 1, "above the most allowed, "}} {
		if b.tag == "" {
			continue
		}
		c, err := k.compare(v, b.tag)
		if err != nil {
			return fmt.Errorf("bound %q: %w", b.tag, err)
		}
		if c == b.sign && !tags {
			return errors.New(b.words + b.tag)
		}
	}
	if tags {
		return nil
	}
	if k.min == "" && (k.bytes || v.Type() == durationType) && v.CanInt() && v.Int() < 0 {
		return errors.New("below the least allowed, 0")
	}
	if len(k.oneof) > 0 && shapeOf(v.Type()) == scalar && !k.allowed(v) {
		return errors.New("not allowed")
	}
	return nil
}

func (k *key) allowed(v reflect.Value) bool {
	for _, o := range k.oneof {
		w := reflect.New(v.Type()).Elem()
		if k.setText(w, o) == nil && k.text(w) == k.text(v) {
			return true
		}
	}
	return false
}

// compare returns -1, 0 or 1 as v, or its length, is below, at or above what the tag says.
func (k *key) compare(v reflect.Value, tag string) (int, error) {
	n := -1
	switch {
	case v.Kind() == reflect.Slice || v.Kind() == reflect.Map:
		n = v.Len()
	case v.Kind() == reflect.String:
		n = utf8.RuneCountInString(v.String())
	}
	if n >= 0 {
		limit, err := strconv.Atoi(tag)
		return sign(n < limit, n > limit), err
	}
	w := reflect.New(v.Type()).Elem()
	if err := k.setText(w, tag); err != nil {
		return 0, err
	}
	switch {
	case v.CanInt():
		return sign(v.Int() < w.Int(), v.Int() > w.Int()), nil
	case v.CanUint():
		return sign(v.Uint() < w.Uint(), v.Uint() > w.Uint()), nil
	case v.CanFloat():
		return sign(v.Float() < w.Float(), v.Float() > w.Float()), nil
	}
	return 0, fmt.Errorf("%s has no order", v.Type())
}

func sign(below, above bool) int {
	switch {
	case below:
		return -1
	case above:
		return 1
	}
	return 0
}

// text returns v, of any shape but a table, as TOML.
func (k *key) text(v reflect.Value) string {
	if v.Kind() == reflect.Pointer {
		if v.IsNil() {
			return `""`
		}
		v = v.Elem()
	}
	switch shapeOf(v.Type()) {
	case series:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = k.text(v.Index(i))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case lookup:
		var items []string
		for _, name := range sortedKeys(v) {
			items = append(items, join("", name)+" = "+k.text(v.MapIndex(reflect.ValueOf(name).Convert(v.Type().Key()))))
		}
		return "{" + strings.Join(items, ", ") + "}"
	}
	if d, ok := v.Interface().(time.Duration); ok {
		return quote(formatDuration(d))
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		b, err := m.MarshalText()
		if err != nil {
			return `""`
		}
		return quote(string(b))
	}
	switch {
	case v.Kind() == reflect.String:
		return quote(v.String())
	case v.CanFloat():
		s := strconv.FormatFloat(v.Float(), 'g', -1, v.Type().Bits())
		if !strings.ContainsAny(s, ".enI") {
			s += ".0"
		}
		return strings.ToLower(strings.TrimPrefix(s, "+"))
	case k.bytes:
		return formatSize(v.Int())
	case reflect.PointerTo(v.Type()).Implements(textUnmarshaler):
		return quote(fmt.Sprint(v.Interface()))
	}
	return fmt.Sprint(v.Interface())
}

// Duration is a time span, such as "10d" or "1d12h".
type Duration time.Duration

// UnmarshalText reads what the configuration reads.
func (d *Duration) UnmarshalText(text []byte) error {
	span, err := parseDuration(string(text))
	*d = Duration(span)
	return err
}

// parseDuration reads what time.ParseDuration reads, and whole days before it: "10d", "1d12h".
func parseDuration(s string) (time.Duration, error) {
	const day = 24 * time.Hour
	days, rest, found := strings.Cut(s, "d")
	if !found {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, errForm
		}
		return d, nil
	}
	n, err := strconv.ParseUint(days, 10, 31)
	if err != nil {
		return 0, errForm
	}
	if n > uint64(math.MaxInt64/day) {
		return 0, errors.New("too large")
	}
	d := time.Duration(n) * day
	if rest != "" {
		more, err := time.ParseDuration(rest)
		if err != nil || more < 0 {
			return 0, errForm
		}
		if d += more; d < 0 {
			return 0, errors.New("too large")
		}
	}
	return d, nil
}

// formatDuration is the shortest of what parseDuration reads: "10d", "5m", "1h30m".
func formatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d >= day && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// sizes are the units of octets: IEC and SI, the larger ones first, and of two alike the one people write.
var sizes = []struct {
	unit   string
	octets int64
}{
	{"TiB", 1 << 40},
	{"TB", 1e12},
	{"GiB", 1 << 30},
	{"GB", 1e9},
	{"MiB", 1 << 20},
	{"MB", 1e6},
	{"KiB", 1 << 10},
	{"KB", 1e3},
	{"B", 1},
}

// Size is a number of octets as people write it, for flags: "50MB", "64KiB" or "100".
type Size int64

// UnmarshalText reads whole numbers with an optional unit.
func (s *Size) UnmarshalText(text []byte) error {
	n, err := parseSize(string(text))
	*s = Size(n)
	return err
}

// parseSize reads "50MB", "64KiB", "64 KiB" or "100": whole numbers only.
func parseSize(s string) (int64, error) {
	for _, u := range sizes {
		i := len(s) - len(u.unit)
		if i < 0 || !strings.EqualFold(s[i:], u.unit) {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimRight(s[:i], " "), 10, 63)
		if err != nil {
			return 0, err
		}
		hi, lo := bits.Mul64(n, uint64(u.octets))
		if hi != 0 || lo > math.MaxInt64 {
			return 0, strconv.ErrRange
		}
		return int64(lo), nil
	}
	return strconv.ParseInt(s, 10, 64)
}

// formatSize is the TOML of a size with the unit that leaves the smallest whole number.
func formatSize(n int64) string {
	if n > 0 {
		for _, u := range sizes[:len(sizes)-1] {
			if n%u.octets == 0 {
				return quote(strconv.FormatInt(n/u.octets, 10) + u.unit)
			}
		}
	}
	return strconv.FormatInt(n, 10)
}
