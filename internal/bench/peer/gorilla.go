package peer

import (
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/gorilla/websocket"
)

var gorillaServer = &Server{
	Name:     "gorilla",
	Module:   "github.com/gorilla/websocket",
	Page:     "https://pkg.go.dev/github.com/gorilla/websocket#hdr-Buffers",
	Settings: "net/http's buffers, WriteBufferPool, a goroutine for each connection; NextReader into a kept buffer, WriteMessage; a mutex for many writers; fan-out by PreparedMessage and a channel for each connection; does not check UTF-8; compression by EnableCompression, without takeover",
	Lacks:    map[Mode]string{DeflateTakeover: "it has no context takeover"},
	serve: func(ln net.Listener, w *work) error {
		u := websocket.Upgrader{WriteBufferPool: new(sync.Pool), EnableCompression: w.mode.deflates()}
		return httpServer(ln, func(rw http.ResponseWriter, r *http.Request) {
			c, err := u.Upgrade(rw, r, nil)
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				w.run(&gorillaConn[websocket.PreparedMessage]{
					c: c, queue: newQueue[*websocket.PreparedMessage](),
					prepare: websocket.NewPreparedMessage, writePrepared: c.WritePreparedMessage,
				})
			}()
		})
	},
}

// gorillaMethods are those of the library and of its fork.
type gorillaMethods interface {
	NextReader() (int, io.Reader, error)
	NextWriter(int) (io.WriteCloser, error)
	WriteMessage(int, []byte) error
}

type gorillaConn[P any] struct {
	queue[*P]
	c             gorillaMethods
	mu            sync.Mutex // one goroutine may write at a time
	prepare       func(int, []byte) (*P, error)
	writePrepared func(*P) error
}

const gorillaBinary = websocket.BinaryMessage

func (c *gorillaConn[P]) Echo(idle bool) error {
	var buf []byte
	for {
		typ, r, err := c.c.NextReader()
		if err != nil {
			return err
		}
		if buf, err = readAll(r, buf[:0]); err != nil {
			return err
		}
		if err := c.c.WriteMessage(typ, buf); err != nil {
			return err
		}
		if idle {
			buf = nil
		}
	}
}

func (c *gorillaConn[P]) Stream() error {
	buf := make([]byte, copySize)
	for {
		typ, r, err := c.c.NextReader()
		if err != nil {
			return err
		}
		w, err := c.c.NextWriter(typ)
		if err != nil {
			return err
		}
		if err := copyMessage(w, r, buf); err != nil {
			return err
		}
		if err := w.Close(); err != nil {
			return err
		}
	}
}

func (c *gorillaConn[P]) Receive(p []byte) ([]byte, error) {
	_, r, err := c.c.NextReader()
	if err != nil {
		return nil, err
	}
	return readAll(r, p)
}

func (c *gorillaConn[P]) Send(p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.c.WriteMessage(gorillaBinary, p)
}

func (c *gorillaConn[P]) pump() { c.drain(c.writePrepared) }

func (c *gorillaConn[P]) fan(members []sender, p []byte) {
	m, err := c.prepare(gorillaBinary, p)
	if err != nil {
		return
	}
	for _, to := range members {
		to.(*gorillaConn[P]).put(m)
	}
}
