package peer

import (
	"bytes"
	"compress/flate"
	"errors"
	"io"
	"net"
	"slices"
	"sync"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsflate"
)

var (
	gobwasWriters = sync.Pool{New: func() any {
		return wsflate.NewWriter(nil, func(w io.Writer) wsflate.Compressor {
			f, _ := flate.NewWriter(w, flate.BestSpeed)
			return f
		})
	}}
	gobwasReaders = sync.Pool{New: func() any {
		return wsflate.NewReader(nil, func(r io.Reader) wsflate.Decompressor { return flate.NewReader(r) })
	}}
)

// gobwasDeflate echoes as the library's example of compression does, but for the
// pools and for what is kept of buffers.
func gobwasDeflate(nc net.Conn, idle bool) error {
	e := wsflate.Extension{Parameters: wsflate.DefaultParameters}
	u := ws.Upgrader{Negotiate: e.Negotiate}
	if _, err := u.Upgrade(nc); err != nil {
		return err
	}
	if _, ok := e.Accepted(); !ok {
		return errors.New("no compression was agreed on")
	}
	var (
		payload, in []byte
		out         bytes.Buffer
	)
	for {
		h, err := ws.ReadHeader(nc)
		if err != nil {
			return err
		}
		if h.Length > readLimit || !h.Fin || h.OpCode.IsControl() {
			return errors.New("no whole message")
		}
		payload = slices.Grow(payload[:0], int(h.Length))[:h.Length]
		if _, err := io.ReadFull(nc, payload); err != nil {
			return err
		}
		ws.Cipher(payload, h.Mask, 0)
		plain := payload
		if compressed, err := wsflate.IsCompressed(h); err != nil {
			return err
		} else if compressed {
			r := gobwasReaders.Get().(*wsflate.Reader)
			r.Reset(bytes.NewReader(payload))
			if in, err = readAll(r, in[:0]); err != nil {
				return err
			}
			gobwasReaders.Put(r)
			plain = in
		}
		out.Reset()
		w := gobwasWriters.Get().(*wsflate.Writer)
		w.Reset(&out)
		if _, err := w.Write(plain); err != nil {
			return err
		}
		if err := w.Flush(); err != nil {
			return err
		}
		if err := w.Err(); err != nil {
			return err
		}
		gobwasWriters.Put(w)
		reply, err := wsflate.SetBit(ws.Header{Fin: true, OpCode: h.OpCode, Length: int64(out.Len())})
		if err != nil {
			return err
		}
		if err := ws.WriteFrame(nc, ws.Frame{Header: reply, Payload: out.Bytes()}); err != nil {
			return err
		}
		if idle {
			payload, in, out = nil, nil, bytes.Buffer{}
		}
	}
}
