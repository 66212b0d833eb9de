//go:build !unix

package websocket_test

func descriptorLimit() int { return 1024 }
