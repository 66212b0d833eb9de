package websocket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sockeye-ws/websocket"
	"github.com/sockeye-ws/websocket/internal/conformance"
)

// TestMain fails the whole suite when anything is left of it (L-14).
func TestMain(m *testing.M) {
	warmUp()
	before := descriptors()
	code := m.Run()
	if code == 0 {
		http.DefaultClient.CloseIdleConnections()
		if left := settled(func() string { return leftGoroutines() + leftDescriptors(before) }); left != "" {
			fmt.Fprintf(os.Stderr, "L-14: left after all tests:\n%s", left)
			code = 1
		}
	}
	os.Exit(code)
}

// warmUp makes what the runtime makes at the first use of the network.
func warmUp() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return
	}
	defer l.Close()
	if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
		c.Close()
	}
	if c, err := l.Accept(); err == nil {
		c.Close()
	}
}

// settled asks until nothing is left or there is no more patience, and
// returns what is left then.
func settled(left func() string) string {
	patience := time.After(30 * time.Second)
	again := time.NewTicker(time.Millisecond)
	defer again.Stop()
	for {
		what := left()
		if what == "" {
			return ""
		}
		runtime.Gosched()
		select {
		case <-again.C:
		case <-patience:
			return what
		}
	}
}

// leftGoroutines are the stacks of all other goroutines that run code of this
// module or of net/http.
func leftGoroutines() string {
	buf := make([]byte, 64<<10)
	for {
		n := runtime.Stack(buf, true)
		if n < len(buf) {
			buf = buf[:n]
			break
		}
		buf = make([]byte, 2*len(buf))
	}
	var left strings.Builder
	for i, stack := range strings.Split(string(buf), "\n\n") {
		switch {
		case i == 0, strings.Contains(stack, "testing.(*T).Run("), strings.Contains(stack, "testing.(*T).Parallel("):
			// The caller, those who wait for it, and tests whose turn is later.
		case strings.Contains(stack, "sockeye-ws/websocket"), strings.Contains(stack, "net/http."):
			left.WriteString(stack + "\n\n")
		}
	}
	return left.String()
}

// descriptors are the open ones of this process, nil where that is not known.
func descriptors() []string {
	files, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return nil
	}
	var open []string
	for _, file := range files {
		if target, err := os.Readlink(file); err == nil { // not the one Glob had
			open = append(open, target)
		}
	}
	return open
}

func leftDescriptors(before []string) string {
	if after := descriptors(); len(after) > len(before) {
		return fmt.Sprintf("%d descriptors, %d before: %v\n", len(after), len(before), after)
	}
	return ""
}

// L-14: connections that end in every way leave neither a goroutine nor a
// descriptor.
func TestL14NothingIsLeft(t *testing.T) {
	const timeout = 30 * time.Millisecond
	h := &websocket.Upgrader{
		Config: websocket.Config{ReadLimit: 1 << 10, CloseTimeout: timeout, Logger: slog.New(slog.DiscardHandler)},
		Handler: func(c *websocket.Conn) error {
			for {
				typ, data, err := c.Read(context.Background())
				if err != nil {
					return err
				}
				switch string(data) {
				case "return":
					return nil
				case "error":
					return errors.New("an error")
				case "policy":
					return &websocket.CloseError{Code: websocket.StatusPolicyViolation}
				case "panic":
					panic("a panic")
				case "exit":
					runtime.Goexit()
				case "close":
					c.Close(websocket.StatusGoingAway, "")
				case "cut":
					c.CloseNow()
				case "listen":
					c.CloseRead()
					<-c.Context().Done()
					return nil
				case "ping":
					c.Ping(context.Background())
				default:
					c.Write(context.Background(), typ, data)
				}
			}
		},
	}
	say := func(p *conformance.Peer, command string) {
		p.WritePieces(conformance.MaskedFrame(0x81, [4]byte{1, 2, 3, 4}, []byte(command)))
	}
	reset := func(p *conformance.Peer) {
		p.Conn().(*net.TCPConn).SetLinger(0)
		p.Close()
	}
	ways := []func(p *conformance.Peer){
		func(p *conformance.Peer) { p.Write("81 00"); p.WantFail(1002) },
		func(p *conformance.Peer) { p.Write("81 81 z ff"); p.WantFail(1007) },
		func(p *conformance.Peer) { p.Write("82 fe 0401 z"); p.WantFail(1009) },
		func(p *conformance.Peer) { say(p, "listen"); p.Write("81 80 z"); p.WantFail(1003) },
		func(p *conformance.Peer) { say(p, "policy"); p.Want("88 02 03f0"); p.WantEOF() },
		func(p *conformance.Peer) { say(p, "error"); p.WantFail(1011) },
		func(p *conformance.Peer) { say(p, "panic"); p.WantFail(1011) },
		func(p *conformance.Peer) { say(p, "exit"); p.Next(); p.WantEOF() },
		func(p *conformance.Peer) { p.Write("88 82 z 03e8"); p.WantClean("03e8") },
		func(p *conformance.Peer) { p.Write("88 80 z"); p.WantClean("") },
		func(p *conformance.Peer) { p.Write("88 82 z 03e8 rep(ff,100000)"); p.WantClean("03e8") },
		func(p *conformance.Peer) { say(p, "close"); p.Want("88 02 03e9"); p.Write("88 80 z"); p.WantEOF() },
		func(p *conformance.Peer) { say(p, "close"); p.Want("88 02 03e9"); p.WantEOF() }, // by the timeout
		func(p *conformance.Peer) { say(p, "return"); p.Want("88 02 03e8"); p.WantEOF() },
		func(p *conformance.Peer) { say(p, "return"); reset(p) },
		func(p *conformance.Peer) { say(p, "close"); p.Close() },
		func(p *conformance.Peer) { say(p, "cut"); p.Rest() },
		func(p *conformance.Peer) { p.Fin(); p.WantDrop() },
		func(p *conformance.Peer) { p.Write("81 85 z 6162"); p.Fin(); p.WantDrop() },
		func(p *conformance.Peer) { p.Close() },
		func(p *conformance.Peer) { say(p, "hello"); p.Close() }, // with an answer unread
		func(p *conformance.Peer) { reset(p) },
		func(p *conformance.Peer) { p.Write("01 85 z 6162"); reset(p) },
		func(p *conformance.Peer) { say(p, "listen"); reset(p) },
		func(p *conformance.Peer) { say(p, "ping"); p.Next(); p.Close() },
	}

	b := overTCP(t, h)
	stopped := false
	defer func() {
		if !stopped {
			b.stop()
		}
	}()
	before := descriptors()
	const connections = 1000
	next := make(chan int)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for i := range next {
				conn, err := b.dial()
				if err != nil {
					t.Error(err)
					continue
				}
				p := conformance.NewPeer(t, conn)
				p.Rule = fmt.Sprintf("L-14: way %d to end", i%len(ways))
				p.Handshake()
				ways[i%len(ways)](p)
				p.Close()
			}
		})
	}
	for i := range connections {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, request := range []string{ // and some that never open
		"", "GET /ws HTTP/1.1\r\nHost: a", "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", "POST /ws HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhello",
	} {
		if conn, err := b.dial(); err == nil {
			conn.Write([]byte(request))
			if bytes.HasSuffix([]byte(request), []byte("\r\n\r\n")) {
				conn.Read(make([]byte, 1))
			}
			conn.Close()
		}
	}
	if left := settled(func() string { return leftDescriptors(before) }); left != "" {
		t.Errorf("L-14: after %d connections: %s", connections, left)
	}
	b.stop()
	stopped = true
	if left := settled(leftGoroutines); left != "" {
		t.Errorf("L-14: goroutines after %d connections:\n%s", connections, left)
	}
}
