//go:build !linux

package poll

// A Poller does not exist here.
type Poller[W Waker] struct{}

// New returns ErrUnsupported.
func New[W Waker]() (*Poller[W], error) { return nil, ErrUnsupported }

// Close does nothing.
func (*Poller[W]) Close() {}

// Len returns 0.
func (*Poller[W]) Len() int { return 0 }

// Add returns ErrUnsupported.
func (*Poller[W]) Add(Descriptor, W) (Token, error) { return Token{}, ErrUnsupported }

// Arm returns ErrUnsupported.
func (*Poller[W]) Arm(Descriptor, Token) error { return ErrUnsupported }

// Remove does nothing.
func (*Poller[W]) Remove(Token) {}

// Moved returns ErrUnsupported.
func (*Poller[W]) Moved(from, to int, t Token) error { return ErrUnsupported }
