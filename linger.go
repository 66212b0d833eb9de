package websocket

import "time"

// The last of a connection's time: what is queued goes out, the peer's Close is
// waited for, and what the peer has on its way is taken in. All of it runs on the
// goroutine that has the read turn for good; see finish.

const (
	// What the peer has on its way when the connection ends is read, so
	// that it is not answered with a reset, which would destroy our Close
	// on its way (RFC 6455 §7.1.1); within these bounds.
	drainTime  = time.Second
	drainBytes = 4 << 20
	// quietTime is when a connection that has no half-close is taken for
	// drained.
	quietTime = 100 * time.Millisecond
)

// linger sends what is queued, the Close frame last, hears the peer's Close
// if that is to come, and leaves the transport so that closing it cannot
// destroy what the peer has not read yet.
func (c *Conn) linger(e *ending) {
	listen := e.awaitPeer && !c.heard
	heard := c.skimMeanwhile(listen, c.out.Drained())
	if c.out.Failed() {
		return
	}
	c.t.In().Resume()
	if listen && !heard && c.cfg.CloseTimeout > 0 {
		until := time.Now().Add(c.cfg.CloseTimeout)
		c.t.In().After(c.cfg.CloseTimeout)
		c.skim(true, func() bool { return c.strayed(until) })
	}
	c.awaitServer()
	half, err := c.t.CloseWrite()
	if err != nil {
		return
	}
	quiet := time.Duration(0)
	if !half {
		quiet = quietTime
	}
	c.discard(drainTime, quiet)
}

// strayed reports whether a wait up to the time until was ended before it by an
// interrupt that was meant for a wait before the end, and came late. The wait can
// go on then.
func (c *Conn) strayed(until time.Time) bool {
	if !c.t.In().Resume() {
		return false
	}
	c.t.In().After(time.Until(until))
	return true
}

// skimMeanwhile skims while the queue goes out: a peer that writes before it
// reads would otherwise never get to reading it.
func (c *Conn) skimMeanwhile(listen bool, drained <-chan struct{}) (heard bool) {
	select {
	case <-drained: // as most often
		return listen && c.skipToClose()
	default:
	}
	sent := make(chan struct{})
	go func() {
		<-drained
		c.t.In().Interrupt()
		close(sent)
	}()
	heard = c.skim(listen, func() bool {
		resumed := c.t.In().Resume()
		select {
		case <-drained: // that may have been what it was for
			return false
		default:
			return resumed
		}
	})
	<-sent
	return heard
}

// skim reads and discards until reading fails or, if it listens for that, the
// peer's Close or anything else after which no Close can follow has come: it
// reports that. What comes is parsed only enough to find the Close. After a time-out
// it goes on if again says so.
func (c *Conn) skim(listen bool, again func() bool) (heard bool) {
	for {
		if !listen {
			c.in.Release()
		} else if c.skipToClose() {
			return true
		}
		err := c.in.Fill(c.t)
		switch {
		case err == nil:
			c.gotInput(c.in.Last())
		case !isTimeout(err):
			return true
		case !again():
			return false
		}
	}
}

// skipToClose discards whole frames until a Close, or an illegal header.
func (c *Conn) skipToClose() bool {
	for {
		c.in.Skip(&c.left)
		if c.left > 0 {
			return false
		}
		b := c.in.Unread()
		h, n, violation := parseHeader(b, c.peerMasks(), c.deflate != nil)
		switch {
		case violation != nil:
			return true
		case n == 0:
			return false
		case h.op == opClose && len(b) < n+int(h.length):
			return false
		case h.op == opClose:
			p := b[n : n+int(h.length)]
			mask(h.key, p)
			if closed, _ := parseClose(p); closed != nil {
				c.peerCode = closed.Code
			}
			return true
		}
		c.in.Consume(n)
		c.left = h.length
	}
}

// discard reads on and throws away what comes, until the input ends, but for no
// longer than within and no more than drainBytes. Quiet for so long, if that is
// not 0, ends it too.
func (c *Conn) discard(within, quiet time.Duration) {
	c.t.In().After(within)
	until := time.Now().Add(within)
	for total := 0; total < drainBytes && time.Now().Before(until); total += c.in.Last() {
		if quiet > 0 {
			c.t.In().After(min(quiet, max(time.Until(until), 1)))
		}
		c.in.Release()
		err := c.in.Fill(c.t)
		if isTimeout(err) && c.strayed(until) {
			err = c.in.Fill(c.t)
		}
		if err != nil {
			return
		}
		c.gotInput(c.in.Last())
	}
}
