package peer

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

const gobwasModule = "github.com/gobwas/ws"

var gobwasServer = &Server{
	Name:     "gobwas",
	Module:   gobwasModule,
	Page:     "https://github.com/gobwas/ws#usage",
	Settings: "zero-copy Upgrade on the TCP connection, a goroutine each; wsutil.ReadClientData and WriteServerMessage on the bare connection, wsutil.Reader and Writer to stream; a mutex for many writers; fan-out of compiled frames by a channel for each connection; SetMaxMessageSize 32 MiB; compression by wsflate with compress/flate at level 1, its Writers and Readers from pools, otherwise as its example: frame by frame, without takeover",
	Lacks:    map[Mode]string{DeflateTakeover: "its helpers and its example know of none"},
	serve: func(ln net.Listener, w *work) error {
		wsutil.SetMaxMessageSize(readLimit)
		return acceptLoop(ln, func(nc net.Conn) {
			if w.mode == Deflate {
				_ = gobwasDeflate(nc, w.idle)
				return
			}
			if _, err := ws.Upgrade(nc); err == nil {
				w.run(&gobwasConn{queue: newQueue[[]byte](), c: nc})
			}
		})
	},
}

var gobwasLowServer = &Server{
	Name:     "gobwas-low",
	Module:   gobwasModule,
	Page:     "https://pkg.go.dev/github.com/gobwas/ws#hdr-Overview_",
	Settings: "the same upgrade; ReadHeaderBuffer, Cipher and WriteHeaderBuffer on bufio of 4 KiB each way, flushed by hand once all input is consumed; frames go back as they come; writers flush when no other waits; neither the order of frames nor UTF-8 nor limits are checked",
	Lacks:    map[Mode]string{Deflate: "as gobwas", DeflateTakeover: "as gobwas"},
	serve: func(ln net.Listener, w *work) error {
		return acceptLoop(ln, func(nc net.Conn) {
			if _, err := ws.Upgrade(nc); err == nil {
				w.run(newGobwasLow(nc))
			}
		})
	},
}

// gobwasHTTPServer is the library beside those that are mounted on net/http.
var gobwasHTTPServer = &Server{
	Name:     "gobwas-http",
	Module:   gobwasModule,
	Page:     "https://github.com/gobwas/ws#usage",
	Settings: "UpgradeHTTP on net/http, then as gobwas; takes part in upgrades only",
	Only:     []Mode{Upgrade},
	serve: func(ln net.Listener, w *work) error {
		return httpServer(ln, func(rw http.ResponseWriter, r *http.Request) {
			nc, _, _, err := ws.UpgradeHTTP(r, rw)
			if err != nil {
				return
			}
			go func() {
				defer nc.Close()
				w.run(&gobwasConn{queue: newQueue[[]byte](), c: nc})
			}()
		})
	},
}

// acceptLoop serves each connection of ln in a goroutine, without HTTP.
func acceptLoop(ln net.Listener, serve func(net.Conn)) error {
	for {
		nc, err := ln.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		go func() {
			defer nc.Close()
			serve(nc)
		}()
	}
}

type gobwasConn struct {
	queue[[]byte]
	c  net.Conn
	mu sync.Mutex // a message is more than one write
}

func (c *gobwasConn) Echo(bool) error {
	for {
		p, op, err := wsutil.ReadClientData(c.c)
		if err != nil {
			return err
		}
		if err := wsutil.WriteServerMessage(c.c, op, p); err != nil {
			return err
		}
	}
}

func (c *gobwasConn) Stream() error {
	control := wsutil.ControlFrameHandler(c.c, ws.StateServerSide)
	r := &wsutil.Reader{Source: c.c, State: ws.StateServerSide, CheckUTF8: true, OnIntermediate: control}
	w := wsutil.NewWriterSize(c.c, ws.StateServerSide, ws.OpBinary, copySize)
	buf := make([]byte, copySize)
	for {
		h, err := r.NextFrame()
		if err != nil {
			return err
		}
		if h.OpCode.IsControl() {
			if err := control(h, r); err != nil {
				return err
			}
			continue
		}
		w.Reset(c.c, ws.StateServerSide, h.OpCode)
		if err := copyMessage(w, r, buf); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
}

func (c *gobwasConn) Receive([]byte) ([]byte, error) {
	p, _, err := wsutil.ReadClientData(c.c)
	return p, err
}

func (c *gobwasConn) Send(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return wsutil.WriteServerMessage(c.c, ws.OpBinary, p)
}

func (c *gobwasConn) pump() {
	c.drain(func(frame []byte) error {
		_, err := c.c.Write(frame)
		return err
	})
}

func (c *gobwasConn) fan(members []sender, p []byte) {
	frame := ws.MustCompileFrame(ws.NewBinaryFrame(p))
	for _, to := range members {
		to.(*gobwasConn).put(frame)
	}
}

type gobwasLow struct {
	queue[[]byte]
	r       *bufio.Reader
	head    [ws.MaxHeaderSize]byte // of what is read
	buf     []byte
	mu      sync.Mutex // for what follows
	w       *bufio.Writer
	reply   [ws.MaxHeaderSize]byte
	waiting atomic.Int32 // writers who want mu
}

func newGobwasLow(nc net.Conn) *gobwasLow {
	return &gobwasLow{queue: newQueue[[]byte](), r: bufio.NewReader(nc), w: bufio.NewWriter(nc)}
}

func (c *gobwasLow) Echo(bool) error { return c.echo(readLimit) }
func (c *gobwasLow) Stream() error   { return c.echo(copySize) }

// echo sends frames back, in pieces of at most the given size.
func (c *gobwasLow) echo(piece int) error {
	for {
		h, err := ws.ReadHeaderBuffer(c.r, c.head[:])
		if err != nil {
			return err
		}
		key := h.Mask
		h.Masked = false
		reply := true
		switch h.OpCode {
		case ws.OpPing:
			h.OpCode = ws.OpPong
		case ws.OpPong:
			reply = false
		}
		if reply {
			if err := ws.WriteHeaderBuffer(c.w, h, c.reply[:]); err != nil {
				return err
			}
		}
		for at, length := 0, int(h.Length); at < length; {
			p, err := c.read(min(piece, length-at), key, at)
			if err != nil {
				return err
			}
			at += len(p)
			if reply {
				if _, err := c.w.Write(p); err != nil {
					return err
				}
			}
		}
		if c.r.Buffered() == 0 || h.OpCode == ws.OpClose {
			if err := c.w.Flush(); err != nil {
				return err
			}
		}
		if h.OpCode == ws.OpClose {
			return io.EOF
		}
	}
}

// read reads n bytes that stand at offset at in a payload.
func (c *gobwasLow) read(n int, key [4]byte, at int) ([]byte, error) {
	c.buf = slices.Grow(c.buf[:0], n)[:n]
	if _, err := io.ReadFull(c.r, c.buf); err != nil {
		return nil, err
	}
	ws.Cipher(c.buf, key, at)
	return c.buf, nil
}

// Receive expects one frame.
func (c *gobwasLow) Receive([]byte) ([]byte, error) {
	h, err := ws.ReadHeaderBuffer(c.r, c.head[:])
	if err != nil {
		return nil, err
	}
	if h.OpCode != ws.OpBinary {
		return nil, io.EOF
	}
	return c.read(int(h.Length), h.Mask, 0)
}

func (c *gobwasLow) Send(p []byte) error {
	c.waiting.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	last := c.waiting.Add(-1) == 0
	h := ws.Header{Fin: true, OpCode: ws.OpBinary, Length: int64(len(p))}
	if err := ws.WriteHeaderBuffer(c.w, h, c.reply[:]); err != nil {
		return err
	}
	if _, err := c.w.Write(p); err != nil || !last {
		return err
	}
	return c.w.Flush()
}

func (c *gobwasLow) pump() {
	c.drain(func(frame []byte) error {
		if _, err := c.w.Write(frame); err != nil || len(c.messages) > 0 {
			return err
		}
		return c.w.Flush()
	})
}

func (c *gobwasLow) fan(members []sender, p []byte) {
	frame := ws.MustCompileFrame(ws.NewBinaryFrame(p))
	for _, to := range members {
		to.(*gobwasLow).put(frame)
	}
}
