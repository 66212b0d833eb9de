package conformance

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Handler names the application behind the connection. All of them take the
// connection's messages one after the other.
type Handler string

const (
	Echo       Handler = ""           // sends every message back with its type
	TextOnly   Handler = "text only"  // echo; ends with an error of code 1003 on a binary message
	BinaryOnly Handler = "bytes only" // echo; ends with an error of code 1003 on a text message
	Policy     Handler = "policy"     // ends with an error of code 1008 on the first message
	Errors     Handler = "errors"     // ends with an error that has no code, and whose text is "secret", on the first message
	Panics     Handler = "panics"     // panics on the first message
	Returns    Handler = "returns"    // ends without an error on the first message
	Closes     Handler = "closes"     // closes with 1001 "bye" on the first message and reads on
)

// Options are those options of a server that rows depend on; zero is the
// default of the implementation.
type Options struct {
	ReadLimit    int64
	MaxFragments int
	CloseTimeout time.Duration
	WriteTimeout time.Duration
	Deflate      Deflate
}

// A Row is one line of the contract that can be played; see the package
// comment for how to read one.
type Row struct {
	ID      string // as in CONTRACT.md
	Rule    string // what the row shows, in a sentence
	Trace   string
	Handler Handler
	Options Options
	Reason  string    // what the application sees as reason of the peer's Close
	Unsaid  []Message // what it receives and does not send back, after what it does
	Whole   bool      // the cut is the point of the row: make no others
}

func (r Row) String() string {
	if len(r.Trace) <= 120 {
		return r.ID + " " + r.Trace
	}
	return r.ID + " " + r.Trace[:120] + "…"
}

// Steps are the steps of the row's trace.
func (r Row) Steps() []Step {
	steps, err := Steps(r.Trace)
	if err != nil {
		panic(r.ID + ": " + err.Error())
	}
	return steps
}

// A Cutting says how the input of a row is divided into writes.
type Cutting struct {
	Name   string
	pieces func(send int, b []byte) [][]byte // send counts the C> of the row
}

// Whole writes the bytes of each C> at once.
var Whole = Cutting{"in one piece", func(_ int, b []byte) [][]byte { return [][]byte{b} }}

// Bytewise writes single bytes.
var Bytewise = Cutting{"byte by byte", func(_ int, b []byte) [][]byte {
	return slices.Collect(slices.Chunk(b, 1))
}}

func cutAt(send, offset int) Cutting {
	return Cutting{fmt.Sprintf("C> number %d cut at %d", send+1, offset), func(i int, b []byte) [][]byte {
		if i != send {
			return [][]byte{b}
		}
		return [][]byte{b[:offset], b[offset:]}
	}}
}

// Cuttings are all ways to cut the row's input that are worth a run: whole,
// byte by byte, and at every single offset; above 1 KiB only whole and at the
// offsets within 16 of the borders of headers and payloads.
func (r Row) Cuttings() []Cutting {
	cuttings := []Cutting{Whole}
	if r.Whole {
		return cuttings
	}
	const short = 1 << 10
	total := 0
	for send, b := range r.sends() {
		total += len(b)
		last := 0
		for _, offset := range cutOffsets(b, len(b) <= short) {
			if offset > last { // borders closer than 16 share offsets
				cuttings = append(cuttings, cutAt(send, offset))
				last = offset
			}
		}
	}
	if total <= short {
		cuttings = append(cuttings, Bytewise)
	}
	return cuttings
}

// cutOffsets are the offsets inside b to cut at, in ascending order.
func cutOffsets(b []byte, all bool) (offsets []int) {
	const around = 16
	if all {
		for i := 1; i < len(b); i++ {
			offsets = append(offsets, i)
		}
		return offsets
	}
	near := func(border int) {
		for i := max(border-around, 1); i <= min(border+around, len(b)-1); i++ {
			offsets = append(offsets, i)
		}
	}
	near(0)
	var c cursor
	c.feed(b, near)
	near(len(b))
	slices.Sort(offsets)
	return offsets
}

// Drawn are the whole and up to n different cuttings drawn from rng, of one to
// four cuts in each C>.
func (r Row) Drawn(rng *rand.Rand, n int) []Cutting {
	cuttings := []Cutting{Whole}
	if r.Whole {
		return cuttings
	}
	sends := r.sends()
	for range n {
		cuts := make([][]int, len(sends))
		for i, b := range sends {
			if len(b) < 2 {
				continue
			}
			for range 1 + rng.IntN(4) {
				cuts[i] = append(cuts[i], 1+rng.IntN(len(b)-1))
			}
			slices.Sort(cuts[i])
			cuts[i] = slices.Compact(cuts[i])
		}
		name := fmt.Sprintf("cut at %v", cuts)
		if slices.ContainsFunc(cuttings, func(c Cutting) bool { return c.Name == name }) {
			continue
		}
		cuttings = append(cuttings, Cutting{name, func(send int, b []byte) (pieces [][]byte) {
			from := 0
			for _, offset := range cuts[send] {
				pieces = append(pieces, b[from:offset])
				from = offset
			}
			return append(pieces, b[from:])
		}})
	}
	return cuttings
}

func (r Row) sends() (sends [][]byte) {
	for _, step := range r.Steps() {
		if step.Kind == Send {
			sends = append(sends, step.Bytes)
		}
	}
	return sends
}

// Play plays the row on a peer whose handshake is done. A connection that is
// to stay open has been closed with code 1000 when it returns.
func (r Row) Play(p *Peer, cut Cutting) {
	p.t.Helper()
	p.Rule = r.ID + ": " + r.Rule
	p.note("%s, %s", r, cut.Name)
	sends := 0
	for _, step := range r.Steps() {
		switch step.Kind {
		case Send:
			p.WritePieces(cut.pieces(sends, step.Bytes)...)
			sends++
		case Want:
			p.WantBytes(step.Bytes)
		case Nothing:
			p.WantNothing()
		case Fin:
			p.Fin()
		case Fail:
			p.WantFail(step.Code)
		case Clean:
			p.wantFrame(Frame{Fin: true, Op: opClose, Payload: step.Bytes})
			p.hangUp()
			p.WantEOF()
		case Drop:
			p.WantDrop()
		case End:
			if r.ID != "K-16" { // an illegal frame is the end by itself
				p.hangUp()
			}
			p.WantEOF()
		case Open:
			p.WantOpen()
			p.frame(0x88, "\x03\xe8")
			p.Want("88 02 03e8")
			p.hangUp()
			p.WantEOF()
		}
	}
}

// A Message is one that the application has received.
type Message struct {
	Text bool
	Data string
}

func (m Message) String() string {
	if m.Text {
		return "text " + show([]byte(m.Data))
	}
	return "binary " + show([]byte(m.Data))
}

// A Record is what the application saw of one connection.
type Record struct {
	Messages []Message // in the order they came
	Code     int       // what the calls of the connection report in the end
	Reason   string
	Remote   bool
}

// Check compares what the application saw with what the row says.
func (r Row) Check(p *Peer, got Record) {
	p.t.Helper()
	want := r.want()
	if !slices.Equal(got.Messages, want.Messages) {
		p.Errorf("the application received %v, expected %v", got.Messages, want.Messages)
	}
	if got.Code != want.Code || got.Remote != want.Remote {
		p.Errorf("the application sees code %d, remote %v; expected %d, %v", got.Code, got.Remote, want.Code, want.Remote)
	}
	// The text of a violation is the implementation's own.
	if (want.Remote || want.Reason != "") && got.Reason != want.Reason {
		p.Errorf("the application sees the reason %q, expected %q", got.Reason, want.Reason)
	}
}

// want derives from the trace what the application must see.
func (r Row) want() (want Record) {
	var own Record // from the server's own Close frame
	for _, step := range r.Steps() {
		switch step.Kind {
		case Want:
			for b := step.Bytes; len(b) > 0; {
				f, n, err := parseServerFrame(b)
				if n == 0 {
					panic(fmt.Sprintf("%s: S> %x is no frame: %v", r.ID, b, err))
				}
				b = b[n:]
				switch f.Op {
				case opText, opBinary:
					want.Messages = append(want.Messages, Message{f.Op == opText, string(f.Payload)})
				case opClose:
					own.Code, own.Reason = int(binary.BigEndian.Uint16(f.Payload)), string(f.Payload[2:])
				}
			}
		case Fail:
			want.Code = step.Code
		case Clean:
			want.Code, want.Remote, want.Reason = 1005, true, r.Reason
			if len(step.Bytes) > 0 {
				want.Code = int(binary.BigEndian.Uint16(step.Bytes))
			}
		case Drop:
			want.Code, want.Remote = 1006, true
		case Open:
			want.Code, want.Remote = 1000, true
		case End:
			want.Code, want.Reason = own.Code, own.Reason
		}
	}
	want.Messages = append(want.Messages, r.Unsaid...)
	return want
}
