package odmr

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"bothy/application/message"
	"bothy/application/smtp"
	"bothy/lib/sim"
)

// oddities are what a provider may do in place of its reply; more says that the call goes on.
var oddities = map[string]func(conn *sim.End, reply string) (more bool){
	"says nothing": func(conn *sim.End, _ string) bool { io.Copy(io.Discard, conn); return false },
	"an octet a minute": func(conn *sim.End, reply string) bool {
		for i := range len(reply) {
			time.Sleep(time.Minute)
			if _, err := io.WriteString(conn, reply[i:i+1]); err != nil {
				return false
			}
		}
		return true
	},
	"closes":                func(*sim.End, string) bool { return false },
	"vanishes":              func(conn *sim.End, _ string) bool { conn.Vanish(); return false },
	"closes within a line":  func(conn *sim.End, reply string) bool { io.WriteString(conn, reply[:2]); return false },
	"closes within a reply": func(conn *sim.End, reply string) bool { io.WriteString(conn, reply[:3]+"-more\r\n"); return false },
	"421":                   func(conn *sim.End, _ string) bool { io.WriteString(conn, "421 4.3.2 going down\r\n"); return false },
	"no SMTP":               func(conn *sim.End, _ string) bool { io.WriteString(conn, "SSH-2.0-OpenSSH_9.2\r\n"); return true },
	"10 MB in lines": func(conn *sim.End, reply string) bool {
		for range 10 << 20 / 500 {
			if _, err := io.WriteString(conn, reply[:3]+"-"+strings.Repeat("x", 494)+"\r\n"); err != nil {
				return false
			}
		}
		return true
	},
	"10 MB in a line": func(conn *sim.End, reply string) bool {
		for range 10 << 20 / 4096 {
			if _, err := io.WriteString(conn, strings.Repeat(reply[:1], 4096)); err != nil {
				return false
			}
		}
		return true
	},
	"answers before it is asked": func(conn *sim.End, reply string) bool {
		io.WriteString(conn, reply+"250 2.0.0 ok\r\n250 2.0.0 ok\r\n250 2.0.0 ok\r\n")
		io.Copy(io.Discard, conn)
		return false
	},
}

// TestOddProviders calls providers that are odd in one step: the call ends within the timers, and for what it is: a fault of the way or of
// the provider, never of the account, and never a session of which nothing came.
func TestOddProviders(t *testing.T) {
	replies := []string{"220 provider.example\r\n", "250-provider.example\r\n250-AUTH CRAM-MD5\r\n250 ATRN\r\n", "334 PDE4OTYuNjk3MTcwOTUyQElTUC5DT00+\r\n", "235 ok\r\n", "250 turning\r\n"}
	for name, do := range oddities {
		for odd := range replies {
			t.Run(fmt.Sprintf("%s at %s", name, replies[odd][:3]), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					in := new(intake)
					var provider sync.WaitGroup
					c := &Customer{
						Hostname: "clinic.example", Accept: in, Recipients: mailboxes{"keeper@clinic.example": true},
						Dial: func(context.Context, string, string) (net.Conn, error) {
							near, far := sim.Pipe(sim.Path{Delay: time.Millisecond})
							provider.Go(func() {
								defer far.Close()
								heard := bufio.NewReader(far)
								for step, reply := range replies {
									if step > 0 {
										if _, err := heard.ReadString('\n'); err != nil {
											return
										}
									}
									if step == odd {
										if !do(far, reply) {
											return
										}
									} else if _, err := io.WriteString(far, reply); err != nil {
										return
									}
								}
								io.Copy(io.Discard, far)
							})
							return near, nil
						},
						Config: CustomerConfig{Provider: "provider.example:366", TLS: "none", Username: "clinic", Password: "tanstaaf", Domains: []string{"clinic.example"}},
					}
					began := time.Now()
					_, err := c.Call(context.WithoutCancel(t.Context()), nil)
					took := time.Since(began)
					provider.Wait()
					if err == nil {
						t.Error("the call ended well")
					}
					for _, wrong := range []error{ErrDenied, ErrRefused, ErrNoMail, ErrInsecure} {
						if errors.Is(err, wrong) {
							t.Errorf("the call ended with %v", err)
						}
					}
					if took > time.Hour {
						t.Errorf("the call took %v", took)
					}
					if len(in.messages) > 0 {
						t.Errorf("mail from nowhere: %q", in.messages)
					}
				})
			})
		}
	}
}

// TestWordyProviders calls providers whose replies are of two lines or as long as may be, and longer, at every step up to ATRN: the mail comes
// all the same (RFC 5321 §4.2.1, §4.5.3.1.5).
func TestWordyProviders(t *testing.T) {
	padded := func(octets int) func(string) string {
		return func(line string) string { return line + strings.Repeat("x", octets-len(line)-len("\r\n")) + "\r\n" }
	}
	for name, say := range map[string]func(line string) string{
		"two lines":    func(line string) string { return line[:3] + "-" + line[4:] + "\r\n" + line + "\r\n" },
		"512 octets":   padded(512),
		"5,000 octets": padded(5000),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				in := new(intake)
				var provider sync.WaitGroup
				c := &Customer{
					Hostname: "clinic.example", Accept: in, Recipients: mailboxes{"keeper@clinic.example": true},
					Dial: func(context.Context, string, string) (net.Conn, error) {
						near, far := sim.Pipe(sim.Path{})
						provider.Go(func() {
							defer far.Close()
							heard := bufio.NewReader(far)
							for _, reply := range []string{
								say("220 provider.example "), "250-provider.example\r\n250-AUTH CRAM-MD5\r\n250-ATRN\r\n" + say("250 X-"),
								"334 PDE4OTYuNjk3MTcwOTUyQElTUC5DT00+\r\n", say("235 ok "), say("250 turning "),
							} {
								if _, err := io.WriteString(far, reply); err != nil {
									t.Error(err)
								}
								if strings.Contains(reply, "turning") {
									break
								}
								if _, err := heard.ReadString('\n'); err != nil {
									t.Error(err)
								}
							}
							client := smtp.NewClient(smtp.NewConn(far), "provider.example", smtp.Timeouts{})
							if err := client.Greet(context.Background()); err != nil {
								t.Error(err)
							}
							env := &message.Envelope{ReversePath: address(t, "a@sender.example"), Recipients: []message.Recipient{{Address: address(t, "keeper@clinic.example")}}}
							if _, err := client.Send(context.Background(), env, strings.NewReader("Subject: x\r\n\r\n"), 14); err != nil {
								t.Error(err)
							}
							if err := client.Quit(context.Background()); err != nil {
								t.Error(err)
							}
						})
						return near, nil
					},
					Config: CustomerConfig{Provider: "provider.example:366", TLS: "none", Username: "clinic", Password: "tanstaaf", Domains: []string{"clinic.example"}},
				}
				if report, err := c.Call(context.WithoutCancel(t.Context()), nil); err != nil || report.Messages != 1 || len(in.messages) != 1 {
					t.Errorf("%+v, %v", report, err)
				}
				provider.Wait()
			})
		})
	}
}
