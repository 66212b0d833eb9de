//go:build !linux

package main

import (
	"errors"
	"time"
)

var errLinux = errors.New("processes are measured on Linux only")

func processTime() (time.Duration, error) { return 0, errLinux }

func residentBytes() (int64, error) { return 0, errLinux }
