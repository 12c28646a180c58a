package checkpoint

import (
	"cmp"
	"time"
)

// Config bounds what is kept for clients whose connection broke.
type Config struct {
	Offer    bool          `doc:"Keep what came of a message whose connection broke, on the submission port and where mail is fetched, so that the client need not send it again (RFC 1845)." default:"true"`
	Border   bool          `doc:"Offer that to other servers too, on the smtp port. There a client is its address and the name it gives." default:"false"`
	Keep     time.Duration `doc:"How long the part of a message is kept for its client to come back (RFC 1845 §3 recommends 48 hours at least)." default:"48h" min:"1m"`
	Least    int64         `unit:"bytes" doc:"The longest text of which no part is kept: it comes faster again than it is asked for. Where the line is very slow, less." default:"32KiB" min:"1KiB"`
	Messages int           `doc:"Most messages kept in part." default:"1000" min:"1"`
	Space    int64         `unit:"bytes" doc:"Most octets of them on the disk of the spool. What finds no room is received as if nobody had asked to keep it." default:"2GB" min:"0"`
	Each     int           `doc:"Most messages kept in part for one account, or for one client at the border; its oldest makes way for the next." default:"20" min:"1"`
	EachSize int64         `unit:"bytes" doc:"Most octets of them." default:"500MB" min:"0"`
}

// or fills in defaults.
func (c Config) or() Config {
	c.Keep = cmp.Or(c.Keep, 48*time.Hour)
	c.Least = cmp.Or(c.Least, 32<<10)
	c.Messages = cmp.Or(c.Messages, 1000)
	c.Space = cmp.Or(c.Space, 2_000_000_000)
	c.Each = cmp.Or(c.Each, 20)
	c.EachSize = cmp.Or(c.EachSize, 500_000_000)
	return c
}
