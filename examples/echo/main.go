// Echo sends every message back to whoever sent it.
package main

import (
	"log"
	"net/http"

	"github.com/sockeye-ws/websocket"
)

func main() {
	http.Handle("/ws", &websocket.Upgrader{Handler: func(c *websocket.Conn) error {
		ctx := c.Context()
		for m, err := range c.Messages(ctx) {
			if err != nil {
				return err
			}
			if err := c.Write(ctx, m.Type, m.Data); err != nil {
				return err
			}
		}
		return nil
	}})
	log.Fatal(http.ListenAndServe("localhost:8080", nil))
}
