//go:build !linux

package load

import (
	"context"
	"errors"
)

func runEpoll(context.Context, Options, *message) (*Result, error) {
	return nil, errors.New("the load generator needs Linux")
}
