package admin

import (
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal as both ends see it: {"error": "...", "hint": "..."} with a status of RFC 9110 §15.
type Error struct {
	Status int    `json:"status,omitempty"` // 0 counts as 500
	Text   string `json:"error"`            // what is wrong
	Hint   string `json:"hint,omitempty"`   // what would mend it; may be empty
}

func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Text
	}
	return e.Text + "; " + e.Hint
}

// Identity is who answers at the socket.
type Identity struct {
	Program string    `json:"program"`
	Version string    `json:"version"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

// IdentityPath is the route of Identity, which every Server has.
const IdentityPath = "/v1/identity"

// The bounds of one call.
const (
	maxBody   = 1 << 20          // octets of a request, and of one line of a stream
	maxReply  = 64 << 20         // octets of a reply: the list of a long queue
	readTime  = 10 * time.Second // for a request to arrive
	callTime  = time.Minute      // for a route that answers once
	sendTime  = 10 * time.Second // for the caller to take one piece of the answer
	idleTime  = time.Minute      // between two requests of a connection
	stopTime  = 5 * time.Second  // for calls under way when the server stops
	maxHeader = 16 << 10         // octets of a request's header section
	maxConns  = 64               // open connections
)

// line is one line of a stream: an event, or how the stream ended where it did not end well.
type line struct {
	Event json.RawMessage `json:"event,omitempty"`
	*Error
}

// failure is err as an Error. Whatever is not one is ours to mend: 500.
func failure(err error) *Error {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return &Error{Status: http.StatusInternalServerError, Text: err.Error()}
	}
	if e.Status == 0 {
		return &Error{Status: http.StatusInternalServerError, Text: e.Text, Hint: e.Hint}
	}
	return e
}

// decodeBody reads a JSON body into a route's request; none at all leaves it zero. Unknown members are refused, so that a newer
// client learns that an older server will not do what it asks.
func decodeBody(r *http.Request, into any) error {
	dec := json.NewDecoder(r.Body)
	dec.DisallowUnknownFields()
	err := dec.Decode(into)
	switch {
	case err == nil && !dec.More():
		return nil
	case errors.Is(err, io.EOF):
		return nil
	case err == nil:
		err = errors.New("more than one value")
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return &Error{Status: http.StatusRequestEntityTooLarge, Text: fmt.Sprintf("the request is larger than %d octets", maxBody)}
	}
	return &Error{Status: http.StatusBadRequest, Text: "malformed request: " + err.Error()}
}

// decodeQuery sets the fields of the struct that into points to from a URL's query and the wildcards of its path, by the names in
// their json tags, in any case. Fields may be strings, integers, bools, what reads itself from text, and lists of these.
func decodeQuery(query url.Values, into any) error {
	v := reflect.ValueOf(into).Elem()
	if v.Kind() != reflect.Struct {
		if len(query) > 0 {
			return &Error{Status: http.StatusBadRequest, Text: "nothing may be asked here"}
		}
		return nil
	}
	for name, values := range query {
		field := fieldNamed(v, name)
		if !field.IsValid() {
			return &Error{Status: http.StatusBadRequest, Text: "unknown parameter " + strconv.Quote(name)}
		}
		if err := setQuery(field, values); err != nil {
			return &Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("parameter %q: %v", name, err)}
		}
	}
	return nil
}

func setQuery(field reflect.Value, values []string) error {
	if field.Kind() == reflect.Slice {
		list := reflect.MakeSlice(field.Type(), len(values), len(values))
		for i, s := range values {
			if err := setOne(list.Index(i), s); err != nil {
				return err
			}
		}
		field.Set(list)
		return nil
	}
	if len(values) != 1 {
		return errors.New("given twice")
	}
	return setOne(field, values[0])
}

func setOne(field reflect.Value, value string) error {
	if u, ok := field.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return u.UnmarshalText([]byte(value))
	}
	switch {
	case field.Kind() == reflect.String:
		field.SetString(value)
	case field.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(value)
		if err != nil {
			return errors.New("neither true nor false")
		}
		field.SetBool(b)
	case field.CanInt():
		n, err := strconv.ParseInt(value, 10, field.Type().Bits())
		if err != nil {
			return errors.New("not a whole number")
		}
		field.SetInt(n)
	default:
		return errors.New("only in a body")
	}
	return nil
}

// encodeQuery is the other direction: the fields that are not zero.
func encodeQuery(v any) (url.Values, error) {
	query := url.Values{}
	rv := reflect.ValueOf(v)
	for rv.Kind() == reflect.Pointer && !rv.IsNil() {
		rv = rv.Elem()
	}
	if !rv.IsValid() || rv.Kind() == reflect.Pointer {
		return query, nil
	}
	if rv.Kind() != reflect.Struct {
		return nil, fmt.Errorf("admin: %T cannot be a query", v)
	}
	for i := range rv.NumField() {
		name, field := jsonName(rv.Type().Field(i)), rv.Field(i)
		switch {
		case name == "" || field.IsZero():
		case field.Kind() == reflect.Slice:
			for j := range field.Len() {
				query.Add(name, queryText(field.Index(j)))
			}
		default:
			query.Set(name, queryText(field))
		}
	}
	return query, nil
}

func queryText(v reflect.Value) string {
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		if b, err := m.MarshalText(); err == nil {
			return string(b)
		}
	}
	return fmt.Sprint(v.Interface())
}

func fieldNamed(v reflect.Value, name string) reflect.Value {
	for i := range v.NumField() {
		if n := jsonName(v.Type().Field(i)); n != "" && strings.EqualFold(n, name) { // as encoding/json does
			return v.Field(i)
		}
	}
	return reflect.Value{}
}

// jsonName is the name a field has in JSON; empty for none.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch {
	case !f.IsExported() || name == "-":
		return ""
	case name == "":
		return f.Name
	}
	return name
}

// wildcards are the names in braces of a pattern such as "/v1/queue/{id}".
func wildcards(pattern string) []string {
	var names []string
	for _, piece := range strings.Split(pattern, "{")[1:] {
		name, _, _ := strings.Cut(piece, "}")
		if name = strings.TrimSuffix(name, "..."); name != "" && name != "$" {
			names = append(names, name)
		}
	}
	return names
}
