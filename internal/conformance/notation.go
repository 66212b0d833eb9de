package conformance

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// Bytes reads the byte notation of CONTRACT.md, section 0.
func Bytes(s string) ([]byte, error) {
	var b []byte
	for _, field := range strings.Fields(s) {
		var err error
		if b, err = appendField(b, field); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendField(b []byte, field string) ([]byte, error) {
	switch {
	case field == "z":
		return append(b, 0, 0, 0, 0), nil
	case field == "k":
		return append(b, 0x37, 0xfa, 0x21, 0x3d), nil
	case strings.HasPrefix(field, "rep(") && strings.HasSuffix(field, ")"):
		unit, count, _ := strings.Cut(field[len("rep("):len(field)-1], ",")
		x, err := strconv.ParseUint(unit, 16, 8)
		if err != nil {
			return nil, fmt.Errorf("notation %q: %w", field, err)
		}
		n, err := strconv.Atoi(count)
		if err != nil || n < 0 {
			return nil, fmt.Errorf("notation %q: bad count", field)
		}
		return append(b, bytes.Repeat([]byte{byte(x)}, n)...), nil
	}
	x, err := hex.DecodeString(field)
	if err != nil {
		return nil, fmt.Errorf("notation %q: %w", field, err)
	}
	return append(b, x...), nil
}

// mustBytes is for notation that stands in the source: an error there is a
// mistake in a test.
func mustBytes(s string) []byte {
	b, err := Bytes(s)
	if err != nil {
		panic(err)
	}
	return b
}

// show writes bytes for a failure message: short ones whole, of long ones the
// beginning and the length.
func show(b []byte) string {
	const most = 40
	if len(b) == 0 {
		return "(empty)"
	}
	if len(b) <= most {
		return hex.EncodeToString(b)
	}
	return fmt.Sprintf("%x… (%d bytes)", b[:most], len(b))
}

// StepKind says what a [Step] of a trace does.
type StepKind uint8

const (
	Send    StepKind = iota // C> bytes
	Want                    // S> bytes
	Nothing                 // nothing has come back
	Fin                     // the peer ends its side
	Open                    // ends the trace: still usable
	Fail                    // ends the trace: Close with a code, end of stream
	Clean                   // ends the trace: Close with a payload, end of stream
	Drop                    // ends the trace: end of stream without any Close
	End                     // ends the trace: end of stream after a Close already seen
)

// A Step is one element of a trace.
type Step struct {
	Kind  StepKind
	Bytes []byte // of Send, Want and Clean
	Code  int    // of Fail
}

// Steps reads a trace. It must end with one of the five endings, and with no
// other thing after it.
func Steps(trace string) ([]Step, error) {
	var steps []Step
	ended := false
	for _, word := range strings.Fields(trace) {
		if ended {
			return nil, fmt.Errorf("trace %q goes on after its end", trace)
		}
		name, arg, _ := strings.Cut(word, "(")
		arg = strings.TrimSuffix(arg, ")")
		var step Step
		switch name {
		case "C>":
			step.Kind = Send
		case "S>":
			step.Kind = Want
		case "nothing":
			step.Kind = Nothing
		case "FIN":
			step.Kind = Fin
		case "OPEN":
			step.Kind, ended = Open, true
		case "DROP":
			step.Kind, ended = Drop, true
		case "EOF":
			step.Kind, ended = End, true
		case "FAIL":
			code, err := strconv.Atoi(arg)
			if err != nil {
				return nil, fmt.Errorf("trace %q: %q has no code", trace, word)
			}
			step.Kind, step.Code, ended = Fail, code, true
		case "CLEAN":
			payload, err := Bytes(arg)
			if err != nil {
				return nil, fmt.Errorf("trace %q: %w", trace, err)
			}
			step.Kind, step.Bytes, ended = Clean, payload, true
		default:
			if len(steps) == 0 || steps[len(steps)-1].Kind > Want {
				return nil, fmt.Errorf("trace %q: %q belongs to no direction", trace, word)
			}
			last := &steps[len(steps)-1]
			var err error
			if last.Bytes, err = appendField(last.Bytes, word); err != nil {
				return nil, fmt.Errorf("trace %q: %w", trace, err)
			}
			continue
		}
		steps = append(steps, step)
	}
	if !ended {
		return nil, fmt.Errorf("trace %q has no ending", trace)
	}
	return steps, nil
}
