module github.com/sockeye-ws/websocket

go 1.25
