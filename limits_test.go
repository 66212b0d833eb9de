package websocket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// waiting are all ways in which somebody reads.
var waiting = append(attending[:len(attending):len(attending)], []struct {
	name string
	data bool
	wait func(c *websocket.Conn) error
}{
	{"ReadAppend", true, func(c *websocket.Conn) error {
		for {
			if _, _, err := c.ReadAppend(context.Background(), make([]byte, 0, 10)); err != nil {
				return err
			}
		}
	}},
	{"Messages", true, func(c *websocket.Conn) (err error) {
		for _, err = range c.Messages(context.Background()) {
		}
		return err
	}},
}...)

const half = 500 * time.Millisecond // a tick

// wantLate checks that the connection is closed for a slow peer, at this
// moment and not before, and that the call that reads says the same.
func wantLate(t *testing.T, p *conformance.Peer, end <-chan error, start time.Time, when time.Duration) {
	t.Helper()
	at(start, when-1)
	wantPending(t, "the call that reads", end)
	p.WantNothing()
	at(start, when)
	reason := p.WantFail(1008)
	// Where the wait began in the very moment of a tick, that may have come
	// first or second.
	if took := time.Since(start); took != when && took != when+half {
		t.Errorf("took %v, want %v or a tick more", took, when)
	}
	p.Close()
	closed := wantClosed(t, done(t, "the call that reads", end), 1008, false)
	if reason != closed.Reason || reason == "" {
		t.Errorf("the peer is told %q, the caller %q", reason, closed.Reason)
	}
}

// drip sends b with a pause behind each byte, until stop.
func drip(p *conformance.Peer, b []byte, pause, stop time.Duration) {
	for i := range b {
		if time.Duration(i)*pause >= stop {
			return
		}
		p.WritePieces(b[i : i+1])
		time.Sleep(pause)
	}
}

// One byte a second is not enough: MessageTimeout after the first, by the
// clock of half a second and never early, the connection is closed; in whatever
// it stands, whoever reads, with and without keepalive.
func TestL15OneByteASecond(t *testing.T) {
	for _, scene := range []struct {
		name, begin, slow string
		data              bool // in a message that has begun
		kib               time.Duration
	}{
		{"in a header", "", "82 ff 0000000000010000 z", false, 0},
		{"in a header of two bytes", "82", "fe", false, 0},
		{"in a payload", "82 e4 z", "rep(61,20)", true, 0},
		{"in a text", "81 e4 z", "rep(61,20)", true, 0},
		{"in a payload that has partly come", "82 fe 8000 z rep(61,1023)", "rep(61,20)", true, 1},
		{"in a large payload", "82 fe ffff z rep(61,8192)", "rep(61,20)", true, 8},
		{"in a second fragment", "02 fe 0400 z rep(61,1024) 80 e4 z", "rep(61,20)", true, 1},
		{"between fragments", "01 81 z 61", "00 80 z 00 80 z 00 80 z 00", true, 0},
		{"in a control frame", "89 fd z", "rep(61,20)", false, 0},
		{"in a Close", "88 fd z 03e8", "rep(61,20)", false, 0},
		{"in a ping between fragments", "01 81 z 61 89 fd z", "rep(61,20)", true, 0},
		{"nothing between fragments", "01 81 z 61", "", true, 0},
		{"nothing in a header", "82", "", false, 0},
		{"nothing in a payload", "82 85 z", "", true, 0},
	} {
		for _, how := range waiting {
			if scene.data && !how.data {
				continue
			}
			t.Run(scene.name+", "+how.name, func(t *testing.T) {
				for _, keepalive := range []time.Duration{-1, 40 * time.Second} {
					for _, offset := range []time.Duration{0, 1, 300 * time.Millisecond, half + 1} {
						config := websocket.Config{MessageTimeout: 10 * time.Second, PingInterval: keepalive}
						inLab(t, config, func(t *testing.T, l *lab) {
							start := time.Now()
							p, c := l.open("a message has 10 s, and a second for each KiB")
							end := async(func() error { return how.wait(c) })
							if how.name == "Ping" {
								wantPing(t, p)
							}
							at(start, offset)
							begin := start.Add(offset)
							if keepalive > 0 { // the clock ticks already
								begin = start.Add(offset.Truncate(half))
							}
							slow := notation(scene.slow)
							if scene.begin != "" {
								p.WritePieces(notation(scene.begin))
							}
							when := (10+scene.kib)*time.Second + half
							drip(p, slow, 970*time.Millisecond, when-3*half) // at no tick
							wantLate(t, p, end, begin, when)
							if early := time.Since(start.Add(offset)); early < (10+scene.kib)*time.Second {
								t.Errorf("closed after %v", early)
							}
						})
					}
				}
			})
		}
	}
}

// What is no part of the message does not give it more time: pings and pongs
// between its fragments.
func TestL15ControlFramesGiveNoTime(t *testing.T) {
	for _, how := range waiting {
		if !how.data {
			continue
		}
		inLab(t, websocket.Config{MessageTimeout: 10 * time.Second}, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("pings between fragments, " + how.name)
			end := async(func() error { return how.wait(c) })
			p.Write("01 81 z 61")
			for i := range 10 {
				at(start, time.Duration(i)*time.Second+half/2)
				p.Write("89 81 z 61")
				p.Want("8a 01 61")
				p.Write("8a 80 z")
				p.WritePieces(notation("89"), notation("81 z 62")) // in two pieces
				p.Want("8a 01 62")
			}
			wantLate(t, p, end, start, 10*time.Second+half)
		})
	}
}

// A peer that is a little faster than 1 KiB a second is waited for as long as
// it takes; one that is a little slower is not.
func TestL15Rate(t *testing.T) {
	for _, pause := range []time.Duration{990 * time.Millisecond, 1210 * time.Millisecond} {
		for _, chunk := range []int{1 << 10, 100} {
			for _, fragments := range []bool{false, true} {
				for _, how := range waiting {
					if !how.data {
						continue
					}
					t.Run(fmt.Sprint(pause, chunk, fragments, how.name), func(t *testing.T) {
						inLab(t, websocket.Config{MessageTimeout: 8 * time.Second}, func(t *testing.T, l *lab) {
							p, c := l.open("1 KiB a second is fast enough")
							end := async(func() error { return how.wait(c) })
							pause := pause * time.Duration(chunk) / 1024
							chunks := 70 << 10 / chunk
							send := func(i int) {
								piece := strings.Repeat("a", chunk)
								switch {
								case !fragments && i == 0:
									p.WritePieces(append(notation(fmt.Sprintf("82 ff %016x z", chunks*chunk)), piece...))
								case !fragments:
									p.WritePieces([]byte(piece))
								case i == 0:
									p.WritePieces(masked(0x02, piece))
								case i == chunks-1:
									p.WritePieces(masked(0x80, piece))
								default:
									p.WritePieces(masked(0x00, piece))
								}
							}
							start := time.Now()
							for i := range chunks {
								// What the clock thinks, tick by tick.
								for n := 1; pause >= 1210*time.Millisecond*time.Duration(chunk)/1024; n++ {
									now := time.Duration(n) * half
									if now >= time.Duration(i)*pause {
										break
									}
									if come := max(int((now-1)/pause)+1, 0) * chunk >> 10; now <= time.Duration(i-1)*pause || n <= 16+2*come {
										continue
									}
									if n < 40 {
										t.Errorf("closed at %v, which is too soon", now)
									}
									wantLate(t, p, end, start, now)
									return
								}
								at(start, time.Duration(i)*pause)
								send(i)
							}
							if pause >= 1210*time.Millisecond*time.Duration(chunk)/1024 {
								t.Error("it has come whole, and too slowly")
							}
							wantPending(t, "the call that reads", end)
							p.Write("89 80 z")
							p.Want("8a 00")
						})
					})
				}
			}
		}
	}
}

// Time in which nobody reads is not the peer's: an application may read a
// message in many calls with long pauses. The waits add up.
func TestL15PausesOfTheApplication(t *testing.T) {
	config := websocket.Config{MessageTimeout: 10 * time.Second}
	t.Run("a Read that gave up", func(t *testing.T) {
		for _, whole := range []bool{true, false} {
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open("1.2 s of waiting, a pause, and 8.8 s more")
				p.Write("81 82 z 68")
				ctx, cancel := context.WithTimeout(context.Background(), 1200*time.Millisecond)
				defer cancel()
				wantContextError(t, "Read", readOne(ctx, c).err, ctx)
				at(start, 30*time.Second+half/5)
				p.WantNothing()
				end := readingOn(c)
				if whole {
					at(start, 39400*time.Millisecond)
					p.Write("69")
					at(start, time.Hour)
					wantPending(t, "Read", end)
					p.Write("89 80 z")
					p.Want("8a 00")
					return
				}
				// Two ticks, and nineteen more.
				wantLate(t, p, end, start, 39500*time.Millisecond)
			})
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("what nobody waits for is not late")
			p.Write("81 82 z 68")
			at(start, time.Hour)
			end := readingOn(c)
			at(start, time.Hour+10*time.Second)
			p.WantNothing()
			wantLate(t, p, end, start.Add(time.Hour), 10*time.Second+half)
		})
	})
	// The application takes its time for each byte, and waits for the next
	// a moment, as that is on its way: at 10.5 s, too.
	t.Run("a slow Reader", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("ten times half a second is waited for in 100 s")
			p.Write("82 94 z 61")
			_, r, err := c.Reader(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			for i := range 20 {
				if i > 0 {
					at(start, time.Duration(5*i)*time.Second+half/2)
					go func() {
						time.Sleep(half - 1)
						p.WritePieces([]byte("a"))
					}()
				}
				if n, err := r.Read(make([]byte, 10)); n != 1 || err != nil {
					t.Fatalf("byte %d: %d, %v", i, n, err)
				}
			}
			if _, err := r.Read(make([]byte, 10)); err != io.EOF {
				t.Errorf("%v at the end", err)
			}
			p.WantNothing()
		})
	})
	// The same where what the peer may send is bounded: it has to wait.
	t.Run("a Reader behind a small window", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			p, c, server := l.openServer("the peer is as fast as it can be")
			server.SetBuffer(1 << 10)
			go func() { p.Conn().Write(masked(0x82, strings.Repeat("a", 60<<10))) }()
			_, r, err := c.Reader(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			n := 0
			for buf := make([]byte, 256); err == nil; time.Sleep(700 * time.Millisecond) {
				var m int
				m, err = r.Read(buf)
				n += m
			}
			if n != 60<<10 || err != io.EOF {
				t.Errorf("%d bytes and %v", n, err)
			}
		})
	})
}

// The time starts anew with the next message, whatever came before.
func TestL15TimeStartsAnew(t *testing.T) {
	nine := 9 * time.Second
	for _, before := range []struct{ name, first, second, answer string }{
		{"a message in two pieces", "81 82 z 68", "69", ""},
		{"a message in two fragments", "01 81 z 68", "80 81 z 69", ""},
		{"a header in two pieces", "81", "82 z 6869", ""},
		{"a ping in two pieces", "89 81 z", "68", "8a 01 68"},
		{"a header of a ping in two pieces", "89", "81 z 68", "8a 01 68"},
		{"a pong in two pieces", "8a", "80 z", ""},
		{"a message and half of the next", "81 81 z 61 01 81", "z 68 80 80 z", ""},
	} {
		for _, how := range waiting {
			if !how.data {
				continue
			}
			inLab(t, websocket.Config{MessageTimeout: 10 * time.Second}, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open(before.name + ", " + how.name)
				end := async(func() error { return how.wait(c) })
				for i := range 3 {
					at(start, time.Duration(i)*nine)
					p.Write(before.first)
					at(start, time.Duration(i+1)*nine-1)
					p.Write(before.second)
					p.Want(before.answer)
				}
				at(start, 5*nine+half/2)
				p.Write("81 81 z 61")
				p.Write("82 82 z 61")
				// The clock has stopped in between or has not.
				at(start, 5*nine+half/2+10*time.Second)
				wantPending(t, "the call that reads", end)
				at(start, 5*nine+half/2+10*time.Second+half)
				p.WantFail(1008)
			})
		}
	}
	// The rest came while only Ping read, and the message is taken in one
	// step then.
	inLab(t, websocket.Config{MessageTimeout: 10 * time.Second}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("a message that Ping has waited for")
		p.Write("82")
		pinging := ping(context.Background(), c)
		wantPing(t, p)
		at(start, nine)
		p.Write("82 z 6869")
		if err := done(t, "Ping", pinging).err; err != websocket.ErrUnreadMessage {
			t.Errorf("Ping: %v", err)
		}
		wantMessage(t, c, websocket.Binary, "hi")
		p.Write("82 82 z 68")
		end := readingOn(c)
		wantLate(t, p, end, start, nine+10*time.Second+half)
	})
}

// Without a limit there is none; the default is a minute.
func TestL15DefaultAndNone(t *testing.T) {
	inLab(t, websocket.Config{MessageTimeout: -1}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("no limit")
		end := readingOn(c)
		p.Write("81 82 z 68")
		at(start, 1000*time.Hour)
		wantPending(t, "Read", end)
		p.Write("69 89 80 z")
		p.Want("8a 00")
	})
	inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("a minute")
		p.Patience = time.Hour
		end := readingOn(c)
		p.Write("81 82 z 68")
		wantLate(t, p, end, start, time.Minute+half)
	})
	// A short time has a finer clock: a sixteenth.
	inLab(t, websocket.Config{MessageTimeout: 160 * time.Millisecond}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("a short limit")
		end := readingOn(c)
		p.Write("81 82 z 68")
		wantLate(t, p, end, start, 170*time.Millisecond)
	})
}

// Over sockets the same holds, also for connections in event mode that nobody
// waits for but the poller.
func TestL15Sockets(t *testing.T) {
	const limit = 160 * time.Millisecond
	for _, how := range waiting {
		if how.name == "Ping" {
			continue
		}
		for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
			for _, scene := range []struct {
				name, begin string
				data, drip  bool
			}{
				{"in a header", "82", false, false},
				{"in a payload", "82 fd z 61", true, true},
				{"between fragments", "01 81 z 61", true, false},
				{"in a large payload", "82 ff 0000000000010000 z rep(61,1000)", true, true},
			} {
				if scene.data && !how.data {
					continue
				}
				t.Run(how.name+"/"+name+"/"+scene.name, func(t *testing.T) {
					t.Parallel()
					ends := make(chan error, 1)
					u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
						ends <- how.wait(c)
						return nil
					}}
					u.MessageTimeout, u.Logger = limit, slog.New(slog.DiscardHandler)
					b := loopback(t, u, secure, 0)
					defer b.stop()
					p := b.peer("slow over a socket: " + scene.name)
					defer p.Close()
					start := time.Now()
					p.Conn().Write(notation(scene.begin))
					stop := make(chan struct{})
					var dripped <-chan int
					if scene.drip {
						dripped = async(func() (n int) {
							again := time.NewTicker(limit / 8)
							defer again.Stop()
							for {
								select {
								case <-stop:
									return n
								case <-again.C:
									if _, err := p.Conn().Write([]byte("a")); err != nil {
										return n
									}
									n++
								}
							}
						})
					}
					if f, _ := p.Next(); f.Op != 8 || string(f.Payload[:2]) != "\x03\xf0" {
						t.Errorf("received %v, want Close 1008", f)
					}
					if took := time.Since(start); took < limit {
						t.Errorf("closed after %v", took)
					}
					close(stop)
					if dripped != nil && <-dripped < 2 {
						t.Error("nothing more was sent")
					}
					p.Close()
					wantClosed(t, <-ends, 1008, false)
				})
			}
		}
	}
}

// L-16: endless empty fragments end with the number of frames, or where that is
// not limited with the time.
func TestL16EmptyFragmentsInTime(t *testing.T) {
	inLab(t, websocket.Config{MessageTimeout: 10 * time.Second, MaxFragments: -1}, func(t *testing.T, l *lab) {
		start := time.Now()
		p, c := l.open("endless empty fragments")
		end := readingOn(c)
		p.Write("01 80 z")
		for i := 1; time.Since(start) < 10*time.Second; i++ {
			p.Write("00 80 z 00 80 z 00 80 z")
			at(start, time.Duration(i)*130*time.Millisecond)
		}
		wantLate(t, p, end, start, 10*time.Second+half)
	})
}

// noFirst are ways in which no message begins.
var noFirst = []struct {
	name  string
	every time.Duration
	bytes string // each of them every so often
	whole bool
}{
	{"silent", 0, "", true},
	{"pings", time.Second, "89 80 z", true},
	{"pongs", 700 * time.Millisecond, "8a 81 z 61", true},
	{"pings in pieces", 300 * time.Millisecond, "89 81 z 61", false},
}

// FirstMessageTimeout after the handshake, and not before, a peer that has not
// begun a message is closed, whoever reads and whatever else it sends.
func TestFirstMessageTimeout(t *testing.T) {
	for _, scene := range noFirst {
		for _, how := range waiting {
			t.Run(scene.name+", "+how.name, func(t *testing.T) {
				for _, keepalive := range []time.Duration{-1, 40 * time.Second} {
					for _, message := range []time.Duration{-1, 0, 9500 * time.Millisecond} { // the last has the clock look at 10 s
						config := websocket.Config{FirstMessageTimeout: 10 * time.Second, PingInterval: keepalive, MessageTimeout: message}
						inLab(t, config, func(t *testing.T, l *lab) {
							start := time.Now()
							p, c := l.open("the first message begins within 10 s")
							end := async(func() error { return how.wait(c) })
							if how.name == "Ping" {
								wantPing(t, p)
							}
							go func() {
								b := notation(scene.bytes)
								for i := 0; scene.every > 0 && time.Since(start) < 10*time.Second; i++ {
									if scene.whole {
										p.Conn().Write(b)
									} else {
										p.Conn().Write(b[i%len(b) : i%len(b)+1])
									}
									time.Sleep(scene.every)
								}
							}()
							at(start, 10*time.Second+half-1)
							wantPending(t, "the call that reads", end)
							at(start, 10*time.Second+half)
							for f, ok := p.Next(); ; f, ok = p.Next() {
								if !ok {
									t.Error("no Close frame")
									break
								}
								if f.Op == 8 {
									if !strings.HasPrefix(string(f.Payload), "\x03\xf0no message") {
										t.Errorf("received %v", f)
									}
									break
								}
							}
							wantElapsed(t, start, 10*time.Second+half)
							p.Close()
							wantClosed(t, done(t, "the call that reads", end), 1008, false)
						})
					}
				}
			})
		}
	}
}

// A message that has begun in time may take as long as MessageTimeout allows,
// and time in which nobody reads is not the peer's.
func TestFirstMessageInTime(t *testing.T) {
	config := websocket.Config{FirstMessageTimeout: 10 * time.Second, MessageTimeout: 30 * time.Second}
	for _, first := range []struct{ name, begin, rest, data string }{
		{"a byte", "81", "82 z 6869", "hi"},
		{"a header", "82 82 z", "6869", "hi"},
		{"part of a payload", "81 82 z 68", "69", "hi"},
		{"a fragment", "01 81 z 68", "80 81 z 69", "hi"},
		{"all of it", "81 82 z 6869", "", "hi"},
		{"an empty message", "82 80 z", "", ""},
		{"a text behind pings", "89 80 z 89 80 z 81 81 z 61", "", "a"},
	} {
		for _, how := range readings {
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open(first.name + ", " + how.name)
				heard := make(chan string, 1)
				go how.all(c, func(_ websocket.MessageType, p []byte) error {
					heard <- string(p)
					return nil
				})
				at(start, 10*time.Second-1)
				p.Write(first.begin)
				at(start, 20*time.Second)
				p.Write(first.rest)
				if got := done(t, "the message", heard); got != first.data {
					t.Errorf("heard %q", got)
				}
				at(start, time.Hour)
				p.Write("82 80 z")
				done(t, "a later message, "+first.name+", "+how.name, heard)
			})
		}
	}
	t.Run("a Reader takes a part and thinks", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("a fragment has been read")
			p.Write("01 81 z 68")
			_, r, err := c.Reader(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			if n, err := r.Read(make([]byte, 10)); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			at(start, time.Minute)
			p.Write("80 80 z")
			if n, err := r.Read(make([]byte, 10)); n != 0 || err != io.EOF {
				t.Errorf("%d, %v", n, err)
			}
		})
	})
	t.Run("the application thinks about the first of two", func(t *testing.T) {
		for _, how := range readings {
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open("two have come")
				heard := make(chan string)
				go how.all(c, func(_ websocket.MessageType, p []byte) error {
					heard <- string(p)
					return nil
				})
				p.Conn().Write(notation("81 81 z 61 81 81 z 62"))
				at(start, time.Minute)
				for _, want := range []string{"a", "b"} {
					if got := <-heard; got != want {
						t.Errorf("heard %q, want %q", got, want)
					}
				}
				wantElapsed(t, start, time.Minute)
				p.WantNothing()
			})
		}
	})
	t.Run("nobody reads", func(t *testing.T) {
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("one has come and nobody reads it")
			p.Write("81 82 z 6869")
			at(start, time.Minute)
			wantMessage(t, c, websocket.Text, "hi")
			end := readingOn(c)
			at(start, time.Hour)
			wantPending(t, "Read", end)
		})
		inLab(t, config, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("none has come and nobody reads it")
			at(start, time.Minute)
			p.WantNothing()
			wantLate(t, p, readingOn(c), start, time.Minute+half)
		})
	})
	t.Run("somebody comes to read again and again", func(t *testing.T) {
		for _, keepalive := range []time.Duration{-1, 30 * time.Second} {
			config := config
			config.PingInterval = keepalive
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open("short looks, and nothing comes")
				p.Patience = time.Hour
				end := async(func() error {
					for c.Context().Err() == nil {
						ctx, cancel := context.WithTimeout(context.Background(), 170*time.Millisecond)
						_, _, err := c.Read(ctx)
						cancel()
						if !errors.Is(err, context.DeadlineExceeded) {
							return err
						}
					}
					return nil
				})
				p.WantFail(1008)
				if took := time.Since(start); took < 10*time.Second || took > 13*time.Second {
					t.Errorf("took %v", took)
				}
				p.Close()
				wantClosed(t, <-end, 1008, false)
			})
			inLab(t, config, func(t *testing.T, l *lab) {
				start := time.Now()
				p, c := l.open("pongs, and no message")
				p.Patience = time.Hour
				e := newHearer(t, nil)
				c.Start(e)
				for range 100 {
					time.Sleep(300 * time.Millisecond)
					if c.Context().Err() != nil {
						break
					}
					p.Conn().Write(notation("8a 80 z"))
				}
				p.WantFail(1008)
				<-c.Context().Done()
				if took := time.Since(start); took < 10*time.Second || took > 15*time.Second {
					t.Errorf("it is over after %v", took)
				}
			})
		}
	})
	t.Run("no limit", func(t *testing.T) {
		inLab(t, websocket.Config{}, func(t *testing.T, l *lab) {
			start := time.Now()
			p, c := l.open("no limit")
			end := readingOn(c)
			at(start, 1000*time.Hour)
			wantPending(t, "Read", end)
			p.WantNothing()
		})
	})
}

// Over sockets: for parked connections, and for those that nobody reads, where
// the socket is asked.
func TestFirstMessageSockets(t *testing.T) {
	const limit = 80 * time.Millisecond
	for name, secure := range map[string]bool{"TCP": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			conns := make(chan *websocket.Conn)
			u := &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
				conns <- c
				<-c.Context().Done()
				return nil
			}}
			delayed := make(chan (<-chan bool), 1) // until when the clock does not look at the next one
			u.FirstMessageTimeout, u.Logger = limit, slog.New(slog.DiscardHandler)
			u.Trace = &websocket.Trace{Opened: func(*websocket.Conn) {
				select {
				case until := <-delayed:
					<-until
				default:
				}
			}}
			b := loopback(t, u, secure, 0)
			defer b.stop()

			start := time.Now() // before the handshake, as this may notice late that it is over
			parked := b.peer("parked, and nothing comes")
			c := <-conns
			c.Start(newHearer(t, nil))
			silent := b.peer("nobody reads, and nothing comes")
			cs := <-conns
			come := make(chan bool)
			delayed <- come
			early := b.peer("nobody reads, and something has come")
			early.Conn().Write(masked(0x81, "hello"))
			close(come) // in time, however slow the machine is
			ce := <-conns
			parked.WantFail(1008)
			if took := time.Since(start); took < limit {
				t.Errorf("closed after %v", took)
			}
			parked.Close()
			silent.WantFail(1008)
			silent.Close()
			<-cs.Context().Done()
			<-time.After(limit / 2)
			if m := readOne(context.Background(), ce); m.data != "hello" || m.err != nil {
				t.Errorf("read %v", m)
			}
			early.Close()
			<-c.Context().Done()
			ce.CloseNow()
			<-ce.Context().Done()
		})
	}
}
