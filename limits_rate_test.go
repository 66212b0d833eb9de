package websocket_test

import (
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
)

// L-11, X-05: as many control frames as ControlRate says may come at once, one
// more is a violation; then one more each time that its part of a second has
// passed. Whoever reads.
func TestL11ControlRate(t *testing.T) {
	const rate = 10
	part := time.Second / rate
	for _, how := range waiting {
		for name, frame := range map[string]struct{ bytes, answer string }{
			"ping": {"89 81 z 61", "8a 01 61"}, "pong": {"8a 81 z 61", ""},
		} {
			for _, gap := range []time.Duration{part - 1, part} {
				inLab(t, websocket.Config{ControlRate: rate}, func(t *testing.T, l *lab) {
					p, c := l.open(fmt.Sprintf("ten %ss at once, and one %v later, %s", name, gap, how.name))
					end := async(func() error { return how.wait(c) })
					if how.name == "Ping" {
						wantPing(t, p)
					}
					start := time.Now()
					p.Write(strings.Repeat(frame.bytes+" ", rate))
					p.Want(strings.Repeat(frame.answer+" ", rate))
					for i := range 3 {
						at(start, time.Duration(i+1)*part-part+gap)
						p.Write(frame.bytes)
						if gap < part {
							if reason := p.WantFail(1008); reason != "too many control frames" {
								t.Errorf("the reason is %q", reason)
							}
							wantElapsed(t, start, gap)
							p.Close()
							wantClosed(t, done(t, "the call that reads", end), 1008, false)
							return
						}
						p.Want(frame.answer)
					}
					// After a second of quiet as many as at first, and
					// not more after an hour.
					for _, quiet := range []time.Duration{2 * time.Second, time.Hour} {
						at(start, quiet)
						p.WritePieces(notation(strings.Repeat(frame.bytes+" ", rate)))
						p.Want(strings.Repeat(frame.answer+" ", rate))
					}
					wantPending(t, "the call that reads", end)
					p.Write(frame.bytes)
					p.WantFail(1008)
				})
			}
		}
	}
}

// What came before the frame that is too much is handled, and a Close is never
// too much.
func TestL11NothingBeforeIsLost(t *testing.T) {
	for _, how := range readings {
		for _, last := range []string{"89 81 z 62", "88 82 z 03e9"} {
			inLab(t, websocket.Config{ControlRate: 3}, func(t *testing.T, l *lab) {
				p, c := l.open("messages before, " + how.name)
				heard := make(chan string, 10)
				end := async(func() error {
					return how.all(c, func(_ websocket.MessageType, p []byte) error {
						heard <- string(p)
						return nil
					})
				})
				p.WritePieces(notation("81 81 z 61 89 81 z 61 01 81 z 62 89 80 z 80 81 z 63 8a 80 z 82 81 z 64 " + last + " 81 81 z 65"))
				p.Want("8a 01 61 8a 00")
				if last[1] == '9' {
					p.WantFail(1008)
				} else {
					p.WantClean("03e9")
				}
				p.Close()
				done(t, "the loop", end)
				for _, want := range []string{"a", "bc", "d"} {
					if got := done(t, want, heard); got != want {
						t.Errorf("heard %q, want %q", got, want)
					}
				}
				if len(heard) > 0 {
					t.Errorf("heard %q", <-heard)
				}
			})
		}
	}
}

// MessageRate counts messages, however they are read and in however many
// frames they come; the one that is too much is not delivered.
func TestL11MessageRate(t *testing.T) {
	const rate = 4
	part := time.Second / rate
	ways := append(readings[:len(readings):len(readings)], reading{"a Reader that skips", func(c *websocket.Conn, each func(websocket.MessageType, []byte) error) error {
		for {
			typ, r, err := c.Reader(context.Background())
			if err != nil {
				return err
			}
			first := make([]byte, 1)
			if _, err := io.ReadFull(r, first); err != nil {
				return err
			}
			each(typ, first)
		}
	}})
	for _, how := range ways {
		for name, bytes := range map[string]string{
			"in one frame": "82 81 z 61",
			"in fragments": "01 80 z 89 80 z 00 81 z 61 00 80 z 8a 80 z 00 80 z 80 80 z",
		} {
			for _, gap := range []time.Duration{part - 1, part} {
				inLab(t, websocket.Config{MessageRate: rate}, func(t *testing.T, l *lab) {
					p, c := l.open(fmt.Sprintf("four messages %s at once, and one %v later, %s", name, gap, how.name))
					heard := 0
					end := async(func() error {
						return how.all(c, func(_ websocket.MessageType, p []byte) error {
							if string(p) == "a" {
								heard++
							}
							return nil
						})
					})
					pong := ""
					if name == "in fragments" {
						pong = "8a 00"
					}
					start := time.Now()
					p.WritePieces(notation(strings.Repeat(bytes+" ", rate)))
					p.Want(strings.Repeat(pong+" ", rate))
					want := rate
					if gap == part {
						for i := range 8 {
							at(start, time.Duration(i+1)*part)
							p.Write(bytes)
							p.Want(pong)
						}
						want += 8
						wantPending(t, "the loop", end)
						p.Write("89 80 z")
						p.Want("8a 00")
						gap = time.Since(start)
					}
					at(start, gap)
					p.Write(bytes[:10])
					if reason := p.WantFail(1008); reason != "too many messages" {
						t.Errorf("the reason is %q", reason)
					}
					p.Close()
					wantClosed(t, done(t, "the loop", end), 1008, false)
					if heard != want {
						t.Errorf("%d messages are delivered, want %d", heard, want)
					}
				})
			}
		}
	}
}

// Without a rate there is none, and one rate is not the other.
func TestL11NoRate(t *testing.T) {
	inLab(t, websocket.Config{MessageRate: 5, ControlRate: 5}, func(t *testing.T, l *lab) {
		p, c := l.open("five of each")
		end := readingOn(c)
		p.Write(strings.Repeat("8a 80 z 82 80 z 01 80 z 8a 80 z 80 80 z ", 2) + "8a 80 z 82 80 z")
		wantPending(t, "Read", end)
		p.WantNothing()
		p.Write("8a 80 z")
		p.WantFail(1008)
	})
	for _, config := range []websocket.Config{{}, {MessageRate: 1}, {ControlRate: 1}} {
		inLab(t, config, func(t *testing.T, l *lab) {
			p, c := l.open("no limit")
			end := readingOn(c)
			if config.ControlRate == 0 {
				for range 100 {
					p.Write(strings.Repeat("8a 80 z ", 100))
				}
			}
			if config.MessageRate == 0 {
				for range 100 {
					p.Write(strings.Repeat("82 80 z 00 80 z"[:8], 100))
				}
			}
			wantPending(t, "Read", end)
			p.WantNothing()
		})
	}
}
