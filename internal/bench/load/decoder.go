package load

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
)

// A decoder checks the bytes that a server sends, however they are cut,
// against the message that was sent to it. It keeps no payload.
type decoder struct {
	head     [10]byte
	have     int    // bytes in head
	left     uint64 // payload bytes to come of the frame
	first    byte   // of the frame whose payload comes
	inFrame  bool
	inText   bool // a message has begun and not ended
	whole    bool // it has ended, but pongs are missing
	off      int  // how much of it has come
	pongs    int  // how many pongs have come
	control  [125]byte
	controls int       // bytes in control
	seq      uint64    // the number of the message awaited
	z        *inflater // compression was agreed on
}

var errClosed = errors.New("the server has closed the connection")

// feed takes p and returns how many messages it has completed.
func (d *decoder) feed(p []byte, m *message) (int, error) {
	if m.raw {
		return d.feedRaw(p, m)
	}
	done := 0
	for len(p) > 0 {
		if !d.inFrame {
			n, err := d.header(p)
			if err != nil {
				return done, err
			}
			if p = p[n:]; !d.inFrame {
				continue
			}
		}
		n := min(uint64(len(p)), d.left)
		if err := d.payload(p[:n], m); err != nil {
			return done, err
		}
		p = p[n:]
		if d.left -= n; d.left > 0 {
			continue
		}
		d.inFrame = false
		complete, err := d.endFrame(m)
		if err != nil {
			return done, err
		}
		if complete {
			done++
			d.seq++
			d.off, d.pongs, d.whole = 0, 0, false
		}
	}
	return done, nil
}

func (d *decoder) feedRaw(p []byte, m *message) (int, error) {
	done := 0
	for len(p) > 0 {
		size := len(m.want)
		if d.z != nil {
			size = len(d.z.sent(d.seq))
		}
		n := min(len(p), size-d.off)
		same := false
		if d.z != nil {
			same = bytes.Equal(p[:n], d.z.sent(d.seq)[d.off:d.off+n])
		} else {
			same = m.matches(d.off, p[:n], d.seq)
		}
		if !same {
			return done, d.wrong("the bytes differ")
		}
		p = p[n:]
		if d.off += n; d.off == size {
			if d.z != nil {
				d.z.echoed(d.seq)
			}
			done++
			d.seq++
			d.off = 0
		}
	}
	return done, nil
}

// header takes what it needs of p for the frame's header, which is the
// server's: unmasked.
func (d *decoder) header(p []byte) (int, error) {
	used := 0
	for {
		need := 2
		if d.have >= 2 {
			switch d.head[1] {
			case 126:
				need = 4
			case 127:
				need = 10
			}
		}
		if d.have == need {
			break
		}
		n := copy(d.head[d.have:need], p[used:])
		if n == 0 {
			return used, nil
		}
		d.have += n
		used += n
	}
	d.first = d.head[0]
	switch d.head[1] {
	case 126:
		d.left = uint64(binary.BigEndian.Uint16(d.head[2:]))
	case 127:
		d.left = binary.BigEndian.Uint64(d.head[2:])
	default:
		d.left = uint64(d.head[1])
	}
	if d.head[1]&maskBit != 0 {
		return used, d.wrong("a frame from the server is masked")
	}
	d.have, d.inFrame, d.controls = 0, true, 0
	return used, d.begin()
}

// begin judges the frame's first byte.
func (d *decoder) begin() error {
	op := d.first &^ finBit
	if first := op &^ rsv1Bit; d.z != nil && (first == opText || first == opBinary) {
		d.z.begin(d.first)
		op = first
	}
	switch {
	case op >= opClose && op <= 0xf && d.left > 125:
		return d.wrong("a control frame of %d bytes", d.left)
	case (op == opClose || op == opPong || op == opPing) && d.first&finBit != 0:
	case op == opContinuation && d.inText:
	case (op == opText || op == opBinary) && !d.inText && !d.whole:
	default:
		return d.wrong("a frame with first byte %#x", d.first)
	}
	return nil
}

func (d *decoder) payload(p []byte, m *message) error {
	if d.first&8 != 0 {
		d.controls += copy(d.control[d.controls:], p)
		return nil
	}
	if d.z != nil {
		if err := d.z.payload(d.seq, d.off, p); err != nil {
			return d.wrong("%w", err)
		}
	} else if !m.matches(d.off, p, d.seq) {
		return d.wrong("the payload differs")
	}
	d.off += len(p)
	return nil
}

// endFrame reports whether the frame completed the message.
func (d *decoder) endFrame(m *message) (bool, error) {
	switch op := d.first &^ finBit; op {
	case opClose:
		return false, errClosed
	case opPing:
		return false, d.wrong("a ping")
	case opPong:
		// A server may answer only the latest of several pings (§5.5.3).
		for ; d.pongs < m.pongs; d.pongs++ {
			if string(pingPayload(d.pongs)) == string(d.control[:d.controls]) {
				d.pongs++
				return d.whole && d.pongs == m.pongs, nil
			}
		}
		return false, d.wrong("a pong %q", d.control[:d.controls])
	default:
		if d.z != nil {
			op &^= rsv1Bit // begin has judged it
		}
		if op != opContinuation && op != m.op {
			return false, d.wrong("the type has changed to %#x", op)
		}
		if d.inText = d.first&finBit == 0; d.inText {
			return false, nil
		}
		if d.z != nil {
			if err := d.z.end(d.seq, d.off); err != nil {
				return false, d.wrong("%w", err)
			}
		} else if d.off != len(m.want) {
			return false, d.wrong("it ends after %d bytes", d.off)
		}
		d.whole = true
		return d.pongs == m.pongs, nil
	}
}

func (d *decoder) wrong(format string, args ...any) error {
	return fmt.Errorf("message %d, at byte %d: %w", d.seq, d.off, fmt.Errorf(format, args...))
}
