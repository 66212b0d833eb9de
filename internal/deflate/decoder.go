package deflate

import (
	"errors"
	"math"
)

// A CorruptError says in what way a message is not what RFC 1951 and RFC 7692
// define. It holds nothing of the message.
type CorruptError string

func (e CorruptError) Error() string { return "deflate: " + string(e) }

const (
	errType     = CorruptError("no such type of block")
	errStored   = CorruptError("the length of a stored block and its complement differ")
	errCounts   = CorruptError("too many codes")
	errRepeat   = CorruptError("a repeated code length that does not fit")
	errCode     = CorruptError("a code with too many or too few code words")
	errNoEnd    = CorruptError("a code without an end of the block")
	errSymbol   = CorruptError("a code word without a meaning")
	errDistance = CorruptError("a reference to before the window")
	errEnd      = CorruptError("the message does not end with an empty block")
)

// ErrTooLong is returned by Append for a message that is longer than permitted.
var ErrTooLong = errors.New("deflate: message too long")

var errReleased = errors.New("deflate: released")

// A Decoder decompresses the messages of one direction of a connection. Init must
// be called first. It is not safe for use by several goroutines at once.
type Decoder struct {
	// r has the message in progress and the window: between messages that may
	// not refer to earlier ones it is nil.
	r        *reader
	bits     uint8
	takeover bool
	released bool
}

// Init sets the size of the peer's window, 2^bits bytes, and whether messages may
// refer to earlier ones. It panics if bits is not within MinBits and MaxBits: that
// is for the handshake to check.
func (d *Decoder) Init(bits int, takeover bool) {
	checkBits(bits)
	*d = Decoder{bits: uint8(bits), takeover: takeover}
}

// Next reads the next part of a message. It returns what that decompresses to, no
// more than limit bytes, and how many bytes of src it took. With a limit of at
// least 1 it returns no output only if it took all of src and needs more to go on:
// so it is to be called, with what is left of src, until there is none. src may
// end anywhere. out is valid until the next call, and must not be changed.
//
// Together with an error comes what was good before it. After an error all calls
// return the same.
func (d *Decoder) Next(src []byte, limit int) (out []byte, n int, err error) {
	if d.r == nil {
		if d.released {
			return nil, 0, errReleased
		}
		if limit <= 0 || len(src) == 0 {
			return nil, 0, nil
		}
		d.r = borrowReader(d.bits, d.takeover)
	}
	return d.r.next(src, limit)
}

// Append reads the next part of a message, all of src, and appends what it
// decompresses to. If that is more than limit bytes, it stops there with
// ErrTooLong, and the message cannot be gone on with.
func (d *Decoder) Append(dst, src []byte, limit int) ([]byte, error) {
	for {
		most := max(limit, 0)
		if most < math.MaxInt {
			most++ // to see whether there is more
		}
		out, n, err := d.Next(src, most)
		if len(out) > limit {
			return dst, d.r.fail(ErrTooLong)
		}
		dst = append(dst, out...)
		limit -= len(out)
		if err != nil || len(out) == 0 {
			return dst, err
		}
		src = src[n:]
	}
}

// End ends a message, all output of which Next has returned. With the four bytes
// that the sender has left off it must end exactly where a block ends; and as
// these bytes are the length of an empty stored block, nothing else is accepted
// in which they might mean something.
func (d *Decoder) End() error {
	if d.released {
		return errReleased
	}
	if d.r == nil { // not a byte has come
		d.r = borrowReader(d.bits, d.takeover)
	}
	err := d.r.end()
	if err == nil && !d.takeover {
		d.giveBack()
	}
	return err
}

// Release gives back what is borrowed, when the connection is at its end.
func (d *Decoder) Release() {
	d.giveBack()
	d.released = true
}

func (d *Decoder) giveBack() {
	if d.r != nil {
		returnReader(d.r)
		d.r = nil
	}
}
