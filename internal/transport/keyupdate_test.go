package transport

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sockeye-ws/websocket/internal/memconn"
	"github.com/sockeye-ws/websocket/internal/tls13"
)

// updating runs f on a TLS connection whose peer asks for new keys before it says
// what it has to say, or where there is a bar in that.
func updating(t *testing.T, say string, f func(t *testing.T, s Conn, here *tally)) {
	t.Helper()
	config := tls13.Config()
	synctest.Test(t, func(t *testing.T) {
		end, there := memconn.Pair()
		here := &tally{Conn: end}
		defer here.Close()
		defer there.Close()
		server := tls.Server(here, config)
		shaken := make(chan error)
		go func() { shaken <- server.Handshake() }()
		peer, err := tls13.Client(there, config)
		if err := <-shaken; err != nil {
			t.Fatal(err)
		}
		if err == tls13.ErrSuite {
			t.Skip(err)
		}
		if err != nil {
			t.Fatal(err)
		}
		before, say, found := strings.Cut(say, "|")
		if !found {
			before, say = say, before
		}
		if before != "" {
			peer.Data([]byte(before))
		}
		if err := peer.KeyUpdate(); err != nil {
			t.Fatal(err)
		}
		if say != "" {
			peer.Data([]byte(say))
		}
		if err := peer.Flush(); err != nil {
			t.Fatal(err)
		}
		f(t, New(server, time.Minute), here)
	})
}

// A read of a TLS connection answers a KeyUpdate, and ends when it has to although
// the peer takes nothing of that.
func TestKeyUpdate(t *testing.T) {
	read := func(s Conn) func() (int, error) {
		return func() (int, error) { return s.Fill(&shelf{size: 100}, true) }
	}
	updating(t, "hi", func(t *testing.T, s Conn, here *tally) {
		before := here.written
		want(t, "a peer that reads", <-inBackground(read(s)), 2, nil, 0)
		if here.written == before {
			t.Error("nothing was answered")
		}
		if n, err := s.Write([]byte("ho")); n != 2 || err != nil {
			t.Errorf("then a write: %d, %v", n, err)
		}
	})
	for _, interrupt := range []bool{false, true} {
		updating(t, "", func(t *testing.T, s Conn, here *tally) {
			here.StallWriteAfter(0)
			const soon = 2 * time.Second
			if !interrupt {
				s.In().After(soon)
			}
			call := inBackground(read(s))
			time.Sleep(soon - answerTime)
			if interrupt {
				s.In().Interrupt()
			}
			want(t, "a peer that takes nothing", <-call, 0, os.ErrDeadlineExceeded, soon)
			s.In().Resume()
			// To crypto/tls that is the end of what it can write.
			here.StallWriteAfter(-1)
			if n, err := s.Write([]byte("x")); n < 1 || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("a write: %d, %v", n, err)
			}
		})
	}
	// An interrupt that finds nobody takes no time from the next read, which needs
	// no more input.
	updating(t, "one|two", func(t *testing.T, s Conn, here *tally) {
		want(t, "before", <-inBackground(read(s)), 3, nil, 0)
		s.In().Interrupt()
		time.Sleep(time.Hour)
		want(t, "long after an interrupt", <-inBackground(read(s)), 3, nil, 0)
		s.In().Resume()
		if n, err := s.Write([]byte("x")); n != 1 || err != nil {
			t.Errorf("a write: %d, %v", n, err)
		}
	})
	updating(t, "hi", func(t *testing.T, s Conn, here *tally) {
		if _, err := s.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		before := here.written
		s.In().After(time.Hour)
		// To crypto/tls that is the end of what it can read, too.
		if r := <-inBackground(read(s)); r.n != 0 || r.err == nil || r.in != 0 {
			t.Errorf("after the alert: %+v", r)
		}
		if here.written != before {
			t.Error("an answer follows the alert")
		}
	})
}

// What a read writes has the deadline of the read, but while a write is in progress.
func TestKeyUpdateDeadlines(t *testing.T) {
	type step func(d *deadlines)
	arm, disarm := (*deadlines).arm, (*deadlines).disarm
	interrupt, resume := func(d *deadlines) { d.Out().Interrupt() }, func(d *deadlines) { d.Out().Resume() }
	after := func(d *deadlines) { d.In().After(3 * time.Second) }
	interruptIn, resumeIn := func(d *deadlines) { d.In().Interrupt() }, func(d *deadlines) { d.In().Resume() }
	later := func(*deadlines) { time.Sleep(5 * time.Second) }
	read := (*deadlines).mayAnswer
	const bound = 10 * time.Second
	tests := []struct {
		name  string
		bound time.Duration
		steps []step
		want  string
	}{
		{"a read", bound, []step{after}, "[3s]"},
		{"interrupted", bound, []step{interruptIn}, "[1s]"},
		{"and resumed", bound, []step{interruptIn, resumeIn}, "[1s none]"},
		{"interrupted in its time", bound, []step{after, interruptIn, after, resumeIn}, "[3s 1s none]"},
		{"a write", bound, []step{arm, disarm}, "[10s none]"},
		{"a write without bound", -1, []step{arm, disarm}, "[]"},
		{"a write in a read's time", bound, []step{after, arm, disarm}, "[3s 10s 3s]"},
		{"without bound", -1, []step{after, arm, disarm}, "[3s none 3s]"},
		{"a read's time in a write", bound, []step{arm, after, disarm}, "[10s 3s]"},
		{"without bound", -1, []step{arm, after, disarm}, "[3s]"},
		{"interrupted in a write", bound, []step{arm, interruptIn, disarm, resumeIn}, "[10s 1s none]"},
		{"and resumed in it", bound, []step{arm, interruptIn, resumeIn, disarm}, "[10s none]"},
		{"a write interrupted in a read's time", bound, []step{after, arm, interrupt, disarm, resume}, "[3s 10s past 3s]"},
		{"an interrupted write in a read's time", bound, []step{interrupt, after, arm, disarm, resume}, "[past 3s]"},
		{"a read long after an interrupt", bound, []step{interruptIn, later, read, resumeIn, read}, "[1s 1s none]"},
		{"a read long after its time", bound, []step{after, later, read}, "[3s 1s]"},
		{"a read beside a write", bound, []step{interruptIn, arm, read, disarm}, "[1s 10s 1s]"},
		{"an interrupt long before the end of a write", bound, []step{arm, interruptIn, later, disarm}, "[10s 1s]"},
		{"and that resumed", bound, []step{interrupt, after, resume, resumeIn, arm, disarm}, "[past 3s 10s 3s]"},
	}
	for _, tt := range tests {
		synctest.Test(t, func(t *testing.T) {
			var log []string
			d := &deadlines{bound: tt.bound, conn: tls.Client(&setter{set: func(to direction, at time.Time) error {
				switch {
				case to == in:
				case at.Equal(past):
					log = append(log, "past")
				case at.IsZero():
					log = append(log, "none")
				default:
					log = append(log, time.Until(at).String())
				}
				return nil
			}}, &tls.Config{})}
			for _, step := range tt.steps {
				step(d)
			}
			if got := fmt.Sprint(log); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		})
	}
}
