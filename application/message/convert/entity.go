package convert

import (
	"bytes"
	"errors"
	"mime"
	"strings"

	"bothy/application/message"
)

// entity is a message or a body part (RFC 2045 §2.4), of which its header section has been read.
type entity struct {
	number  int     // in order of appearance, from 0
	parent  *entity // the multipart or message it stands in; nil for the message itself
	message bool    // it is a whole message: RFC 2045 §4 wants MIME-Version
	digest  bool    // without Content-Type it is a message (RFC 2046 §5.1.5)

	kind        kind
	reason      string // why it is opaque
	textual     bool   // its lines are lines of text
	boundary    []byte // of a multipart
	digestParts bool   // of a multipart/digest
	closed      bool   // a multipart whose last delimiter was seen

	label     message.BodyType // what its Content-Transfer-Encoding claims; 7bit also if there is none
	labelSize int              // octets of that field as it came; 0: none
	hasType   bool             // it has a Content-Type
	versioned bool             // it has a MIME-Version, or needs none

	need message.BodyType // of its content, once that has been examined
}

// kind is how an entity's content may be rewritten.
type kind uint8

const (
	leaf   kind = iota // it may be encoded
	opaque             // it must stay as it is
	parted             // it has parts (RFC 2046 §5.1)
	nested             // it is a message (RFC 2046 §5.2.1)
)

// What two readers might read in two ways.
var (
	errHeader    = errors.New("a header section has a line that is no field")
	errDuplicate = errors.New("a header section has two fields of which it may have one")
)

// read takes from a header section what says how the content is built.
func (e *entity) read(raw []byte) error {
	h, rest, err := message.ReadHeader(bytes.NewReader(raw), len(raw)+len(crlf))
	if err != nil {
		return err
	}
	var more [1]byte
	if n, _ := rest.Read(more[:]); n > 0 || h.Size() != len(raw) {
		return errHeader
	}
	types, encodings := h.All("Content-Type"), h.All(encodingName)
	if len(types) > 1 || len(encodings) > 1 {
		return errDuplicate
	}
	e.versioned = !e.message || h.Has("MIME-Version")
	e.hasType = len(types) > 0
	contentType := "text/plain" // RFC 2045 §5.2
	if e.digest {
		contentType = "message/rfc822" // RFC 2046 §5.1.5
	}
	if e.hasType {
		contentType = uncomment(types[0])
	}
	e.classify(contentType)
	if len(encodings) == 0 {
		return nil
	}
	for f := range h.Fields() {
		if isEncodingField(f) {
			e.labelSize = len(f.Raw())
		}
	}
	switch strings.ToLower(strings.TrimSpace(uncomment(encodings[0]))) {
	case "7bit", "": // RFC 2045 §6.1
	case "8bit":
		e.label = message.Body8Bit
	case "binary":
		e.label = message.BodyBinary
	default: // RFC 3030 §3: encodings must not be nested; RFC 2045 §6.4: around parts there is none
		e.kind, e.reason = opaque, "a part that is encoded already holds what its encoding should not"
	}
	return nil
}

// classify finds the kind of an entity by its media type.
func (e *entity) classify(contentType string) {
	media, params, err := mime.ParseMediaType(contentType)
	top, sub, _ := strings.Cut(media, "/")
	if err != nil { // what is malformed is text (RFC 2045 §5.2), but not everybody thinks so
		top, _, _ = strings.Cut(strings.ToLower(strings.TrimSpace(contentType)), "/")
		sub = ""
	}
	e.textual = top == "text"
	switch {
	case top == "multipart" && (sub == "signed" || sub == "encrypted"): // RFC 1847 §2.1, §2.2
		e.kind, e.reason = opaque, "a part is "+sub
	case top == "multipart" && isBoundary(params["boundary"]):
		e.kind, e.boundary, e.digestParts = parted, []byte(params["boundary"]), sub == "digest"
	case top == "multipart":
		e.kind, e.reason = opaque, "a multipart has no boundary that can be understood"
	case top == "message" && (sub == "rfc822" || sub == "news"):
		e.kind = nested
	case top == "message" && strings.HasPrefix(sub, "global"): // RFC 6532 §3.7, RFC 6533 §4.4
		e.kind, e.textual = leaf, true
	case top == "message": // RFC 2046 §5.2.2 to §5.2.4: 7bit, and nothing else
		e.kind, e.reason = opaque, "a part of type message/"+sub+" is not 7bit"
	}
}

// isBoundary reports whether s can be recognized as a boundary: RFC 2046 §5.1.1, but for its alphabet.
func isBoundary(s string) bool {
	return s != "" && len(s) <= 70 && !strings.HasSuffix(s, " ") && !strings.ContainsAny(s, "\r\n\x00")
}

// uncomment takes the comments out of a structured field's value (RFC 2045 §5.1: they are allowed).
func uncomment(value string) string {
	if !strings.Contains(value, "(") {
		return value
	}
	var b strings.Builder
	depth, quoted := 0, false
	for i := 0; i < len(value); i++ {
		c := value[i]
		from := i
		switch {
		case c == '\\' && (quoted || depth > 0) && i+1 < len(value):
			i++
		case c == '"' && depth == 0:
			quoted = !quoted
		case c == '(' && !quoted:
			depth++
			continue
		case c == ')' && depth > 0:
			depth--
			continue
		}
		if depth == 0 {
			b.WriteString(value[from : i+1])
		}
	}
	return b.String()
}

const encodingName = "Content-Transfer-Encoding"

func isEncodingField(f message.Field) bool { return strings.EqualFold(f.Name(), encodingName) }
